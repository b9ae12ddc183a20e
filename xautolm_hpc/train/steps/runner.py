"""What the training loop asks of the two ways to compute steps, so that it knows neither."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.execution import StepMode

Edges = Mapping[str, Sequence[Sequence[int]]]
"""``train`` or ``evaluation`` -> for each length of an input the padded lengths that it is rounded up to."""


class StepResult(NamedTuple):
    """An optimiser step that is over.

    Attributes:
        loss: Mean loss of its samples; if it is not finite, the step left the weights as they were.
        n_samples: Samples in it.
    """

    loss: float
    n_samples: int


class StepRunner(Protocol):
    """Computes optimiser steps, and the forward passes of evaluations."""

    @property
    def mode(self) -> StepMode:
        """Name how steps are computed now."""
        ...

    @property
    def reason(self) -> str | None:
        """Return why they are not captured although that was asked for; ``None`` if they are, or if it was not."""
        ...

    @property
    def n_captures(self) -> int:
        """Count the captures so far; a step that makes one takes longer than the others."""
        ...

    def start(self, batches: Sequence[NDArray[np.int64]]) -> Sequence[StepResult]:
        """Start a step over one or several batches; return the steps that are known to be over, oldest first."""
        ...

    def finish(self) -> Sequence[StepResult]:
        """Wait until every step that was started is over; return those not returned before."""
        ...

    def evaluator(self) -> Any:
        """Return what an evaluation calls like the model."""
        ...

    def edges(self) -> Edges | None:
        """Return the padded lengths for a checkpoint; ``None`` if each batch is padded to its longest row."""
        ...

    def use_edges(self, edges: Edges) -> None:
        """Adopt the padded lengths of a checkpoint."""
        ...


def step_seed(seed: int, step: int, *, rank: int = 0) -> int:
    """Compute the seed of the generators in one step, from which its dropout follows.

    Args:
        seed: Training seed.
        step: Optimiser steps before it, in all restarts.
        rank: Process of the trial; processes drop out different units.

    Returns:
        Seed, 0..2**63 - 1.
    """
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
