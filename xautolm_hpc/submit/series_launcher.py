"""Several attempts in one job: one worker imports what they need once, and forks a process for each.

Stands in front of another launcher, which sees one job for each group of attempts. The files of an attempt are the
same as if it had a job of its own: the worker claims it and writes how its process ended. What the job itself writes
lies in the folder of its group.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    Claim,
    Command,
    Exit,
    claim_path,
    exit_path,
    read_whole,
    restarts,
    to_wire,
    write_members,
)
from xautolm_hpc.launcher import (
    GROUPS,
    WAITS_IN_JOB,
    JobState,
    JobStatus,
    Launcher,
    QueueLimits,
    Submission,
    groups_of,
    read_groups,
)
from xautolm_hpc.records import from_json
from xautolm_hpc.submit.processes import after_exit

SERIES = "batch"
"""Command of the worker that runs a group."""

CARD_WAIT_S = 30.0
"""Seconds that a worker may wait for the memory of a GPU between two trials."""

MEMORY_FACTOR = 2
"""By how much the local wrapper lets a group hold more memory than one attempt: the worker that forks imports, too."""


class SeriesLauncher:
    """Runs the attempts of a submission one by one, or a number of them in one job, as the submission asks.

    Args:
        inner: Runs the jobs.
    """

    def __init__(self, inner: Launcher) -> None:
        self._inner = inner
        self._group_of: dict[Path, Path] = {}
        self._members_of: dict[Path, Sequence[Path]] = {}

    def limits(self) -> QueueLimits:
        """Return how many jobs may be submitted."""
        return self._inner.limits()

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit attempts, group by group.

        Raises:
            LaunchError: As the launcher behind does.
        """
        groups = {} if submission.trials_per_job == 1 else write_groups(submission)
        self._remember(submission, groups)
        if not groups:
            return self._inner.submit(submission)
        jobs = self._inner.submit(of_groups(submission, groups))
        return {member: jobs[group] for group, members in groups.items() for member in members}

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Find the jobs of a submission that an earlier driver made, in groups or one by one."""
        groups = groups_of(submission)
        self._remember(submission, groups)
        if submission.trials_per_job > 1:
            _mend_groups(submission, groups)
        if not groups:
            return self._inner.adopt(submission, known)
        jobs_known = {group: known[m] for group, members in groups.items() for m in members if m in known}
        jobs = self._inner.adopt(of_groups(submission, groups), jobs_known)
        return {member: jobs[group] for group, members in groups.items() for member in members if group in jobs}

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Return the states of attempts: how its own process ended, else the state of its job."""
        asked = list(dict.fromkeys(self._group_of.get(path, path) for path in attempt_dirs))
        states = self._inner.poll(asked)
        begun = {group for group in asked if any(map(_claims, self._members_of.get(group, ())))}
        unknown = JobStatus(state=JobState.UNKNOWN)
        return {
            path: self._state_in_group(path, group, job=states.get(group, unknown), has_begun=group in begun)
            if (group := self._group_of.get(path))
            else states.get(path, unknown)
            for path in attempt_dirs
        }

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Cancel the jobs of attempts, and with them those that run together."""
        self._inner.cancel(list(dict.fromkeys(self._group_of.get(path, path) for path in attempt_dirs)))

    def _remember(self, submission: Submission, groups: Mapping[Path, Sequence[Path]]) -> None:
        for path in submission.attempt_dirs:
            self._group_of.pop(path, None)  # of a job that gave it back
        self._members_of.update(groups)
        self._group_of.update({member: group for group, members in groups.items() for member in members})

    def _state_in_group(self, attempt_dir: Path, group: Path, *, job: JobStatus, has_begun: bool) -> JobStatus:
        """Return how an attempt stands whose job runs others, too.

        One that the job has not begun waits while the job lives, and is given back after. If the job began none at
        all, its first attempt ends as the job did: so every job ends something, and a worker that breaks at once is not
        started for ever. A job that never began itself, or could not start its worker, ends all of its attempts.
        """
        own = replace(job, job_dir=group, log_paths=(*job.log_paths, group / "stderr"))
        claims, of_job = _claims(attempt_dir), _claims(group)
        if not claims:
            is_next = has_begun or attempt_dir != self._members_of[group][0]
            waits = job.state is JobState.RUNNING
            return replace(
                own,
                state=JobState.PENDING if waits else job.state,
                reason=WAITS_IN_JOB if waits else job.reason,
                gives_back=bool(of_job) and is_next and not _is_without_worker(group, of_job[-1]),
            )
        if of_job and claims[-1].job_id != of_job[-1].job_id:
            return replace(own, state=JobState.UNKNOWN, reason="another job runs it")
        return _ended_state(attempt_dir, claims[-1], job=own) or own


def write_groups(submission: Submission) -> dict[Path, list[Path]]:
    """Write the folder of every group: its members and its command.

    Args:
        submission: The attempts, their files written.

    Returns:
        Folder of a group -> its attempts, in the order in which they run.
    """
    groups = groups_of(submission)
    for group, members in groups.items():
        write_members(group, members)
        write_json(group / COMMAND, to_wire(_command_of(members)))
    write_members(submission.folder / GROUPS, list(groups))  # last: what is there is whole
    return groups


def as_jobs(submission: Submission) -> Submission:
    """Describe the jobs that a submission becomes, without writing anything.

    Args:
        submission: The attempts.
    """
    return submission if submission.trials_per_job == 1 else of_groups(submission, groups_of(submission))


def _mend_groups(submission: Submission, groups: Mapping[Path, Sequence[Path]]) -> None:
    """Write anew what waiting jobs read, where it is damaged or was cut off; what no longer can be, fails with them."""
    if read_groups(submission.folder) != groups or not all((group / COMMAND).exists() for group in groups):
        with suppress(OSError, InputError):
            write_groups(submission)


def of_groups(submission: Submission, groups: Mapping[Path, Sequence[Path]]) -> Submission:
    """Describe the submission whose jobs run groups of another submission's attempts.

    Args:
        submission: The other submission.
        groups: Folder of a group -> its attempts.
    """
    n_together = max(map(len, groups.values()))
    time_limit_s = submission.resources.time_limit_s * n_together
    return replace(
        submission,
        folder=submission.folder / GROUPS,
        attempt_dirs=tuple(groups),
        resources=replace(submission.resources, time_limit_s=time_limit_s),
        trials_per_job=1,
    )


def _command_of(members: Sequence[Path]) -> Command:
    """Build the command of a group from that of its first attempt; an image shows it every attempt folder."""
    path = members[0] / COMMAND
    command = from_json(Command, read_json(path), where=str(path))
    container = command.container
    if container is not None:
        container = replace(container, writable=(*container.writable, *map(str, members)))
    return replace(
        command,
        argv=(*command.argv[:-1], SERIES),
        wall_limit_s=(command.wall_limit_s + CARD_WAIT_S) * len(members),
        memory_bytes=command.memory_bytes * MEMORY_FACTOR,
        container=container,
    )


def _claims(attempt_dir: Path) -> list[Claim]:
    """Read the claims of an attempt or a group, by restart; one that is being written is none yet."""
    claimed = restarts(attempt_dir) if attempt_dir.is_dir() else []
    claims = (read_whole(Claim, claim_path(attempt_dir, restart)) for restart in claimed)
    return [claim for claim in claims if claim is not None]


def _is_without_worker(group: Path, claim: Claim) -> bool:
    """Check whether the wrapper of a job wrote that it could not start the worker."""
    ended = read_whole(Exit, exit_path(group, claim.restart))
    return ended is not None and ended.ended_by == FailureKind.LAUNCH_FAILURE


def _ended_state(attempt_dir: Path, claim: Claim, *, job: JobStatus) -> JobStatus | None:
    """Return how an attempt's own process ended; ``None`` while it has not, or is to go on after a requeue."""
    ended = read_whole(Exit, exit_path(attempt_dir, claim.restart))
    if ended is None:
        return None
    if ended.returncode == CHECKPOINT_EXIT_STATUS and ended.ended_by is None:
        return None
    return after_exit(job, ended, node=claim.node)
