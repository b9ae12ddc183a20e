"""Which trials are worth a look: those that no other trial beats in every objective."""

from collections.abc import Sequence

import numpy as np

from xautolm_hpc.pareto import front_indices, oriented
from xautolm_hpc.records import Experience


def has_objectives(experience: Experience, objectives: Sequence[str]) -> bool:
    """Tell whether an attempt succeeded and all its objectives are known and finite."""
    known = (experience.outcome.objective(name) is not None for name in objectives)
    return experience.outcome.status == "succeeded" and all(known)


def split_front(
    experiences: Sequence[Experience], objectives: Sequence[str]
) -> tuple[list[Experience], list[Experience]]:
    """Split trials into the Pareto set and those that another trial dominates.

    A trial dominates another if it is no worse in any objective and better in one; equal trials are both kept.

    Args:
        experiences: Last attempts; those without all objectives are left out.
        objectives: One to three names of :data:`xautolm_hpc.records.OBJECTIVES`.

    Returns:
        The Pareto set and the dominated trials, both best first by the first objective, then by the others, then by
        trial.
    """
    complete = [e for e in experiences if has_objectives(e, objectives)]
    values = [[e.outcome.objective(name) for name in objectives] for e in complete]
    points = oriented(np.array(values, dtype=np.float64).reshape(len(complete), len(objectives)), objectives)
    keys = [(*point, e.provenance.trial) for point, e in zip(points.tolist(), complete, strict=True)]
    order = sorted(range(len(complete)), key=keys.__getitem__)
    fronts = front_indices(points)
    front = [complete[i] for i in order if fronts[i] == 0]
    dominated = [complete[i] for i in order if fronts[i] > 0]
    return front, dominated
