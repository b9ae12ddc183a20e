"""The wish to stop, said by a signal: a flag that training looks at between two steps."""

import signal
from types import FrameType

STOP_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


WAITING = (*STOP_SIGNALS, signal.SIGCHLD)
"""Signals that can be made to wait."""


class StopRequestedError(Exception):
    """Training was told to stop and can be resumed from a checkpoint."""


class StopFlag:
    """Set once by a signal, never cleared.

    Attributes:
        requested: Whether this process was told to stop.
    """

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Let the stop signals set this flag and do nothing else: a handler may interrupt any line.

        Those that came before, while whoever started us kept them waiting, are delivered now.
        """
        for number in STOP_SIGNALS:
            signal.signal(number, self._set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WAITING)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def block_stop_signals() -> None:
    """Let signals wait until this process, or one it starts or becomes, asks for them or has its handlers in place."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITING)
