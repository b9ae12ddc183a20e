"""The launcher protocol: how jobs are started, found again, watched and cancelled.

``submit`` implements it (local machine, Slurm); the driver hands the object to ``gather``. A launcher is never
the last authority on a job: the claim decides which job runs an attempt, the outcome file what came of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from pathlib import Path
from typing import Protocol, Self

from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FailureKind, FailureOrigin
from xautolm_hpc.jobdir import MEMBERS, read_members

GROUPS = "groups"
"""Folder in that of a submission: a folder for each job that runs several attempts, and their ``members.json``."""

WAITS_IN_JOB = "waits for the trials before it in its job"
"""Reason of an attempt whose job runs, but has not begun it."""


class JobState(StrEnum):
    """State of a job, in Slurm's words; other launchers use the same ones.

    To add a state, add it here; where it ends a job for a known reason, also to the failure kinds below, and where it
    is only another word for one of these, to the synonyms.
    """

    PENDING = "PENDING"
    CONFIGURING = "CONFIGURING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETING = "COMPLETING"
    REQUEUED = "REQUEUED"

    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    DEADLINE = "DEADLINE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PREEMPTED = "PREEMPTED"
    NODE_FAIL = "NODE_FAIL"
    BOOT_FAIL = "BOOT_FAIL"

    UNKNOWN = "UNKNOWN"
    """No source knows the job."""

    @classmethod
    def from_slurm(cls, text: str) -> Self:
        """Read the state in a row of squeue or sacct.

        Args:
            text: The state, written out or as Slurm's short code, with whatever follows it: ``CANCELLED by 1000``.

        Returns:
            The state; ``UNKNOWN`` for a word that no known version of Slurm uses.
        """
        word = (text.split() or [""])[0].rstrip("+").upper()
        word = _SYNONYMS.get(word, word)
        return cls(word) if word in cls.__members__ else cls.UNKNOWN

    @property
    def is_alive(self) -> bool:
        """Whether the job may still write an outcome."""
        return self in _ALIVE

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended; neither alive nor finished is only ``UNKNOWN``."""
        return not self.is_alive and self is not JobState.UNKNOWN

    @property
    def failure_kind(self) -> FailureKind | None:
        """The failure that the state names; ``None`` if only the worker can name one."""
        return _FAILURE_KINDS.get(self)

    @property
    def is_infrastructure(self) -> bool:
        """Whether the cluster ended the job, so that the end says nothing about the pipeline."""
        return self.failure_kind is not None and self.failure_kind.origin is FailureOrigin.INFRASTRUCTURE


_ALIVE = frozenset(
    {
        *(JobState.PENDING, JobState.CONFIGURING, JobState.RUNNING),
        *(JobState.SUSPENDED, JobState.COMPLETING, JobState.REQUEUED),
    }
)
_FAILURE_KINDS = {
    JobState.OUT_OF_MEMORY: FailureKind.HOST_OOM,
    JobState.TIMEOUT: FailureKind.WALL_LIMIT,
    JobState.DEADLINE: FailureKind.WALL_LIMIT,
    JobState.CANCELLED: FailureKind.CANCELLED,
    JobState.NODE_FAIL: FailureKind.NODE_FAILURE,
    JobState.BOOT_FAIL: FailureKind.NODE_FAILURE,
    JobState.PREEMPTED: FailureKind.PREEMPTED,
}
_SYNONYMS = {
    # states that squeue shows in place of the one the job is in
    "STOPPED": "SUSPENDED",
    "RESIZING": "RUNNING",
    "SIGNALING": "RUNNING",
    "STAGE_OUT": "COMPLETING",
    "POWER_UP_NODE": "CONFIGURING",
    "EXPEDITING": "PENDING",
    "REQUEUE_HOLD": "PENDING",
    "REQUEUE_FED": "PENDING",
    "RESV_DEL_HOLD": "PENDING",
    "SPECIAL_EXIT": "PENDING",
    "REVOKED": "UNKNOWN",  # another cluster of the federation runs the job
    "LAUNCH_FAILED": "FAILED",
    "RECONFIG_FAIL": "NODE_FAIL",
    # short codes
    "PD": "PENDING",
    "CF": "CONFIGURING",
    "R": "RUNNING",
    "S": "SUSPENDED",
    "CG": "COMPLETING",
    "RQ": "REQUEUED",
    "CD": "COMPLETED",
    "F": "FAILED",
    "CA": "CANCELLED",
    "TO": "TIMEOUT",
    "DL": "DEADLINE",
    "OOM": "OUT_OF_MEMORY",
    "PR": "PREEMPTED",
    "NF": "NODE_FAIL",
    "BF": "BOOT_FAIL",
    "ST": "SUSPENDED",
    "RS": "RUNNING",
    "SI": "RUNNING",
    "SO": "COMPLETING",
    "RH": "PENDING",
    "RF": "PENDING",
    "RD": "PENDING",
    "SE": "PENDING",
    "RV": "UNKNOWN",
}


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


