"""Settings of a prior, and their check."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import AtLimit
from xautolm_hpc.pareto import OBJECTIVES

PRIOR_KINDS = ("uniform", "xautolm", "knn", "evidence")
DISTANCES = ("euclidean", "cosine")
UTILITIES = ("weighted_sum", "linear_front", "logarithmic_front")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSettings:
    """Settings of a prior; names as in the paper.

    Attributes:
        kind: One of :data:`PRIOR_KINDS`.
        distance: One of :data:`DISTANCES`, for task and system.
        beta_scale: Sharpness of the decay of an experience's weight with its distance; 0 weighs all alike.
        k: Nearest experiences that ``knn`` uses; likewise, for ``xautolm``:
        k_pos: Nearest successes used; 0 uses none.
        k_neg: Nearest failures used; 0 uses none.
        max_alpha: Learning rate of the best, nearest success.
        min_alpha: Learning rate of the nearest failure, at most 0.
        adaptive_positive_limit: What the learning rates of all successes may add up to, instead of ``max_alpha``.
        adaptive_negative_limit: The same for failures, below 0, instead of ``min_alpha``.
        utility: One of :data:`UTILITIES`.
        weights: Objective -> weight in the weighted sum; ``None`` weighs all objectives alike.
        deduplicate: Whether all records of one configuration count once.
        sites: Site -> weight in 0..1, only these sites being used; ``None`` uses every site with weight 1.
        objectives: Objectives of the search.
        at_limit: What trials of the search do when their budget is used up: ``evaluate`` or ``fail``.
    """

    kind: str = "uniform"
    distance: str = "euclidean"
    beta_scale: float = 1.0
    k: int = 25
    k_pos: int = 10_000
    k_neg: int = 10_000
    max_alpha: float = 0.05
    min_alpha: float = -0.02
    adaptive_positive_limit: float | None = None
    adaptive_negative_limit: float | None = None
    utility: str = "weighted_sum"
    weights: Mapping[str, float] | None = None
    deduplicate: bool = True
    sites: Mapping[str, float] | None = None
    objectives: tuple[str, ...] = ("f1", "evaluation_time_s")
    at_limit: str = AtLimit.FAIL.value

    def with_utility(self, utility: str) -> "PriorSettings":
        """Return these settings with another utility."""
        return replace(self, utility=utility)


def check_settings(settings: PriorSettings) -> None:
    """Check that settings name nothing unknown and that some objective has a weight.

    Raises:
        InputError: A name is not valid, or no weight is above 0.
    """
    choices = {
        "prior.kind": (settings.kind, PRIOR_KINDS),
        "prior.distance": (settings.distance, DISTANCES),
        "prior.utility": (settings.utility, UTILITIES),
        **{f"search.objectives: {name}": (name, tuple(OBJECTIVES)) for name in settings.objectives},
        **{f"prior.weights: {name}": (name, settings.objectives) for name in settings.weights or ()},
    }
    for key, (value, valid) in choices.items():
        if value not in valid:
            raise InputError(f"{key}: {value!r} is not valid; valid: {', '.join(valid)}")
    if settings.weights is not None and not sum(settings.weights.values()) > 0:
        raise InputError(f"prior.weights: {dict(settings.weights)} add up to nothing; give one a weight above 0")
