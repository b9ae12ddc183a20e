"""Normalised rows of question answering: a question, its context and the answers that are accepted."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.answer_places import Mention, Placement, find_unit
from xautolm_hpc.profile.rows import Note, clean_text, number_problems

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


class _Given(NamedTuple):
    """An answer as the file gives it: its start, the white space before it, and its spans."""

    start: int | None
    lead: str
    spans: tuple[str, ...]

    def mention(self, context: str) -> Mention:
        """Return it with its context, in which it is to be found."""
        return Mention(context, self.spans[0], self.start, self.lead)


class _Parsed(NamedTuple):
    """A row before its answers are placed; ``offset`` is where its context begins in ``raw_context``."""

    context: str
    question: str
    raw_context: str
    offset: int
    answers: Sequence[_Given]


def normalise_questions(
    path: Path,
    cells: Sequence[Sequence[object]],
    *,
    columns: Sequence[str],
    is_extractive: bool,
    note: Note = lambda line: None,
    lines: Sequence[int] = (),
) -> list[Question]:
    """Check and normalise the rows of a file.

    Args:
        path: The file, for messages.
        cells: (question, context, answers) of every row, of any type. Answers are a text, a list of texts, of
            ``{"text", "answer_start"}`` or of lists of texts (several spans), or SQuAD's
            ``{"text": [...], "answer_start": [...]}``; in CSV and TSV the same as JSON. An empty list means that
            the question has no answer.
        columns: Names of the three columns, for messages.
        is_extractive: Whether every answer must occur in its context. Starts that count bytes or UTF-16 code units
            are converted; an answer that does not stand where its start says is moved to its nearest mention; one
            without a start is the first.
        note: Takes lines about what was converted, moved and chosen.
        lines: Line of each row, for messages; empty where the file has none.

    Returns:
        The rows, in the order of ``cells``.

    Raises:
        DataError: A cell is missing, empty or of a wrong type, or an answer does not occur in its context; the
            message names the column, the number of such rows and the first of them.
    """
    parsed = number_problems(path, cells, normalise=lambda row: _parse_row(row, columns), lines=lines)
    if not is_extractive:
        return [_written(row) for row in parsed]
    placement = Placement(find_unit([given.mention(row.raw_context) for row in parsed for given in row.answers]))
    numbered = list(enumerate(parsed, start=1))
    rows = number_problems(
        path,
        numbered,
        normalise=lambda item: _place(item[1], placement, number=item[0], column=columns[2]),
        lines=lines,
    )
    for line in placement.describe():
        note(f"`{path}`: {line}")
    return rows


def has_unanswered_test(files: Mapping[str, Sequence[Question]], *, where: str, column: str) -> bool:
    """Check whether no question of test has an answer, though every one of train has.

    Args:
        files: Split -> rows.
        where: The data set, for messages.
        column: Column of the answers, for messages.

    Raises:
        DataError: No question of validation has an answer, though every one of train has.
    """
    if not all(row.answers for row in files["train"]):
        return False
    empty = [name for name, rows in files.items() if rows and not any(row.answers for row in rows)]
    if "validation" in empty:
        raise DataError(
            f"`{where}`: column '{column}' has no answer in any of the {len(files['validation']):,} rows of "
            "validation, and every question of train has one: these rows are not labelled. Give the answers, or "
            "remove the split"
        )
    return "test" in empty


def _parse_row(row: Sequence[object], columns: Sequence[str]) -> _Parsed:
    """Check the cells of a row."""
    question, context = clean_text(row[0], columns[0]), clean_text(row[1], columns[1])
    answers = [_parse(answer, columns[2]) for answer in _listed(row[2], columns[2])]
    raw_context = str(row[1])
    return _Parsed(context, question, raw_context, raw_context.index(context), answers)


def _written(row: _Parsed) -> Question:
    """Build a question whose answers need no place."""
    return Question(
        row.context, row.question, tuple(dict.fromkeys(Answer(NO_START, given.spans) for given in row.answers))
    )


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


def _parse(answer: object, column: str) -> _Given:
    """Read one answer."""
    given: Any = answer if isinstance(answer, dict) else {"text": answer}
    answer, start = given.get("text"), given.get("answer_start")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    spans = answer if isinstance(answer, list) and answer else [answer]
    texts = tuple(clean_text(span, column) for span in spans)
    if isinstance(start, float) and start.is_integer():  # as programs write whole numbers of a column with gaps
        start = int(start)
    if start is not None and type(start) is not int:
        raise ValueError(f"column '{column}' holds an answer_start that is no whole number")
    lead = answer[: answer.index(texts[0])] if isinstance(answer, str) else ""
    return _Given(start if isinstance(start, int) and start >= 0 else None, lead, texts)


def _place(row: _Parsed, placement: Placement, *, number: int, column: str) -> Question:
    """Find the answers of a row in its context."""
    answers = []
    for given in row.answers:
        if len(given.spans) > 1:
            raise ValueError(f"column '{column}' holds an answer of several spans; use kind = 'text-generation': it")
        start = placement.find(given.mention(row.raw_context), row=number)
        if start is None:
            raise ValueError(f"column '{column}' holds an answer that does not occur in its context; that")
        answers.append(Answer(start - row.offset, given.spans))
    return Question(row.context, row.question, tuple(dict.fromkeys(answers)))
