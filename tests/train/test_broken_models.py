"""A model's folder that is incomplete or damaged, and odd data: the right kind of end each, with its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from tests.train.families import labelled_rows, question_rows, run_attempt, write_family_attempt

PARAMS: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 36, "epochs": 1}
WEIGHTS = "model.safetensors"


def _without(*names: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def _pickle(folder: Path) -> None:
    torch.save(load((folder / WEIGHTS).read_bytes()), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def _pickle_under_their_name(folder: Path) -> None:
    weights = load((folder / WEIGHTS).read_bytes())
    torch.save(weights, folder / WEIGHTS)


def _cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


def _lose_a_part(folder: Path) -> None:
    """Divide the weights in two files, as large models' are, and lose the second."""
    names = sorted(load((folder / WEIGHTS).read_bytes()))
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    parts = {name: f"model-0000{1 + (name > names[9])}-of-00002.safetensors" for name in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": parts}))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (_without(WEIGHTS), "Only safetensors are read unless its entry says allow_pickle = true"),
    "pickled weights": (_pickle, "Only safetensors are read unless its entry says allow_pickle = true"),
    "pickled weights under another name": (_pickle_under_their_name, "SafetensorError"),
    "weights cut short": (_cut(WEIGHTS), "SafetensorError"),
    "a part of the weights missing": (_lose_a_part, "model-00002-of-00002.safetensors"),
    "no configuration": (_without("config.json"), "model bert: files are missing or damaged in"),
    "a configuration cut short": (_cut("config.json"), "model bert: files are missing or damaged in"),
    "no tokeniser": (_without("tokenizer.json", "tokenizer_config.json"), "its tokeniser has no vocabulary"),
    "a tokeniser cut short": (_cut("tokenizer.json"), "model bert: files are missing or damaged in"),
}


@pytest.mark.parametrize(("damage", "message"), BROKEN.values(), ids=BROKEN)
def test_a_model_that_is_not_whole_is_unavailable_and_no_evidence(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    attempt_dir = write_family_attempt(tmp_path, "bert", kind="text-classification", method="full", params=PARAMS)
    damage(tmp_path / "model")

    outcome = run_attempt(attempt_dir)

    assert (outcome.kind, outcome.origin) == ("data_unavailable", "infrastructure"), outcome.message
    assert outcome.message is not None
    assert message in outcome.message


def test_a_label_unseen_in_training_is_named(tmp_path: Path) -> None:
    rows = [{**row, "label": "maybe"} for row in labelled_rows()]
    attempt_dir = write_family_attempt(
        tmp_path, "bert", kind="text-classification", method="head", params=PARAMS, rows=rows
    )

    outcome = run_attempt(attempt_dir)

    assert not outcome.succeeded
    assert outcome.message is not None
    assert "'maybe'" in outcome.message


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [("text-classification", "bert"), ("question-answering", "bert"), ("text-generation", "llama")],
)
def test_texts_far_longer_than_the_context_are_learnt_from_what_fits(
    tmp_path: Path, kind: str, architecture: str
) -> None:
    long = "ada lives in Oslo . " * 100
    rows: list[dict[str, Any]] = labelled_rows() if kind == "text-classification" else question_rows()
    for row in rows:
        key = "text" if kind == "text-classification" else "context"
        row[key] = f"{row[key]} {long}"
    attempt_dir = write_family_attempt(tmp_path, architecture, kind=kind, method="head", params=PARAMS, rows=rows)

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message
