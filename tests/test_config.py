"""Search files and cluster profiles: what is read, and the exact message for each error."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.nouns import OWN_MODEL
from xautolm_hpc.config import ClusterProfile, SearchFile, load_profile, load_search
from xautolm_hpc.errors import ConfigError, InputError, SpaceError
from xautolm_hpc.space import Boolean, Categorical, Numeric

SEARCH = """
name = "one"
[task]
name = "tickets"
[data]
path = "rows.csv"
[budget]
trials = 3
"""
KINDS = "'text-classification', 'question-answering' or 'text-generation'"
OBJECTIVES = "f1, evaluation_time_s, gpu_energy_j, peak_gpu_memory_bytes"


def search(folder: Path, *settings: str, text: str = SEARCH) -> SearchFile:
    """Write a search file and load it."""
    (folder / "one.toml").write_text(text)
    return load_search(folder / "one.toml", settings)


def profile(folder: Path, text: str) -> ClusterProfile:
    """Write a cluster profile and load it."""
    (folder / "site.toml").write_text(text)
    return load_profile(folder / "site.toml")


def whole(message: str) -> str:
    """Match a message from its start to its end."""
    return f"^{re.escape(message)}$"


def test_a_short_search_file_gets_the_defaults(tmp_path: Path) -> None:
    read = search(tmp_path)

    assert (read.name, read.task.kind, read.profile) == ("one", "text-classification", None)
    assert read.search.objectives == ("f1", "evaluation_time_s")
    assert (read.search.population, read.search.selection, read.search.learning_factor) == (20, 0.2, 0.05)
    assert (read.search.epsilon, read.data.split_seed) == (0.1, 13)
    assert (read.prior.max_alpha, read.prior.min_alpha, read.prior.beta_scale) == (0.05, -0.02, 1.0)
    assert (read.prior.k_pos, read.prior.k_neg, read.prior.deduplicate) == (10_000, 10_000, True)
    assert (read.trial.time_limit_min, read.trial.max_attempts) == (60.0, 3)


def test_the_same_file_loaded_twice_is_equal(tmp_path: Path) -> None:
    first, second = (search(tmp_path, text=SEARCH + OWN_MODEL) for _ in range(2))

    assert first == second
    assert first.model_dump(mode="json") == second.model_dump(mode="json")


def test_settings_do_not_change_what_is_loaded_next(tmp_path: Path) -> None:
    search(tmp_path, "search.seed=5")

    assert search(tmp_path).search.seed == 0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("colour=1", "unknown key `colour`; valid here: name, profile, task, data, space, search, budget, trial, "
         "constraints, prior, store, model"),
        ("cost.currency='EUR'", "unknown key `cost`; it belongs to the cluster profile; valid here: name, profile, "
         "task, data, space, search, budget, trial, constraints, prior, store, model"),
        ("search.size=1", "unknown key `search.size`; valid here: objectives, population, selection, learning_factor, "
         "epsilon, seed"),
        ("budget.hours=1", "unknown key `budget.hours`; valid here: generations, trials, wall_h, gpu_h, energy_kwh"),
        ("task=3", "`task` = 3: expected a table"),
        ("task.kind='qa'", f"`task.kind` = 'qa': expected {KINDS}"),
        ("task.name='a b'", r"`task.name` = 'a b': expected text that should match pattern '^[\w.-]+$'"),
        ("name=''", "`name` = '': expected text that should have at least 1 character"),
        ("name='../up'", r"`name` = '../up': expected text that should match pattern '^[A-Za-z0-9][\w.-]*$'"),
        ("search.population=0", "`search.population` = 0: expected greater than or equal to 1"),
        ("search.population=1.5", "`search.population` = 1.5: expected a valid integer"),
        ("search.population=true", "`search.population` = True: expected a valid integer"),
        ("search.epsilon=1.1", "`search.epsilon` = 1.1: expected less than or equal to 1"),
        ("search.selection=0", "`search.selection` = 0: expected greater than 0"),
        ("prior.min_alpha=0.1", "`prior.min_alpha` = 0.1: expected less than or equal to 0"),
        ("prior.kind='knnn'", "`prior.kind` = 'knnn': expected 'uniform', 'xautolm', 'knn' or 'evidence'"),
        ("prior.sites={here=2}", "`prior.sites.here` = 2: expected less than or equal to 1"),
        ("budget.wall_h=inf", "`budget.wall_h` = inf: expected a finite number"),
        ("budget.wall_h=nan", "`budget.wall_h` = nan: expected a finite number"),
        ("trial.max_attempts=11", "`trial.max_attempts` = 11: expected less than or equal to 10"),
        ("data.path=3", "`data.path` = 3: expected a valid string"),
        ("store.also_read=other", "`store.also_read` = 'other': expected an array"),
        ("search.objectives=['f1','f2']", "`search.objectives.1` = 'f2': expected 'f1', 'evaluation_time_s', "
         "'gpu_energy_j' or 'peak_gpu_memory_bytes'"),
        ("search.objectives=['f1','f1']", "search.objectives = ['f1', 'f1']: expected 1 to 3, each once, of "
         f"{OBJECTIVES}"),
        ("search.objectives=[]", f"search.objectives = []: expected 1 to 3, each once, of {OBJECTIVES}"),
        ("space.params.lora=1", "`space.params.lora` = 1: expected a table"),
        ("budget={}", "budget: sets no limit; valid: generations, trials, wall_h, gpu_h, energy_kwh"),
        ("budget.wall_h=0.5", "budget.wall_h = 0.5 (30 min) is shorter than one trial, trial.time_limit_min = 60.0: no "
         "trial could use its time"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_file_key_value_and_what_is_valid(
    tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=whole(f"`{tmp_path / 'one.toml'}`: {message}")):
        search(tmp_path, setting)


def test_two_bad_values_are_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"

    with pytest.raises(
        ConfigError, match=whole(f"`{path}`: `search.seed` = -1: expected greater than or equal to 0\n"
        f"`{path}`: unknown key `trial.x`; valid here: time_limit_min, max_attempts, deterministic, "
            "early_stopping_min_steps, step, at_limit, foretell"),
    ):  # fmt: skip
        search(tmp_path, "search.seed=-1", "trial.x=1")


@pytest.mark.parametrize(
    ("missing", "key"),
    [('name = "one"\n', "name"), ('[data]\npath = "rows.csv"\n', "data"), ('name = "tickets"\n', "task.name")],
)
def test_a_missing_key_is_named(tmp_path: Path, missing: str, key: str) -> None:
    with pytest.raises(ConfigError, match=whole(f"`{tmp_path / 'one.toml'}`: `{key}` is missing")):
        search(tmp_path, text=SEARCH.replace(missing, ""))


def test_data_that_lies_nowhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=whole(f"`{tmp_path / 'one.toml'}`: [data]: expected one of path and hub")):
        search(tmp_path, text=SEARCH.replace('path = "rows.csv"\n', ""))


def test_a_wall_budget_of_exactly_one_trial_is_enough(tmp_path: Path) -> None:
    read = search(tmp_path, "budget.wall_h=0.5", "trial.time_limit_min=30")

    assert read.budget.wall_h == 0.5


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "no.toml"

    with pytest.raises(ConfigError, match=whole(f"`{path}` does not exist; give the path of a TOML file")):
        load_search(path)
    with pytest.raises(ConfigError, match=whole(f"`{path}` does not exist; give the path of a TOML file")):
        load_profile(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"name = \n", r"Invalid value \(at line 1, column 8\)"),
        (b"a = 1\na = 2\n", r"Cannot overwrite a value \(at line 2, "),
        (b"name = '\xff'\n", "'utf-8' codec can't decode byte 0xff"),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_the_place(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^`{path}` cannot be read as TOML: {reason}"):
        load_search(path)


def test_a_folder_instead_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^`{tmp_path}` cannot be read as TOML: .*Is a directory"):
        load_search(tmp_path)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("search.seed=7", 7),
        ("search.epsilon=0.5", 0.5),
        ("search.epsilon=1", 1.0),
        ("task.name=reviews", "reviews"),
        ("task.name='reviews'", "reviews"),
        ("trial.deterministic=true", True),
        ('search.objectives=["f1", "gpu_energy_j"]', ("f1", "gpu_energy_j")),
        ("prior.weights={f1=1.0}", {"f1": 1.0}),
        ("space.params.lora.lora_r=[4, 8]", {"lora": {"lora_r": [4, 8]}}),
        ("data.text=a=b", "a=b"),
    ],
)
def test_a_setting_replaces_a_value_and_keeps_its_type(tmp_path: Path, setting: str, value: Any) -> None:
    read: Any = search(tmp_path, setting)

    for part in setting.split("=")[0].split(".")[:2]:
        read = getattr(read, part)
    assert (read, type(read)) == (value, type(value))


def test_the_last_of_two_settings_counts(tmp_path: Path) -> None:
    assert search(tmp_path, "search.seed=1", "search.seed=2").search.seed == 2


@pytest.mark.parametrize("setting", ["search.seed", "=3", ""])
def test_a_setting_without_key_or_value_is_refused(tmp_path: Path, setting: str) -> None:
    expected = f"--set {setting!r}: expected KEY=VALUE, for instance --set budget.generations=3"

    with pytest.raises(ConfigError, match=whole(expected)):
        search(tmp_path, setting)


def test_a_setting_below_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=whole("--set 'task.name.short=x': 'name' is a value, not a table")):
        search(tmp_path, "task.name.short=x")


def test_paths_in_the_file_are_beside_it_and_those_of_settings_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = tmp_path / "searches", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    text = SEARCH.replace("[task]", 'profile = "../slurm/site.toml"\n[task]') + '[store]\nalso_read = ["b", "/abs/c"]\n'

    read = search(folder, text=text)
    read_set = search(folder, "data.path=other.csv", "store.path=s", "profile=p.toml", text=text)
    read_table = search(folder, "data={path='third.csv'}", text=text)

    assert read.data.path == str(folder / "rows.csv")
    assert read.profile == str(tmp_path / "slurm" / "site.toml")
    assert read.store.path == str(folder / "experience-store")
    assert read.store.also_read == (str(folder / "b"), "/abs/c")
    assert read_set.data.path == str(here / "other.csv")
    assert (read_set.store.path, read_set.profile) == (str(here / "s"), str(here / "p.toml"))
    assert read_set.store.also_read == (str(folder / "b"), "/abs/c")
    assert read_table.data.path == str(here / "third.csv")


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert search(tmp_path, "data.path=~/rows.csv").data.path == str(tmp_path / "home" / "rows.csv")


def test_a_space_is_built_from_preset_models_methods_and_parameters(tmp_path: Path) -> None:
    text = SEARCH + (
        '[space]\nmodels = ["minilm-l2", "roberta-base"]\nmethods = ["lora"]\n'
        '[space.params.lora]\nlora_r = [4, 8]\nlora_dropout = { low = 0.0, high = 0.5 }\nuse_mixed_precision = "bool"\n'
    )

    space = search(tmp_path, text=text).build_space()

    assert [model.id for model in space.models] == ["minilm-l2", "roberta-base"]
    (lora,) = space.methods
    assert lora.params["lora_r"] == Categorical((4, 8))
    assert lora.params["lora_dropout"] == Numeric(0.0, 0.5)
    assert lora.params["use_mixed_precision"] == Boolean()


def test_a_model_of_ones_own_joins_the_space_with_its_path_beside_the_file(tmp_path: Path) -> None:
    read = search(tmp_path, "space.models=['mine']", text=SEARCH + OWN_MODEL)

    (model,) = read.build_space().models

    assert model.path == str(tmp_path / "weights" / "mine")
    assert model.unsupported_methods == ("bitfit", "head")
    assert model.hub_repo is None


def test_the_path_inside_a_package_stays_as_it_is(tmp_path: Path) -> None:
    text = SEARCH + OWN_MODEL.replace("weights/mine", "model") + 'package = "some_package"\n'

    (model,) = search(tmp_path, "space.models=['mine']", text=text).build_space().models

    assert (model.package, model.path) == ("some_package", "model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN_MODEL + OWN_MODEL, "[[model]]: one id stands twice in ['mine', 'mine']"),
        (
            "[[model]]\nn_layers = 2\n",
            "[[model]]: the table names no model; give repo, a hub repository, path, a folder",
        ),
        (OWN_MODEL + "width = 3\n", "[[model]]: unknown key 'width' in Model; valid: id, family, "),
        (OWN_MODEL.replace("1000", "'big'"), "[[model]]: n_parameters: expected int, found 'big'"),
        (OWN_MODEL.replace("seq2seq", "rnn"), "model 'mine': unknown family 'rnn'; valid: encoder, decoder, seq2seq"),
    ],
)
def test_a_bad_model_of_ones_own_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(message)}") as refusal:
        search(tmp_path, text=SEARCH + text)

    assert refusal.value.__notes__ == [f"in `{tmp_path / 'one.toml'}`"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("space.preset=paper", "space.preset: unknown preset 'paper'; valid: default, xautolm"),
        ("space.methods=[]", "space.methods: the list is empty; leave it out for the preset's"),
        ("space.models=['roberta']", "space.models: unknown model 'roberta'; near it: "),
        (
            "space.params.full.epochs={low=3, high=1}",
            "space.params.full.epochs: low = 3 must be a number below high = 1",
        ),
    ],
)
def test_a_space_that_cannot_be_built_is_refused_when_the_file_is_read(
    tmp_path: Path, setting: str, message: str
) -> None:
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}") as refusal:
        search(tmp_path, setting)

    assert refusal.value.__notes__ == [f"in `{tmp_path / 'one.toml'}`"]


def test_without_a_profile_trials_run_on_this_machine() -> None:
    default = load_profile(None)

    assert default == ClusterProfile()
    assert (default.launcher, default.site, default.cluster) == ("local", "local", "local")
    assert (default.driver_python, default.worker_python, default.container) == (sys.executable, None, None)
    assert (default.poll_s, default.local.n_slots, default.job.n_gpus) == (0.5, 2, 0)


def test_a_slurm_profile_polls_at_slurms_pace(tmp_path: Path) -> None:
    read = profile(tmp_path, 'launcher = "slurm"\nworker_python = "python3"\n[slurm.options]\nmail = true\nnice = 5\n')

    assert read.poll_s == 30.0
    assert read.slurm.options == {"mail": True, "nice": 5}
    assert (read.patience.outcome_grace_s, read.patience.pending_patience_h) == (60.0, 24.0)


def test_paths_of_a_profile_are_beside_it_and_links_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)

    beside = profile(tmp_path, 'worker_python = "bin/python"\nhf_home = "cache"\n')
    home = profile(tmp_path, 'worker_python = "~/venv/bin/python"\nhf_home = "/scratch/hf"\n')
    bare = profile(tmp_path, 'worker_python = "python3.11"\n')

    assert (beside.worker_python, beside.hf_home) == (str(tmp_path / "bin" / "python"), str(tmp_path / "cache"))
    assert (home.worker_python, home.hf_home) == ("/home/me/venv/bin/python", "/scratch/hf")
    assert (bare.worker_python, bare.hf_home, bare.driver_python) == ("python3.11", None, sys.executable)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('worker_python = "p"\n[container]\nimage = "i.sif"\n',
         "worker_python and container: name one of them, not both"),
        ('launcher = "slurm"\n', "launcher = 'slurm' needs worker_python, or [container] with an image"),
        ('launcher = "pbs"\n', "`launcher` = 'pbs': expected 'local' or 'slurm'"),
        ("[slurm]\ntime = 3\n", "unknown key `slurm.time`; valid here: account, partition, qos, gres, constraint, "
         "exclude, reservation, wckey, options, max_parallel, max_queued, poll_s"),
        ("[container]\n", "`container.image` is missing"),
        (
            "[container]\nimage = 'i'\nbind = 3\n",
            "unknown key `container.bind`; valid here: image, binds, nv, driver_path, scratch, options, verify_key, "
            "program, python",
        ),
        ("[job]\nn_gpus = -1\n", "`job.n_gpus` = -1: expected greater than or equal to 0"),
        ("[job]\ntrials_per_job = 0\n", "`job.trials_per_job` = 0: expected greater than or equal to 1"),
        ("[job]\ntrials_per_job = 5\nn_gpus = 2\n",
         "job.trials_per_job = 5: expected 1 where a trial has 2 processes"),
        ("[job]\ntrials_per_job = 5\nn_processes = 2\nn_nodes = 2\n",
         "job.trials_per_job = 5: expected 1 where a trial has 4 processes"),
        ("[job]\nmemory_gb = 0\n", "`job.memory_gb` = 0: expected greater than 0"),
        ("[slurm]\npoll_s = 0.5\n", "`slurm.poll_s` = 0.5: expected greater than or equal to 1"),
        ("[environment.set]\nA = 1\n", "`environment.set.A` = 1: expected a valid string"),
        ("site = ''\n", "`site` = '': expected text that should have at least 1 character"),
    ],
)  # fmt: skip
def test_a_bad_profile_is_refused_with_file_key_value_and_what_is_valid(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=whole(f"`{tmp_path / 'site.toml'}`: {message}")):
        profile(tmp_path, text)


def test_a_slurm_profile_with_an_image_needs_no_python(tmp_path: Path) -> None:
    read = profile(tmp_path, 'launcher = "slurm"\n[container]\nimage = "i.sif"\noptions = ["--nv"]\n')

    assert read.container is not None
    assert (read.container.image, read.container.options) == (str(tmp_path / "i.sif"), ("--nv",))


@pytest.mark.parametrize("section", ["", "search", "budget"])
def test_settings_cannot_be_changed_once_read(tmp_path: Path, section: str) -> None:
    read: Any = search(tmp_path)
    read = getattr(read, section) if section else read

    with pytest.raises(ValueError, match="Instance is frozen"):
        setattr(read, next(iter(type(read).model_fields)), 1)
