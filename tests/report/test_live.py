"""The progress displays of a running search."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.fakes import FakeClock
from xautolm_hpc.launcher import JobState
from xautolm_hpc.report import LiveView, PlainView, QuietView, choose_view, print_view
from xautolm_hpc.report.frame import draw_frame
from xautolm_hpc.view import BestTrial, RunView, Spent, TrialEnd, TrialView


def _trial(number: int, word: str, **fields: Any) -> TrialView:
    state = TrialEnd(word) if word in [*TrialEnd] else JobState(word)
    given = {"attempt": 0, "model": "FacebookAI/roberta-base", "method": "lora", **fields}
    return TrialView(trial=number, state=state, **given)


def _view(*trials: TrialView, **fields: Any) -> RunView:
    given = {"name": "tickets-1", "phase": "generation", "n_generations": 5, "objectives": ("f1",), **fields}
    return RunView(trials=trials, **given)


def _terminal(stream: io.StringIO) -> Console:
    return Console(file=stream, width=120, height=30, force_terminal=True, _environ={"TERM": "xterm"})


def _frame(view: RunView, *, since_s: float = 0.0, height: int = 40) -> str:
    console = Console(file=io.StringIO(), width=120, record=True)
    console.print(draw_frame(view, since_s=since_s, width=120, height=height))
    return console.export_text()


def _interrupted(live: LiveView) -> None:
    with live:
        live.show(_view(_trial(0, "RUNNING")))
        raise KeyboardInterrupt("Ctrl-C")


def _logged(*views: RunView) -> list[str]:
    stream = io.StringIO()
    with PlainView(stream, FakeClock(1_767_225_600.0)) as plain:
        for view in views:
            plain.show(view)
    return [line.removeprefix("2026-01-01T00:00:00Z  ") for line in stream.getvalue().splitlines()]


STARTED = "trial 0 FacebookAI/roberta-base lora: started on gpu07"


def test_a_trial_that_starts_is_logged_once() -> None:
    waiting, running = _view(_trial(0, "PENDING")), _view(_trial(0, "RUNNING", node="gpu07"))
    later = _view(_trial(0, "RUNNING", node="gpu07", elapsed_s=60.0, step=10, n_steps=20))

    assert _logged(waiting, waiting, running, later, later) == [STARTED]


def test_the_next_attempt_of_a_trial_is_logged_as_such() -> None:
    first = _view(_trial(0, "RUNNING", node="gpu07"))
    second = _view(_trial(0, "RUNNING", attempt=1, node="gpu08"))

    assert _logged(first, second) == [
        STARTED,
        "trial 0 (attempt 1) FacebookAI/roberta-base lora: started on gpu08",
    ]


def test_a_trial_that_ended_between_two_polls_is_not_logged_as_started() -> None:
    ended = _view(_trial(0, "FAILED", reason="gpu_oom"))

    assert _logged(_view(_trial(0, "PENDING")), ended, ended) == []


def test_a_committed_generation_is_logged_once_with_the_best_and_the_cost() -> None:
    before = _view(_trial(0, "RUNNING"), spent=Spent())
    spent = Spent(n_generations=1, n_trials=8, wall_s=125.0, trial_s=300.0, gpu_s=360.0, energy_j=3.6e6)
    best = BestTrial(trial=3, model="bert", method="full", f1=0.75)
    after = replace(before, spent=spent, n_succeeded=6, n_failed=2, best=best, trials=())

    assert _logged(before, after, after)[1:] == [
        "1 of 5 generations done: 6 trials succeeded, 2 failed; best F1 0.7500 (trial 3, bert, full); "
        "2 min 05 s wall, 5 min 00 s of trials, 0.10 GPU-hours, 1 kWh"
    ]


def test_one_generation_and_one_trial_are_told_in_the_singular() -> None:
    after = replace(_view(), spent=Spent(n_generations=1), n_succeeded=1, n_failed=0, n_generations=None, trials=())

    (said,) = _logged(after)

    assert said.startswith("1 generation done: 1 trial succeeded, 0 failed;")


def test_phases_and_notes_are_logged_when_they_change() -> None:
    profile, noted = _view(phase="profile"), _view(phase="profile", note="waiting for the queue")

    logged = _logged(profile, profile, noted, noted, _view(phase="generation"), _view(phase="done"))

    assert logged == ["profile: measuring the task and the system", "waiting for the queue", "done"]


def test_plain_lines_escape_what_a_terminal_would_interpret() -> None:
    hostile = _view(_trial(0, "RUNNING", model="\x1b[31mx\nfake line", node="[red]n"))

    assert _logged(hostile) == ["trial 0 \\x1b[31mx\\nfake line lora: started on [red]n"]


def test_a_stream_that_knows_ascii_only_is_no_reason_to_stop() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    PlainView(stream, FakeClock()).log("modèle")

    assert raw.getvalue().endswith(b"mod\\xe8le\n")


def test_the_frame_shows_generation_counts_best_cost_and_trials() -> None:
    best = BestTrial(trial=3, model="bert", method="full", f1=0.75)
    running = _trial(9, "RUNNING", node="gpu07", elapsed_s=200.0, step=30, n_steps=120)
    done = _trial(8, "SUCCEEDED", node="gpu07", elapsed_s=30.0, f1=0.625)
    view = _view(done, running, generation=1, spent=Spent(wall_s=60.0), n_succeeded=6, n_failed=2, best=best)

    text = "\n".join(" ".join(line.split()) for line in _frame(view).splitlines())

    assert "tickets-1 generation 1 (2 of 5)\n" in text
    assert "6 succeeded, 2 failed 1 min 00 s wall, 0.0 s of trials\n" in text
    assert "best F1 0.7500 (trial 3, bert, full)\n" in text
    assert "8 roberta-base lora SUCCEEDED gpu07 0:30 0.6250\n" in text
    assert re.search(r"9 roberta-base lora RUNNING gpu07 3:20 \S+ 30/120 –$", text)


LONG = "an-organisation/of-a-model-whose-name-is-longer-than-a-narrow-terminal-is-wide-as-some-are"
FULL = _view(
    _trial(0, "SUCCEEDED", node="gpu-node-0001.cluster.example.org", elapsed_s=36_000.0, f1=0.625),
    _trial(1, "FAILED", reason="CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.78 GiB total)", attempt=2),
    _trial(2, "RUNNING", node="gpu-node-0002.cluster.example.org", elapsed_s=200.0, step=1234, n_steps=123_456),
    _trial(3, "PENDING", model=LONG, method="partial", reason="ReqNodeNotAvail, UnavailableNodes:gpu[01-99]"),
    name="a-search-of-many-words-in-its-name-" * 3,
    generation=3,
    spent=Spent(wall_s=86_000.0, trial_s=300_000.0, gpu_s=360_000.0, energy_j=3.6e9),
    n_succeeded=1234,
    n_failed=567,
    best=BestTrial(trial=1203, model=LONG, method="partial", f1=0.7512),
    note="waiting for a queue that other jobs of yours fill; the next try is in 60 s, the last after 24 h",
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_of_the_live_view_is_longer_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    text = draw_frame(FULL, since_s=0.0, width=width, height=40).plain

    lines = text.splitlines()
    assert [line for line in lines if cell_len(line) > width] == []
    said = "".join(text.split())
    for part in (FULL.name, "generation3(4of5)", "1234succeeded,567failed", "23h53minwall", "100.00GPU-hours", LONG):
        assert part in said
    assert "".join(FULL.note.split()) in said
    rows = [line.split() for line in lines if re.match(r" *[0-3](\.2)? ", line)]
    assert [row[0] for row in rows] == ["0", "1.2", "2", "3"]
    shown = [" ".join(row) for row in rows]
    assert all(state in row for state, row in zip(["SUCCEEDED", "FAILED", "RUNNING", "PENDING"], shown, strict=True))
    assert "0.6250" in shown[0]
    assert "3:20" in shown[2]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_without_colour_gets_the_live_view_without_it(width: int) -> None:
    stream = io.StringIO()
    environ = {"TERM": "xterm", "NO_COLOR": "1"}
    console = Console(file=stream, width=width, height=40, force_terminal=True, _environ=environ)

    with LiveView(console, FakeClock()) as live:
        live.log("trial 1 failed: " + "a reason of some words " * 8)
        live.show(FULL)

    assert re.search(r"\x1b\[[0-9;]*3[0-7]m", stream.getvalue()) is None
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert [line for line in re.split(r"[\r\n]+", plain) if cell_len(line) > width] == []
    assert "trial1failed:areasonofsomewords" in "".join(plain.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_log_gets_whole_lines_without_colour_however_narrow_the_terminal_was(width: int) -> None:
    stream = io.StringIO()
    with choose_view(Console(file=stream, width=width, _environ={"TERM": "xterm"}), quiet=False) as view:
        view.show(FULL)
        view.log(f"trial 3 {LONG} partial: failed")

    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  \S", line) for line in lines)
    assert [line[22:] for line in lines] == [
        FULL.note,
        "trial 2 FacebookAI/roberta-base lora: started on gpu-node-0002.cluster.example.org",
        f"trial 3 {LONG} partial: failed",
    ]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_status_prints_on_a_terminal_is_no_wider_but_for_single_words(width: int) -> None:
    stream = io.StringIO()
    print_view(FULL, Console(file=stream, width=width, force_terminal=True, _environ={"TERM": "xterm"}, no_color=True))

    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    wide = [line for line in plain.splitlines() if cell_len(line) > width]
    assert [line for line in wide if LONG.rpartition("/")[2] not in line and FULL.name not in line] == []
    said = "".join(plain.split())
    reasons = [trial.reason for trial in FULL.trials if trial.reason]
    assert all("".join(part.split()) in said for part in (LONG, FULL.note, *reasons[1:]))
    assert all(trial.node in plain for trial in FULL.trials if trial.node)


def test_running_trials_grow_older_between_two_polls_and_others_do_not() -> None:
    view = _view(_trial(0, "RUNNING", elapsed_s=59.0), _trial(1, "FAILED", elapsed_s=59.0))

    text = _frame(view, since_s=3.0)

    assert "1:02" in text
    assert "0:59" in text


def test_on_a_low_terminal_trials_at_work_are_shown_and_the_others_counted() -> None:
    trials = [_trial(n, "SUCCEEDED") for n in range(30)] + [_trial(n, "PENDING") for n in range(30, 50)]
    trials[7] = _trial(7, "RUNNING")

    text = _frame(_view(*trials), height=13)

    assert "RUNNING" in text
    assert len(text.splitlines()) <= 13
    assert "not shown: 17 PENDING, 29 SUCCEEDED" in text


def test_the_live_view_gives_the_terminal_back_also_after_an_error() -> None:
    stream = io.StringIO()

    with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
        _interrupted(LiveView(_terminal(stream), FakeClock()))

    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_the_live_view_interprets_no_foreign_text() -> None:
    stream = io.StringIO()

    with LiveView(_terminal(stream), FakeClock()) as live:
        live.log("trial 0 [bold]failed[/bold]: \x1b[2J\x07")
        live.show(_view(_trial(0, "RUNNING", model="[red]m[/red]", node="\x1b]0;title\x07")))

    assert "trial 0 [bold]failed[/bold]: \\x1b[2J\\x07" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()
    assert "\x1b]0" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_print_view_shows_every_trial_once() -> None:
    stream = io.StringIO()

    print_view(_view(*(_trial(n, "PENDING") for n in range(60))), Console(file=stream, width=120))

    assert stream.getvalue().count("PENDING") == 60
    assert "not shown" not in stream.getvalue()


def test_a_terminal_gets_the_live_view_and_a_pipe_or_dumb_terminal_lines() -> None:
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})

    assert isinstance(choose_view(_terminal(io.StringIO()), quiet=False), LiveView)
    assert isinstance(choose_view(Console(file=io.StringIO()), quiet=False), PlainView)
    assert isinstance(choose_view(dumb, quiet=False), PlainView)


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()

    with choose_view(_terminal(stream), quiet=True) as view:
        view.log("something")
        view.show(_view(_trial(0, "RUNNING")))

    assert isinstance(view, QuietView)
    assert stream.getvalue() == capsys.readouterr().out == ""


def test_a_quiet_view_prints_warnings_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    view = QuietView()

    view.log("trial 1 ended")
    view.warn("the cluster is busy\n\x1b[31m")

    printed, complaint = capsys.readouterr()
    assert printed == ""
    assert complaint.startswith("xautolm-hpc: the cluster is busy")
    assert complaint.count("\n") == 1
    assert "\x1b" not in complaint
