"""The launcher protocol: how jobs are started, found again, watched and cancelled.

``submit`` implements it (local machine, Slurm); the driver hands the object to ``gather``. A launcher is never the
last word on a job: the claim decides who runs an attempt, the outcome file what came of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ALIVE = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "REQUEUED", "COMPLETING")
"""States of a job that has not ended, in Slurm's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one job asks for.

    Attributes:
        n_nodes: Nodes.
        n_cpus: Cores on each node.
        n_gpus: GPUs on each node.
        memory_bytes: Host memory on each node.
        time_limit_s: Wall time of the job, in seconds.
        exclude: Nodes not to use.
    """

    n_nodes: int = 1
    n_cpus: int = 1
    n_gpus: int = 0
    memory_bytes: int = 4 * 1024**3
    time_limit_s: float = 3600.0
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What a launcher knows of one attempt's job.

    Attributes:
        state: Slurm's word for it: one of :data:`ALIVE`, or COMPLETED, FAILED, CANCELLED, TIMEOUT,
            OUT_OF_MEMORY, NODE_FAIL, PREEMPTED, BOOT_FAIL, DEADLINE; ``UNKNOWN`` when no source knows it.
        reason: Why it is pending or how it ended, in the source's words.
        node: Node it runs or ran on, or ``None``.
        exit_code: Exit status of the job, or ``None``.
        ended_at: Seconds since the epoch, or ``None`` while it is alive or when unknown.
        source: Who said so: ``pool``, ``process``, ``squeue``, ``sacct`` or ``none``.
        is_stale: Whether no source answered when last asked: then this is what was known before.
        log_paths: Logs beside the attempt folder in which the launcher's own programs speak of the job.
    """

    state: str
    reason: str = ""
    node: str | None = None
    exit_code: int | None = None
    ended_at: float | None = None
    source: str = "none"
    is_stale: bool = False
    log_paths: tuple[Path, ...] = ()

    @property
    def is_alive(self) -> bool:
        """Whether the job may still write an outcome."""
        return self.state in ALIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A batch of attempts that is submitted as one.

    Attributes:
        name: Deterministic job name, unique to run and submission; adoption finds jobs by it.
        folder: Folder of the submission; holds ``members.json`` and the launcher's own files.
        attempt_dirs: Absolute attempt folders, in array order.
        resources: What every job of it asks for.
        max_parallel: Jobs of it that may run at the same time, or ``None`` for any number.
    """

    name: str
    folder: Path
    attempt_dirs: tuple[Path, ...]
    resources: Resources
    max_parallel: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many jobs a launcher takes; ``None`` is any number.

    Attributes:
        batch: Jobs of one submission.
        queued: Jobs of the run that were submitted and have not ended.
        parallel: Jobs of the run that run at the same time.
        memory_bytes: Host memory that one job may ask for on a node.
    """

    batch: int | None = None
    queued: int | None = None
    parallel: int | None = None
    memory_bytes: int | None = None


class Launcher(Protocol):
    """Starts and watches jobs."""

    def limits(self) -> QueueLimits:
        """Say how many jobs may be submitted."""
        ...

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit a batch whose ``members.json`` and ledger intent are on disk already.

        Returns:
            Attempt folder -> job id. Jobs may wait in a queue or pool.

        Raises:
            BusyError: The cluster gave no clear answer: look with :meth:`adopt` before submitting again.
            QueueFullError: The queue takes fewer jobs, or none now; nothing is left behind.
            LaunchError: The cluster refused, nothing was submitted and nothing is left behind.
        """
        ...

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Find the jobs of a batch that an earlier driver submitted, or may have submitted.

        Args:
            submission: The batch, as in its intent.
            known: Attempt folder -> job id, as far as the ledger has them.

        Returns:
            Attempt folder -> job id for every attempt that was submitted; those not in it never were.

        Raises:
            BusyError: The cluster does not answer, so that resubmitting could run an attempt twice.
        """
        ...

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobState]:
        """Ask for the state of attempts submitted or adopted by this object, with few calls for all of them.

        The local pool starts waiting jobs here. An attempt no source knows is ``UNKNOWN``; a source that does not
        answer leaves the last state known.
        """
        ...

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Cancel jobs; those that have ended already are left alone."""
        ...
