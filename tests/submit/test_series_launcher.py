"""Attempts that share a job: what is written for it, what is made of its state, and how it is found again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeLauncher, failed_end
from tests.nouns import claim
from tests.submit.jobs import make_attempt
from tests.submit.test_apptainer import CONTAINER
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.image import Container
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    MEMBERS,
    OUTCOME,
    Claim,
    Command,
    Exit,
    claim_path,
    exit_path,
    read_members,
)
from xautolm_hpc.launcher import JobState, JobStatus, Resources, Submission, read_groups
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.submit.series_launcher import SeriesLauncher

JOB = claim(job_id="7_0", claimed_at=1.0)


class OneState(FakeLauncher):
    """A launcher of which every job is in one state, which a test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.job = JobStatus(state=JobState.PENDING)
        self.asked: list[Path] = []

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        self.asked = list(attempt_dirs)
        return dict.fromkeys(attempt_dirs, self.job)

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        self.cancelled += attempt_dirs


@pytest.fixture
def inner() -> OneState:
    return OneState()


def submission_in(folder: Path, n: int, *, together: int, container: Container | None = None) -> Submission:
    """Write attempts and describe their submission."""
    dirs = tuple(make_attempt(folder / f"trial-{i}" / "attempt-0", container=container) for i in range(n))
    resources = Resources(time_limit_s=100.0)
    return Submission(
        name="s", folder=folder / "submission-0", attempt_dirs=dirs, resources=resources, trials_per_job=together
    )


def groups_of(submission: Submission) -> list[Path]:
    """List the folders of a submission's jobs."""
    return list(read_groups(submission.folder))


def begin(path: Path, *, by: Claim = JOB, returncode: int | None = None, ended_by: str | None = None) -> None:
    """Claim an attempt or a job, and write how its process ended if it did."""
    write_json(claim_path(path, by.restart), to_json(by))
    if returncode is not None:
        ended = Exit(returncode=returncode, ended_by=ended_by, started_at=1.0, ended_at=2.0)
        write_json(exit_path(path, by.restart), to_json(ended))


def test_jobs_get_groups_of_attempts_and_the_time_and_command_for_them(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 5, together=2)

    jobs = SeriesLauncher(inner).submit(submission)

    assert list(jobs.values()) == ["s_0", "s_0", "s_1", "s_1", "s_2"]
    groups, dirs = groups_of(submission), submission.attempt_dirs
    assert [read_members(group / MEMBERS) for group in groups] == [[*dirs[:2]], [*dirs[2:4]], [dirs[4]]]
    (of_jobs,) = inner.submissions
    assert of_jobs.attempt_dirs == tuple(groups)
    assert (of_jobs.resources.time_limit_s, of_jobs.trials_per_job, of_jobs.folder.parent) == (
        200,
        1,
        submission.folder,
    )
    one, both = (from_json(Command, read_json(path / COMMAND), where="c") for path in (dirs[0], groups[0]))
    assert both.argv == (*one.argv[:-1], "batch")
    assert both.wall_limit_s == 2 * (one.wall_limit_s + 30)


def test_the_image_of_a_job_shows_every_attempt_folder_of_it_for_writing(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 3, together=3, container=replace(CONTAINER, writable=("/cache",)))

    SeriesLauncher(inner).submit(submission)

    command = from_json(Command, read_json(groups_of(submission)[0] / COMMAND), where="c")
    assert command.container is not None
    assert command.container.writable == ("/cache", *map(str, submission.attempt_dirs))


def test_attempts_with_a_job_each_are_the_other_launchers(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 3, together=1)
    launcher = SeriesLauncher(inner)

    jobs = launcher.submit(submission)

    assert inner.submissions == [submission]
    assert list(jobs) == list(submission.attempt_dirs)
    assert launcher.limits() == inner.limits()
    assert launcher.poll(submission.attempt_dirs)[submission.attempt_dirs[0]] == inner.job
    assert not (submission.folder / "groups").exists()


