"""Comparing trials by several objectives: non-dominated fronts and crowding distance.

Points are rows of an array whose columns are all to be minimised; :func:`oriented` makes them so.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.records import Outcome


class Need(StrEnum):
    """What a node must have for an objective to be measured there."""

    GPU = "gpu"
    GPU_ENERGY = "gpu_energy"
    """A GPU whose energy is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What trials are compared by.

    Attributes:
        is_maximised: Whether more is better.
        is_metric: Whether it is one of :attr:`Outcome.metrics`; else it is a field of :class:`Outcome`.
        title: Name shown, without the unit.
        unit: Unit shown, or "" for a pure number.
        divisor: Stored value / divisor = value in ``unit``; above 0.
        digits: Digits shown after the decimal point.
        needs: What a node must have to measure it; ``None`` if any node can.
    """

    is_maximised: bool
    is_metric: bool
    title: str
    unit: str
    divisor: float
    digits: int
    needs: Need | None = None

    @property
    def better(self) -> str:
        """Which values are better: ``higher`` or ``lower``."""
        return "higher" if self.is_maximised else "lower"


_COST = partial(Objective, is_maximised=False, is_metric=False)

OBJECTIVES: Mapping[str, Objective] = {
    "f1": Objective(is_maximised=True, is_metric=True, title="F1", unit="", divisor=1.0, digits=4),
    "evaluation_time_s": _COST(title="Train + eval time", unit="s", divisor=1.0, digits=1),
    "gpu_energy_j": _COST(title="GPU energy", unit="kJ", divisor=1e3, digits=2, needs=Need.GPU_ENERGY),
    "peak_gpu_memory_bytes": _COST(title="Peak GPU memory", unit="GiB", divisor=1024.0**3, digits=2, needs=Need.GPU),
}
"""Name of an objective -> the objective. To add one, add its name and its entry here."""


def oriented(values: NDArray[np.float64], objectives: Sequence[str]) -> NDArray[np.float64]:
    """Flip the objectives that are maximised, so that less is better everywhere.

    Args:
        values: Values of the objectives, shape (n, n_objectives).
        objectives: Names of :data:`OBJECTIVES`, in the order of the columns.
    """
    signs: NDArray[np.float64] = np.array([-1.0 if OBJECTIVES[name].is_maximised else 1.0 for name in objectives])
    return values * signs


def preference(outcome: Outcome, trial: int, *, objectives: Sequence[str]) -> tuple[float, ...] | None:
    """Return the key that sorts trials best first; the one rule for the best trial, and for ties.

    The first objective decides, then the others in their order, then the lower trial number.

    Args:
        outcome: What came of the trial.
        trial: Its number.
        objectives: Names of :data:`OBJECTIVES`, the first one first.

    Returns:
        The key, or ``None`` if the trial did not succeed or its first objective is unknown: it has no rank.
    """
    values = [outcome.objective(name) for name in objectives]
    if not outcome.succeeded or values[0] is None:
        return None
    signs = oriented(np.ones((1, len(objectives))), objectives)[0].tolist()
    return (*(math.inf if v is None else s * v for s, v in zip(signs, values, strict=True)), trial)


def front_indices(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sort points into non-dominated fronts; equal points share a front.

    Args:
        points: Values to be minimised, finite, shape (n, n_objectives) with 1 to 3 objectives.

    Returns:
        Number of each point's front, 0 for those nothing dominates, shape (n,).

    Source:
        Zhang et al. 2015, "An Efficient Approach to Nondominated Sorting" (ENS-BS): in lexicographic order a
        point joins the first front none of whose members dominates it, found by bisection.
    """
    if len(points) == 0:
        return np.zeros(0, dtype=np.int64)
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)  # in lexicographic order
    inverse = inverse.reshape(-1)
    if points.shape[1] == 1:
        return inverse.astype(np.int64)
    fronts = _fronts_of_two(distinct) if points.shape[1] == 2 else _fronts_of_many(distinct)
    return np.array(fronts, dtype=np.int64)[inverse]


def _fronts_of_two(distinct: NDArray[np.float64]) -> list[int]:
    best: list[float] = []  # least second objective of each front; ascending
    fronts = []
    for second in distinct[:, 1].tolist():
        front = bisect_right(best, second)
        best[front : front + 1] = [second]
        fronts.append(front)
    return fronts


def _fronts_of_many(distinct: NDArray[np.float64]) -> list[int]:
    """Compute the fronts of distinct points in lexicographic order, by comparing each with the members of fronts."""
    members: list[NDArray[np.float64]] = []  # with spare rows; the first sizes[f] rows are in use
    sizes: list[int] = []
    fronts = []
    for point in distinct:
        low, high = 0, len(members)
        while low < high:
            middle = (low + high) // 2
            dominated = bool(np.any(np.all(members[middle][: sizes[middle]] <= point, axis=1)))
            low, high = (middle + 1, high) if dominated else (low, middle)
        if low == len(members):
            members.append(np.empty((4, distinct.shape[1])))
            sizes.append(0)
        if sizes[low] == len(members[low]):
            members[low] = np.concatenate([members[low], np.empty_like(members[low])])
        members[low][sizes[low]] = point
        sizes[low] += 1
        fronts.append(low)
    return fronts


def crowding_distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute how isolated each point of one front is, from its neighbours in every objective.

    The two ends of an objective are infinitely far away; an objective in which all points are equal adds 0.
    Of equal values the earlier row counts as the smaller one.

    Args:
        points: One front, shape (n, n_objectives).

    Returns:
        Crowding distance, shape (n,).

    Source:
        Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II", section III-B.
    """
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if len(ordered) == 0 or ordered[-1] == ordered[0]:
            continue
        distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
        distance[order[[0, -1]]] = np.inf
    return distance
