"""The prior of the kinds ``uniform``, ``xautolm`` and ``knn``: the first distribution of a search."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.priors.eligible import EligibleExperiences, find_eligible, truncated_as_failures
from xautolm_hpc.priors.settings import PriorSettings, check_settings
from xautolm_hpc.priors.similarity import experience_distances
from xautolm_hpc.priors.xautolm.alpha import Weighed, utilities, weigh
from xautolm_hpc.priors.xautolm.replay import CategoricalReplay, WeightReplay
from xautolm_hpc.priors.xautolm.steps import Steps, order_steps, replay_methods, replay_models, replay_params
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """A first distribution and the experiences it comes from.

    Attributes:
        kind: One of :data:`xautolm_hpc.priors.settings.PRIOR_KINDS`.
        start: The uniform distribution it started from.
        distribution: The prior itself.
        eligible: The eligible experiences, and why other records are not.
        weighed: The nearest of them with distance, weight, utility and learning rate.
        steps: Those that update something, in the order of their replay.
        models: The replay of the steps into p(model).
        methods: The replay of the steps into the weights of the methods.
        space: The search space.
        table: All experiences.
    """

    kind: str
    start: Distribution
    distribution: Distribution
    eligible: EligibleExperiences
    weighed: Weighed
    steps: Steps
    models: CategoricalReplay
    methods: WeightReplay
    space: Space
    table: ExperienceTable


def compute_prior(
    table: ExperienceTable, space: Space, *, task: Task, system: System, settings: PriorSettings
) -> Prior:
    """Compute the first distribution of a search from past experiences.

    The kind ``uniform`` uses none, but counts those that are eligible. The kind ``evidence`` is no replay: see
    :mod:`xautolm_hpc.priors.evidence.forecast`.

    Args:
        table: All experiences, in ascending order of their id.
        space: The search space; experiences add no model and no value to it.
        task: The current task.
        system: The node trials will run on.
        settings: Settings of the prior.

    Raises:
        InputError: A setting names something unknown.

    Source:
        XAutoLM, Estevanell-Valladares et al., EMNLP 2025 (arXiv 2508.00924).
    """
    check_settings(settings)
    table = truncated_as_failures(table)
    eligible = find_eligible(table, task=task, settings=settings)
    used = _none_of(eligible) if settings.kind == "uniform" else eligible
    distance = experience_distances(table, used.row, task=task, system=system, metric=settings.distance)
    weigh_by = weigh_nearest if settings.kind == "knn" else weigh
    weighed = weigh_by(table, used, distance=distance, settings=settings)
    steps = order_steps(table, weighed, space=space)
    start = uniform(space)
    models, methods = replay_models(steps, start), replay_methods(steps, start)
    return Prior(
        kind=settings.kind,
        start=start,
        distribution=Distribution(
            models=dict(zip(start.models, models.probabilities, strict=True)),
            methods=dict(zip(start.methods, methods.weights, strict=True)),
            params=replay_params(table, steps, space=space, start=start),
        ),
        eligible=eligible,
        weighed=weighed,
        steps=steps,
        models=models,
        methods=methods,
        space=space,
        table=table,
    )


def summary_line(prior: Prior) -> str:
    """Write in one line how many experiences a prior is computed from."""
    n_positive = int(np.count_nonzero(prior.weighed.positive))
    n_records, n_skipped = len(prior.table), sum(prior.eligible.skipped.values())
    return (
        f"{n_positive} successes and {len(prior.weighed) - n_positive} failures weighed, "
        f"{len(prior.steps.row)} of them about models and methods of this space; "
        f"{n_skipped} of {n_records} records are no evidence"
    )


def _none_of(eligible: EligibleExperiences) -> EligibleExperiences:
    return EligibleExperiences(
        row=eligible.row[:0],
        positive=eligible.positive[:0],
        truncated=eligible.truncated[:0],
        objectives=eligible.objectives[:0],
        site_weight=eligible.site_weight[:0],
        n_records=eligible.n_records[:0],
        skipped=eligible.skipped,
    )


Floats = NDArray[np.float64]

DISTANCE_SHARE = 0.7
"""Share of the distance in the nearness that ``knn`` sorts by; the rest is 1 - utility."""


def weigh_nearest(
    table: ExperienceTable, eligible: EligibleExperiences, *, distance: Floats, settings: PriorSettings
) -> Weighed:  # fmt: skip
    """Select the k nearest experiences; a success has learning rate 1 / k, a failure -1 / k.

    They are sorted by .7 x distance, scaled to 0..1 over the eligible ones, + .3 x (1 - utility); the utility of a
    failure is 0.

    Args:
        table: All experiences.
        eligible: The eligible experiences, n of them.
        distance: Distance of each, (n,).
        settings: How many to select, and the objectives' weights.
    """
    utility = np.full(len(eligible), np.nan)
    successes = np.flatnonzero(eligible.positive)
    plain = settings.with_utility("weighted_sum")
    utility[successes] = utilities(
        table, eligible.row[successes], values=eligible.objectives[successes], settings=plain
    )
    spread = float(np.ptp(distance)) if len(distance) else 0.0
    scaled = (distance - distance.min()) / spread if spread > 0 else np.zeros(len(distance))
    near = DISTANCE_SHARE * scaled + (1.0 - DISTANCE_SHARE) * (1.0 - np.nan_to_num(utility))
    chosen = np.sort(np.argsort(near, kind="stable")[: settings.k])
    positive, weight = eligible.positive[chosen], eligible.site_weight[chosen]
    return Weighed(
        row=eligible.row[chosen],
        positive=positive,
        distance=distance[chosen],
        weight=weight,
        utility=utility[chosen],
        alpha=np.where(positive, 1.0, -1.0) / max(settings.k, 1) * weight,
    )