class JobSource(StrEnum):
    """Where the state of a job comes from."""

    POOL = auto()
    """The job waits in the local pool of a driver, and nowhere else."""

    PROCESS = auto()
    SQUEUE = auto()
    SACCT = auto()
    NONE = auto()
    """Nothing knows the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a launcher knows of one attempt's job.

    Attributes:
        state: Its state.
        reason: Why it is pending or how it ended, as the source wrote it.
        is_held: Whether it is pending and held, whatever the reason says.
        excess: The limit on many jobs that it exceeds alone, while it waits for that one, and what to change; "" if it
            does not, or that is not known.
        node: Node it runs or ran on, or ``None``.
        exit_code: Exit status of the job, or ``None``.
        ended_at: Seconds since the epoch, or ``None`` while it is alive or when unknown.
        source: Where this comes from.
        is_stale: Whether no source answered when last asked: then this is what was known before.
        log_paths: Logs beside the attempt folder that the launcher's own programs write about the job.
        job_dir: Folder of what the job itself wrote (claim, exit file, logs) where it runs several attempts, else
            ``None``: then that lies in the attempt folder.
        gives_back: Whether the job, once it is over, leaves the attempt as it was: it began others and not this one.
    """

    state: JobState
    reason: str = ""
    is_held: bool = False
    excess: str = ""
    node: str | None = None
    exit_code: int | None = None
    ended_at: float | None = None
    source: JobSource = JobSource.NONE
    is_stale: bool = False
    log_paths: tuple[Path, ...] = ()
    job_dir: Path | None = None
    gives_back: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether the job may still write an outcome."""
        return self.state.is_alive


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Attempts that are submitted together.

    Attributes:
        name: Deterministic job name, unique to run and submission; adoption finds jobs by it.
        folder: Folder of the submission; holds ``members.json`` and the launcher's own files.
        attempt_dirs: Absolute attempt folders, in array order.
        resources: What every job of it asks for.
        max_parallel: Jobs of it that may run at the same time, or ``None`` for any number.
        trials_per_job: Attempts that one job runs one after the other, at most; ``resources`` are those of one.
    """

    name: str
    folder: Path
    attempt_dirs: tuple[Path, ...]
    resources: Resources
    max_parallel: int | None = None
    trials_per_job: int = 1


def groups_of(submission: Submission) -> dict[Path, list[Path]]:
    """List which attempts of a submission share a job.

    Args:
        submission: The submission. Ledgers of earlier versions do not tell how many attempts share a job of theirs.

    Returns:
        Folder of a job -> its attempts, both in their order; empty where every attempt has a job of its own.
    """
    dirs, n = submission.attempt_dirs, submission.trials_per_job
    if n == 1:
        return read_groups(submission.folder)
    parts = [list(dirs[start : start + n]) for start in range(0, len(dirs), n)]
    return {submission.folder / GROUPS / f"group-{i}": part for i, part in enumerate(parts)}


def read_groups(folder: Path) -> dict[Path, list[Path]]:
    """Read which attempts of a submission share a job, as its jobs do.

    Args:
        folder: Folder of the submission.

    Returns:
        As :func:`groups_of`; empty, too, where the files are damaged.
    """
    try:
        groups = {group: read_members(group / MEMBERS) for group in read_members(folder / GROUPS / MEMBERS)}
    except (OSError, InputError):
        return {}
    return groups if all(groups.values()) else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How many jobs a launcher takes; ``None`` is any number.

    Attributes:
        batch: Jobs of one submission.
        queued: Jobs of the run that were submitted and have not ended.
        parallel: Jobs of the run that run at the same time.
        memory_bytes: Host memory that one job may ask for on a node.
        slots: Jobs that surely run at the same time: none of these places is left empty for longer jobs in others.
    """

    batch: int | None = None
    queued: int | None = None
    parallel: int | None = None
    memory_bytes: int | None = None
    slots: int | None = None


class Launcher(Protocol):
    """Starts and watches jobs."""

    def limits(self) -> QueueLimits:
        """Return how many jobs may be submitted."""
        ...

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit attempts whose ``members.json`` and ledger intent are on disk already.

        Returns:
            Attempt folder -> job id. Jobs may wait in a queue or pool.

        Raises:
            BusyError: The cluster gave no clear answer: look with :meth:`adopt` before submitting again.
            QueueFullError: The queue takes fewer jobs, or none now; nothing is left behind.
            LaunchError: The cluster refused, nothing was submitted and nothing is left behind.
        """
        ...

    def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
        """Find the jobs of a submission that an earlier driver made, or may have made.

        Args:
            submission: The submission, as in its intent.
            known: Attempt folder -> job id, as far as the ledger has them.

        Returns:
            Attempt folder -> job id for every attempt that was submitted; those not in it never were.

        Raises:
            BusyError: The cluster does not answer, so that resubmitting could run an attempt twice.
        """
        ...

    def poll(self, attempt_dirs: Sequence[Path]) -> Mapping[Path, JobStatus]:
        """Return the state of attempts submitted or adopted by this object, with few calls for all of them.

        The local pool starts waiting jobs here. An attempt no source knows is ``UNKNOWN``; a source that does not
        answer leaves the last state known.
        """
        ...

    def cancel(self, attempt_dirs: Sequence[Path]) -> None:
        """Cancel jobs; those that have ended already are left alone."""
        ...
