"""Gathering: what counts as an end, and when."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeClock, FakeLauncher, failed_end, stub_end
from tests.gather.looking import GRACE_S, ScriptedLauncher, claim, look
from tests.submit.jobs import submission_of
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.durable import create_json, read_json, write_json
from xautolm_hpc.gather import JobTracker, gather_ends, late_outcome
from xautolm_hpc.jobdir import (
    OUTCOME,
    PIPELINE,
    VERDICT,
    Exit,
    Heartbeat,
    exit_path,
    heartbeat_path,
)
from xautolm_hpc.launcher import JobState, JobStatus, Submission
from xautolm_hpc.records import to_json


def test_an_outcome_counts_whatever_the_job_is_said_to_do(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    create_json(attempt_dir / OUTCOME, to_json(failed_end("diverged")))

    for state in ("RUNNING", "PENDING", "UNKNOWN", "NODE_FAIL"):
        found = look(ScriptedLauncher(state), tracker, attempt_dir, clock)

        assert found == (attempt_dir, failed_end("diverged"), "outcome")
    assert not (attempt_dir / VERDICT).exists()


def test_ends_come_in_the_order_asked_for(tmp_path: Path, tracker: JobTracker, clock: FakeClock) -> None:
    paths = [tmp_path / name for name in ("b", "a", "c")]
    for path in paths:
        path.mkdir()
        write_json(path / PIPELINE, {"name": path.name})
    launcher = FakeLauncher(clock=clock)
    launcher.submit(submission_of(tmp_path / "submission", *paths[:2]))
    gather_ends(launcher, tracker, attempt_dirs=paths, clock=clock)

    ends = gather_ends(launcher, tracker, attempt_dirs=paths, clock=clock)

    assert [end.attempt_dir.name for end in ends] == ["b", "a"]
    assert [end.end for end in ends] == [stub_end(path) for path in paths[:2]]


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "REQUEUED", "COMPLETING"])
def test_a_job_that_is_alive_is_waited_for(
    state: str, attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher(state)

    for _ in range(5):
        assert look(launcher, tracker, attempt_dir, clock) is None
        clock.sleep(GRACE_S * 10)


def test_a_job_no_source_knows_is_lost_after_the_grace_period(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("UNKNOWN")
    claim(attempt_dir)

    first = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S - 1.0)
    early = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(1.0)
    found = look(launcher, tracker, attempt_dir, clock)

    assert (first, early) == (None, None)
    assert found is not None
    assert (found.end.outcome.kind, found.source) == ("lost", "verdict")
    assert read_json(attempt_dir / VERDICT) == to_json(found.end)


def test_an_outcome_that_comes_within_the_grace_counts(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("COMPLETED")
    before = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S - 1.0)
    create_json(attempt_dir / OUTCOME, to_json(stub_end(attempt_dir)))

    found = look(launcher, tracker, attempt_dir, clock)

    assert before is None
    assert found == (attempt_dir, stub_end(attempt_dir), "outcome")


def test_an_outcome_that_comes_while_the_cluster_is_asked_counts(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    class LastMinute(ScriptedLauncher):
        def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
            if self.n_polls:
                create_json(attempt_dirs[0] / OUTCOME, to_json(stub_end(attempt_dirs[0])))
            self.n_polls += 1
            return super().poll(attempt_dirs)

    launcher = LastMinute("COMPLETED")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)

    found = look(launcher, tracker, attempt_dir, clock)

    assert found == (attempt_dir, stub_end(attempt_dir), "outcome")
    assert not (attempt_dir / VERDICT).exists()


def test_the_grace_begins_anew_for_a_job_that_came_back(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("NODE_FAIL")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S - 1.0)
    launcher.says = JobStatus(state=JobState.PENDING)
    look(launcher, tracker, attempt_dir, clock)
    launcher.says = JobStatus(state=JobState.NODE_FAIL)
    clock.sleep(2.0)

    found = look(launcher, tracker, attempt_dir, clock)

    assert found is None


def test_an_unknown_job_is_not_lost_while_its_heart_beats(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("UNKNOWN")
    claim(attempt_dir)

    beating = []
    for step in range(5):
        write_json(heartbeat_path(attempt_dir, 0), to_json(Heartbeat(at=float(step), phase="train", step=step)))
        beating.append(look(launcher, tracker, attempt_dir, clock))
        clock.sleep(GRACE_S)
    stopped = look(launcher, tracker, attempt_dir, clock)

    assert beating == [None] * 5
    assert stopped is not None
    assert stopped.end.outcome.n_steps == 4


def test_a_torn_outcome_is_waited_for_and_then_lost_by_name(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("COMPLETED")
    claim(attempt_dir)
    (attempt_dir / OUTCOME).write_text('{"outcome": {"status": "succ')

    early = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)
    found = look(launcher, tracker, attempt_dir, clock)

    assert early is None
    assert found is not None
    assert found.end.outcome.kind == "lost"
    assert "outcome.json` is not valid JSON" in (found.end.outcome.message or "")


@pytest.mark.parametrize(("field", "value"), [("status", "perhaps"), ("kind", "bad luck"), ("kind", None)])
def test_an_outcome_of_no_known_kind_is_damaged(
    field: str, value: str | None, attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    end = to_json(failed_end("diverged"))
    end["outcome"][field] = value
    write_json(attempt_dir / OUTCOME, end)
    launcher = ScriptedLauncher("COMPLETED")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)

    found = look(launcher, tracker, attempt_dir, clock)

    assert found is not None
    assert (found.end.outcome.kind, found.source) == ("lost", "verdict")


def test_a_folder_somebody_removed_is_lost(tmp_path: Path, tracker: JobTracker, clock: FakeClock) -> None:
    launcher = ScriptedLauncher("UNKNOWN")
    look(launcher, tracker, tmp_path / "gone", clock)
    clock.sleep(GRACE_S)

    found = look(launcher, tracker, tmp_path / "gone", clock)

    assert found is not None
    assert found.end.outcome.kind == "lost"


def test_a_verdict_of_a_driver_that_died_is_taken_up(attempt_dir: Path, tracker: JobTracker, clock: FakeClock) -> None:
    create_json(attempt_dir / VERDICT, to_json(failed_end("node_failure")))

    found = look(ScriptedLauncher("RUNNING"), tracker, attempt_dir, clock)

    assert found == (attempt_dir, failed_end("node_failure"), "verdict")


def test_a_late_outcome_is_told(attempt_dir: Path) -> None:
    nothing = late_outcome(attempt_dir, check_end)
    create_json(attempt_dir / OUTCOME, to_json(stub_end(attempt_dir)))
    in_time = late_outcome(attempt_dir, check_end)
    create_json(attempt_dir / VERDICT, to_json(failed_end("lost")))

    assert (nothing, in_time) == (None, None)
    assert late_outcome(attempt_dir, check_end) == stub_end(attempt_dir)


def test_a_verdict_reads_the_last_restarts_exit_file(attempt_dir: Path, tracker: JobTracker, clock: FakeClock) -> None:
    for restart, code in ((0, 85), (1, -11)):
        claim(attempt_dir, restart)
        record = Exit(returncode=code, ended_by=None, started_at=1.0, ended_at=2.0)
        create_json(exit_path(attempt_dir, restart), to_json(record))
    launcher = ScriptedLauncher("COMPLETED")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)

    found = look(launcher, tracker, attempt_dir, clock)

    assert found is not None
    assert (found.end.outcome.kind, found.end.restart) == ("error", 1)


def test_no_secret_of_a_log_stands_in_a_verdict(attempt_dir: Path, tracker: JobTracker, clock: FakeClock) -> None:
    claim(attempt_dir)
    (attempt_dir / "stderr").write_text("401 Unauthorized for hf_me\n")
    launcher = ScriptedLauncher("COMPLETED")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)

    look(launcher, tracker, attempt_dir, clock)

    assert "401 Unauthorized for ***" in (attempt_dir / VERDICT).read_text()
    assert "hf_me" not in (attempt_dir / VERDICT).read_text()


def test_jobs_of_the_fake_outlive_their_driver(attempt_dir: Path, tracker: JobTracker, clock: FakeClock) -> None:
    submission: Submission = submission_of(attempt_dir.parent / "submission", attempt_dir)
    ids = FakeLauncher(clock=clock, duration_s=100.0).submit(submission)
    later = FakeLauncher(clock=clock, duration_s=100.0)

    running = later.poll([attempt_dir])[attempt_dir].state
    clock.sleep(100.0)
    found = look(later, tracker, attempt_dir, clock)
    found = found or look(later, tracker, attempt_dir, clock)

    assert later.adopt(submission, {}) == ids
    assert running == "RUNNING"
    assert found == (attempt_dir, stub_end(attempt_dir), "outcome")


def test_while_no_source_answers_a_jobs_own_exit_file_tells_that_it_ended(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("RUNNING")
    launcher.says = replace(launcher.says, is_stale=True)
    claim(attempt_dir)
    running = look(launcher, tracker, attempt_dir, clock)
    ended = Exit(returncode=3, ended_by=None, started_at=0.0, ended_at=1.0)
    create_json(exit_path(attempt_dir, 0), to_json(ended))

    within = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)
    after = look(launcher, tracker, attempt_dir, clock)

    assert (running, within) == (None, None)
    assert after is not None
    assert after.end.outcome.kind == "error"


def test_a_job_that_ended_to_be_requeued_is_waited_for_while_no_source_answers(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("RUNNING")
    launcher.says = replace(launcher.says, is_stale=True)
    claim(attempt_dir)
    create_json(exit_path(attempt_dir, 0), to_json(Exit(returncode=85, ended_by=None, started_at=0.0, ended_at=1.0)))

    for _ in range(3):
        assert look(launcher, tracker, attempt_dir, clock) is None
        clock.sleep(GRACE_S)
