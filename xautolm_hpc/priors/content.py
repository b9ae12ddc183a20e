"""The content of ``priors.json``, whatever the kind of prior."""

from collections.abc import Mapping
from typing import Any

from xautolm_hpc.catalogue import Model
from xautolm_hpc.priors.explain import prior_to_json
from xautolm_hpc.priors.forecast import forecast_content
from xautolm_hpc.priors.prior import compute_prior
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable


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
