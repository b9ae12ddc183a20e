"""Models come from a package, a folder or the offline cache; what is missing is named with its remedy."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from transformers import MambaConfig

from tests.train.attempts import LABELS, minilm
from tests.train.tiny import CONFIGS, tiny_model
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.fit.settings import apply_dropout, name_labels
from xautolm_hpc.train.pretrained import find_source, load_config, load_model, load_tokenizer


def _local(path: Path, **changes: object) -> Model:
    model = dataclasses.replace(minilm(), id="mine", package=None, keep_layers=None, path=str(path))
    return dataclasses.replace(model, **changes)  # type: ignore[arg-type]


def _load(model: Model, hf_home: str | None = None, dropout_rate: float | None = None) -> torch.nn.Module:
    source = find_source(model, hf_home)
    config = load_config(source, model, dropout_rate=dropout_rate, tokenizer=None)
    name_labels(config, LABELS)
    auto_class = "AutoModelForSequenceClassification"
    return load_model(source, model, auto_class=auto_class, config=config, has_new_head=True)[0]


@pytest.mark.parametrize(("model_id", "n_blocks"), [("minilm-l1", 1), ("minilm-l3", 3)])
def test_a_packaged_model_is_cut_to_its_first_blocks(model_id: str, n_blocks: int) -> None:
    model = load_catalogue()[model_id]

    loaded = _load(model)

    n_parameters = sum(p.numel() for name, p in loaded.named_parameters() if not name.startswith("classifier"))
    assert n_parameters == model.n_parameters
    assert loaded.config.num_hidden_layers == n_blocks  # type: ignore[union-attr]
    assert loaded.config.id2label == {0: "bad", 1: "good"}  # type: ignore[union-attr]
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_folder_gives_the_weights_that_lie_there(tmp_path: Path) -> None:
    saved = tiny_model("distilbert")
    saved.save_pretrained(tmp_path)

    loaded = _load(_local(tmp_path, keep_layers=1))

    parameters = dict(loaded.named_parameters())
    kept = {name: p for name, p in saved.named_parameters() if name in parameters and "classifier" not in name}
    assert all(torch.equal(parameters[name], p) for name, p in kept.items())
    assert not any(".layer.1." in name for name in parameters)
    assert any(".layer.0." in name for name in kept)


@pytest.fixture
def hub_cache(tmp_path: Path) -> Path:
    """Lay a model out as the hub's cache does, with the commit ``abc`` as ``main``."""
    repo_dir = tmp_path / "hub" / "models--someone--tiny"
    snapshot_dir = repo_dir / "snapshots" / ("a" * 40)
    tiny_model("bert").save_pretrained(snapshot_dir)
    (repo_dir / "refs").mkdir()
    (repo_dir / "refs" / "main").write_text("a" * 40)
    return tmp_path


def _hub(**changes: object) -> Model:
    model = dataclasses.replace(minilm(), id="someone/tiny", package=None, path=None, keep_layers=None)
    return dataclasses.replace(model, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("revision", [None, "a" * 40])
def test_a_hub_model_is_read_from_the_offline_cache(hub_cache: Path, revision: str | None) -> None:
    loaded = _load(_hub(revision=revision), hf_home=str(hub_cache))

    assert loaded.config.hidden_size == 32  # type: ignore[union-attr]


def test_a_hub_model_that_is_not_cached_names_prefetch(hub_cache: Path) -> None:
    model = _hub(revision="b" * 40)

    with pytest.raises(TrialError, match=r"bring someone/tiny into the cache .*: xautolm-hpc prefetch") as e:
        _load(model, hf_home=str(hub_cache))

    assert e.value.kind == "data_unavailable"


def test_a_missing_folder_and_a_missing_package_are_named(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=r"model mine: folder `.*nowhere` is missing"):
        find_source(_local(tmp_path / "nowhere"), None)
    with pytest.raises(TrialError, match=r"the package no_such_weights is not installed in the worker's environment"):
        find_source(dataclasses.replace(minilm(), package="no_such_weights"), None)


def test_pickled_weights_are_read_only_where_the_model_says_so(tmp_path: Path) -> None:
    saved = tiny_model("bert")
    saved.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(saved.state_dict(), tmp_path / "pytorch_model.bin")

    with pytest.raises(TrialError, match=r"Only safetensors are read unless its entry says allow_pickle = true"):
        _load(_local(tmp_path))
    loaded = _load(_local(tmp_path, allow_pickle=True))

    name = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(loaded.get_parameter(name), saved.get_parameter(name))


def test_a_head_of_another_task_is_replaced(tmp_path: Path) -> None:
    tiny_model("bert").save_pretrained(tmp_path)  # three classes

    assert _load(_local(tmp_path)).get_parameter("classifier.weight").shape == (2, 32)


def test_a_model_that_cannot_classify_is_unsupported(tmp_path: Path) -> None:
    shutil.copytree(find_source(minilm(), None).place, tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text('{"model_type": "clip_vision_model"}')

    with pytest.raises(
        TrialError, match=r"architecture 'clip_vision_model' has no head for sequence classification"
    ) as caught:
        _load(_local(tmp_path / "m"))

    assert caught.value.kind == "unsupported"


@pytest.mark.parametrize("architecture", CONFIGS)
def test_dropout_reaches_every_part_of_the_model(architecture: str) -> None:
    config = CONFIGS[architecture].from_dict(CONFIGS[architecture].to_dict())

    apply_dropout(config, 0.37)

    model = type(tiny_model(architecture))(config)
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    # Llama and its kin have no such module; their attention drops by a number of its own.
    own = [getattr(module, "attention_dropout", None) for module in model.modules()]
    rates += [rate for rate in own if isinstance(rate, float)]
    assert rates
    assert set(rates) == {0.37}


def test_an_architecture_without_a_known_dropout_is_unsupported() -> None:
    with pytest.raises(TrialError, match=r"architecture 'mamba' has no dropout to set to 0.2"):
        apply_dropout(MambaConfig(), 0.2)


def test_a_tokeniser_without_padding_is_unsupported(tmp_path: Path) -> None:
    shutil.copytree(find_source(minilm(), None).place, tmp_path / "m")
    settings = tmp_path / "m" / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace('"[PAD]"', "null"))
    (tmp_path / "m" / "special_tokens_map.json").unlink()
    model = _local(tmp_path / "m")

    with pytest.raises(TrialError, match=r"the tokeniser of model mine has no token to pad with"):
        load_tokenizer(find_source(model, None), model)
