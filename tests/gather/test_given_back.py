"""Attempts whose job ran several: which are given back, and which exit file says how one ended."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import nouns
from tests.fakes import FakeClock
from tests.gather.looking import GRACE_S, ScriptedLauncher, look
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.durable import write_json
from xautolm_hpc.gather import JobTracker
from xautolm_hpc.jobdir import VERDICT, Exit, claim_path, exit_path
from xautolm_hpc.records import to_json


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tracker() -> JobTracker:
    return JobTracker(outcome_grace_s=GRACE_S, pending_timeout_s=3600.0, redact=str, check=check_end)


def job_of_several(tmp_path: Path, state: str, *, begins: bool, stale: bool = False) -> tuple[ScriptedLauncher, Path]:
    """Make the job of an attempt that it has begun, or not, and that is in some state."""
    job_dir, attempt_dir = tmp_path / "job", tmp_path / "attempt-0"
    for path in (job_dir, attempt_dir):
        path.mkdir(exist_ok=True)
    for path in (job_dir, attempt_dir) if begins else (job_dir,):
        write_json(claim_path(path, 0), to_json(nouns.claim(claimed_at=20.0, job_started_at=5.0)))
    launcher = ScriptedLauncher(state)
    launcher.says = replace(launcher.says, job_dir=job_dir, gives_back=not begins, is_stale=stale)
    return launcher, attempt_dir


def write_exit(path: Path, **fields: Any) -> None:
    """Write how a process ended."""
    given: dict[str, Any] = {"returncode": 0, "ended_by": None, "started_at": 20.0, "ended_at": 90.0}
    write_json(exit_path(path, 0), to_json(Exit(**{**given, **fields})))


def test_what_a_job_did_not_begin_is_given_back_once_the_job_is_known_to_be_over(
    tmp_path: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher, path = job_of_several(tmp_path, "NODE_FAIL", begins=False)

    assert look(launcher, tracker, path, clock) is None
    assert tracker.given_back == []
    clock.sleep(GRACE_S)
    assert look(launcher, tracker, path, clock) is None

    assert tracker.given_back == [path]
    assert not (path / VERDICT).exists()


def test_an_attempt_begun_at_the_last_moment_is_not_given_back(
    tmp_path: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher, path = job_of_several(tmp_path, "NODE_FAIL", begins=False)
    look(launcher, tracker, path, clock)
    clock.sleep(GRACE_S)
    write_json(claim_path(path, 0), to_json(nouns.claim()))

    found = look(launcher, tracker, path, clock)

    assert found is not None
    assert found.end.outcome.kind == "node_failure"
    assert tracker.given_back == []


def test_while_nothing_answers_the_exit_file_of_the_job_tells_that_it_is_over(
    tmp_path: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher, path = job_of_several(tmp_path, "RUNNING", begins=False, stale=True)
    look(launcher, tracker, path, clock)
    clock.sleep(GRACE_S)
    look(launcher, tracker, path, clock)
    assert tracker.given_back == []

    write_exit(tmp_path / "job")
    look(launcher, tracker, path, clock)
    clock.sleep(GRACE_S)
    look(launcher, tracker, path, clock)

    assert tracker.given_back == [path]


@pytest.mark.parametrize(
    ("own", "of_job", "kind"),
    [
        (None, {"returncode": -9}, "lost"),
        (None, {"returncode": -15, "ended_by": "cancelled"}, "cancelled"),
        ({"returncode": 85}, {"returncode": 85, "ended_by": "cancelled"}, "cancelled"),
        ({"returncode": 85}, {"returncode": 85}, "preempted"),
        ({"returncode": 3}, {"returncode": -15, "ended_by": "cancelled"}, "error"),
        ({"returncode": -9, "ended_by": "host_oom"}, {"returncode": 0}, "host_oom"),
        ({"returncode": -9, "ended_by": "wall_limit"}, {"returncode": 0}, "wall_limit"),
    ],
)
def test_the_exit_file_of_a_job_counts_where_the_job_was_ended_during_the_attempt(
    tmp_path: Path,
    tracker: JobTracker,
    clock: FakeClock,
    own: dict[str, object] | None,
    of_job: dict[str, object],
    kind: str,
) -> None:
    launcher, path = job_of_several(tmp_path, "COMPLETED", begins=True)
    write_exit(tmp_path / "job", **of_job)
    if own is not None:
        write_exit(path, **own)

    look(launcher, tracker, path, clock)
    clock.sleep(GRACE_S)
    found = look(launcher, tracker, path, clock)

    assert found is not None
    assert found.end.outcome.kind == kind
    assert (found.end.started_at, found.end.job_started_at) == (20.0, 5.0)
