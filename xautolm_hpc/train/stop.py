"""The request to stop, sent as a signal: a flag that training checks between two steps."""

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)

WAITING = (*STOP_SIGNALS, signal.SIGCHLD)
"""Signals that are blocked until a handler is in place."""


class StopRequestedError(Exception):
    """Training was asked to stop and can be resumed from a checkpoint."""


class StopFlag:
    """Set once by a signal, never cleared.

    Attributes:
        requested: Whether this process was asked to stop.
    """

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Make the stop signals set this flag and do nothing else: a handler may interrupt any line.

        Signals that arrived while they were blocked are delivered now.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def block_stop_signals() -> None:
    """Block the signals until this process, or one it starts or becomes, waits for them or installs its handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
