"""Past experiences become the first distribution of a search.

evidence     which experiences count, each configuration once
similarity   how far each is from the current task and system; distances: tasks from one another

Of the kinds ``xautolm`` and ``knn``:
utility      how good each success is
alpha        the nearest ones, and how much each moves the prior; memory: the same for ``knn``
steps        their order, and what each says about every parameter
replay       one after the other into the marginals
explain      which experience moved what

Of the kind ``evidence``:
encode       a pipeline as numbers that carry over
lessons      experiences, and a search's own trials, as what is learnt from
surrogate    risk of failing by cause, and merit, learnt from them
ranking      of several draws the most promising, as far as the prior is trusted
pool         uniform draws to show it on; forecast: the whole as ``priors.json``
"""

from collections.abc import Mapping
from typing import Any

from xautolm_hpc.catalogue import Model
from xautolm_hpc.priors.evidence.acquisition import Ranking, Taste, make_scene, ranking_from_json
from xautolm_hpc.priors.evidence.forecast import forecast_content
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.priors.similarity import distance_table, task_distances
from xautolm_hpc.priors.xautolm.explain import Contribution, Target, contributions, explain, prior_to_json
from xautolm_hpc.priors.xautolm.prior import Prior, compute_prior, summary_line
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable

__all__ = [
    "Contribution",
    "Prior",
    "PriorSettings",
    "Ranking",
    "Target",
    "Taste",
    "compute_prior",
    "contributions",
    "distance_table",
    "explain",
    "make_scene",
    "prior_content",
    "prior_to_json",
    "ranking_from_json",
    "shown",
    "summary_line",
    "task_distances",
]


def prior_content(
    table: ExperienceTable, space: Space, *, task: Task, system: System, settings: PriorSettings,
    models: Mapping[str, Model],
) -> dict[str, Any]:  # fmt: skip
    """Compute a prior as the content of ``priors.json``: all that a search, or one that resumes, needs of it.

    Args:
        table: All experiences, in ascending order of their id.
        space: The search space; experiences add no model and no value to it.
        task: The current task.
        system: The node trials will run on.
        settings: How.
        models: Known models by id; the kind ``evidence`` learns from those outside the space too.

    Raises:
        InputError: A setting names something unknown.
    """
    if settings.kind == "evidence":
        return forecast_content(table, space, task=task, system=system, settings=settings, models=models)
    return prior_to_json(compute_prior(table, space, task=task, system=system, settings=settings))


def shown(content: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of the content of ``priors.json`` what only a search that resumes needs, thousands of numbers."""
    return {key: value for key, value in content.items() if key != "lessons"}
