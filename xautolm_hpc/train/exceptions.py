"""Which kind of failure an exception is, by the rules of :mod:`xautolm_hpc.failures`, and its text.

The classes of torch and others are matched by name, so that this file needs none of them: the failure may well be
that torch cannot be imported.
"""

import traceback

from xautolm_hpc.errors import XAutoLMError
from xautolm_hpc.failures import NCCL, PROCESS_GONE, FailureKind, kind_of_exception

MAX_MESSAGE_LINES = 12


class TrialError(XAutoLMError):
    """A trial that ends in a way this program foresees.

    Attributes:
        kind: Failure kind.
    """

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class UnfitModelError(TrialError):
    """The files of a model do not fit together: no attempt and no other hyperparameters can change that."""

    def __init__(self, message: str, *, kind: FailureKind = FailureKind.DATA_UNAVAILABLE) -> None:
        super().__init__(kind, message)


def classify(error: BaseException, *, gpu_was_busy: bool) -> FailureKind:
    """Return the kind of failure that an exception is.

    The exception itself is asked first, then what caused it: libraries wrap errors of the disk in their own.

    Args:
        error: The exception that ended the trial.
        gpu_was_busy: Whether another process held memory of the GPU; running out of it then is no evidence against
            the pipeline.

    Returns:
        The failure kind; ``error`` for an exception of no known class.
    """
    kind = next(filter(None, map(_kind_of, _chain(error))), FailureKind.ERROR)
    return FailureKind.GPU_BUSY if kind is FailureKind.GPU_OOM and gpu_was_busy else kind


def is_lost_process(error: BaseException) -> bool:
    """Check whether an exception shows only that another process of the trial is gone or does not answer."""
    return any(rule.matches(each) for each in _chain(error) for rule in (*PROCESS_GONE, NCCL))


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


def _kind_of(error: BaseException) -> FailureKind | None:
    return error.kind if isinstance(error, TrialError) else kind_of_exception(error)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None and chain[-1].__cause__ not in chain:
        chain.append(chain[-1].__cause__)
    return chain
