"""Question answering is read in every usual shape, and no context is in two splits."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.profile.profile_samples import NODE, make_request
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.profile.questions import NO_START, Answer, Question, normalise_questions
from xautolm_hpc.profile.task import profile_task

COLUMNS = ("question", "context", "answers")
CONTEXT = "Ada lives in Oslo. Bob lives in Rome, not in Oslo."


def _read(answers: object, *, context: str = CONTEXT, is_extractive: bool = True) -> Question:
    cells = [("where?", context, answers)]
    (row,) = normalise_questions(Path("q.jsonl"), cells, columns=COLUMNS, is_extractive=is_extractive)
    return row


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([{"text": "Oslo", "answer_start": 45}], [Answer(45, ("Oslo",))]),
        ({"text": ["Rome", "Oslo"], "answer_start": [32, 13]}, [Answer(32, ("Rome",)), Answer(13, ("Oslo",))]),
        (["Rome"], [Answer(32, ("Rome",))]),
        ("Rome", [Answer(32, ("Rome",))]),
        ('["Rome"]', [Answer(32, ("Rome",))]),  # a cell of a CSV file
        ([{"text": "Oslo", "answer_start": 7}], [Answer(13, ("Oslo",))]),  # a wrong start: the first place counts
        ([{"text": " Oslo", "answer_start": 12}], [Answer(13, ("Oslo",))]),
        (["Oslo", "Oslo"], [Answer(13, ("Oslo",))]),
        ([], []),
        ({"text": [], "answer_start": []}, []),
    ],
)
def test_answers_of_every_shape_find_their_place(answers: object, expected: list[Answer]) -> None:
    assert list(_read(answers).answers) == expected


def test_starts_move_with_the_white_space_that_is_taken_off() -> None:
    row = _read([{"text": "Oslo", "answer_start": 47}], context=f"\n {CONTEXT} ")

    assert (row.context, row.answers) == (CONTEXT, (Answer(45, ("Oslo",)),))


def test_written_answers_need_no_place_and_may_have_several_spans() -> None:
    row = _read([["Oslo", "Rome"], 12, "Paris"], is_extractive=False)

    assert row.answers == (Answer(NO_START, ("Oslo", "Rome")), Answer(NO_START, ("12",)), Answer(NO_START, ("Paris",)))
    assert row.as_json()["answers"] == [
        {"text": "Oslo; Rome", "spans": ["Oslo", "Rome"]},
        {"text": "12"},
        {"text": "Paris"},
    ]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["Paris"], r"column 'answers' holds an answer that does not occur in its context; that in 1 row \(row 1\)"),
        ([["Oslo", "Rome"]], r"holds an answer of several spans; use kind = 'text-generation': it in 1 row"),
        (None, r"`q.jsonl`: column 'answers' is null in 1 row"),
        ([""], r"column 'answers' is empty in 1 row"),
        ([{"text": "Oslo", "answer_start": "13"}], r"holds an answer_start that is no whole number in 1 row"),
        ({"text": ["Oslo"], "answer_start": [1, 2]}, r"holds fewer starts than answers, or more, in 1 row"),
    ],
)
def test_answers_that_cannot_be_used_are_refused_with_the_row(answers: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(answers)


def _request(tmp_path: Path, kind: str, **changes: Any) -> ProfileRequest:
    rows = [
        {"q": f"{ask} lives {name}?", "c": f"{name} lives in town{name}.", "a": [f"town{name}"]}
        for name in (f"n{number}" for number in range(40))
        for ask in ("where", "in which place")
    ]
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns: dict[str, Any] = {"question_column": "q", "context_column": "c", "answers_column": "a"}
    return dataclasses.replace(make_request(path, tmp_path), task_kind=kind, **columns, **changes)


@pytest.mark.parametrize("kind", ["question-answering", "text-generation"])
def test_no_context_is_in_two_splits(tmp_path: Path, kind: str) -> None:
    request = _request(tmp_path, kind)

    result = profile_task(request, system=NODE)

    contexts = []
    for name in ("train", "dev", "validation", "test"):
        with gzip.open(Path(request.data_dir) / f"{name}.jsonl.gz", "rt") as file:
            rows = [json.loads(line) for line in file]
        contexts.append({row["context"] for row in rows})
        assert len(rows) == getattr(result.task, f"n_{name}")
        for answer in (answer | {"c": row["context"]} for row in rows for answer in row["answers"]):
            start = answer.get("answer_start", 0 if kind == "text-generation" else None)
            assert start == 0 or answer["c"][start:].startswith(answer["text"])
    assert sum(map(len, contexts)) == len(set.union(*contexts)) == 40
    assert (result.task.n_train, result.task.n_dev, result.task.n_validation, result.task.n_test) == (42, 10, 12, 16)
    assert (result.task.labels, result.task.metric, result.majority_f1) == ((), "squad-f1", 0.0)
    assert result.task.feature_schema == f"{kind}/1"


def test_another_metric_is_another_task_and_must_fit_the_kind(tmp_path: Path) -> None:
    squad = profile_task(_request(tmp_path, "text-generation"), system=NODE).task
    drop = profile_task(_request(tmp_path, "text-generation", metric="drop-f1"), system=NODE).task

    assert drop.metric == "drop-f1"
    assert drop.fingerprint != squad.fingerprint
    assert drop.dataset_id == squad.dataset_id
    with pytest.raises(DataError, match=r"task.metric = 'drop-f1' is no metric of question-answering; valid: squad-f1"):
        profile_task(_request(tmp_path, "question-answering", metric="drop-f1"), system=NODE)


@pytest.mark.parametrize("name", ["squad", "drop"])
def test_real_questions_are_profiled(tmp_path: Path, shared_dir: Path, name: str) -> None:
    kind = "question-answering" if name == "squad" else "text-generation"
    request = make_request(shared_dir / "datasets" / name, tmp_path, train=100, validation=20, test=20)

    task = profile_task(dataclasses.replace(request, task_kind=kind), system=NODE).task

    assert task.n_train + task.n_dev == 100
    assert (task.n_validation, task.n_test) == (20, 20)
    assert task.length_tokens is not None
    assert task.length_tokens[0] > 100
