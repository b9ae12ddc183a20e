"""How far the host may run ahead of the device: steps that were started and are not known to be over."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from xautolm_hpc.train.costs.parts import Part, PartTimer
from xautolm_hpc.train.steps.runner import StepResult

MAX_STEPS = 50
MAX_LEAD_S = 2.0


class Marker(Protocol):
    """A point in the work of the device."""

    def wait(self) -> None:
        """Wait until the device has come there."""
        ...

    def is_reached(self) -> bool:
        """Check whether it has, without waiting."""
        ...

    def seconds_since(self, earlier: "Marker") -> float:
        """Return the device's time between two points that it has reached, in seconds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedStep:
    """A step that was started.

    Attributes:
        kind: Steps of one kind take the same time: their graphs.
        begun: Before its first copy.
        over: After its last.
        result: On the host once it is over, its loss and whether it left weights and schedule as they were, (2,).
        n_samples: Samples in it.
        staged: Buffers on the host that it reads; free once it is over, as ``result`` is.
    """

    kind: Hashable
    begun: Marker
    over: Marker
    result: Tensor
    n_samples: int
    staged: tuple[Tensor, ...]


class StepQueue:
    """The steps that the device has still to do, oldest first, few enough and short enough together.

    A step of a kind that was never measured counts as half of what is allowed: only two are started then.
    """

    def __init__(
        self,
        settle: Callable[[StartedStep, bool], None],
        *,
        max_steps: int = MAX_STEPS,
        max_lead_s: float = MAX_LEAD_S,
        parts: PartTimer | None = None,
    ) -> None:
        """Begin without steps.

        Args:
            settle: Called with each step once it is over, oldest first, and whether it was skipped.
            max_steps: Steps at most.
            max_lead_s: Seconds of the device at most.
            parts: Measures how long the host waits.
        """
        self._settle = settle
        self._max_steps = max_steps
        self._max_lead_s = max_lead_s
        self._parts = parts or PartTimer()
        self._steps: deque[StartedStep] = deque()
        self._seconds: dict[Hashable, float] = {}

    def __len__(self) -> int:
        """Count the steps that are not known to be over."""
        return len(self._steps)

    def push(self, step: StartedStep) -> None:
        """Add a step that was started just now."""
        self._steps.append(step)

    def wait_for_capacity(self) -> list[StepResult]:
        """Wait until another step may be started; return those that are over, oldest first."""
        done: list[StepResult] = []
        while self._steps and (self._steps[0].over.is_reached() or self._is_full()):
            done.append(self._pop())
        return done

    def empty(self) -> list[StepResult]:
        """Wait for all steps and return them, oldest first."""
        return [self._pop() for _ in range(len(self._steps))]

    def wait(self) -> None:
        """Wait for all steps, and keep them."""
        if self._steps:
            self._wait(self._steps[-1])

    def lead_s(self) -> float:
        """Estimate how long the device will need for all steps, in seconds."""
        unknown_s = self._max_lead_s / 2
        return sum(self._seconds.get(step.kind, unknown_s) for step in self._steps)

    def _is_full(self) -> bool:
        return len(self._steps) >= self._max_steps or self.lead_s() >= self._max_lead_s

    def _wait(self, step: StartedStep) -> None:
        with self._parts.measure(Part.WAITS):
            step.over.wait()

    def _pop(self) -> StepResult:
        step = self._steps.popleft()
        self._wait(step)
        self._seconds[step.kind] = step.over.seconds_since(step.begun)
        loss, skipped = step.result.tolist()
        self._settle(step, bool(skipped))
        return StepResult(loss, step.n_samples)


class ReachedMarker:
    """A point that was reached when it was made: of a device that does everything at once, a CPU."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def wait(self) -> None:
        """Return at once."""

    def is_reached(self) -> bool:
        """Return that it is."""
        return True

    def seconds_since(self, earlier: Marker) -> float:
        """Return the time between two points, in seconds."""
        return self._at - earlier._at if isinstance(earlier, ReachedMarker) else 0.0
