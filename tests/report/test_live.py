"""The progress displays of a running search."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest
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
        "1 of 5 generations committed: 6 trials succeeded, 2 failed; best F1 0.7500 (trial 3, bert, full); "
        "2 min 05 s wall, 5 min 00 s of trials, 0.10 GPU-hours, 1 kWh"
    ]


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
