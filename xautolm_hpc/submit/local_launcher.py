"""Jobs on this machine: a pool of slots over submitit's local executor, with what that lacks.

The queue is in memory: a driver that dies takes it along, and the next one fills it again from the run folder.
Jobs that run are in a session of their own and outlive the driver; the claim in the attempt folder shows whether
one is alive. Starting an attempt twice is harmless, since its claim is exclusive.
"""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xautolm_hpc.durable import read_log
from xautolm_hpc.errors import InputError, LaunchError
from xautolm_hpc.jobdir import (
    MEMBERS,
    OUTCOME,
    VERDICT,
    Claim,
    Exit,
    claim_path,
    exit_path,
    heartbeat_path,
    read_whole,
    restarts,
)  # fmt: skip
from xautolm_hpc.launcher import JobSource, JobState, JobStatus, QueueLimits, Submission
from xautolm_hpc.node import Clock, boot_id, node_name, process_started
from xautolm_hpc.submit import processes
from xautolm_hpc.submit.detached import LAUNCH_LOG, start_detached
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.processes import after_exit
from xautolm_hpc.submit.wrapper import run_member

LOG_TAIL_BYTES = 64 * 1024
MAX_STARTS = 2
"""Starts of an attempt that ends before its claim; then something is wrong with this machine."""

HEARTBEAT_STALE_S = 300.0
"""Seconds without a heartbeat after which a job of another machine, which cannot be looked at, counts as dead."""


@dataclass(slots=True)
class _Job:
    """What the pool remembers of one attempt; ``state`` is set once it ended for good."""

    attempt_dir: Path
    submission: Submission
    index: int
    job_id: str
    is_queued: bool = True
    is_cancelled: bool = False
    n_starts: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    gpus: tuple[str, ...] = ()
    occupies: bool = False
    state: JobStatus | None = None


