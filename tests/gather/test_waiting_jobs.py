"""Jobs that wait: for their turn, for what cannot come, and what becomes of those that were given up."""

from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.gather.looking import DAY_S, GRACE_S, ScriptedLauncher, claim, look
from xautolm_hpc.gather import JobTracker
from xautolm_hpc.launcher import WAITS_IN_JOB, JobSource, JobState, JobStatus


def test_a_job_held_longer_than_its_timeout_is_cancelled_and_named_with_the_remedy(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING", "PartitionTimeLimit")

    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(DAY_S - 1.0)
    look(launcher, tracker, attempt_dir, clock)
    patient = list(launcher.cancelled)
    clock.sleep(1.0)
    at_once = look(launcher, tracker, attempt_dir, clock)
    found = look(launcher, tracker, attempt_dir, clock)

    assert (patient, at_once) == ([], None)
    assert launcher.cancelled == [attempt_dir]
    assert found is not None  # two looks after its time was over
    assert found.end.outcome.kind == "launch_failure"  # it is tried again, unlike what a person cancelled
    assert "waited 24 h for 'PartitionTimeLimit'; the partition allows no job that long" in (
        found.end.outcome.message or ""
    )


@pytest.mark.parametrize("reason", ["Priority", "Resources", "QOSMaxJobsPerUserLimit", "", WAITS_IN_JOB])
def test_a_job_that_waits_its_turn_is_never_given_up(
    reason: str, attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING", reason)

    for _ in range(5):
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S)

    assert launcher.cancelled == []


def test_a_reason_that_cleared_and_came_back_is_waited_for_anew(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING", "ReqNodeNotAvail, UnavailableNodes:n[1-3]")
    for reason in ("JobHeldUser", "Priority", "JobHeldUser"):
        launcher.says = JobStatus(state=JobState.PENDING, reason=reason)
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S / 2)

    look(launcher, tracker, attempt_dir, clock)

    assert launcher.cancelled == []


def test_a_limit_on_one_job_counts_on_while_other_jobs_are_before_it(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING")
    for reason in ("AssocMaxCpuPerJobLimit", "Priority", "", "AssocMaxCpuPerJobLimit"):
        launcher.says = JobStatus(state=JobState.PENDING, reason=reason)
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S / 3)

    found = look(launcher, tracker, attempt_dir, clock)

    assert launcher.cancelled == [attempt_dir]
    assert found is not None
    assert tracker.impossible.keys() == {attempt_dir}
    assert "the account allows no job that large: lower job.n_cpus" in tracker.impossible[attempt_dir]


@pytest.mark.parametrize(
    "reason", ["AssocGrpCPUMinutesLimit", "QOSGrpWallLimit", "QOSMaxCpuPerJobLimit", "PartitionTimeLimit"]
)
@pytest.mark.parametrize("other", ["QOSGrpCpuLimit", "QOSMaxGRESPerUser", "AssocMaxJobsLimit", "JobArrayTaskLimit"])
def test_a_limit_that_waits_in_vain_counts_on_behind_limits_on_many_jobs_that_come_and_go(
    reason: str, other: str, attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING")
    for shown in (reason, other, "Priority", other, reason):
        assert launcher.cancelled == []
        launcher.says = JobStatus(state=JobState.PENDING, reason=shown, source=JobSource.SQUEUE)
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S / 4)

    assert launcher.cancelled == [attempt_dir]


def test_a_job_let_go_that_waits_for_a_limit_on_many_and_is_held_again_is_waited_for_anew(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING")
    for shown in ("JobHeldUser", "QOSGrpCpuLimit", "JobHeldUser"):
        launcher.says = JobStatus(state=JobState.PENDING, reason=shown, source=JobSource.SQUEUE)
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S)

    assert launcher.cancelled == []


def test_a_job_that_fitted_in_between_is_waited_for_anew(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING")
    for reason in ("BadConstraints", "Resources", "Priority", "BadConstraints"):
        launcher.says = JobStatus(state=JobState.PENDING, reason=reason)
        look(launcher, tracker, attempt_dir, clock)
        clock.sleep(DAY_S / 2)

    look(launcher, tracker, attempt_dir, clock)

    assert launcher.cancelled == []
    assert not tracker.is_impossible(attempt_dir)


def test_a_job_put_back_and_held_is_given_up_and_its_node_is_not_blamed(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING", "job requeued in held state")
    claim(attempt_dir)
    launcher.log_says(attempt_dir, "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-12-01 DUE TO JOB REQUEUE ***")

    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(DAY_S)
    look(launcher, tracker, attempt_dir, clock)
    found = look(launcher, tracker, attempt_dir, clock)

    assert found is not None
    assert (found.end.outcome.kind, found.end.node) == ("launch_failure", None)
    assert "waited 24 h for 'job requeued in held state'; Slurm holds the job" in (found.end.outcome.message or "")
    assert tracker.impossible == {}


def test_a_job_let_go_while_it_was_given_up_has_its_grace(
    attempt_dir: Path, tracker: JobTracker, clock: FakeClock
) -> None:
    launcher = ScriptedLauncher("PENDING", "JobHeldUser")
    look(launcher, tracker, attempt_dir, clock)
    clock.sleep(DAY_S)
    look(launcher, tracker, attempt_dir, clock)
    claim(attempt_dir)  # it began before it was cancelled

    at_once = look(launcher, tracker, attempt_dir, clock)
    clock.sleep(GRACE_S)
    found = look(launcher, tracker, attempt_dir, clock)

    assert at_once is None
    assert found is not None
    assert found.end.outcome.kind == "cancelled"
