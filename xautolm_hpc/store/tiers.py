"""Size tiers: which segments a new one is merged with, so that few stay however many commits there were."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
RATIO = 8
SMALLEST = 32
MAX_PER_TIER = 8


def tier(n_experiences: int) -> int:
    """Say which tier a segment is in: tier t holds from 32 * 8^t experiences on, tier 0 also smaller ones."""
    found, limit = 0, SMALLEST * RATIO
    while n_experiences >= limit:
        found, limit = found + 1, limit * RATIO
    return found


def peers(sizes: Mapping[K, int], n_new: int) -> list[K]:
    """Choose the segments to merge with a new one, such that no tier it passes through is full afterwards.

    Args:
        sizes: Segment -> number of its experiences.
        n_new: Experiences of the new segment.

    Returns:
        The segments to read, write anew together with the new one, and remove; often none.
    """
    chosen: list[K] = []
    n = n_new
    while True:
        alike = [name for name in sizes if name not in chosen and tier(sizes[name]) == tier(n)]
        if len(alike) < MAX_PER_TIER - 1:
            return chosen
        chosen += alike
        n += sum(sizes[name] for name in alike)