class LocalLauncher:
    """Runs jobs on this machine, a limited number at a time, in the order they were submitted.

    Args:
        n_slots: Jobs that run at the same time, at least 1.
        clock: Time.
        python: Interpreter of controller and wrapper.
        n_gpus: GPUs of this machine that the pool lends out; 0 leaves CUDA_VISIBLE_DEVICES as it is.
        environment: Environment of controller and wrapper; by default a short list of this process's.
    """

    def __init__(
        self,
        n_slots: int,
        clock: Clock,
        *,
        python: str = sys.executable,
        n_gpus: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._n_slots = n_slots
        self._clock = clock
        self._python = python
        self._environment = dict(wrapper_environment() if environment is None else environment)
        lent = [name for name in self._environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        self._gpus = tuple(lent[:n_gpus] or map(str, range(n_gpus)))
        self._jobs: dict[Path, _Job] = {}
        self._here = (node_name(), boot_id())

    def limits(self) -> QueueLimits:
        """Set no limit: the pool's slots, and its GPUs if it lends some, decide how many jobs run."""
        return QueueLimits(slots=min(self._n_slots, len(self._gpus)) if self._gpus else self._n_slots)

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Queue the attempts of a batch; :meth:`poll` starts them.

        Returns:
            Attempt folder -> job id.

        Raises:
            LaunchError: A job asks for more GPUs than the pool has.
        """
        wanted = submission.resources.n_gpus
        if self._gpus and wanted > len(self._gpus):
            raise LaunchError(
                f"{submission.name} asks for {wanted} GPUs a job; this machine lends {len(self._gpus)}. "
                "Lower job.n_gpus"
            )
        for index, attempt_dir in enumerate(submission.attempt_dirs):
            job_id = f"local-{uuid.uuid4().hex[:12]}"
            self._jobs[attempt_dir] = _Job(attempt_dir, submission, index, job_id)
        return {path: self._jobs[path].job_id for path in submission.attempt_dirs}

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Adopt the jobs of a batch from an earlier driver: running ones are watched, the rest is queued again.

        Args:
            submission: The batch, as in its intent.
            known: Attempt folder -> job id, as far as the ledger has them.

        Returns:
            Attempt folder -> job id of all attempts: none needs to be submitted again.
        """
        for index, attempt_dir in enumerate(submission.attempt_dirs):
            if attempt_dir not in self._jobs:
                claim = _last_claim(attempt_dir)
                job_id = claim.job_id if claim else known.get(attempt_dir, f"local-{uuid.uuid4().hex[:12]}")
                job = _Job(attempt_dir, submission, index, job_id, is_queued=not _has_begun(attempt_dir))
                job.gpus = self._gpus_of(claim)
                self._jobs[attempt_dir] = job
        return {path: self._jobs[path].job_id for path in submission.attempt_dirs}

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Update every job of the pool, start waiting ones on free slots, and return the states asked for."""
        for job in self._jobs.values():
            self._look_at(job)
        self._start_waiting()
        return {path: self._state_of(path) for path in attempt_dirs}

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Drop waiting jobs and end running ones; those that ended are left alone."""
        for attempt_dir in attempt_dirs:
            job = self._jobs.get(attempt_dir)
            if job is not None and job.state is None:
                job.is_cancelled = True
                self._look_at(job)

    def _state_of(self, attempt_dir: Path) -> JobStatus:
        job = self._jobs.get(attempt_dir)
        if job is None:
            return JobStatus(state=JobState.UNKNOWN)
        if job.state is not None:
            return job.state
        if job.is_queued:
            return JobStatus(state=JobState.PENDING, reason="waits for a free slot", source=JobSource.POOL)
        return JobStatus(state=JobState.RUNNING, node=self._here[0], source=JobSource.PROCESS)

    # what runs

    def _look_at(self, job: _Job) -> None:
        """Update one job: whether it holds a slot, and whether it has ended for good."""
        if job.state is not None and not job.occupies:
            return
        if job.is_queued:
            self._look_at_queued(job)
            return
        has_process = job.process is not None and job.process.poll() is None
        claim = _last_claim(job.attempt_dir)
        claimant_lives = claim is not None and self._is_alive(claim, job.attempt_dir)
        job.occupies = has_process or claimant_lives
        if job.is_cancelled and job.occupies:
            self._interrupt(job, claim if claimant_lives else None)
        if claim is not None:
            job.state = self._claimed_state(job, claim)
        elif _is_claimed(job.attempt_dir) and not has_process:
            job.state = JobStatus(state=JobState.UNKNOWN, reason="its claim cannot be read")
        elif not has_process:
            self._give_up_or_queue(job)
        if job.process is not None and not job.occupies:
            processes.kill_all(processes.session_members(job.process.pid))  # what a killed wrapper left behind

    def _look_at_queued(self, job: _Job) -> None:
        if job.is_cancelled:
            job.is_queued = False
            job.state = JobStatus(state=JobState.CANCELLED, reason="never started", source=JobSource.POOL)
        elif _has_begun(job.attempt_dir):  # a start by a driver that died since
            job.is_queued = False
            self._look_at(job)

    def _claimed_state(self, job: _Job, claim: Claim) -> JobStatus | None:
        """Return how a claimed job ended; ``None`` while it runs."""
        ended = read_whole(Exit, exit_path(job.attempt_dir, claim.restart))
        if ended is not None:
            return after_exit(JobStatus(state=JobState.UNKNOWN), ended, node=claim.node)
        if job.occupies:
            return None
        return JobStatus(state=JobState.UNKNOWN, reason="the wrapper died", node=claim.node)

    def _give_up_or_queue(self, job: _Job) -> None:
        """Decide on a job whose process ended before it claimed the attempt."""
        if job.is_cancelled:
            job.state = JobStatus(state=JobState.CANCELLED, source=JobSource.PROCESS)
        elif (job.attempt_dir / OUTCOME).exists() or (job.attempt_dir / VERDICT).exists():
            job.state = JobStatus(state=JobState.COMPLETED, source=JobSource.PROCESS)
        elif job.n_starts < MAX_STARTS:
            job.is_queued = True
        else:
            code = job.process.returncode if job.process else None
            job.state = JobStatus(
                state=JobState.FAILED, reason=self._launch_message(job), exit_code=code, source=JobSource.PROCESS
            )

    def _launch_message(self, job: _Job) -> str:
        pid = job.process.pid if job.process else 0
        paths = [job.submission.folder / f"{pid}_0_log.err", job.submission.folder / LAUNCH_LOG]
        lines: list[str] = []
        for path in paths:
            with suppress(OSError, InputError):
                lines += read_log(path, largest_bytes=LOG_TAIL_BYTES)[0].decode(errors="replace").splitlines()
        return (lines or ["the wrapper ended before it claimed the attempt"])[-1].strip()

    def _is_alive(self, claim: Claim, attempt_dir: Path) -> bool:
        node, boot = self._here
        if claim.boot_id == boot:
            return process_started(claim.pid) == claim.pid_started
        if claim.node == node:  # this machine, before it was started again
            return False
        return self._clock.now() - _last_progress_at(attempt_dir, claim) < HEARTBEAT_STALE_S

    def _interrupt(self, job: _Job, claim: Claim | None) -> None:
        """Ask a job to end; the wrapper kills its worker. Repeated at every poll, in case the signal was lost."""
        with suppress(ProcessLookupError):
            if claim is not None and claim.boot_id == self._here[1]:
                os.kill(claim.pid, signal.SIGTERM)
            elif job.process is not None:
                job.process.send_signal(signal.SIGTERM)

    # starting

    def _start_waiting(self) -> None:
        """Start as many waiting jobs as there are slots, and GPUs if the pool lends some."""
        running = [job for job in self._jobs.values() if job.occupies]
        free_gpus = [gpu for gpu in self._gpus if all(gpu not in job.gpus for job in running)]
        n_free = self._n_slots - len(running)
        for job in [job for job in self._jobs.values() if job.is_queued]:
            n_gpus = max(1, job.submission.resources.n_gpus) if self._gpus else 0
            if n_free < 1 or len(free_gpus) < n_gpus:
                return  # in order: a job that needs more GPUs is not overtaken for ever
            job.gpus, free_gpus = tuple(free_gpus[:n_gpus]), free_gpus[n_gpus:]
            self._start(job)
            n_free -= 1

    def _start(self, job: _Job) -> None:
        """Start one job; an interpreter that cannot be started ends it at once."""
        environment = dict(self._environment)
        if job.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(job.gpus)
        members_path = str(job.submission.folder / MEMBERS)
        job.is_queued = False
        job.n_starts += 1
        try:
            job.process = start_detached(
                partial(run_member, members_path, job.index, job_id=job.job_id),
                job.submission.folder,
                python=self._python,
                environment=environment,
            )
        except (OSError, InputError) as error:
            reason = f"`{self._python}` could not be started: {error}"
            job.state = JobStatus(state=JobState.FAILED, reason=reason, source=JobSource.POOL)
            return
        job.occupies = True

    def _gpus_of(self, claim: Claim | None) -> tuple[str, ...]:
        """List the GPUs of the pool that an adopted job holds, from its wrapper's environment."""
        if claim is None or not self._gpus or process_started(claim.pid) != claim.pid_started:
            return ()
        with suppress(OSError):
            entries = Path(f"/proc/{claim.pid}/environ").read_bytes().split(b"\0")
            for entry in entries:
                name, _, value = entry.decode(errors="replace").partition("=")
                if name == "CUDA_VISIBLE_DEVICES":
                    return tuple(value.split(","))
        return ()


def _has_begun(attempt_dir: Path) -> bool:
    ended = any((attempt_dir / name).exists() for name in (OUTCOME, VERDICT))
    return ended or _is_claimed(attempt_dir)


def _is_claimed(attempt_dir: Path) -> bool:
    return attempt_dir.is_dir() and bool(restarts(attempt_dir))  # the folder may have been removed


def _last_claim(attempt_dir: Path) -> Claim | None:
    """Read who runs an attempt; ``None`` if nobody, or if the claim is damaged."""
    if not _is_claimed(attempt_dir):
        return None
    return read_whole(Claim, claim_path(attempt_dir, restarts(attempt_dir)[-1]))


def _last_progress_at(attempt_dir: Path, claim: Claim) -> float:
    with suppress(FileNotFoundError):
        return heartbeat_path(attempt_dir, claim.restart).stat().st_mtime
    return claim.claimed_at
