"""Which kind of failure an exception is: one table, read from the top.

The classes of torch and others are matched by name, so that this file needs none of them: the failure may well be
that torch cannot be imported.
"""

import errno
import re
import traceback
from dataclasses import dataclass

from xautolm_hpc.errors import XAutoLMError

MAX_MESSAGE_LINES = 12


LOST_PEER = r"\bgloo\b|Connection (closed|reset) by peer|Broken pipe"
"""What a process of several says when another one is gone; NCCL speaks by its name."""


class TrialError(XAutoLMError):
    """A trial that ends in a way this program foresees.

    Attributes:
        kind: Failure kind, one of :data:`xautolm_hpc.records.FAILURE_KINDS`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row of the table; a rule without types, errnos or text matches any.

    Attributes:
        kind: Failure kind.
        types: Names of exception classes, bases included.
        errnos: Values of an OSError's ``errno``.
        text: Regular expression to find in the message, upper and lower case alike.
    """

    kind: str
    types: tuple[str, ...] = ()
    errnos: tuple[int, ...] = ()
    text: str = ""

    def matches(self, error: BaseException) -> bool:
        """Tell whether this rule speaks about an exception."""
        names = {base.__name__ for base in type(error).__mro__}
        return (
            (not self.types or not names.isdisjoint(self.types))
            and (not self.errnos or getattr(error, "errno", None) in self.errnos)
            and (not self.text or re.search(self.text, str(error), re.IGNORECASE) is not None)
        )


RULES = (
    # Memory. torch says so by class on the GPU and by text on the host.
    Rule(kind="gpu_oom", types=("OutOfMemoryError",)),
    Rule(kind="gpu_oom", text=r"CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"),
    Rule(kind="host_oom", types=("MemoryError",)),
    Rule(kind="host_oom", types=("OSError",), errnos=(errno.ENOMEM,)),
    Rule(kind="host_oom", text=r"DefaultCPUAllocator: (not enough memory|can't allocate memory)"),
    # Shared disks. torch.save tells of a full one as a RuntimeError.
    Rule(kind="storage", errnos=(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE)),
    Rule(kind="storage", text=r"No space left on device|Disk quota exceeded|Stale (NFS )?file handle"),
    Rule(kind="storage", text=r"PytorchStreamWriter failed writing"),
    # Hardware. A device-side assert is none of these: the pipeline's own indices were out of range.
    Rule(kind="gpu_fault", text=r"uncorrectable|\bECC\b|\bXid\b|hardware error|GPU is lost|device (is )?lost"),
    Rule(kind="gpu_fault", text=r"fallen off the bus|\bNCCL\b"),
    # The connection between two nodes broke, or one of them is gone.
    Rule(kind="node_failure", types=("DistNetworkError", "DistStoreError", "DistBackendError")),
    Rule(kind="node_failure", text=LOST_PEER),
    # Another process holds the GPU in exclusive mode.
    Rule(kind="gpu_busy", text=r"CUDA-capable device\(s\) is/are busy or unavailable"),
    # The node or the image lacks something.
    Rule(kind="environment", types=("ImportError", "InputError")),
    Rule(kind="environment", text=r"no CUDA-capable device|invalid device ordinal|Found no NVIDIA driver"),
    Rule(kind="environment", text=r"CUDA driver|CUDA unknown error|CUDA error: initialization error"),
    Rule(kind="environment", text=r"no kernel image is available|Torch not compiled with CUDA enabled"),
    Rule(kind="environment", text=r"cannot open shared object file"),
    # Weights that are there but damaged.
    Rule(kind="data_unavailable", types=("SafetensorError",)),
)


def classify(error: BaseException, *, gpu_was_busy: bool) -> str:
    """Say which kind of failure an exception is.

    The exception itself is asked first, then what caused it: libraries wrap errors of the disk in their own.

    Args:
        error: The exception that ended the trial.
        gpu_was_busy: Whether somebody else held memory of the GPU; running out of it then says nothing about the
            pipeline.

    Returns:
        One of :data:`xautolm_hpc.records.FAILURE_KINDS`; ``error`` for an exception of no known class.
    """
    kind = next(filter(None, map(_kind_of, _chain(error))), "error")
    return "gpu_busy" if kind == "gpu_oom" and gpu_was_busy else kind


def is_lost_peer(error: BaseException) -> bool:
    """Tell whether an exception says no more than that another process of the trial is gone or does not answer."""
    types = ("DistNetworkError", "DistStoreError", "DistBackendError")
    rules = (Rule(kind="", types=types), Rule(kind="", text=LOST_PEER), Rule(kind="", text=r"\bNCCL\b"))
    return any(rule.matches(each) for each in _chain(error) for rule in rules)


def describe(error: BaseException) -> str:
    """Write an exception as the end of its traceback; the last line names its class and its whole message.

    The driver compares last lines to see that every trial fails alike, so it stays one line. An end that this
    program foresees needs no traceback.
    """
    summary = " ".join(str(error).split())
    if isinstance(error, TrialError):
        return summary
    frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
    lines = "".join(frames).splitlines()[-MAX_MESSAGE_LINES:]
    return "\n".join([*lines, f"{type(error).__name__}: {summary}"])


def _kind_of(error: BaseException) -> str | None:
    if isinstance(error, TrialError):
        return error.kind
    return next((rule.kind for rule in RULES if rule.matches(error)), None)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None and chain[-1].__cause__ not in chain:
        chain.append(chain[-1].__cause__)
    return chain