def test_another_driver_finds_groups_again_by_the_ids_of_any_of_their_attempts(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 4, together=2)
    jobs = SeriesLauncher(inner).submit(submission)

    second = SeriesLauncher(inner)
    adopted = second.adopt(replace(submission, trials_per_job=1), {submission.attempt_dirs[1]: "s_0"})

    assert adopted == jobs
    second.poll(submission.attempt_dirs)
    assert inner.asked == groups_of(submission)


@pytest.mark.parametrize("name", ["groups/members.json", "groups/group-0/members.json", "groups/group-1/command.json"])
def test_groups_with_a_damaged_file_are_found_by_the_ledger_and_mended(
    tmp_path: Path, inner: OneState, name: str
) -> None:
    submission = submission_in(tmp_path, 5, together=2)
    jobs, groups = SeriesLauncher(inner).submit(submission), groups_of(submission)
    path = submission.folder / name
    whole = path.read_bytes()
    path.unlink()
    if path.name == MEMBERS:
        path.write_text("[[[")

    second = SeriesLauncher(inner)
    adopted = second.adopt(submission, {})

    assert adopted == jobs
    second.poll(submission.attempt_dirs)
    assert inner.asked == groups
    assert path.read_bytes() == whole


def test_damaged_groups_of_an_earlier_ledger_are_followed_by_the_ids_of_their_jobs(
    tmp_path: Path, inner: OneState
) -> None:
    submission = submission_in(tmp_path, 4, together=2)
    SeriesLauncher(inner).submit(submission)
    (submission.folder / "groups" / "members.json").write_text("{")
    second = SeriesLauncher(inner)

    second.adopt(replace(submission, trials_per_job=1), {submission.attempt_dirs[1]: "s_0"})

    second.poll(submission.attempt_dirs)
    assert inner.asked == list(submission.attempt_dirs)


def test_what_was_cut_off_before_its_groups_were_whole_was_never_submitted(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 4, together=2)
    (submission.folder / "groups" / "group-0").mkdir(parents=True)

    assert SeriesLauncher(inner).adopt(submission, {}) == {}  # none: all are due again


def test_cancelling_attempts_cancels_each_of_their_jobs_once(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 4, together=2)
    launcher = SeriesLauncher(inner)
    launcher.submit(submission)

    launcher.cancel(submission.attempt_dirs)

    assert inner.cancelled == groups_of(submission)


@pytest.fixture
def running(tmp_path: Path, inner: OneState) -> tuple[SeriesLauncher, Path, tuple[Path, ...]]:
    """A job that has begun: its launcher, its folder, its three attempts."""
    submission = submission_in(tmp_path, 3, together=3)
    launcher = SeriesLauncher(inner)
    launcher.submit(submission)
    group = groups_of(submission)[0]
    begin(group)
    inner.job = JobStatus(state=JobState.RUNNING, node="n1")
    return launcher, group, submission.attempt_dirs


Running = tuple[SeriesLauncher, Path, tuple[Path, ...]]


def states(launcher: SeriesLauncher, dirs: Sequence[Path]) -> list[JobState]:
    """List the states of attempts."""
    found = launcher.poll(dirs)
    return [found[path].state for path in dirs]


def test_in_a_running_job_one_has_ended_one_runs_and_one_waits(running: Running) -> None:
    launcher, group, dirs = running
    begin(dirs[0], returncode=0)
    begin(dirs[1])

    found = launcher.poll(dirs)

    assert [found[path].state for path in dirs] == [JobState.COMPLETED, JobState.RUNNING, JobState.PENDING]
    assert found[dirs[2]].reason == "waits for the trials before it in its job"
    assert {state.job_dir for state in found.values()} == {group}


def test_a_trial_that_crashed_has_failed_while_its_job_goes_on(running: Running) -> None:
    launcher, _, dirs = running
    begin(dirs[0], returncode=-9, ended_by="host_oom")

    state = launcher.poll(dirs[:1])[dirs[0]]

    assert (state.state, state.exit_code, state.reason, state.ended_at) == (JobState.FAILED, -9, "host_oom", 2.0)


