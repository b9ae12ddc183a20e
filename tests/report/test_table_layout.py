"""Tables at every width: numbers and ids stay whole, and what does not fit goes by rank."""

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.report.whole_run import PRIOR, REASONS, whole_run
from xautolm_hpc.launcher import JobState
from xautolm_hpc.report.blocks import Table
from xautolm_hpc.report.frame import draw_frame
from xautolm_hpc.report.safe_text import shortened
from xautolm_hpc.report.screen import print_findings, print_prior, print_report
from xautolm_hpc.report.summary import summarise
from xautolm_hpc.report.table_layout import PIPE_WIDTH, draw_table, lay_out, print_table
from xautolm_hpc.view import BestTrial, Finding, Phase, RunView, Spent, TrialEnd, TrialView

WIDTHS = [40, 60, 80, 120, 200]
LONG_ID = "microsoft/deberta-v3-large-finetuned-on-a-task-with-a-long-name"
WIDE = Table(
    ("Trial", "Model", "Accuracy", "F1", "Reason"),
    (
        ("7", LONG_ID, "0.71875", "0.6875", "it ran out of memory while 123456789 tokens were read"),
        ("12", "m", "–", "–", ""),
    ),
    right=frozenset({"Trial", "Accuracy", "F1"}),
    wraps=frozenset({"Reason"}),
    rank=("Trial", "F1"),
)  # fmt: skip


def lines_of(table: Table, width: int, **options: Any) -> list[str]:
    return [line.plain for line in draw_table(table, width, **options)]


def terminal(stream: io.StringIO, width: int) -> Console:
    return Console(file=stream, width=width, force_terminal=True, color_system=None)


def words_of(text: str) -> set[str]:
    return {word.strip(":") for word in re.split(r"[\s(),;=·─–]+", text)}


@pytest.mark.parametrize("width", [8, *WIDTHS, 1000])
def test_every_number_and_id_of_a_table_is_whole_at_every_width(width: int) -> None:
    words = words_of("\n".join(lines_of(WIDE, width)))

    assert {"7", "12", LONG_ID, "0.71875", "0.6875", "123456789"} <= words


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal_but_one_long_id(width: int) -> None:
    too_wide = [line for line in lines_of(WIDE, width) if cell_len(line) > width]

    assert all(LONG_ID in line for line in too_wide)
    assert not too_wide or width < len(LONG_ID) + 8


def test_columns_leave_the_row_by_rank_prose_first() -> None:
    shown = [tuple(lay_out(WIDE, width).widths) for width in (200, 90, 80, 40, 8)]

    assert shown == [
        ("Trial", "Model", "Accuracy", "F1", "Reason"),
        ("Trial", "Model", "Accuracy", "F1"),
        ("Trial", "Model", "F1"),
        ("Trial", "F1"),
        ("Trial",),
    ]


def test_what_leaves_a_printed_row_is_stacked_below_it_and_a_live_row_stays_one_line() -> None:
    printed, live = lines_of(WIDE, 40), lines_of(WIDE, 40, is_live=True)

    assert printed[2:5] == ["    7  0.6875", "    Model:", f"    {LONG_ID}"]
    assert "    Accuracy: 0.71875" in printed
    assert live == ["Trial      F1", "─────────────", "    7  0.6875", "   12       –"]


def test_prose_of_a_live_row_ends_between_two_words() -> None:
    table = Table(
        ("Trial", "Reason"), (("1", "Nodes required for job 123456789 are down"),), wraps=frozenset({"Reason"})
    )

    assert lines_of(table, 34, is_live=True)[-1] == "1      Nodes required for job…"


