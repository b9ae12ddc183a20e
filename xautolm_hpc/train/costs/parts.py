"""Where the time of training goes: seconds of its parts, each counted once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Part(StrEnum):
    """A part of the time of training."""

    CAPTURES = "captures"
    STEPS = "steps"
    WAITS = "waiting for the device"
    EVALUATION = "evaluation"
    SCORES = "scores"
    BEST_WEIGHTS = "best weights"
    CHECKPOINT = "checkpoint"


class PartTimer:
    """Measures the parts of a time; a part within another one is not counted there."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin without parts.

        Args:
            clock: Returns the time, in seconds.
        """
        self._clock = clock
        self._seconds: dict[Part, float] = {}
        self._open: list[Part] = []
        self._since = clock()

    @contextmanager
    def measure(self, part: Part) -> Iterator[None]:
        """Measure a part; one that comes again is added up."""
        self._count()
        self._open.append(part)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def take(self) -> dict[Part, float]:
        """Return part -> seconds, of what was measured since this was last called."""
        self._count()
        taken, self._seconds = self._seconds, {}
        return taken

    def _count(self) -> None:
        """Count the time since the last change for the innermost part."""
        now = self._clock()
        if self._open:
            self._seconds[self._open[-1]] = self._seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now
