"""Size tiers of segments: which ones a new segment is merged with, so that the number of files stays small."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K")
RATIO = 8
SMALLEST = 32
MAX_PER_TIER = 8


def tier(n_experiences: int) -> int:
    """Compute the tier of a segment: tier t begins at 32 * 8^t experiences, tier 0 holds smaller segments too."""
    found, limit = 0, SMALLEST * RATIO
    while n_experiences >= limit:
        found, limit = found + 1, limit * RATIO
    return found


def tier_mates(sizes: Mapping[K, int], n_new: int) -> list[K]:
    """Choose the segments to merge with a new one, so that no tier is full afterwards.

    Args:
        sizes: Segment -> number of its experiences.
        n_new: Experiences of the new segment.

    Returns:
        The segments to merge into the new one and then remove; often none.
    """
    chosen: list[K] = []
    n = n_new
    while True:
        alike = [name for name in sizes if name not in chosen and tier(sizes[name]) == tier(n)]
        if len(alike) < MAX_PER_TIER - 1:
            return chosen
        chosen += alike
        n += sum(sizes[name] for name in alike)
