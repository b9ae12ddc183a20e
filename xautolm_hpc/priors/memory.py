"""The prior ``knn``: the few nearest experiences, each counted alike; the memory baseline of the peer."""

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.priors.alpha import Weighed, utilities
from xautolm_hpc.priors.evidence import Evidence
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]

DISTANCE_SHARE = 0.7
"""Share of the distance in what is nearest; the rest is what a success lacks in utility."""


def weigh_nearest(
    table: ExperienceTable, evidence: Evidence, *, distance: Floats, settings: PriorSettings
) -> Weighed:  # fmt: skip
    """Select the k nearest experiences; a success has learning rate 1 / k, a failure -1 / k.

    Near is .7 x distance, scaled to 0..1 over the evidence, + .3 x (1 - utility), a failure having utility 0.

    Args:
        table: All experiences.
        evidence: The configurations that are evidence.
        distance: Distance of each, (n,).
        settings: How many to select, and the objectives' weights.
    """
    utility = np.full(len(evidence), np.nan)
    successes = np.flatnonzero(evidence.positive)
    plain = settings.with_utility("weighted_sum")
    utility[successes] = utilities(
        table, evidence.row[successes], values=evidence.objectives[successes], settings=plain
    )
    spread = float(np.ptp(distance)) if len(distance) else 0.0
    scaled = (distance - distance.min()) / spread if spread > 0 else np.zeros(len(distance))
    near = DISTANCE_SHARE * scaled + (1.0 - DISTANCE_SHARE) * (1.0 - np.nan_to_num(utility))
    chosen = np.sort(np.argsort(near, kind="stable")[: settings.k])
    positive, weight = evidence.positive[chosen], evidence.site_weight[chosen]
    return Weighed(
        row=evidence.row[chosen],
        positive=positive,
        distance=distance[chosen],
        weight=weight,
        utility=utility[chosen],
        alpha=np.where(positive, 1.0, -1.0) / max(settings.k, 1) * weight,
    )
