"""What a trial keeps of its budget for its evaluation, and whether its first epoch is foretold to fit.

Seconds are measured in the trial itself: those of a step past captures, and those of evaluations on ``dev``. Before
the first of these, two batches of ``dev`` show what the evaluation will take.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.execution import AtLimit, Foretelling

RESERVE_MARGIN, SPARE_SHARE, MOST_SPARE_S, N_REMEMBERED = 1.25, 0.1, 2.0, 3
"""How many times the foreseen seconds of the evaluation are kept for it; beside them a share of the budget, at most so
many seconds, for what a busy machine does at times; evaluations of which the longest is what is foreseen."""

LOOK_SHARE, LEAST_STEPS, HOPELESS_FACTOR = 0.1, 30, 2.0
"""Share of the budget and steps past captures before anything is foretold; a first epoch that needs so many times what
is left is hopeless."""


class LimitReachedError(Exception):
    """The time for training is used up: the trial is to evaluate its best state so far."""


@dataclass(slots=True)
class StepTimer:
    """Measures the seconds of an optimiser step, from the last capture on.

    Attributes:
        n_steps: Steps past captures.
        seconds: Seconds that they took.
    """

    n_steps: int = 0
    seconds: float = 0.0
    _n_captures: int | None = None

    def add(self, n_over: int, seconds: float, *, n_captures: int) -> None:
        """Add the steps that were over within some seconds; those with a capture, and the first, begin it anew.

        Args:
            n_over: Steps that were over.
            seconds: Seconds meanwhile.
            n_captures: Captures so far in this process.
        """
        if n_captures != self._n_captures:
            self.n_steps, self.seconds, self._n_captures = 0, 0.0, n_captures
            return
        self.n_steps += n_over
        self.seconds += seconds

    @property
    def step_s(self) -> float | None:
        """Seconds of a step, or ``None`` before the first."""
        return self.seconds / self.n_steps if self.n_steps else None


@dataclass(slots=True, kw_only=True)
class LimitPlan:
    """What a trial does at its limit, and what it has measured to foresee it.

    Attributes:
        at_limit: What follows when the budget is used up.
        foretell: What follows when the first epoch is foretold not to fit.
        step_timer: Seconds of a step.
        n_pending: Steps that were started and are not known to be over.
        evaluations_s: Foreseen seconds of an evaluation on ``dev`` and of that on ``validation``, by the last
            measurements.
        has_foretold: Whether it was foretold already if the first epoch fits; this is done once.
    """

    at_limit: AtLimit = AtLimit.FAIL
    foretell: Foretelling = Foretelling.OFF
    step_timer: StepTimer = field(default_factory=StepTimer)
    n_pending: int = 0
    evaluations_s: list[tuple[float, float]] = field(default_factory=list)
    has_foretold: bool = False

    @property
    def evaluates(self) -> bool:
        """Whether the trial is evaluated when its budget is used up."""
        return self.at_limit is AtLimit.EVALUATE

    @property
    def dev_s(self) -> float:
        """Foreseen seconds of an evaluation on ``dev``; 0 before any measurement."""
        return max((dev_s for dev_s, _ in self.evaluations_s), default=0.0)

    def remember(self, dev_s: float, validation_s: float) -> None:
        """Add a measurement."""
        self.evaluations_s = [*self.evaluations_s, (dev_s, validation_s)][-N_REMEMBERED:]

    def kept_s(self, time_limit_s: float) -> float:
        """Compute the seconds of a budget that are kept for the evaluation."""
        spare_s = min(SPARE_SHARE * time_limit_s, MOST_SPARE_S)
        return RESERVE_MARGIN * max((seconds for _, seconds in self.evaluations_s), default=0.0) + spare_s

    @property
    def ahead_s(self) -> float:
        """Seconds until another step would be over."""
        return (self.n_pending + 1) * (self.step_timer.step_s or 0.0)

    def may_foretell(self, used_s: float, *, time_limit_s: float) -> bool:
        """Check whether enough is known to foretell, and that it was not done before."""
        is_asked = self.foretell is not Foretelling.OFF and not self.has_foretold
        return is_asked and self.step_timer.n_steps >= LEAST_STEPS and used_s >= LOOK_SHARE * time_limit_s

    def must_probe(self, used_s: float, *, time_limit_s: float) -> bool:
        """Check whether it is time to find out what the evaluation will take."""
        return self.evaluates and not self.evaluations_s and used_s >= LOOK_SHARE * time_limit_s


def scaled_seconds(seconds: float, measured: NDArray[np.int64], *, asked: NDArray[np.int64]) -> float:
    """Forecast the seconds of an evaluation from those of another one.

    Args:
        seconds: Seconds that were measured.
        measured: Tokens of each row that was evaluated in them, (n_measured,), at least one row.
        asked: Tokens of each row to be evaluated, (n_asked,).

    Returns:
        Seconds, in proportion to rows or to tokens, whichever is more.
    """
    by_rows = len(asked) / len(measured)
    return seconds * max(by_rows, float(asked.sum()) / max(float(measured.sum()), 1.0))
