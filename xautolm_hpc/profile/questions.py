"""Normalised rows of question answering: a question, its context and the answers that are accepted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xautolm_hpc.profile.rows import clean_text, number_problems

NO_START = -1
"""Start of an answer that need not occur in the context."""


class Answer(NamedTuple):
    """One accepted answer.

    Attributes:
        start: Index of its first character in the context, or :data:`NO_START`.
        spans: Its parts: one, or several if the answer is a list.
    """

    start: int
    spans: tuple[str, ...]


class Question(NamedTuple):
    """One question; questions sort by context, then question."""

    context: str
    question: str
    answers: tuple[Answer, ...]

    @property
    def text(self) -> str:
        """Return the text that two splits must not share: the context."""
        return self.context

    @property
    def label(self) -> str:
        """Return the class that splits are stratified by: all questions have the same."""
        return ""

    def as_json(self) -> dict[str, Any]:
        """Return the row as it is written to a split."""
        answers: list[dict[str, Any]] = []
        for start, spans in self.answers:
            answers.append({"text": spans[0]} if len(spans) == 1 else {"text": "; ".join(spans), "spans": [*spans]})
            if start != NO_START:
                answers[-1]["answer_start"] = start
        return {"question": self.question, "context": self.context, "answers": answers}


def normalise_questions(
    path: Path, cells: Sequence[Sequence[object]], *, columns: Sequence[str], is_extractive: bool
) -> list[Question]:
    """Check and normalise the rows of a file.

    Args:
        path: The file, for messages.
        cells: (question, context, answers) of every row, of any type. Answers are a text, a list of texts, of
            ``{"text", "answer_start"}`` or of lists of texts (several spans), or SQuAD's
            ``{"text": [...], "answer_start": [...]}``; in CSV and TSV the same as JSON. An empty list means that
            the question has no answer.
        columns: Names of the three columns, for messages.
        is_extractive: Whether every answer must occur in its context. A start that is missing or wrong is replaced
            by the first occurrence of the answer.

    Returns:
        The rows, in the order of ``cells``.

    Raises:
        DataError: A cell is missing, empty or of a wrong type, or an answer does not occur in its context; the
            message names the column, the number of such rows and the first of them.
    """

    def normalise(row: Sequence[object]) -> Question:
        question, context = clean_text(row[0], columns[0]), clean_text(row[1], columns[1])
        offset = str(row[1]).index(context)
        answers = [_parse(answer, columns[2]) for answer in _listed(row[2], columns[2])]
        if not is_extractive:
            return Question(context, question, tuple(dict.fromkeys(Answer(NO_START, spans) for _, spans in answers)))
        placed = (_place(answer, context, offset=offset, column=columns[2]) for answer in answers)
        return Question(context, question, tuple(dict.fromkeys(placed)))

    return number_problems(path, cells, normalise=normalise)


def _listed(value: object, column: str) -> Sequence[Any]:
    """List the answers of a cell of any form."""
    if value is None:
        raise ValueError(f"column '{column}' is null")
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        starts = value.get("answer_start") or [None] * len(value["text"])
        if len(starts) != len(value["text"]):
            raise ValueError(f"column '{column}' holds fewer starts than answers, or more,")
        return [{"text": text, "answer_start": start} for text, start in zip(value["text"], starts, strict=True)]
    return value if isinstance(value, list) else [value]


def _from_text(text: str) -> Sequence[Any]:
    """Read a cell of a CSV file: JSON, else one answer as plain text."""
    try:
        parsed = json.loads(text) if text.lstrip().startswith(("[", "{")) else None
    except ValueError:
        parsed = None
    if isinstance(parsed, list | dict):
        return _listed(parsed, "")
    return [text] if text.strip() else []


def _parse(answer: object, column: str) -> tuple[int | None, tuple[str, ...]]:
    """Read one answer: its start, or ``None``, and its spans."""
    given: Any = answer if isinstance(answer, dict) else {"text": answer}
    answer, start = given.get("text"), given.get("answer_start")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    spans = answer if isinstance(answer, list) and answer else [answer]
    texts = tuple(clean_text(span, column) for span in spans)
    if start is not None and type(start) is not int:
        raise ValueError(f"column '{column}' holds an answer_start that is no whole number")
    if isinstance(start, int) and isinstance(answer, str):
        start += answer.index(texts[0])
    return start if isinstance(start, int) else None, texts


def _place(answer: tuple[int | None, tuple[str, ...]], context: str, *, offset: int, column: str) -> Answer:
    """Find an answer in its context."""
    start, spans = answer
    if len(spans) > 1:
        raise ValueError(f"column '{column}' holds an answer of several spans; use kind = 'text-generation': it")
    if start is None or not context.startswith(spans[0], max(start - offset, 0)):
        start = context.find(spans[0])
        if start < 0:
            raise ValueError(f"column '{column}' holds an answer that does not occur in its context; that")
        return Answer(start, spans)
    return Answer(start - offset, spans)
