"""Every state of an attempt that a reader can meet, from its files and what is known of its job."""

from pathlib import Path
from typing import Any

import pytest

from tests.nouns import claim, end, failed, succeeded, trial
from xautolm_hpc.durable import create_json, write_json
from xautolm_hpc.jobdir import OUTCOME, VERDICT, Exit, Heartbeat, claim_path, exit_path, heartbeat_path
from xautolm_hpc.launcher import JobSource, JobState, JobStatus
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History, Trial
from xautolm_hpc.run.overview import best_trial, fill_view, view_trial
from xautolm_hpc.run.progress import read_progress
from xautolm_hpc.view import Phase, RunView

NOW = 1000.0
GONE = JobStatus(state=JobState.UNKNOWN, reason="its process is gone", node="n1")
RUNS = JobStatus(state=JobState.RUNNING, node="n1", source=JobSource.PROCESS)
QUEUED = JobStatus(state=JobState.PENDING, source=JobSource.SQUEUE)
IN_POOL = JobStatus(state=JobState.PENDING, reason="waits for a slot", source=JobSource.POOL)


def attempt_with(
    folder: Path, *, exit_status: int | None = None, ended_by: str | None = None, is_claimed: bool = True
) -> Path:
    """Write an attempt that began at 100 s, said at 700 s that it is at step 7, and whose exit file is of 800 s."""
    if is_claimed:
        write_json(claim_path(folder, 0), to_json(claim(claimed_at=100.0)))
        write_json(heartbeat_path(folder, 0), to_json(Heartbeat(at=700.0, phase="train", step=7, n_steps=9)))
    if exit_status is not None:
        ended = Exit(returncode=exit_status, ended_by=ended_by, started_at=100.0, ended_at=800.0)
        write_json(exit_path(folder, 0), to_json(ended))
    return folder


@pytest.mark.parametrize(
    ("files", "job", "is_cancelled", "seen"),
    [
        ({"is_claimed": False}, None, False, ("PENDING", "", None)),
        ({"is_claimed": False}, None, True, ("CANCELLED", "the run was cancelled", None)),
        ({"is_claimed": False}, IN_POOL, False, ("PENDING", "waits for a slot", None)),
        ({"is_claimed": False}, IN_POOL, True, ("CANCELLED", "the run was cancelled", None)),
        ({"is_claimed": False}, JobStatus(state=JobState.UNKNOWN), True, ("CANCELLED", "the run was cancelled", None)),
        (
            {"is_claimed": False},
            QUEUED,
            True,
            ("PENDING", "", None),
        ),
        ({}, None, False, ("RUNNING", "", 900.0)),
        ({}, RUNS, False, ("RUNNING", "", 900.0)),
        ({}, RUNS, True, ("RUNNING", "", 900.0)),
        ({}, JobStatus(state=JobState.PENDING, reason="BeginTime"), False, ("PENDING", "BeginTime", None)),
        ({}, GONE, False, ("UNKNOWN", "its process is gone", 600.0)),
        ({}, GONE, True, ("CANCELLED", "the run was cancelled", 600.0)),
        ({}, JobStatus(state=JobState.TIMEOUT, ended_at=750.0), False, ("TIMEOUT", "", 650.0)),
        ({"exit_status": 0}, RUNS, False, ("COMPLETED", "its outcome is not here yet", 700.0)),
        ({"exit_status": 0}, None, False, ("COMPLETED", "its outcome is not here yet", 700.0)),
        ({"exit_status": 3}, GONE, False, ("FAILED", "exit status 3", 700.0)),
        ({"exit_status": -15, "ended_by": "time_limit"}, GONE, False, ("FAILED", "time_limit", 700.0)),
        ({"exit_status": -15, "ended_by": "cancelled"}, GONE, False, ("CANCELLED", "it was cancelled", 700.0)),
        ({"exit_status": -15, "ended_by": "cancelled"}, GONE, True, ("CANCELLED", "the run was cancelled", 700.0)),
        ({"exit_status": 85}, JobStatus(state=JobState.REQUEUED), False, ("REQUEUED", "", 700.0)),
        ({"exit_status": 85}, GONE, False, ("PREEMPTED", "it checkpointed and goes on in another attempt", 700.0)),
        ({"exit_status": 85}, GONE, True, ("CANCELLED", "the run was cancelled", 700.0)),
    ],
)
def test_files_come_first_then_the_job_and_time_stops_at_the_end(
    tmp_path: Path,
    *,
    files: dict[str, Any],
    job: JobStatus | None,
    is_cancelled: bool,
    seen: tuple[str, str, float | None],
) -> None:
    path = attempt_with(tmp_path, **files)

    found = read_progress(path, job, is_cancelled=is_cancelled, now=NOW)

    assert (found.state, found.reason, found.elapsed_s) == seen


@pytest.mark.parametrize("name", [OUTCOME, VERDICT])
def test_an_end_that_the_ledger_does_not_hold_yet_is_shown_and_counted(tmp_path: Path, name: str) -> None:
    shown = submitted(trial(tmp_path, None))
    shown.last.path.mkdir(parents=True)
    create_json(shown.last.path / name, to_json(end(succeeded(0.75))))

    view = fill_view(view_of(), history_of(tmp_path, shown), states={}, now=NOW)

    assert [(t.state, t.f1) for t in view.trials] == [("SUCCEEDED", 0.75)]
    assert (view.n_succeeded, view.best and view.best.trial) == (1, 0)


def test_a_damaged_outcome_is_no_end_and_no_traceback(tmp_path: Path) -> None:
    shown = submitted(trial(tmp_path, None))
    attempt = shown.last.path
    attempt.mkdir(parents=True)
    (attempt_with(attempt, exit_status=0) / OUTCOME).write_text('{"outcome": ')

    view = view_trial(shown, None, history=history_of(tmp_path, shown), now=NOW)

    assert (view.state, view.reason) == ("COMPLETED", "its outcome is not here yet")


def test_a_trial_that_a_stopped_search_never_submitted_is_not_pending(tmp_path: Path) -> None:
    shown = trial(tmp_path, None)
    history = history_of(tmp_path, shown)
    history.stopped = "stopped: the last 5 trials failed alike"

    assert view_trial(shown, None, history=history, now=NOW).state == "NOT RUN"


@pytest.mark.parametrize(
    ("objectives", "best", "value"),
    [(("f1",), 1, 0.8), (("f1", "evaluation_time_s"), 2, 0.8), (("evaluation_time_s", "f1"), 3, 5.0)],
)
def test_the_best_trial_follows_the_searchs_objectives_then_the_number(
    tmp_path: Path, objectives: tuple[str, ...], best: int, value: float
) -> None:
    trials = [
        trial(tmp_path, failed("error"), number=0),
        trial(tmp_path, succeeded(0.8, evaluation_time_s=20.0), number=1),
        trial(tmp_path, succeeded(0.8, evaluation_time_s=10.0), number=2),
        trial(tmp_path, succeeded(0.5, evaluation_time_s=5.0), number=3),
        trial(tmp_path, succeeded(0.5, evaluation_time_s=5.0), number=4),
    ]

    found = best_trial(history_of(tmp_path, *trials), objectives)

    assert found is not None
    assert (found.trial, found.objective, found.value) == (best, objectives[0], value)


def submitted(shown: Trial) -> Trial:
    shown.last.submission = "xa-g000-s0"
    return shown


def history_of(folder: Path, *trials: Trial) -> History:
    return History(RunDir(folder), trials={shown.number: shown for shown in trials})


def view_of() -> RunView:
    return RunView(name="one", phase=Phase.GENERATION, objectives=("f1",))
