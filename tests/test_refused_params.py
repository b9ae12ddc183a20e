"""Search files that name what no trial can be trained with: file, key, value, what is valid and the nearest name."""

import json
import re
from pathlib import Path

import pytest

from tests.test_config import SEARCH, search
from xautolm_hpc.config import load_search
from xautolm_hpc.driver.evaluation import read_list
from xautolm_hpc.errors import ConfigError, InputError, SpaceError

ROOT_DIR = Path(__file__).resolve().parents[1]

NUMBER = "is not supported; expected a number above 0 to 1000"
WHOLE = "is not supported; expected a whole number of at least 1"
OPTIMIZERS = "is not supported; expected one of adamw, adam, sgd, adagrad, adafactor"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("full.lr=[0.1]", "full.lr: method full has no parameter 'lr'; valid: "),
        ("full.batch_siz=[8]", "full.batch_siz: method full has no parameter 'batch_siz'; valid: "),
        ("lora.rank=[8]", "lora.rank: method lora has no parameter 'rank'; valid: "),
        ("full.lora_r=[8]", "full.lora_r: method full has no parameter 'lora_r' (lora and dora have it); valid: "),
        ("full.learning_rate=['fast']", f"full.learning_rate: learning_rate = 'fast' {NUMBER}"),
        ("full.learning_rate=['0.1']", f"full.learning_rate: learning_rate = '0.1' {NUMBER}"),
        ("full.learning_rate='bool'", "full.learning_rate: 'bool' draws true and false; expected a number above 0"),
        ("full.learning_rate=[1e-4, true]", f"full.learning_rate: learning_rate = True {NUMBER}"),
        ("full.learning_rate={low=0.0, high=1e-3}", f"full.learning_rate.low: learning_rate = 0.0 {NUMBER}"),
        ("full.learning_rate={low=1.0, high=5e3}", f"full.learning_rate.high: learning_rate = 5000.0 {NUMBER}"),
        ("full.learning_rate=0.1", "full.learning_rate: 0.1 is no distribution; valid: "),
        ("full.learning_rate=[nan]", "full.learning_rate: [nan] is no distribution; valid: "),
        ("full.learning_rate=[]", "full.learning_rate: [] is no distribution; valid: "),
        ("full.learning_rate=[1, 1.0]", "full.learning_rate: a value stands twice in [1, 1.0]"),
        ("full.learning_rate={low=0, high=1, log=true}", "full.learning_rate: low = 0 must be above 0 on a log scale"),
        ("full.learning_rate={low=1, high=1}", "full.learning_rate: low = 1 must be a number below high = 1"),
        ("full.learning_rate={low=0.1, high=inf}", "full.learning_rate: low = 0.1 must be a number below high = inf"),
        ("full.batch_size=[8.0]", f"full.batch_size: batch_size = 8.0 {WHOLE}"),
        ("full.batch_size=[0]", f"full.batch_size: batch_size = 0 {WHOLE}"),
        ("full.batch_size={low=0, high=8, integer=true}", f"full.batch_size.low: batch_size = 0 {WHOLE}"),
        ("full.batch_size=[2147483648]", f"full.batch_size: batch_size = 2147483648 {WHOLE} and at most 2147483647"),
        (
            "full.epochs={low=1, high=3}",
            "full.epochs: {'low': 1, 'high': 3} draws fractions; expected a whole number of at least 1: add integer",
        ),
        ("full.optimizer=['AdamW']", f"full.optimizer: optimizer = 'AdamW' {OPTIMIZERS}. Did you mean 'adamw'?"),
        ("full.optimizer=['lion']", f"full.optimizer: optimizer = 'lion' {OPTIMIZERS}"),
        ("full.optimizer={low=1, high=2}", "full.optimizer: {'low': 1, 'high': 2} is a range of numbers; expected one"),
        (
            "full.class_weighted_loss=[1]",
            "full.class_weighted_loss: class_weighted_loss = 1 is not supported; expected",
        ),
        ("full.train_share=[0.0]", "full.train_share: train_share = 0.0 is not supported; expected a number above 0"),
        ("full.warmup_steps=[-1]", "full.warmup_steps: warmup_steps = -1 is not supported; expected a whole number"),
        (
            "full.gradient_clipping_max_norm=[0.5]",
            "full: gradient_clipping_max_norm and max_grad_norm are two names of one parameter; give it once, by the",
        ),
        ("lora.init_lora_weights=['loftq']", "lora.init_lora_weights: init_lora_weights = 'loftq' is not supported"),
    ],
)
def test_what_no_trial_can_be_trained_with_is_refused_when_the_file_is_read(
    tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(SpaceError, match=f"^{re.escape(f'space.params.{message}')}") as refusal:
        search(tmp_path, f"space.params.{setting}")

    assert refusal.value.__notes__ == [f"in `{tmp_path / 'one.toml'}`"]
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(("written", "ours"), [("lr", "learning_rate"), ("batch_siz", "batch_size")])
def test_an_unknown_name_is_told_with_the_nearest(tmp_path: Path, written: str, ours: str) -> None:
    with pytest.raises(SpaceError, match=rf"\. Did you mean '{ours}'\?\n"):
        search(tmp_path, f"space.params.full.{written}=[1]")


@pytest.mark.parametrize("path", sorted([*ROOT_DIR.glob("examples/*.toml"), *ROOT_DIR.glob("store/seed/[!p]*.toml")]))
def test_search_files_that_we_ship_are_read(path: Path) -> None:
    assert load_search(path).build_space().methods


@pytest.mark.parametrize("name", ["pipelines.jsonl", "pipelines-qa.jsonl"])
def test_lists_that_we_ship_are_read(name: str) -> None:
    folder = ROOT_DIR / "store" / "seed"
    space = load_search(folder / "liar.toml").build_space()

    assert len(read_list(folder / name, space, search_seed=0)) == 200


def test_a_line_that_gives_one_parameter_by_two_names_is_refused(tmp_path: Path) -> None:
    space = search(tmp_path).build_space()
    params = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 16, "epochs": 1, "n_trainable_blocks": 1}
    line = {"model": space.models[0].id, "method": "partial", "params": {**params, "num_trainable_layers": 2}}
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(line))

    with pytest.raises(InputError, match="num_trainable_layers and n_trainable_blocks are two names of one parameter"):
        read_list(path, space, search_seed=1)


