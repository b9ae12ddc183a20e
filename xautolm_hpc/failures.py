"""How attempts end: succeeded or failed, every kind of failure with its traits, every text that names a kind.

To add a kind, add a line to :class:`FailureKind`, and a line to :data:`RULES` where a text or an exception tells of it.
"""

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from functools import partial
from typing import Self

from xautolm_hpc.errors import DISK_FULL_ERRNOS, InputError


class OutcomeStatus(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    """Left before its end because others were ahead: neither a failure nor a result."""


STATUSES = tuple(OutcomeStatus)

TRUNCATED = "truncated"
"""Word for a success that was evaluated before its training had ended, because its time was used up."""


class FailureOrigin(StrEnum):
    """What a failure speaks about."""

    PIPELINE = "pipeline"
    """Evidence against the pipeline."""

    INFRASTRUCTURE = "infrastructure"
    """The cluster's fault: stored, retried as a new attempt, never evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What is true of a failure kind.

    Attributes:
        origin: What it speaks about.
        is_expected: Whether every search meets it: many failures alike are then no sign of a broken set-up.
        is_from_outside: Whether the worker was ended from outside: the first line of the message then says by what,
            and the worker's log follows.
        is_named_by_wrapper: Whether the wrapper around the worker may name it in its exit file.
        spares_node: Whether it says nothing about the node, so that the next attempt may run on the same one.
        is_in_format_1: Whether format 1 of the store has a word for it; else it is :attr:`FailureKind.LOST` there.
    """

    origin: FailureOrigin
    is_expected: bool = False
    is_from_outside: bool = False
    is_named_by_wrapper: bool = False
    spares_node: bool = False
    is_in_format_1: bool = True


_PIPELINE = partial(Traits, origin=FailureOrigin.PIPELINE, spares_node=True)
_INFRASTRUCTURE = partial(Traits, origin=FailureOrigin.INFRASTRUCTURE)


class FailureKind(StrEnum):
    """Kind of a failure, in the word that stands in files.

    Attributes:
        traits: What is true of it.
    """

    traits: Traits

    def __new__(cls, word: str, traits: Traits | None = None) -> Self:
        """Make a member; called with a word alone, Enum looks the member up."""
        if traits is None:
            raise TypeError(f"failure kind {word!r} has no traits")
        kind = str.__new__(cls, word)
        kind._value_, kind.traits = word, traits
        return kind

    GPU_OOM = "gpu_oom", _PIPELINE(is_expected=True)
    HOST_OOM = "host_oom", _PIPELINE(is_expected=True, is_from_outside=True, is_named_by_wrapper=True)
    TIME_LIMIT = "time_limit", _PIPELINE(is_expected=True, is_named_by_wrapper=True)  # the trial's own time
    DIVERGED = "diverged", _PIPELINE(is_expected=True)  # the loss is no longer finite
    UNSUPPORTED = "unsupported", _PIPELINE()  # the model cannot be trained that way
    ERROR = "error", _PIPELINE()  # an exception of no known class

    NODE_FAILURE = "node_failure", _INFRASTRUCTURE(is_from_outside=True)
    PREEMPTED = "preempted", _INFRASTRUCTURE(is_from_outside=True, spares_node=True)
    CANCELLED = "cancelled", _INFRASTRUCTURE(is_from_outside=True, is_named_by_wrapper=True, spares_node=True)
    LAUNCH_FAILURE = "launch_failure", _INFRASTRUCTURE(is_from_outside=True, is_named_by_wrapper=True)
    ENVIRONMENT = "environment", _INFRASTRUCTURE(is_named_by_wrapper=True)  # the node or the image lacks something
    STORAGE = "storage", _INFRASTRUCTURE(is_named_by_wrapper=True)  # a disk is full or does not answer
    GPU_FAULT = "gpu_fault", _INFRASTRUCTURE()  # a GPU, or the link between GPUs, failed
    GPU_BUSY = "gpu_busy", _INFRASTRUCTURE()  # another process holds the GPU
    NODE_BUSY = "node_busy", _INFRASTRUCTURE(is_in_format_1=False)  # others used the cores: a time limit is no evidence
    WALL_LIMIT = "wall_limit", _INFRASTRUCTURE(is_from_outside=True, is_named_by_wrapper=True, spares_node=True)
    DATA_UNAVAILABLE = "data_unavailable", _INFRASTRUCTURE()  # data or weights are missing or damaged
    LOST = "lost", _INFRASTRUCTURE(is_from_outside=True)  # nothing tells how the attempt ended

    @property
    def origin(self) -> FailureOrigin:
        """What it speaks about: the pipeline or the infrastructure."""
        return self.traits.origin


FAILURE_KINDS = tuple(FailureKind)
PIPELINE_KINDS = tuple(kind for kind in FailureKind if kind.origin is FailureOrigin.PIPELINE)
INFRASTRUCTURE_KINDS = tuple(kind for kind in FailureKind if kind.origin is FailureOrigin.INFRASTRUCTURE)
FORMAT_1_KINDS = tuple(kind for kind in FailureKind if kind.traits.is_in_format_1)
NAMED_BY_WRAPPER = tuple(kind for kind in FailureKind if kind.traits.is_named_by_wrapper)
ENDED_FROM_OUTSIDE = tuple(kind for kind in FailureKind if kind.traits.is_from_outside)


def failure_kind(word: str | None) -> FailureKind:
    """Return the failure kind of a word from a file.

    Raises:
        InputError: The word names none.
    """
    if word not in FAILURE_KINDS:
        raise InputError(f"unknown failure kind {word!r}; valid: {', '.join(FAILURE_KINDS)}")
    return FailureKind(word)


def origin_of(word: str | None) -> FailureOrigin:
    """Return what a failure kind speaks about: the ``pipeline`` or the ``infrastructure``.

    Raises:
        InputError: The word names no failure kind.
    """
    return failure_kind(word).origin


class TextSource(Flag):
    """Where a text that names a failure kind was found."""

    EXCEPTION = auto()
    """Message of an exception that the worker caught."""

    WORKER_LOG = auto()
    """Line in the log of a worker that left no outcome."""

    NODE_LOG = auto()
    """Line of the programs that Slurm runs on the node."""

    REFERENCE = auto()
    """Error text in the records that XAutoLM's authors released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What names a failure kind; a rule without types, errnos or text matches any exception.

    Attributes:
        kind: Failure kind.
        text: Regular expression to find in the text; in an exception's message upper and lower case count alike.
        types: Names of exception classes, bases included.
        errnos: Values of an OSError's ``errno``.
        sources: Where the rule holds.
    """

    kind: FailureKind
    text: str = ""
    types: tuple[str, ...] = ()
    errnos: tuple[int, ...] = ()
    sources: TextSource = TextSource.EXCEPTION

    def matches(self, error: BaseException) -> bool:
        """Check whether this rule holds for an exception."""
        names = {base.__name__ for base in type(error).__mro__}
        return (
            TextSource.EXCEPTION in self.sources
            and (not self.types or not names.isdisjoint(self.types))
            and (not self.errnos or getattr(error, "errno", None) in self.errnos)
            and (not self.text or re.search(self.text, str(error), re.IGNORECASE) is not None)
        )


_E, _LOG, _NODE, _REFERENCE = TextSource.EXCEPTION, TextSource.WORKER_LOG, TextSource.NODE_LOG, TextSource.REFERENCE
_KIND = FailureKind

PROCESS_GONE = (
    Rule(kind=_KIND.NODE_FAILURE, types=("DistNetworkError", "DistStoreError", "DistBackendError")),
    Rule(kind=_KIND.NODE_FAILURE, text=r"\bgloo\b|Connection (closed|reset) by peer|Broken pipe"),
)
"""What a process of several says when another one is gone; NCCL speaks by its name."""

NCCL = Rule(kind=_KIND.GPU_FAULT, text=r"\bNCCL\b")

RULES = (
    # Memory. torch names it by class on the GPU and by text on the host.
    Rule(kind=_KIND.GPU_OOM, types=("OutOfMemoryError",)),
    Rule(kind=_KIND.GPU_OOM, text=r"CUDA out of memory", sources=_E | _LOG | _REFERENCE),
    Rule(kind=_KIND.GPU_OOM, text=r"CUBLAS_STATUS_ALLOC_FAILED", sources=_E | _LOG),
    Rule(kind=_KIND.GPU_OOM, text=r"CUDA error: out of memory"),
    Rule(kind=_KIND.GPU_OOM, text=r"torch\.(cuda\.)?OutOfMemoryError", sources=_LOG),
    Rule(kind=_KIND.HOST_OOM, types=("MemoryError",)),
    Rule(kind=_KIND.HOST_OOM, types=("OSError",), errnos=(errno.ENOMEM,)),
    Rule(kind=_KIND.HOST_OOM, text=r"DefaultCPUAllocator: (not enough memory|can't allocate memory)"),
    Rule(kind=_KIND.HOST_OOM, text=r"can't allocate memory|Cannot allocate memory", sources=_LOG | _REFERENCE),
    Rule(kind=_KIND.HOST_OOM, text=r"^MemoryError|oom[-_]kill|Out of memory: Killed", sources=_LOG),
    Rule(kind=_KIND.HOST_OOM, text=r"DefaultCPUAllocator|MemoryError", sources=_REFERENCE),
    # The host's memory limit stops the reading of the 11 billion weights; the loader says only this.
    Rule(kind=_KIND.HOST_OOM, text=r"Unable to load weights from pytorch checkpoint", sources=_REFERENCE),
    # What only the reference's records say.
    Rule(kind=_KIND.TIME_LIMIT, text=r"Exceeded allowed time", sources=_REFERENCE),
    Rule(kind=_KIND.UNSUPPORTED, text=r"Unrecognized configuration class|not supported", sources=_REFERENCE),
    Rule(kind=_KIND.UNSUPPORTED, text=r"does not support|Target modules .* not found", sources=_REFERENCE),
    Rule(kind=_KIND.ENVIRONMENT, text=r"Can't load (tokenizer|config|model)", sources=_REFERENCE),
    Rule(kind=_KIND.ENVIRONMENT, text=r"DataLoader worker .* is killed|out of shared memory", sources=_REFERENCE),
    Rule(kind=_KIND.ENVIRONMENT, text=r"No module named|CUDA driver|no CUDA-capable device", sources=_REFERENCE),
    Rule(kind=_KIND.ENVIRONMENT, text=r"gated repo|Couldn't connect", sources=_REFERENCE),
    # Shared disks. torch.save tells of a full one as a RuntimeError.
    Rule(kind=_KIND.STORAGE, errnos=(*DISK_FULL_ERRNOS, errno.EIO, errno.ESTALE)),
    Rule(
        kind=_KIND.STORAGE,
        text=r"No space left on device|Disk quota exceeded",
        sources=_E | _LOG | _REFERENCE,
    ),
    Rule(kind=_KIND.STORAGE, text=r"Stale (NFS )?file handle|PytorchStreamWriter failed writing"),
    Rule(kind=_KIND.STORAGE, text=r"Input/output error|Stale file handle", sources=_LOG),
    # Hardware. A device-side assert is none of these: the pipeline's own indices were out of range.
    Rule(kind=_KIND.GPU_FAULT, text=r"uncorrectable|\bECC\b|\bXid\b|hardware error|GPU is lost|device (is )?lost"),
    Rule(kind=_KIND.GPU_FAULT, text=r"fallen off the bus", sources=_E | _LOG),
    NCCL,
    Rule(
        kind=_KIND.GPU_FAULT,
        text=r"uncorrectable ECC|unspecified launch failure|NCCL error",
        sources=_LOG | _REFERENCE,
    ),
    Rule(kind=_KIND.GPU_FAULT, text=r"nccl\w*Error|NVRM: Xid", sources=_LOG),
    Rule(
        kind=_KIND.GPU_FAULT,
        text=r"CUDA error: (unknown error|the launch timed out|device-side hardware|all CUDA-capable devices)",
        sources=_LOG,
    ),
    Rule(kind=_KIND.GPU_FAULT, text=r"Xid", sources=_REFERENCE),
    # The connection between two nodes broke, or one of them is gone.
    *PROCESS_GONE,
    # Another process holds the GPU in exclusive mode.
    Rule(kind=_KIND.GPU_BUSY, text=r"CUDA-capable device\(s\) is/are busy or unavailable"),
    # The node or the image lacks something.
    Rule(kind=_KIND.ENVIRONMENT, types=("ImportError", "InputError")),
    Rule(kind=_KIND.ENVIRONMENT, text=r"cannot open shared object file", sources=_E | _LOG),
    Rule(kind=_KIND.ENVIRONMENT, text=r"no CUDA-capable device|invalid device ordinal|Found no NVIDIA driver"),
    Rule(kind=_KIND.ENVIRONMENT, text=r"CUDA driver|CUDA unknown error|CUDA error: initialization error"),
    Rule(kind=_KIND.ENVIRONMENT, text=r"no kernel image is available|Torch not compiled with CUDA enabled"),
    Rule(kind=_KIND.ENVIRONMENT, text=r"ModuleNotFoundError|ImportError|GLIBC\w*' not found", sources=_LOG),
    Rule(kind=_KIND.ENVIRONMENT, text=r"CUDA driver version is insufficient", sources=_LOG),
    Rule(kind=_KIND.ENVIRONMENT, text=r"[Nn]o CUDA-capable device|Illegal instruction", sources=_LOG),
    # Weights that are there but damaged, or not there at all.
    Rule(kind=_KIND.DATA_UNAVAILABLE, types=("SafetensorError",)),
    Rule(
        kind=_KIND.DATA_UNAVAILABLE,
        text=r"LocalEntryNotFoundError|OfflineModeIsEnabled|outgoing traffic has been disabled",
        sources=_LOG,
    ),
    # What Slurm's node writes when it ends a job.
    Rule(kind=_KIND.PREEMPTED, text=r"CANCELLED AT .* DUE TO PREEMPTION", sources=_LOG | _NODE),
    Rule(kind=_KIND.NODE_FAILURE, text=r"CANCELLED AT .* DUE TO NODE FAILURE", sources=_LOG | _NODE),
    Rule(kind=_KIND.WALL_LIMIT, text=r"CANCELLED AT .* DUE TO TIME LIMIT", sources=_LOG | _NODE),
    Rule(kind=_KIND.HOST_OOM, text=r"oom[-_]kill event|OOM Killed|Exceeded .*memory limit", sources=_NODE),
    Rule(kind=_KIND.CANCELLED, text=r"\*\*\* (STEP|JOB) .* CANCELLED AT", sources=_NODE),
)
"""What names a failure kind; of several rules that match the first one counts."""


def kind_of_text(text: str, source: TextSource) -> FailureKind | None:
    """Return the failure kind that a text names; ``None`` if it names none.

    Args:
        text: The whole text.
        source: Where it was found.
    """
    rules = (rule for rule in RULES if rule.text and source in rule.sources)
    return next((rule.kind for rule in rules if re.search(rule.text, text, re.DOTALL)), None)


def last_line_with_kind(lines: Iterable[str], source: TextSource) -> tuple[FailureKind, str] | None:
    """Find the last line that names a failure kind.

    Args:
        lines: Lines in the order they were written.
        source: Where they were found.

    Returns:
        The kind and the line; ``None`` if no line names a kind.
    """
    for line in reversed(list(lines)):
        kind = kind_of_text(line, source)
        if kind is not None:
            return kind, line
    return None


def kind_of_exception(error: BaseException) -> FailureKind | None:
    """Return the failure kind that an exception names by its class, errno or message; ``None`` if it names none."""
    return next((rule.kind for rule in RULES if rule.matches(error)), None)
