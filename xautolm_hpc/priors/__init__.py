"""Priors: what past experiences say about the pipelines of a new search.

eligible     the experiences that count, each configuration once
similarity   their distance to the current task and system; distances between the tasks of a store
settings     settings of all kinds of prior
importance   which hyperparameters mattered among the trials of a search

xautolm/     the kinds ``uniform``, ``xautolm`` and ``knn``, as in the paper:
  utility    how good each success is
  alpha      the nearest experiences, their weights and learning rates
  steps      the order of replay, and what each experience says of every parameter
  replay     the steps, one after another, into the marginals
  prior      the first distribution of a search
  explain    the experiences that moved a probability, and the content of ``priors.json``

evidence/    the kind ``evidence``, learnt by a surrogate:
  encoding      pipelines as numbers that hold for other tasks, systems and models
  observations  experiences and a search's own trials, as the surrogate learns from them
  surrogate     forests that predict the risk of failure by class, and the utility of a success
  acquisition   selection of one of several candidates, with the weight that the prior has earned
  forecast      the content of ``priors.json``
"""

from collections.abc import Mapping
from typing import Any

from xautolm_hpc.catalogue import Model
from xautolm_hpc.priors.evidence.acquisition import AcquisitionSettings, Ranking, make_search_context, ranking_from_json
from xautolm_hpc.priors.evidence.forecast import forecast_content
from xautolm_hpc.priors.importance import hyperparameter_importance
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.priors.similarity import distance_table, task_distances
from xautolm_hpc.priors.xautolm.explain import Contribution, ExplanationTarget, contributions, explain, prior_to_json
from xautolm_hpc.priors.xautolm.prior import Prior, compute_prior, summary_line
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable

__all__ = [
    "AcquisitionSettings",
    "Contribution",
    "ExplanationTarget",
    "Prior",
    "PriorSettings",
    "Ranking",
    "compute_prior",
    "contributions",
    "distance_table",
    "explain",
    "hyperparameter_importance",
    "make_search_context",
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
    """Compute a prior as the content of ``priors.json``: all that a search needs of it, also when it resumes.

    Args:
        table: All experiences, in ascending order of their id.
        space: The search space; experiences add no model and no value to it.
        task: The current task.
        system: The node trials will run on.
        settings: Settings of the prior.
        models: Known models by id; the kind ``evidence`` learns from those outside the space too.

    Raises:
        InputError: A setting names something unknown.
    """
    if settings.kind == "evidence":
        return forecast_content(table, space, task=task, system=system, settings=settings, models=models)
    return prior_to_json(compute_prior(table, space, task=task, system=system, settings=settings))


def shown(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``priors.json`` without the observations: thousands of numbers that nobody reads."""
    return {key: value for key, value in content.items() if key != "lessons"}
