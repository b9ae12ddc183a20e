"""Jobs on a Slurm cluster, as arrays over submitit's Slurm executor, with what that lacks.

submitit writes the batch script and runs the wrapper on the node; finding jobs, watching and cancelling them is
done here through :mod:`xautolm_hpc.slurm`, so that a cluster without accounting, or a controller that does not
answer for a while, costs only time.
"""

import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from xautolm_hpc.errors import BusyError, LaunchError
from xautolm_hpc.jobdir import MEMBERS, Claim, claim_path, read_whole, restarts
from xautolm_hpc.launcher import JobSource, JobState, JobStatus, QueueLimits, Submission
from xautolm_hpc.slurm import JobRow, Slurm, lacks_nodes
from xautolm_hpc.submit.arrays import CALL, SCRIPT, ArrayExecutor, SlurmOptions, sbatch_parameters
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.job_limits import ASK_AGAIN_S, MANY_JOBS, OF_MANY_JOBS, exceeded, read_places
from xautolm_hpc.submit.wrapper import run_member

LARGEST_ARRAY = 1001
"""Slurm's default of MaxArraySize, for a controller that does not answer."""

SLOW_S = 5.0
"""Seconds of squeue after which the next poll does not wait for it before it asks sacct."""


class SlurmLauncher:
    """Runs jobs on a Slurm cluster.

    Args:
        options: Options of sbatch, from the cluster profile.
        python: Interpreter of the wrapper on the node.
        since: When the run began, seconds since the epoch: nothing before it is looked for in the accounts.
        slurm: Slurm's commands.
        environment: Variables that reach the wrapper; by default a short list of this process's.
    """

    def __init__(
        self,
        options: SlurmOptions,
        *,
        since: float,
        python: str = sys.executable,
        slurm: Slurm | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._options = options
        self._python = python
        self._since = since
        self._slurm = slurm or Slurm()
        self._environment = dict(wrapper_environment() if environment is None else environment)
        self._job_ids: dict[Path, str] = {}
        self._submissions: dict[Path, Submission] = {}
        self._states: dict[Path, JobStatus] = {}
        self._is_slow = False
        self._in_cancelling: set[Path] = set()
        self._aside = ThreadPoolExecutor(1)
        self._excesses: dict[str, tuple[float, str]] = {}

    def sbatch_text(self, submission: Submission) -> str:
        """Write the batch script of a submission without submitting it."""
        return self._executor(submission).script(len(submission.attempt_dirs))

    def limits(self) -> QueueLimits:
        """Return how large an array may be, and how many jobs the profile allows."""
        return QueueLimits(
            batch=self._largest_array,
            queued=self._options.max_queued,
            parallel=self._options.max_parallel,
            memory_bytes=self._largest_memory_bytes,
        )

    @cached_property
    def _largest_array(self) -> int:
        """MaxArraySize is the highest index plus 1, so also the most elements."""
        return int((self._slurm.settings() or {}).get("MaxArraySize", LARGEST_ARRAY))

    @cached_property
    def _largest_memory_bytes(self) -> int | None:
        """Memory of the largest nodes, or what the partition allows; 0 where an option says it, ``None`` if unknown."""
        if self._options.sets_memory:
            return 0
        names = (self._options.partition or "").split(",")
        kinds = [
            kind for kind in self._slurm.sinfo() or [] if kind.name in names or (names == [""] and kind.is_default)
        ]
        found = []
        for name in {kind.name for kind in kinds}:
            largest = max(kind.memory_mib for kind in kinds if kind.name == name)
            limit = (self._slurm.partition_settings(name) or {}).get("MaxMemPerNode", "")
            found.append(min(largest, int(limit)) if limit.isdecimal() else largest)
        return max(found) * 2**20 if found else None

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit attempts as one array.

        Returns:
            Attempt folder -> job id, ``<array>_<index>``.

        Raises:
            BusyError: Slurm may have taken the array or not: :meth:`adopt` finds out, once it answers.
            QueueFullError: A limit on jobs in the queue is reached; nothing is left behind.
            LaunchError: Slurm refused; the message holds sbatch's answer; nothing is left behind.
        """
        members_path = str(submission.folder / MEMBERS)
        try:
            jobs = self._executor(submission).map_array(run_member, [members_path] * len(submission.attempt_dirs))
        except BusyError as error:
            raise BusyError(f"{submission.name}: {error}") from error
        except LaunchError as error:
            found = self._find(submission)  # a site's sbatch may say no after Slurm said yes
            if not found and submission.resources.exclude and lacks_nodes(error):
                return self.submit(replace(submission, resources=replace(submission.resources, exclude=())))
            if not found:
                for name in (CALL, SCRIPT):
                    (submission.folder / name).unlink(missing_ok=True)
                raise type(error)(f"{submission.name}: {error}") from error
            return self._remember(submission, found)
        ids = [str(job.job_id) for job in jobs]
        return self._remember(submission, dict(zip(submission.attempt_dirs, ids, strict=True)))

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Find the jobs of a submission by their name.

        Args:
            submission: The submission, as in its intent.
            known: Attempt folder -> job id, as far as the ledger has them.

        Returns:
            Attempt folder -> job id for every attempt that was submitted; those not in it never were.

        Raises:
            BusyError: The controller does not answer, so that resubmitting could run an attempt twice.
        """
        claimed = {path: claim.job_id for path in submission.attempt_dirs if (claim := _newest_claim(path))}
        found = {**known, **claimed}
        if len(found) < len(submission.attempt_dirs):
            found = {**self._find(submission), **found}
        return self._remember(submission, found)

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Return states: from one squeue, and one sacct if a job is no longer in squeue."""
        watched = [path for path in attempt_dirs if path in self._job_ids]
        if watched:
            names = sorted({self._submissions[path].name for path in watched})
            rows, accounts, has_asked = self._ask(names)
            self._cancel_duplicates(rows or [])
            queued = self._states_in(rows, watched)
            self._states |= queued
            answered = rows is not None
            if not has_asked and any(path not in queued or not queued[path].is_alive for path in watched):
                accounts = self._slurm.sacct(names, since=self._since)
            self._states |= _states_from_accounts(
                watched, queued, accounts=self._states_in(accounts, watched), answered=answered
            )
            self._follow_claims(watched, [*(rows or []), *(accounts or [])])
            is_stale = not answered and accounts is None
            self._states |= {path: replace(self._states[path], is_stale=is_stale) for path in watched}
        return {path: self._status_of(path) for path in attempt_dirs}

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Cancel jobs; those that ended already are left alone, and any of others that has the number by now.

        Where Slurm takes its time nobody waits for its answer, so that ends that were found are told at once.
        """
        jobs = {path for path in attempt_dirs if path in self._job_ids} - self._in_cancelling
        if not jobs:
            return
        self._in_cancelling |= jobs
        if self._is_slow:
            self._aside.submit(self._cancel, jobs)
        else:
            self._cancel(jobs)

    def _cancel(self, attempt_dirs: Collection[Path]) -> None:
        """Cancel jobs by number and name: a controller that lost its state gives numbers again."""
        jobs = [(self._submissions[path].name, self._job_ids[path]) for path in sorted(attempt_dirs)]
        names = list(dict.fromkeys(name for name, _ in jobs))
        try:
            rows = self._slurm.squeue(names)
            if rows is None:  # then Slurm compares the names, once it answers
                for name in names:
                    self._slurm.scancel([job_id for of, job_id in jobs if of == name], name=name)
                return
            known = {(row.name, row.job_id) for row in rows}
            job_ids = [job_id for name, job_id in jobs if (name, job_id) in known]
            if job_ids:
                self._slurm.scancel(job_ids)
        finally:
            self._in_cancelling.difference_update(attempt_dirs)

    def _executor(self, submission: Submission) -> ArrayExecutor:
        parameters = sbatch_parameters(submission, self._options, exports=sorted(self._environment))
        return ArrayExecutor(
            submission.folder,
            python=self._python,
            slurm=self._slurm,
            exports=self._environment,
            parameters=parameters,
        )

    def _ask(self, names: Sequence[str]) -> tuple[list[JobRow] | None, list[JobRow] | None, bool]:
        """Ask squeue, and where that took its time when last asked, sacct at the same time.

        Returns:
            squeue's rows, sacct's rows, and whether sacct was asked.
        """
        began_s = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._slurm.sacct, names, since=self._since) if self._is_slow else None
            rows = self._slurm.squeue(names)
            self._is_slow = time.monotonic() - began_s > SLOW_S
            return rows, asked.result() if asked else None, asked is not None

    def _find(self, submission: Submission) -> dict[Path, str]:
        """Find the jobs of a submission by its name."""
        rows = self._slurm.squeue([submission.name])
        if rows is None:
            error = LaunchError if self._slurm.missing_commands() else BusyError
            found, remedy = self._slurm.why_silent()
            raise error(
                f"{submission.name}: {found}. Its jobs cannot be found, and submitting them again could run them "
                f"twice: {remedy}"
            )
        rows += self._slurm.sacct([submission.name], since=self._since) or []
        return _members_of(submission, rows)

    def _remember(self, submission: Submission, job_ids: Mapping[Path, str]) -> dict[Path, str]:
        for path, job_id in job_ids.items():
            self._job_ids[path], self._submissions[path] = job_id, submission
            self._states.setdefault(path, JobStatus(state=JobState.PENDING, source=JobSource.POOL))
        return dict(job_ids)

    def _states_in(self, rows: list[JobRow] | None, paths: Iterable[Path]) -> dict[Path, JobStatus]:
        by_id = {row.job_id: row for row in rows or []}
        return {path: _state_of(by_id[self._job_ids[path]]) for path in paths if self._job_ids[path] in by_id}

    def _cancel_duplicates(self, rows: Iterable[JobRow]) -> None:
        """Cancel waiting jobs of an array that was taken twice; where both run already, the claim decides."""
        followed = set(self._job_ids.values())
        spare = [row.job_id for row in rows if row.state is JobState.PENDING and row.job_id not in followed]
        if spare:
            self._slurm.scancel(spare, only=JobState.PENDING)

    def _follow_claims(self, paths: Iterable[Path], rows: Iterable[JobRow]) -> None:
        """Watch the job that runs an attempt, where it is another one than the one that was found."""
        by_id = {row.job_id: row for row in rows}
        for path in paths:
            claim = None if self._states[path].is_alive else _newest_claim(path)
            if claim is not None and claim.job_id != self._job_ids[path]:
                self._job_ids[path] = claim.job_id
                found = by_id.get(claim.job_id)
                self._states[path] = _state_of(found) if found else JobStatus(state=JobState.UNKNOWN)

    def _status_of(self, path: Path) -> JobStatus:
        """Return what is known of a job, with the log of its batch script and step."""
        state = self._states.get(path, JobStatus(state=JobState.UNKNOWN))
        if path not in self._job_ids:
            return state
        log_path = self._submissions[path].folder / f"{self._job_ids[path]}_0_log.err"
        waits = state.state is JobState.PENDING and MANY_JOBS.match(state.reason) is not None
        return replace(state, log_paths=(log_path,), excess=self._excess(path) if waits else "")

    def _excess(self, path: Path) -> str:
        """Name the limit on many jobs that one of a submission exceeds alone; the accounts are asked once an hour."""
        submission, now_s = self._submissions[path], time.monotonic()
        asked_s, words = self._excesses.get(submission.name, (-ASK_AGAIN_S, ""))
        if now_s - asked_s >= ASK_AGAIN_S:
            words = self._excess_now(submission, job_id=self._job_ids[path], last=words)
            self._excesses[submission.name] = now_s, words
        return words

    def _excess_now(self, submission: Submission, *, job_id: str, last: str) -> str:
        """Ask the accounts for such a limit; what was known ``last`` stays where they do not answer."""
        charged = self._slurm.charged_to(job_id)
        if charged is None:
            return last
        account, qos, partition = charged
        options, settings = replace(self._options, account=account, qos=qos, options={}), self._slurm.settings() or {}
        places = read_places(self._slurm, options, partition=partition, settings=settings)
        if places is None:
            return last
        found = exceeded(places, submission.resources, options=self._options)
        return next((f"{one.found}: {one.remedy}" for one in found if one.limit.name in OF_MANY_JOBS), "")


