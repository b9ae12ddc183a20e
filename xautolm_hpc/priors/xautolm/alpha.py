"""Learning rate of each experience, from its distance and utility; only the nearest ones have one."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.priors.eligible import EligibleExperiences, fingerprints, scopes
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.priors.xautolm.utility import front_utility, weighted_sum
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEAST_DEVIATION = 1e-6
"""Least standard deviation in beta, which stays finite when all distances are equal; in the unit of the distance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The n experiences selected, in ascending order of their id.

    Attributes:
        row: Row of the experience table, (n,).
        positive: Whether it is a success, (n,) bool.
        distance: Distance to the current task and system, (n,).
        weight: exp(-beta distance) times the weight of its site, (n,) in 0..1.
        utility: Utility of a success in 0..1, NaN for a failure, (n,).
        alpha: Learning rate, above 0 towards it, below 0 away from it, (n,).
    """

    row: Ints
    positive: NDArray[np.bool_]
    distance: Floats
    weight: Floats
    utility: Floats
    alpha: Floats

    def __len__(self) -> int:
        """Count the experiences."""
        return len(self.row)


def weigh(
    table: ExperienceTable, eligible: EligibleExperiences, *, distance: Floats, settings: PriorSettings
) -> Weighed:
    """Select the nearest experiences and compute their learning rates.

    Args:
        table: All experiences.
        eligible: The eligible experiences, n of them.
        distance: Distance of each, (n,).
        settings: How many to select and how to weigh them.
    """
    chosen = select_nearest(distance, eligible.positive, k_pos=settings.k_pos, k_neg=settings.k_neg)
    row, positive, distance = eligible.row[chosen], eligible.positive[chosen], distance[chosen]
    weight = experience_weights(distance, beta_scale=settings.beta_scale) * eligible.site_weight[chosen]
    utility = np.full(len(chosen), np.nan)
    utility[positive] = utilities(table, row[positive], values=eligible.objectives[chosen[positive]], settings=settings)
    n_positive = int(np.count_nonzero(positive))
    up, down = base_rates(settings, n_positive=n_positive, n_negative=len(chosen) - n_positive)
    alpha = np.where(positive, up * np.nan_to_num(utility) * weight, down * weight)
    return Weighed(row=row, positive=positive, distance=distance, weight=weight, utility=utility, alpha=alpha)


def select_nearest(distance: Floats, positive: NDArray[np.bool_], *, k_pos: int, k_neg: int) -> Ints:
    """Find the nearest successes and failures; at equal distance the smaller id comes first.

    Returns:
        Their indices, ascending.
    """
    order = np.argsort(distance, kind="stable")
    nearest = [order[positive[order]][:k_pos], order[~positive[order]][:k_neg]]
    return np.sort(np.concatenate(nearest)).astype(np.int64)


def experience_weights(distance: Floats, *, beta_scale: float) -> Floats:
    """Weigh experiences by how near their task and system are: exp(-beta distance).

    Args:
        distance: Distances of all experiences selected, (n,), at least 0.
        beta_scale: Sharpness of the decay; 0 weighs all alike.

    Returns:
        Weights in (0, 1], shape (n,).

    Source:
        XAutoLM (arXiv 2508.00924); beta = beta_scale / (std + mean), the deviation being at least 1e-6.
    """
    if len(distance) == 0:
        return np.ones(0)
    beta = beta_scale / (max(float(distance.std()), LEAST_DEVIATION) + float(distance.mean()))
    return np.exp(-beta * distance)


def base_rates(settings: PriorSettings, *, n_positive: int, n_negative: int) -> tuple[float, float]:
    """Compute the learning rate of a success and of a failure of weight and utility 1: (at least 0, at most 0)."""
    up, down = settings.max_alpha, settings.min_alpha
    if settings.adaptive_positive_limit is not None:
        up = settings.adaptive_positive_limit / max(n_positive, 1)
    if settings.adaptive_negative_limit is not None:
        down = -abs(settings.adaptive_negative_limit) / max(n_negative, 1)
    return up, down


def utilities(table: ExperienceTable, rows: Ints, *, values: Floats, settings: PriorSettings) -> Floats:
    """Compute the utilities of successes, each relative to the others.

    Args:
        table: All experiences.
        rows: Their rows, (n,).
        values: Their objectives, (n, n_objectives).
        settings: Which utility, of which objectives.

    Returns:
        Utilities in 0..1, shape (n,).
    """
    objectives, scope = settings.objectives, scopes(table, rows, objectives=settings.objectives)
    if settings.utility != "weighted_sum":
        is_logarithmic = settings.utility == "logarithmic_front"
        return front_utility(values, scope, objectives=objectives, logarithmic=is_logarithmic)
    task = fingerprints(table, rows)
    within_scope = task * (len(table.texts) + 1) + scope
    groups = [within_scope if name == "evaluation_time_s" else task for name in objectives]
    return weighted_sum(values, groups, objectives=objectives, weights=settings.weights)
