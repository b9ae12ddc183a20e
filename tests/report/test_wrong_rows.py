"""Wrong answers are drawn from the rows, and shown as they are."""

import io
from typing import Any

import numpy as np
from rich.console import Console

from xautolm_hpc.predictions import Predictions
from xautolm_hpc.report import print_examples, wrong_answers
from xautolm_hpc.report.wrong_rows import LONGEST_TEXT, N_EXAMPLES

LABELS = ("billing", "login")
ROWS: list[dict[str, str]] = [{"text": f"text {number}", "label": LABELS[number % 2]} for number in range(40)]


def answers(n_wrong: int) -> Predictions:
    """Build answers to :data:`ROWS`, the first of them wrong."""
    truth = np.arange(40) % 2
    return Predictions(truth=truth, predicted=np.where(np.arange(40) < n_wrong, 1 - truth, truth), n_classes=2)


def test_five_wrong_rows_are_drawn_always_the_same() -> None:
    found = wrong_answers(answers(20), ROWS, labels=LABELS)

    assert len(found) == N_EXAMPLES
    assert found == wrong_answers(answers(20), ROWS, labels=LABELS)
    for example in found:
        row = int(example["row"])
        assert row < 20
        assert example == {
            "row": str(row), "text": f"text {row}", "expected": LABELS[row % 2], "given": LABELS[1 - row % 2]
        }  # fmt: skip


def test_fewer_wrong_rows_are_all_shown() -> None:
    assert [example["row"] for example in wrong_answers(answers(2), ROWS, labels=LABELS)] == ["0", "1"]
    assert wrong_answers(answers(0), ROWS, labels=LABELS) == []


def test_a_text_answer_is_shown_with_its_question_and_f1() -> None:
    rows: list[dict[str, Any]] = [
        {"question": "Where?", "context": "Ada lives in Oslo.", "answers": [{"text": "Oslo"}]},
        {"question": "Who?", "context": "x" * 1000, "answers": []},
    ]

    found = wrong_answers(Predictions(f1=np.array([0.9, 0.0])), rows, labels=())

    assert [(each["row"], each["expected"], each["given"]) for each in found] == [("1", "(no answer)", "F1 0.00")]
    assert len(found[0]["text"]) <= LONGEST_TEXT


def test_answers_to_other_rows_are_not_shown() -> None:
    assert wrong_answers(answers(5), ROWS[1:], labels=LABELS) == []
    assert wrong_answers(answers(5), ROWS, labels=("a", "b", "c")) == []


def test_texts_are_printed_without_being_interpreted() -> None:
    out = io.StringIO()
    rows = [{**row, "text": "\x1b[31m[bold]x[/bold]"} for row in ROWS]

    print_examples(wrong_answers(answers(1), rows, labels=LABELS), Console(file=out, width=200))

    assert "\\x1b[31m[bold]x[/bold]" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_where_nothing_can_be_shown_that_is_said() -> None:
    out = io.StringIO()

    print_examples([], Console(file=out, width=200))

    assert "None can be shown" in out.getvalue()