def test_a_trial_that_checkpointed_is_as_its_job_which_is_put_back_into_the_queue(
    running: Running, inner: OneState
) -> None:
    launcher, _, dirs = running
    begin(dirs[0], returncode=CHECKPOINT_EXIT_STATUS)

    assert states(launcher, dirs[:1]) == [JobState.RUNNING]
    inner.job = JobStatus(state=JobState.PENDING)
    assert states(launcher, dirs[:1]) == [JobState.PENDING]
    inner.job = JobStatus(state=JobState.PREEMPTED)
    assert states(launcher, dirs[:1]) == [JobState.PREEMPTED]


def test_a_job_that_is_over_gives_back_what_it_had_not_begun(running: Running, inner: OneState) -> None:
    launcher, _, dirs = running
    begin(dirs[0])
    inner.job = JobStatus(state=JobState.TIMEOUT)

    found = launcher.poll(dirs)

    assert [found[path].gives_back for path in dirs] == [False, True, True]
    assert {state.state for state in found.values()} == {JobState.TIMEOUT}


def test_of_a_job_that_began_nothing_the_first_attempt_ends_and_the_others_are_given_back(
    running: Running, inner: OneState
) -> None:
    launcher, _, dirs = running
    inner.job = JobStatus(state=JobState.NODE_FAIL)

    found = launcher.poll(dirs)

    assert [found[path].gives_back for path in dirs] == [False, True, True]


def test_a_job_that_never_began_gives_nothing_back(tmp_path: Path, inner: OneState) -> None:
    submission = submission_in(tmp_path, 3, together=3)
    launcher = SeriesLauncher(inner)
    launcher.submit(submission)
    inner.job = JobStatus(state=JobState.CANCELLED)

    found = launcher.poll(submission.attempt_dirs)

    assert not any(state.gives_back for state in found.values())


def test_a_job_that_could_not_start_its_worker_gives_nothing_back(running: Running, inner: OneState) -> None:
    launcher, group, dirs = running
    begin(group, returncode=255, ended_by="launch_failure")
    inner.job = JobStatus(state=JobState.COMPLETED)

    found = launcher.poll(dirs)

    assert not any(state.gives_back for state in found.values())


def test_an_attempt_that_another_job_runs_is_not_judged_by_this_one(running: Running, inner: OneState) -> None:
    launcher, _, dirs = running
    begin(dirs[1], by=replace(JOB, job_id="8_0", restart=2))
    inner.job = JobStatus(state=JobState.COMPLETED)

    assert states(launcher, dirs[1:2]) == [JobState.UNKNOWN]


def test_an_attempt_given_back_and_submitted_again_follows_its_new_job(
    running: Running, inner: OneState, tmp_path: Path
) -> None:
    launcher, _, dirs = running
    again = Submission(
        name="s1", folder=tmp_path / "submission-1", attempt_dirs=dirs[2:], resources=Resources(), trials_per_job=1
    )

    launcher.submit(again)
    launcher.poll(dirs[2:])

    assert inner.asked == [dirs[2]]


def test_the_end_of_an_attempt_needs_no_job(running: Running) -> None:
    launcher, _, dirs = running
    write_json(dirs[2] / OUTCOME, to_json(failed_end("diverged")))

    assert launcher.poll(dirs[2:])[dirs[2]].state is JobState.PENDING  # gathering reads the outcome first


def test_a_driver_that_adopts_submissions_in_their_order_follows_the_last_job_of_an_attempt(
    tmp_path: Path, inner: OneState
) -> None:
    first = submission_in(tmp_path, 3, together=3)
    again = replace(first, name="s1", folder=tmp_path / "submission-1", attempt_dirs=first.attempt_dirs[1:])
    for submission in (first, again):
        SeriesLauncher(inner).submit(submission)
    launcher = SeriesLauncher(inner)

    for submission in (first, again):
        launcher.adopt(submission, {})
    launcher.poll(first.attempt_dirs)

    assert inner.asked == [groups_of(first)[0], groups_of(again)[0]]