@pytest.mark.parametrize(
    ("columns", "width"), [("40", 40), ("90", 90), ("300", 300), (None, PIPE_WIDTH), ("x", PIPE_WIDTH)]
)
def test_a_pipe_is_as_wide_as_columns_says(monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    stream, terminal_s = io.StringIO(), io.StringIO()

    print_report(summarise(whole_run()), Console(file=stream))
    print_report(summarise(whole_run()), terminal(terminal_s, width))

    assert stream.getvalue() == terminal_s.getvalue()


@pytest.mark.parametrize("width", [80, PIPE_WIDTH])
def test_a_wide_table_in_a_pipe_is_not_wider_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    table = Table(tuple(f"column {n}" for n in range(30)), (tuple(f"{n}" * 12 for n in range(30)),))
    stream = io.StringIO()

    print_table(table, Console(file=stream))

    assert max(map(cell_len, stream.getvalue().splitlines())) <= width
    assert {f"{n}" * 12 for n in range(30)} <= words_of(stream.getvalue())


@pytest.mark.parametrize("width", WIDTHS)
def test_a_report_shows_the_same_numbers_and_ids_at_every_width(width: int) -> None:
    narrow, whole = io.StringIO(), io.StringIO()

    print_report(summarise(whole_run()), terminal(narrow, width))
    print_report(summarise(whole_run()), terminal(whole, 1000))

    assert words_of(whole.getvalue()) - words_of(narrow.getvalue()) == set()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_prior_shows_whole_ids_at_every_width(width: int) -> None:
    stream = io.StringIO()

    print_prior(PRIOR, terminal(stream, width))

    assert {reason["id"] for reason in REASONS} <= words_of(stream.getvalue())


@pytest.mark.parametrize("width", WIDTHS)
def test_findings_break_no_path(width: int) -> None:
    path = "/scratch/users/somebody/with/a/long/home/runs-of-many-searches/attempt-0123456789"
    stream = io.StringIO()

    print_findings(
        [Finding(check="run folder", level="failure", found=path, remedy="move it")], terminal(stream, width)
    )

    assert path in stream.getvalue()
    assert "1 failure" in stream.getvalue()


def view_of(*trials: TrialView) -> RunView:
    best = BestTrial(trial=3, model="distilbert-base-uncased", method="full", f1=0.6875)
    spent = Spent(wall_s=123456.0, trial_s=98765.0, gpu_s=360000.0, energy_j=3.6e7)
    return RunView(
        name="tickets", phase=Phase.GENERATION, objectives=("f1",), trials=trials, best=best, spent=spent,
        note="a note " * 20,
    )  # fmt: skip


TRIALS = (
    TrialView(trial=107, attempt=2, model="distilbert/distilbert-base-uncased", method="lora", state=TrialEnd.SUCCEEDED,
              node="gpu-node-0107.cluster", elapsed_s=7265.0, f1=0.6875),
    TrialView(trial=108, attempt=0, model="FacebookAI/roberta-base", method="full", state=JobState.RUNNING,
              node="gpu-node-0108.cluster", elapsed_s=61.0, step=120, n_steps=12345),
    TrialView(trial=109, attempt=0, model="FacebookAI/roberta-base", method="full", state=JobState.PENDING,
              reason="(ReqNodeNotAvail, UnavailableNodes:gpu-node-[0100-0199])"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (60, {"gpu-node-0107.cluster", "lora", "120/12345", "ReqNodeNotAvail"}),
        (80, {"gpu-node-0107.cluster", "120/12345", "ReqNodeNotAvail"}),
        (120, {"gpu-node-0107.cluster"}),
        (200, set()),
    ],
)
def test_a_live_view_leaves_columns_out_by_rank_and_cuts_nothing(width: int, left_out: set[str]) -> None:
    text = draw_frame(view_of(*TRIALS), since_s=0.0, width=width, height=40).plain

    every = {"107.2", "distilbert-base-uncased", "SUCCEEDED", "2:01:05", "0.6875", "lora", "120/12345"}
    every |= {"gpu-node-0107.cluster", "ReqNodeNotAvail"}
    assert every - words_of(text) == left_out
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_status_printed_once_shows_everything_at_every_width(width: int) -> None:
    text = draw_frame(view_of(*TRIALS), since_s=0.0, width=width).plain

    assert {"107.2", "0.6875", "2:01:05", "lora", "gpu-node-0107.cluster", "120/12345"} <= words_of(text)
    assert max(map(cell_len, text.splitlines())) <= width


@pytest.mark.parametrize("height", [12, 14, 20])
def test_a_live_view_is_never_higher_than_the_terminal_though_its_texts_wrap(height: int) -> None:
    trials = [TrialView(trial=n, attempt=0, model="m", method="full", state=JobState.RUNNING) for n in range(30)]

    text = draw_frame(view_of(*trials), since_s=0.0, width=60, height=height).plain

    assert len(text.splitlines()) <= max(height, 8 + 3 + 4)


def test_a_text_is_shortened_between_two_words() -> None:
    assert shortened("loss 123456789 is not finite", 12) == "loss…"
    assert shortened("loss 1234 is", 12) == "loss 1234 is"