def _states_from_accounts(
    paths: Iterable[Path],
    queued: Mapping[Path, JobStatus],
    *,
    accounts: Mapping[Path, JobStatus],
    answered: bool,
) -> dict[Path, JobStatus]:
    """Return the states that sacct adds: how jobs ended. squeue, where it answers, decides which jobs are alive."""
    states = {}
    for path in paths:
        in_queue, in_accounts = queued.get(path), accounts.get(path)
        if in_queue is not None and in_queue.is_alive:
            continue
        if in_accounts is not None and not (answered and in_accounts.is_alive):
            states[path] = in_accounts
        elif in_queue is None and answered:
            states[path] = JobStatus(state=JobState.UNKNOWN, reason="neither squeue nor sacct knows the job")
    return states


def _members_of(submission: Submission, rows: Iterable[JobRow]) -> dict[Path, str]:
    """Match array elements to attempts; of two arrays of one name the older one counts."""
    found: dict[Path, str] = {}
    for row in sorted(rows, key=lambda row: int(row.job_id.partition("_")[0]) if row.job_id[:1].isdecimal() else 0):
        index = row.job_id.partition("_")[2]
        if row.name == submission.name and index.isdecimal() and int(index) < len(submission.attempt_dirs):
            found.setdefault(submission.attempt_dirs[int(index)], row.job_id)
    return found


def _newest_claim(attempt_dir: Path) -> Claim | None:
    """Read who runs an attempt; a claim being written on a file system without links is no claim yet."""
    for restart in restarts(attempt_dir)[-1:] if attempt_dir.is_dir() else []:
        return read_whole(Claim, claim_path(attempt_dir, restart))
    return None


def _state_of(row: JobRow) -> JobStatus:
    return JobStatus(
        state=row.state,
        reason=row.reason,
        is_held=row.is_held,
        node=row.node,
        exit_code=row.exit_code,
        ended_at=row.ended_at,
        source=row.source,
    )
