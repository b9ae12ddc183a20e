"""Which rows of an optimiser step a process takes, and in which passes: the same step for any number of processes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.train.process_group import Seat


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward and backward pass of one process.

    Attributes:
        rows: Rows of it, at least one.
        counts: Whether they are the process's own. Where a batch has fewer rows than there are processes some take
            part with a row that weighs nothing: all must make as many passes.
    """

    rows: NDArray[np.int64]
    counts: bool = True


def plan_passes(batches: Sequence[NDArray[np.int64]], *, seat: Seat, micro_batch: int | None) -> list[Pass]:
    """Share the batches of an optimiser step out among processes, and cut each share into passes.

    Args:
        batches: Rows of each batch, the longest first, so that every n-th row makes shares of like lengths.
        seat: The place of this process.
        micro_batch: Rows of a pass at most; ``None`` makes one pass of a share.

    Returns:
        The passes of this process, as many as those of any other.
    """
    passes = []
    for batch in batches:
        largest = -(-len(batch) // seat.n_ranks)
        size = min(micro_batch or largest, largest)
        own = batch[seat.rank :: seat.n_ranks]
        for start in range(0, largest, size):
            rows = own[start : start + size]
            passes.append(Pass(rows) if len(rows) else Pass(batch[:1], counts=False))
    return passes
