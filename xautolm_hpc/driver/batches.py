"""Which jobs are submitted together, and how many of them run at the same time, under the limits of a queue."""

from collections.abc import Sequence
from dataclasses import dataclass
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
    """

    resources: Resources
    members: tuple[T, ...]
    max_parallel: int | None


def plan_batches(
    classes: Sequence[tuple[Resources, Sequence[T]]], limits: QueueLimits, *, n_queued: int, n_parallel: int
) -> list[Batch[T]]:
    """Split what is due into as few batches as the limits allow; what exceeds them is left out, and due later.

    The jobs that may still run at the same time are shared out over the batches, since a limit of Slurm's is one of a
    single array.

    Args:
        classes: Resources and who asks for them, in the order in which they are to be submitted.
        limits: Limits of the launcher.
        n_queued: Jobs of the run that are in the queue or run.
        n_parallel: How many of those may run at the same time.
    """
    n_free = None if limits.queued is None else max(0, limits.queued - n_queued)
    pieces: list[tuple[Resources, tuple[T, ...]]] = []
    for resources, members in classes:
        fitting = members[:n_free]
        n_free = None if n_free is None else n_free - len(fitting)
        size = limits.batch or max(1, len(fitting))
        pieces += [(resources, tuple(fitting[at : at + size])) for at in range(0, len(fitting), size)]
    if limits.parallel is None:
        return [Batch(resources=resources, members=members, max_parallel=None) for resources, members in pieces]
    shares = _share_out(limits.parallel - n_parallel, [len(members) for _, members in pieces])
    return [
        Batch(resources=resources, members=members, max_parallel=share)
        for (resources, members), share in zip(pieces, shares, strict=False)
    ]


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