def test_a_share_of_warm_up_beside_its_steps_is_refused_unless_it_is_0(tmp_path: Path) -> None:
    message = "space.params.full: warmup_steps counts, and warmup_ratio beside it would be ignored; give one, or set"

    with pytest.raises(SpaceError, match=re.escape(message)):
        search(tmp_path, "space.params.full.warmup_steps=[10]")
    with pytest.raises(SpaceError, match=re.escape(message)):
        search(tmp_path, "space.params.full.warmup_steps=[10]", "space.params.full.warmup_ratio=[0.0, 0.1]")
    read = search(tmp_path, "space.params.full.warmup_steps=[10]", "space.params.full.warmup_ratio=[0.0]")

    assert read.build_space().methods


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1])
def test_a_line_of_a_list_with_both_kinds_of_warm_up_is_refused_unless_the_share_is_0(
    tmp_path: Path, warmup_ratio: float
) -> None:
    space = search(tmp_path).build_space()
    params = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 16, "epochs": 1, "warmup_steps": 2}
    line = {"model": space.models[0].id, "method": "full", "params": {**params, "warmup_ratio": warmup_ratio}}
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(line))

    if warmup_ratio:
        with pytest.raises(InputError, match="warmup_steps counts, and warmup_ratio beside it would be ignored"):
            read_list(path, space, search_seed=1)
    else:
        assert len(read_list(path, space, search_seed=1)) == 1


def test_a_table_of_a_method_that_is_not_searched_is_refused(tmp_path: Path) -> None:
    message = "space.params.lora: lora is not searched, space.methods = ['full']; add it there or remove the table"

    with pytest.raises(SpaceError, match=re.escape(message)):
        search(tmp_path, "space.methods=['full']", "space.params.lora.lora_r=[8]")


def test_a_method_or_model_in_another_case_is_told_with_the_valid_one(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match=r"has no method 'LoRA'; .* Did you mean 'lora'\?\n"):
        search(tmp_path, "space.methods=['LoRA']")
    with pytest.raises(SpaceError, match=r"unknown model 'BERT-base-uncased'; .* Did you mean 'bert-base-uncased'\?\n"):
        search(tmp_path, "space.models=['BERT-base-uncased']")


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    settings = ["space.params.full.lr=[1]", "space.params.lora.lora_r=[0]", "space.models=['a', 'b']"]

    with pytest.raises(SpaceError, match=r"space\.models") as of_space:
        search(tmp_path, *settings)
    with pytest.raises(ConfigError, match=r"search\.seed") as of_file:
        search(tmp_path, *settings, "search.seed=-1")

    keys = [line.split(":")[0] for line in str(of_space.value).splitlines()]
    assert keys == ["space.models", "space.models", "space.params.full.lr", "space.params.lora.lora_r"]
    lines = str(of_file.value).splitlines()
    assert [line.split("`: ")[1].split(" ")[0] for line in lines] == [
        "`search.seed`",
        "space.params.full.lr:",
        "space.params.lora.lora_r:",
    ]


def test_a_search_that_has_trials_goes_on_with_what_is_now_refused(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(SEARCH + "[space.params.full]\nlr = [1]\n")

    read = load_search(tmp_path / "one.toml", has_trials=lambda name: name == "one")

    assert read.space.params == {"full": {"lr": [1]}}
    with pytest.raises(SpaceError, match="has no parameter 'lr'"):
        load_search(tmp_path / "one.toml", has_trials=lambda name: name == "other")
