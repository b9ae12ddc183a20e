"""How an attempt without a recorded end stands: its files first, then what is known of its job.

====================  ===============  =====================================================
claim of the restart  its exit file    state
====================  ===============  =====================================================
none                  -                the job's; ``PENDING`` if nobody knows a job
there                 none             the job's; ``RUNNING`` if nobody knows a job
there                 of a checkpoint  the job's while it lives, then ``PREEMPTED``
there                 of another end   ``COMPLETED``, ``FAILED`` or ``CANCELLED``: the driver's
                                       verdict alone is missing
====================  ===============  =====================================================

In a run that was cancelled, what is not alive and has no end is ``CANCELLED``. Time stops where the attempt ended.
"""

from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    Claim,
    Exit,
    Heartbeat,
    claim_path,
    exit_path,
    heartbeat_path,
    read_whole,
    restarts,
)
from xautolm_hpc.launcher import JobSource, JobState, JobStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptProgress:
    """An attempt at one moment.

    Attributes:
        state: State of its job, as its files show it.
        reason: Why it waits or how it ended, or "".
        node: Node it runs or ran on, or ``None``.
        elapsed_s: Seconds since its last restart began, or its length if it is over; ``None`` if that is unknown.
        step: Optimiser steps done.
        n_steps: Optimiser steps planned, 0 while unknown.
    """

    state: JobState
    reason: str = ""
    node: str | None = None
    elapsed_s: float | None = None
    step: int = 0
    n_steps: int = 0


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of an attempt's last restart."""

    claim: Claim | None = None
    heartbeat: Heartbeat | None = None
    exit: Exit | None = None


def read_exit(path: Path) -> Exit | None:
    """Read how the worker of an attempt's last restart ended, as the wrapper saw it; ``None`` if nothing says it."""
    return _read_files(path).exit


def read_progress(path: Path, job: JobStatus | None, *, is_cancelled: bool, now: float) -> AttemptProgress:
    """Combine what files and job show of an attempt that has no end.

    Args:
        path: The attempt's folder.
        job: What is known of its job, or ``None`` if nobody asked.
        is_cancelled: Whether the run was cancelled.
        now: Seconds since the epoch.
    """
    files = _read_files(path)
    state, reason = _state(files, job, is_cancelled=is_cancelled)
    claim, beat = files.claim, files.heartbeat
    return AttemptProgress(
        state=state,
        reason=reason,
        node=(job and job.node) or (claim.node if claim else None),
        elapsed_s=_elapsed_s(files, job, state=state, now=now),
        step=beat.step if beat else 0,
        n_steps=beat.n_steps if beat else 0,
    )


def _state(files: _Files, job: JobStatus | None, *, is_cancelled: bool) -> tuple[JobState, str]:
    """Return state and reason."""
    ended = files.exit
    is_alive = job is not None and job.is_alive and not (is_cancelled and job.source is JobSource.POOL)
    if ended is not None and ended.returncode != CHECKPOINT_EXIT_STATUS:
        return _state_after(ended, is_cancelled=is_cancelled)
    if job is not None and is_alive:
        return job.state, job.reason
    if is_cancelled and (job is not None or files.claim is None):
        return JobState.CANCELLED, "the run was cancelled"
    if ended is not None:
        return JobState.PREEMPTED, "it checkpointed and goes on in another attempt"
    if job is None:
        return (JobState.PENDING if files.claim is None else JobState.RUNNING), ""
    return job.state, job.reason


def _state_after(ended: Exit, *, is_cancelled: bool) -> tuple[JobState, str]:
    """Return state and reason of a worker that has ended."""
    if ended.returncode == 0:
        return JobState.COMPLETED, "its outcome is not here yet"
    if ended.ended_by == FailureKind.CANCELLED or is_cancelled:
        return JobState.CANCELLED, "the run was cancelled" if is_cancelled else "it was cancelled"
    return JobState.FAILED, ended.ended_by or f"exit status {ended.returncode}"


def _elapsed_s(files: _Files, job: JobStatus | None, *, state: JobState, now: float) -> float | None:
    """Return the seconds since the last restart began; of one that is over, until its end, as far as that is known."""
    if files.claim is None or state is JobState.PENDING:
        return None
    if files.exit is not None:
        return files.exit.ended_at - files.claim.claimed_at
    is_alive = state is JobState.RUNNING if job is None else job.is_alive
    if is_alive:
        return now - files.claim.claimed_at
    last = job.ended_at if job is not None else None
    if last is None and files.heartbeat is not None:
        last = files.heartbeat.at
    return None if last is None else max(0.0, last - files.claim.claimed_at)


def _read_files(path: Path) -> _Files:
    """Read the files of the last restart; one that is being replaced counts as not there."""
    claimed = restarts(path) if path.is_dir() else []
    if not claimed:
        return _Files()
    return _Files(
        claim=read_whole(Claim, claim_path(path, claimed[-1])),
        heartbeat=read_whole(Heartbeat, heartbeat_path(path, claimed[-1])),
        exit=read_whole(Exit, exit_path(path, claimed[-1])),
    )
