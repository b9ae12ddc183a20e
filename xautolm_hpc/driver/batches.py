"""Which jobs are submitted together, and how many of them run at the same time, under the limits of a queue."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Generic, TypeVar

from xautolm_hpc.launcher import QueueLimits, Resources

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch(Generic[T]):
    """What is submitted as one.

    Attributes:
        resources: What each job asks for.
        members: Whose jobs they are, at least one.
        max_parallel: Jobs of it that may run at the same time, or ``None`` for any number.
        trials_per_job: Members that share a job, at most.
    """

    resources: Resources
    members: tuple[T, ...]
    max_parallel: int | None
    trials_per_job: int = 1

    @property
    def n_jobs(self) -> int:
        """Jobs of it."""
        return math.ceil(len(self.members) / self.trials_per_job)


def plan_batches(
    classes: Sequence[tuple[Resources, Sequence[T]]],
    limits: QueueLimits,
    *,
    n_queued: int,
    n_parallel: int,
    trials_per_job: int = 1,
) -> list[Batch[T]]:
    """Split what is due into as few batches as the limits allow; what exceeds them is left out, and due later.

    The jobs that may still run at the same time are shared out over the batches, since a limit of Slurm's is one of a
    single array.

    Args:
        classes: Resources and who asks for them, in the order in which they are to be submitted.
        limits: Limits of the launcher.
        n_queued: Jobs of the run that are in the queue or run.
        n_parallel: How many of those may run at the same time.
        trials_per_job: Members that may share a job; fewer do where a slot would stay empty.
    """
    n_free = None if limits.queued is None else max(0, limits.queued - n_queued)
    pieces: list[Batch[T]] = []
    for resources, members in classes:
        n_together = max(1, min(trials_per_job, math.ceil(len(members) / (limits.slots or 1))))
        fitting = members if n_free is None else members[: n_free * n_together]
        n_free = None if n_free is None else n_free - math.ceil(len(fitting) / n_together)
        size = (limits.batch or max(1, len(fitting))) * n_together
        for at in range(0, len(fitting), size):
            part = tuple(fitting[at : at + size])
            pieces.append(Batch(resources=resources, members=part, max_parallel=None, trials_per_job=n_together))
    if limits.parallel is None:
        return pieces
    shares = _share_out(limits.parallel - n_parallel, [piece.n_jobs for piece in pieces])
    return [replace(piece, max_parallel=share) for piece, share in zip(pieces, shares, strict=False)]


def _share_out(n_free: int, wanted: Sequence[int]) -> list[int]:
    """Share free places out one by one; who gets none is left out at the end."""
    served = list(wanted[: max(0, n_free)])
    shares = [0] * len(served)
    left = min(n_free, sum(served))
    for index in cycle(range(len(served))):
        if left <= 0:
            break
        if shares[index] < served[index]:
            shares[index] += 1
            left -= 1
    return shares
