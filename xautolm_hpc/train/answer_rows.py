"""Answers new rows with an exported model, by the same code by which trials are evaluated."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from xautolm_hpc.durable import read_json, write_bytes
from xautolm_hpc.predictions import ANSWERS, PREDICT, ROWS
from xautolm_hpc.train.data import plan_evaluation
from xautolm_hpc.train.kinds.classification import Classification
from xautolm_hpc.train.kinds.extraction import Extraction
from xautolm_hpc.train.kinds.generation import Generation, writing_class
from xautolm_hpc.train.libraries import silence_loading

BATCH_SIZE = 32

PLAIN = (bool, int, float, str, type(None))

Answer = dict[str, Any]


def describe_task(task: Any, kind: str) -> dict[str, Any]:
    """Describe how a trained task is answered, beside what its model and tokeniser say themselves.

    Args:
        task: The task as it was trained.
        kind: Its kind.

    Returns:
        ``kind``, and the plain fields of the task: lengths of texts and answers, whether none is an answer too.
    """
    values = {field.name: getattr(task, field.name) for field in fields(task)}
    return {"kind": kind, **{name: value for name, value in values.items() if isinstance(value, PLAIN)}}


def run_predict(folder: Path) -> int:
    """Answer the rows of a folder.

    Args:
        folder: Folder with ``predict.json``, which names the exported ``model``, and ``rows.jsonl``: rows of ``text``,
            or of ``question`` and ``context``. ``answers.jsonl`` is written there: an answer for each row, in order.

    Returns:
        0 once everything is written.

    Raises:
        OSError: The model cannot be read, or the answers not be written.
    """
    model_dir = Path(read_json(folder / PREDICT)["model"])
    rows = [json.loads(line) for line in (folder / ROWS).read_bytes().splitlines()]  # of bytes: at no U+2028
    answers = answer_rows(model_dir, rows) if rows else []
    content = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    write_bytes(folder / ANSWERS, content.encode())
    return 0


def answer_rows(model_dir: Path, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
    """Answer rows with an exported model.

    Args:
        model_dir: The exported folder.
        rows: Rows, at least one.

    Returns:
        Of each row ``label`` and its probability ``score``, or ``answer``; empty if there is none.
    """
    silence_loading()
    described = dict(read_json(model_dir / PREDICT))
    described.pop("columns", None)
    build = BUILDERS[described.pop("kind")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, model, texts = build(model_dir, described)
    model.to(device).eval()
    tokens = task.tokenise([_with_target(row, task) for row in rows])
    answers: list[Any] = [None] * len(tokens)
    with torch.no_grad():
        for batch in plan_evaluation(tokens.lengths, BATCH_SIZE):
            given = task.answer(model, tokens, rows=batch, device=device)
            for row, answer in zip(batch.tolist(), given, strict=True):
                answers[row] = answer
    return texts(task, tokens, answers=answers)


def _with_target(row: Mapping[str, Any], task: Any) -> dict[str, Any]:
    """Add what stands for the target, which is unknown: the samples are built as those of training are."""
    if isinstance(task, Classification):
        return {**row, "label": next(iter(task.labels))}
    return {**row, "answers": []}


Texts = Callable[..., list[Answer]]
Built = tuple[Any, Any, Texts]


def _classifier(model_dir: Path, described: Mapping[str, Any]) -> Built:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_dir)
    labels = {model.config.id2label[n]: n for n in range(model.config.num_labels)}
    tokenizer, longest = _tokenizer(model_dir), int(described["max_length"])
    task = Classification(labels=labels, tokenizer=tokenizer, max_length=longest, class_weights=None)
    return task, model, _labels


def _labels(task: Classification, tokens: Any, *, answers: Sequence[Any]) -> list[Answer]:
    """Name the most probable label of each row."""
    del tokens
    shifted = np.stack(answers) - np.max(answers, axis=1, keepdims=True)  # (n_rows, n_classes)
    shares = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    names = list(task.labels)
    return [{"label": names[int(row.argmax())], "score": round(float(row.max()), 6)} for row in shares]


def _extractor(model_dir: Path, described: Mapping[str, Any]) -> Built:
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(model_dir)
    return Extraction(tokenizer=_tokenizer(model_dir), **described), model, _spans


def _spans(task: Extraction, tokens: Any, *, answers: Sequence[Any]) -> list[Answer]:
    return [{"answer": text} for text in task.best_answers(tokens, answers)]


def _writer(model_dir: Path, described: Mapping[str, Any]) -> Built:
    auto_class = getattr(transformers, writing_class(described["family"]))
    task = Generation(tokenizer=_tokenizer(model_dir), **described)
    return task, auto_class.from_pretrained(model_dir), _written


def _written(task: Generation, tokens: Any, *, answers: Sequence[Any]) -> list[Answer]:
    del task, tokens
    return [{"answer": answer.text} for answer in answers]


BUILDERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Built]] = {
    "text-classification": _classifier,
    "question-answering": _extractor,
    "text-generation": _writer,
}
"""Kind of task -> builds the task and the model of an exported folder, and what makes texts of its answers."""


def _tokenizer(model_dir: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(model_dir)
