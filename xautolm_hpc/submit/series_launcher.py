"""Several attempts in one job: one worker imports what they need once, and forks a process for each.

Stands in front of another launcher, which sees one job for each group of attempts. The files of an attempt are the
same as if it had a job of its own: the worker claims it and writes how its process ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, MEMBERS, Command, Exit, exit_path, read_members, restarts, write_members
from xautolm_hpc.launcher import JobSource, JobState, JobStatus, Launcher, QueueLimits, Submission
from xautolm_hpc.records import from_json, to_json

GROUPS = "groups"
"""Folder of a submission's groups, each with ``members.json`` and ``command.json``."""

ONE_PROCESS = "trial"
"""Last argument of the command of a trial of one process."""


class SeriesLauncher:
    """Runs attempts together, a number of them in one job.

    Args:
        inner: Runs the jobs.
        n_together: Attempts of one job, at least 1.
    """

    def __init__(self, inner: Launcher, *, n_together: int) -> None:
        self._inner = inner
        self._n_together = n_together
        self._group_of: dict[Path, Path] = {}

    def limits(self) -> QueueLimits:
        """Return how many jobs may be submitted; an attempt counts as one."""
        return self._inner.limits()

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit attempts, group by group; a single attempt, and trials of several processes, have jobs of their own.

        Raises:
            LaunchError: As the launcher behind does.
        """
        if len(submission.attempt_dirs) == 1 or _command(submission.attempt_dirs[0]).argv[-1] != ONE_PROCESS:
            return self._inner.submit(submission)
        groups = self._write_groups(submission)
        jobs = self._inner.submit(_of_groups(submission, groups, n_together=self._n_together))
        return {member: jobs[group] for group, members in groups.items() for member in members}

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Find the jobs of a submission that an earlier driver made, in groups or one by one."""
        path = submission.folder / GROUPS / MEMBERS
        if not path.exists():
            return self._inner.adopt(submission, known)
        groups = {group: read_members(group / MEMBERS) for group in read_members(path)}
        self._remember(groups)
        jobs_known = {group: known[m] for group, members in groups.items() for m in members if m in known}
        jobs = self._inner.adopt(_of_groups(submission, groups, n_together=self._n_together), jobs_known)
        return {member: jobs[group] for group, members in groups.items() for member in members if group in jobs}

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Return the states of attempts: how its own process ended, else the state of its job."""
        asked = list(dict.fromkeys(self._group_of.get(path, path) for path in attempt_dirs))
        states = self._inner.poll(asked)
        return {
            path: self._own_state(path) or states.get(self._group_of.get(path, path), JobStatus(state=JobState.UNKNOWN))
            for path in attempt_dirs
        }

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Cancel the jobs of attempts, and with them those that run together."""
        self._inner.cancel(list(dict.fromkeys(self._group_of.get(path, path) for path in attempt_dirs)))

    def _own_state(self, attempt_dir: Path) -> JobStatus | None:
        """Return how an attempt's process ended; ``None`` while it has not, or has a job of its own."""
        claimed = restarts(attempt_dir) if attempt_dir in self._group_of and attempt_dir.is_dir() else []
        path = exit_path(attempt_dir, max(claimed, default=0))
        if not path.exists():
            return None
        ended = from_json(Exit, read_json(path), where=str(path))
        return JobStatus(
            state=JobState.COMPLETED if ended.returncode == 0 else JobState.FAILED,
            reason=ended.ended_by or "",
            exit_code=ended.returncode,
            ended_at=ended.ended_at,
            source=JobSource.PROCESS,
        )

    def _write_groups(self, submission: Submission) -> dict[Path, list[Path]]:
        """Write the folder of every group: its members and its command."""
        dirs = list(submission.attempt_dirs)
        starts = range(0, len(dirs), self._n_together)
        parts = [dirs[start : start + self._n_together] for start in starts]
        groups = {submission.folder / GROUPS / f"group-{i}": part for i, part in enumerate(parts)}
        for group, members in groups.items():
            write_members(group, members)
            command = _command(members[0])
            together = replace(
                command,
                argv=(*command.argv[:-1], "batch"),
                wall_limit_s=command.wall_limit_s * len(members),
                memory_bytes=command.memory_bytes * 2,  # the worker that forks holds its imports too
            )
            write_json(group / COMMAND, to_json(together))
        write_members(submission.folder / GROUPS, list(groups))
        self._remember(groups)
        return groups

    def _remember(self, groups: Mapping[Path, Sequence[Path]]) -> None:
        self._group_of.update({member: group for group, members in groups.items() for member in members})


def _of_groups(submission: Submission, groups: Mapping[Path, Sequence[Path]], *, n_together: int) -> Submission:
    """Describe the submission whose jobs run the groups of another submission's attempts."""
    time_limit_s = submission.resources.time_limit_s * n_together
    return replace(
        submission,
        folder=submission.folder / GROUPS,
        attempt_dirs=tuple(groups),
        resources=replace(submission.resources, time_limit_s=time_limit_s),
    )


def _command(attempt_dir: Path) -> Command:
    path = attempt_dir / COMMAND
    return from_json(Command, read_json(path), where=str(path))
