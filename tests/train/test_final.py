"""What was trained is kept: evaluated on ``test`` once, and written as a folder that transformers loads."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    pipeline,
)

from tests.train.families import labelled_rows, question_rows, run_attempt, write_family_attempt
from tests.train.test_families import COMMON, PARAMS
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, OUTCOME, TASK, TEST, WEIGHTS, write_members
from xautolm_hpc.predictions import ANSWERS, PREDICT, ROWS, read_predictions
from xautolm_hpc.report.intervals import f1_of
from xautolm_hpc.train.__main__ import main
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.kinds.answers import row_scores
from xautolm_hpc.train.kinds.generation import prompt_text
from xautolm_hpc.train.kinds.tasks import references_of

COLUMNS = {"text": "comment"}
FACTS: dict[str, Any] = {
    "run": "towns",
    "trial": 3,
    "metrics": {"f1": 0.5},
    "test": {"f1": 0.25},
    "time_s": 12.0,
    "energy_j": None,
}


def _trained(folder: Path, architecture: str, *, kind: str, method: str) -> Path:
    params = {**COMMON, **PARAMS[method]}
    attempt_dir = write_family_attempt(folder, architecture, kind=kind, method=method, params=params)
    assert run_attempt(attempt_dir).status == "succeeded"
    return attempt_dir


def _step(folder: Path, attempt_dir: Path) -> Path:
    """Write the folder of a step that uses a trained attempt."""
    folder.mkdir()
    for name in (COMMAND, TASK):
        (folder / name).write_bytes((attempt_dir / name).read_bytes())
    return folder


def _export(tmp_path: Path, attempt_dir: Path) -> Path:
    step_dir = _step(tmp_path / "export", attempt_dir)
    wanted = {"trial": str(attempt_dir), "to": str(tmp_path / "model-out"), "facts": FACTS, "columns": COLUMNS}
    write_json(step_dir / EXPORT, wanted)
    assert main(["export", str(step_dir)]) == 0
    return tmp_path / "model-out"


@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("bert", "text-classification"), ("bert", "question-answering"), ("t5", "text-generation")],
)
def test_what_was_answered_on_each_row_is_kept_beside_the_outcome(tmp_path: Path, architecture: str, kind: str) -> None:
    attempt_dir = _trained(tmp_path, architecture, kind=kind, method="full")
    step_dir = _step(tmp_path / "final", attempt_dir)
    write_members(step_dir, [attempt_dir])

    assert main(["final", str(step_dir)]) == 0

    validated, tested = (read_predictions(attempt_dir, split) for split in ("validation", "test"))
    assert validated is not None
    assert tested is not None
    assert f1_of(validated) == pytest.approx(read_json(attempt_dir / OUTCOME)["outcome"]["metrics"]["f1"])
    assert f1_of(tested) == pytest.approx(read_json(attempt_dir / TEST)["f1"])
    rows = labelled_rows() if kind == "text-classification" else question_rows()
    assert len(validated) == len(tested) == len(rows)
    if validated.truth is not None:
        labels = read_json(attempt_dir / TASK)["task"]["labels"]
        assert [labels[number] for number in validated.truth] == [row["label"] for row in rows]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_classifier_is_tested_once_and_loads_as_a_pipeline(tmp_path: Path, method: str) -> None:
    attempt_dir = _trained(tmp_path, "bert", kind="text-classification", method=method)
    step_dir = _step(tmp_path / "final", attempt_dir)
    write_members(step_dir, [attempt_dir])

    assert main(["final", str(step_dir)]) == 0

    validation = read_json(attempt_dir / OUTCOME)["outcome"]["metrics"]
    tested = read_json(attempt_dir / TEST)  # the same rows: what was kept answers as it did
    assert (tested["f1"], tested["accuracy"]) == (validation["f1"], validation["accuracy"])
    assert tested["loss"] == pytest.approx(validation["validation_loss"], rel=1e-5)
    assert read_json(step_dir / OUTCOME)["outcome"]["status"] == "succeeded"

    (attempt_dir / TEST).write_text("{}")
    (step_dir / OUTCOME).unlink()
    assert main(["final", str(step_dir)]) == 0
    assert read_json(attempt_dir / TEST) == {}

    folder = _export(tmp_path, attempt_dir)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder))
    rows = labelled_rows()
    answers = [answer["label"] for answer in classify([row["text"] for row in rows])]
    share = sum(answer == row["label"] for answer, row in zip(answers, rows, strict=True)) / len(rows)
    assert share == pytest.approx(validation["accuracy"])


@pytest.mark.parametrize(
    ("architecture", "kind", "method"),
    [
        ("bert", "text-classification", "full"),
        ("bert", "question-answering", "lora"),
        ("t5", "text-generation", "full"),
        ("gpt2", "text-generation", "lora"),
    ],
)
def test_an_exported_model_answers_as_its_trial_did(tmp_path: Path, architecture: str, kind: str, method: str) -> None:
    attempt_dir = _trained(tmp_path, architecture, kind=kind, method=method)
    folder = _export(tmp_path, attempt_dir)
    is_labelled = kind == "text-classification"
    rows = labelled_rows() if is_labelled else question_rows()
    step_dir = tmp_path / "predict"
    step_dir.mkdir()
    write_json(step_dir / PREDICT, {"model": str(folder)})
    asked = [{k: row[k] for k in (("text",) if is_labelled else ("question", "context"))} for row in rows]
    (step_dir / ROWS).write_text("".join(json.dumps(row) + "\n" for row in asked))

    assert main(["predict", str(step_dir)]) == 0

    assert read_json(folder / PREDICT)["columns"] == COLUMNS
    answers = [json.loads(line) for line in (step_dir / ANSWERS).read_text().splitlines()]
    known = read_predictions(attempt_dir, "validation")
    assert known is not None
    if known.predicted is not None:
        labels = read_json(attempt_dir / TASK)["task"]["labels"]
        assert [answer["label"] for answer in answers] == [labels[number] for number in known.predicted]
        assert all(1 / len(labels) <= answer["score"] <= 1 for answer in answers)
    else:
        references = [references_of(row) for row in rows]
        metric = read_json(attempt_dir / TASK)["task"]["metric"]
        pairs = row_scores(metric, [answer["answer"] for answer in answers], references=references)
        assert known.f1 is not None
        assert pairs[:, 1].tolist() == known.f1.tolist()


def test_the_card_says_what_was_trained_on_what_and_what_it_cost(tmp_path: Path) -> None:
    folder = _export(tmp_path, _trained(tmp_path, "bert", kind="text-classification", method="head"))

    card = (folder / "README.md").read_text()

    for text in (
        'pipeline_tag: "text-classification"',
        'license: "mit"',
        "# bert fine-tuned for towns",
        "Trial 3 of the search `towns`",
        f"- fingerprint of rows, split and metric: `{'1' * 32}`",
        "- method: head",
        "- learning_rate: 0.03",
        "- validation f1 macro: 0.5000",
        "- test f1 macro: 0.2500",
        "- training and evaluation: 12.0 s",
        "- GPU energy: unknown",
        "published under MIT",
    ):
        assert text in card, text
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "no", "1": "yes"}


def test_an_extractor_loads_with_its_head(tmp_path: Path) -> None:
    folder = _export(tmp_path, _trained(tmp_path, "bert", kind="question-answering", method="full"))

    model = AutoModelForQuestionAnswering.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    row = question_rows()[0]
    encoded = tokenizer(row["question"], row["context"], return_tensors="pt")
    output = model(**encoded)
    place = int(output.start_logits.argmax())
    assert tokenizer.decode(encoded["input_ids"][0, place]).strip() == row["answers"][0]["text"]


def test_a_writer_loads_and_ends_its_answers(tmp_path: Path) -> None:
    folder = _export(tmp_path, _trained(tmp_path, "llama", kind="text-generation", method="full"))

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    row = question_rows()[0]
    encoded = tokenizer(prompt_text(row["question"], row["context"]), return_tensors="pt")
    written = model.generate(input_ids=encoded["input_ids"], max_new_tokens=8, do_sample=False)
    words = tokenizer.decode(written[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    assert words.strip() == row["answers"][0]["text"]


def test_weights_that_were_not_kept_are_named(tmp_path: Path) -> None:
    attempt_dir = _trained(tmp_path, "bert", kind="text-classification", method="head")
    (attempt_dir / WEIGHTS).unlink()
    step_dir = _step(tmp_path / "final", attempt_dir)
    write_members(step_dir, [attempt_dir])

    with pytest.raises(TrialError, match=r"weights.safetensors` is missing: its trial's weights were not kept"):
        main(["final", str(step_dir)])
