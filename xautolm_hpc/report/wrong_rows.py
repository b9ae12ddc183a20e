"""Rows that the best trial answered wrong, with their texts: shown only where a person asks for texts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xautolm_hpc.predictions import Predictions
from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.safe_text import shortened

N_EXAMPLES = 5
SEED = 0
LONGEST_TEXT = 400

RIGHT_F1 = 0.5
"""F1 of a text answer from which it is not called wrong."""

HEADINGS = ("Row", "Text", "Expected", "Given")


def wrong_answers(
    answers: Predictions, rows: Sequence[Mapping[str, Any]], *, labels: Sequence[str]
) -> list[dict[str, str]]:
    """Draw rows that were answered wrong, always the same ones.

    Args:
        answers: What the trial answered on each row.
        rows: The rows of the split.
        labels: The task's labels, in the order of their indices; empty for tasks without labels.

    Returns:
        At most :data:`N_EXAMPLES`, by row: ``row`` (its number, from 0), ``text``, ``expected`` and ``given``; of text
        answers, which are not kept, ``given`` is their F1. Empty where answers and rows do not belong together.
    """
    if len(answers) != len(rows) or (answers.truth is not None and len(labels) != answers.n_classes):
        return []
    wrong = np.flatnonzero(_is_wrong(answers))
    drawn = np.random.default_rng(SEED).choice(wrong, size=min(N_EXAMPLES, len(wrong)), replace=False)
    return [_example(int(row), answers, rows=rows, labels=labels) for row in sorted(drawn)]


def example_section(examples: Sequence[Mapping[str, str]]) -> Section:
    """Build the section of wrong answers for a terminal.

    Args:
        examples: Result of :func:`wrong_answers`.
    """
    title = "Wrong answers of the best trial on validation"
    if not examples:
        return Section(title=title, lines=("None can be shown: its answers are unknown, or all of them are right.",))
    table = Table(
        HEADINGS, tuple(tuple(example[key.lower()] for key in HEADINGS) for example in examples),
        right=frozenset({"Row"}), wraps=frozenset({"Text"}),
    )  # fmt: skip
    return Section(title=title, table=table)


def _is_wrong(answers: Predictions) -> Any:
    if answers.f1 is not None:
        return answers.f1 < RIGHT_F1
    return np.zeros(0, dtype=bool) if answers.truth is None else answers.truth != answers.predicted


def _example(
    number: int, answers: Predictions, *, rows: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, str]:
    """Build one example of a row."""
    row = rows[number]
    if answers.truth is None or answers.predicted is None:
        accepted = "; ".join(str(answer["text"]) for answer in row["answers"]) or "(no answer)"
        given = f"F1 {0.0 if answers.f1 is None else answers.f1[number]:.2f}"
        text = f"{row['question']} — {row['context']}"
    else:
        accepted, given = labels[answers.truth[number]], labels[answers.predicted[number]]
        text = str(row["text"])
    return {"row": str(number), "text": shortened(text, LONGEST_TEXT), "expected": accepted, "given": given}
