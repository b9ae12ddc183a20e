"""Signals of the wrapper: noted down, and acted upon where it looks; none of them interrupts its work."""

import os
import select
import signal
from types import FrameType

NOTED = (signal.SIGTERM, signal.SIGUSR2, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP, signal.SIGCONT, signal.SIGCHLD)


class SignalInbox:
    """Takes the place of every handler the process had, submitit's among them.

    Its handlers are functions, not ``SIG_IGN``: a child would inherit that, and be deaf.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in NOTED:
            signal.signal(number, self._note)

    def wait(self, seconds: float) -> None:
        """Wait until a signal arrives (the end of a child is one) or some seconds have passed."""
        readable, _, _ = select.select([self._reader], [], [], seconds)
        if readable:
            os.read(self._reader, 512)

    def take(self, number: int) -> bool:
        """Check whether a signal came since it was last asked for."""
        was_seen = number in self._seen
        self._seen.discard(number)
        return was_seen

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._seen.add(number)
