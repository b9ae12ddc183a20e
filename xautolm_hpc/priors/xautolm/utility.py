"""Utility of each success, relative to the others."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.pareto import OBJECTIVES, front_indices, oriented

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def weighted_sum(
    values: Floats, groups: Sequence[Ints], *, objectives: Sequence[str], weights: Mapping[str, float] | None
) -> Floats:
    """Scale every objective to 0..1 within its group, 1 being best, and compute their weighted sum.

    Args:
        values: Objectives of the successes, (n, n_objectives).
        groups: For each objective the group every success is compared in, (n,): its task, and for a time also
            what the time covers.
        objectives: Names, in the order of the columns.
        weights: Objective -> weight; ``None`` weighs all alike. A missing objective weighs 0.

    Returns:
        Utilities in 0..1, shape (n,); an objective in which a whole group is equal counts .5.
    """
    raw = [1.0 if weights is None else weights.get(name, 0.0) for name in objectives]
    utility = np.zeros(len(values))
    for name, weight, column, group in zip(objectives, raw, values.T, groups, strict=True):
        scaled = _scale_within(column, group)
        utility += weight / sum(raw) * (scaled if OBJECTIVES[name].is_maximised else 1.0 - scaled)
    return utility


def front_utility(values: Floats, scope: Ints, *, objectives: Sequence[str], logarithmic: bool) -> Floats:
    """Compute the utility of every success from its non-dominated front, the first being best.

    Args:
        values: Objectives of the successes, (n, n_objectives).
        scope: What the times cover, (n,); successes of two scopes do not dominate one another.
        objectives: Names, in the order of the columns.
        logarithmic: ln(F - f + 1) / ln(F + 1) instead of (F - f) / F, for front f of F, from 0.

    Returns:
        Utilities in 0..1, shape (n,).
    """
    points = oriented(values, objectives)
    front = np.zeros(len(points), dtype=np.int64)
    for number in np.unique(scope):
        front[scope == number] = front_indices(points[scope == number])
    n_fronts = front.max(initial=0) + 1
    if logarithmic:
        return np.asarray(np.log(n_fronts - front + 1) / np.log(n_fronts + 1))
    return np.asarray((n_fronts - front) / n_fronts, dtype=np.float64)


def _scale_within(column: Floats, group: Ints) -> Floats:
    """Scale values to 0..1 between the least and the greatest of their group; .5 where these are equal."""
    numbers, member = np.unique(group, return_inverse=True)
    least, greatest = np.full(len(numbers), np.inf), np.full(len(numbers), -np.inf)
    np.minimum.at(least, member, column)
    np.maximum.at(greatest, member, column)
    spread = (greatest - least)[member]
    scaled = np.full(len(column), 0.5)
    np.divide(column - least[member], spread, out=scaled, where=spread > 0)
    return scaled
