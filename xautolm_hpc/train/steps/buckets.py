"""Which lengths batches are padded to, so that few graphs serve all steps of a training.

A graph has fixed shapes. Many padded lengths waste little padding and need many captures; which are best depends on how
many steps there are, so they follow from the plan of the whole training, not from where it stands.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

GRID = 8
"""Padded lengths are multiples of it, as tensor cores want them; the longest may be any."""

CAPTURE_STEPS = 16.0
"""What a capture costs, with its warm-up, in steps of a graph without tokens: on an H200 .04 to .2 s to 1 to 9 ms."""

FLOOR_TOKENS = 4096
"""Tokens of a pass that double its time above that of one without tokens: 2,000 to 6,000 on an H200."""


def choose_edges(
    lengths: Sequence[int],
    *,
    n_rows: int,
    n_repeats: int,
    n_parallel: int = 1,
    capture_steps: float = CAPTURE_STEPS,
) -> tuple[int, ...]:
    """Choose the padded lengths that make all passes, captures counted, cheapest.

    The lengths are cut into runs of neighbours, each padded to its longest: the cheapest cut by dynamic programming.

    Args:
        lengths: Longest row of each pass of the plan, at least one, each at least 1.
        n_rows: Rows of a pass.
        n_repeats: How often the plan is carried out: epochs.
        n_parallel: Graphs that each length needs, where another input has lengths of its own.
        capture_steps: What a capture costs, in steps without tokens.

    Returns:
        Padded lengths, ascending; the last is the longest length itself.
    """
    longest = max(lengths)
    counts = Counter(min(-(-length // GRID) * GRID, longest) for length in lengths)
    rounded = sorted(counts)
    n_batches = [0]
    for length in rounded:
        n_batches.append(n_batches[-1] + counts[length] * n_repeats)
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for end, length in enumerate(rounded, start=1):
        pass_cost = 1 + length * n_rows / FLOOR_TOKENS
        best.append(
            min(
                (cost + capture_steps * n_parallel + (n_batches[end] - n_batches[begin]) * pass_cost, (*edges, length))
                for begin, (cost, edges) in enumerate(best)
            )
        )
    return best[-1][1]


def padded_length(length: int, edges: Sequence[int]) -> int:
    """Return the padded length for a length; one above all edges stays as it is."""
    place = bisect_left(edges, length)
    return edges[place] if place < len(edges) else length
