"""The prior ``evidence`` as the content of ``priors.json``.

It holds the observations, what a surrogate forecasts from them of each model and method, and which experiences
influenced that most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import scale_bounds, uniform
from xautolm_hpc.execution import AtLimit
from xautolm_hpc.failures import FAILURE_KINDS, TRUNCATED, OutcomeStatus
from xautolm_hpc.priors.eligible import EligibleExperiences, find_eligible, truncated_as_failures
from xautolm_hpc.priors.evidence.acquisition import (
    DEFAULT_ACQUISITION,
    INITIAL_PRIOR_WEIGHT,
    SearchContext,
    acquisition_value,
    make_search_context,
)
from xautolm_hpc.priors.evidence.encoding import Configurations, encode, rows_of
from xautolm_hpc.priors.evidence.observations import observations_to_json, past_observations, select_rows, targets_of
from xautolm_hpc.priors.evidence.surrogate import Forest, Surrogate, fit_surrogate
from xautolm_hpc.priors.settings import PriorSettings, check_settings
from xautolm_hpc.priors.similarity import experience_distances
from xautolm_hpc.priors.xautolm.explain import N_TOP, Contribution, known_f1
from xautolm_hpc.records import System, Task, to_json
from xautolm_hpc.space import Boolean, Categorical, Numeric, Parameter, Space, is_supported
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]

N_FORECAST, FORECAST_SEED = 1024, 0
"""Uniform draws that the surrogate is shown on, and their seed."""

N_CANDIDATES = 64
"""Candidates of which a search selects one, for p(model) and p(method)."""


def forecast_content(
    table: ExperienceTable, space: Space, *, task: Task, system: System, settings: PriorSettings,
    models: Mapping[str, Model],
) -> dict[str, Any]:  # fmt: skip
    """Compute the prior ``evidence`` as the content of ``priors.json``.

    Args:
        table: All experiences, in ascending order of their id.
        space: The search space.
        task: The current task.
        system: The node trials will run on.
        settings: Objectives, sites, distance, and whether the records of a configuration count once.
        models: Known models by id, for experiences with models that are not in the space.

    Raises:
        InputError: A setting names something unknown.
    """
    check_settings(settings)
    context = make_search_context(space, models=models, task=task, system=system, objectives=settings.objectives)
    evaluates = settings.at_limit == AtLimit.EVALUATE
    table = table if evaluates else truncated_as_failures(table)
    eligible = find_eligible(table, task=task, settings=settings, with_truncated=evaluates)
    distance = experience_distances(table, eligible.row, task=task, system=system, metric=settings.distance)
    selected = select_rows(table, eligible, distance=distance)
    targets = targets_of(table, eligible, objectives=context.objectives)
    used = _take(eligible, selected)
    observations = past_observations(
        table,
        used,
        rows=rows_of(table, used.row, models=context.models),
        columns=context.columns,
        targets=targets[selected],
        distance=distance[selected],
    )
    past = fit_surrogate(observations, context.columns, objectives=context.objectives)
    influences = _Influences(table, used, distance=distance[selected], past=past)
    return {
        "kind": "evidence",
        "explores": "rate",
        "counts": _counts(table, eligible, used=used),
        **_forecast_content(past, context, space=space, influences=influences),
        "lessons": {"columns": context.columns, "objectives": context.objectives, **observations_to_json(observations)},
    }


def _forecast_content(
    past: Surrogate, context: SearchContext, *, space: Space, influences: "_Influences"
) -> dict[str, Any]:
    """Write probabilities, forecasts and influences of the models and methods; without observations, uniform ones."""
    rng = np.random.default_rng(FORECAST_SEED)
    drawn = draw_candidates(space, N_FORECAST, task=context.task, system=context.system, rng=rng)
    start = uniform(space)
    before = start.probabilities()
    is_known = len(past.observations) > 0 and len(drawn) > 0
    groups = _forecast_groups(past, context, drawn=drawn, space=space) if is_known else {}
    return {
        **{
            group: {
                name: {"uniform": p, "prior": groups[group].prior[name] if is_known else p} for name, p in known.items()
            }
            for group, known in before.items()
        },
        "distribution": start.to_json(space),
        "forecast": {group: groups[group].forecast for group in before} if is_known else {},
        "top": {
            group: {name: to_json(influences.on(groups[group].x[name])) for name in known} if is_known else {}
            for group, known in before.items()
        },
    }


def _take(eligible: EligibleExperiences, selected: NDArray[np.int64]) -> EligibleExperiences:
    names = ("row", "positive", "truncated", "objectives", "site_weight", "n_records")
    return replace(eligible, **{name: getattr(eligible, name)[selected] for name in names})


def _counts(table: ExperienceTable, eligible: EligibleExperiences, *, used: EligibleExperiences) -> dict[str, Any]:
    """Count all records, the eligible ones and those used; a model outside the space is used too."""
    n_positive, n_selected = int(eligible.positive.sum()), int(used.positive.sum())
    return {
        "records": len(table),
        "skipped": dict(eligible.skipped),
        "positives": n_positive,
        "negatives": len(eligible) - n_positive,
        "selected_positives": n_selected,
        "selected_negatives": len(used) - n_selected,
        "outside_space": 0,
    }


@dataclass(frozen=True, slots=True)
class _GroupForecast:
    """Forecast of all models, or of all methods, by name.

    Attributes:
        prior: Probability that a search's next trial has it.
        x: Encoded draws that have it, (n, n_columns).
        forecast: Mean risks, success and utilities of those draws.
    """

    prior: Mapping[str, float]
    x: Mapping[str, Floats]
    forecast: Mapping[str, Mapping[str, float]]


def _forecast_groups(
    past: Surrogate, context: SearchContext, *, drawn: Configurations, space: Space
) -> dict[str, _GroupForecast]:
    """Forecast uniform draws, summed up by model and by method."""
    x = encode(drawn, context.columns)
    weights = context.weigh(np.full(context.n_objectives, 1.0 / context.n_objectives))
    p_selected = _selection_probabilities(acquisition_value(past, x, weights=weights))
    groups = {}
    for group, code, names in (
        ("models", drawn.model, [model.id for model in space.models]),
        ("methods", drawn.method, [method.name for method in space.methods]),
    ):
        masks = {name: code == index for index, name in enumerate(names)}
        plain = {name: float(mask.mean()) for name, mask in masks.items()}
        best = {name: float(p_selected[mask].sum()) for name, mask in masks.items()}
        prior_weight = INITIAL_PRIOR_WEIGHT
        groups[group] = _GroupForecast(
            prior={name: prior_weight * best[name] + (1 - prior_weight) * plain[name] for name in names},
            x={name: x[mask] for name, mask in masks.items()},
            forecast={name: _forecast(past, x[mask]) if mask.any() else {} for name, mask in masks.items()},
        )
    return groups


def _selection_probabilities(values: Floats) -> Floats:
    """Compute each draw's probability to be the best of :data:`N_CANDIDATES`, (n,); equal values share theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(count) / len(values)]) ** N_CANDIDATES
    return np.asarray((np.diff(below) / count)[place], dtype=np.float64)


def _forecast(past: Surrogate, x: Floats) -> dict[str, float]:
    """Forecast the mean of some pipelines: risk by failure class, success, utility by objective, each in 0..1."""
    return {
        **{f"risk: {name}": float(np.clip(forest.forecast(x), 0, 1).mean()) for name, forest in past.risks.items()},
        "success": float(past.p_feasible(x).mean()),
        **{f"merit: {name}": float(past.predicted_utility(x, name).mean()) for name in past.target_forests},
    }


class _Influences:
    """Finds the experiences that influence a forecast.

    Args:
        table: All experiences.
        used: Those that the surrogate was fitted on, n of them.
        distance: Their distance, (n,).
        past: The surrogate.
    """

    def __init__(self, table: ExperienceTable, used: EligibleExperiences, *, distance: Floats, past: Surrogate) -> None:
        self.table, self.used, self.distance, self.past = table, used, distance, past

    def on(self, x: Floats) -> list[Contribution]:
        """List the experiences that moved the forecast of some pipelines most, either way; ties by id.

        A forest's forecast is a weighted mean over its observations, so each one's part in it is exact. The parts of
        all forests are added, to first order, as parts of the logarithm of the acquisition value at the start of a
        search, each predicted utility as if it were the only one.
        """
        if not len(x):
            return []
        moved, share = np.zeros(len(self.used)), np.zeros(len(self.used))
        for forest, power in self._forests():
            influence = forest.influence(x, len(self.used))
            target = np.zeros(len(self.used))
            target[forest.rows] = forest.target
            mean = float(np.average(forest.target, weights=forest.weight))
            forecast = float((influence * target).sum())
            level = max(1.0 - forecast, 0.05) if power < 0 else max(forecast, 0.05)
            moved += power * influence * (target - mean) / level
            share = np.maximum(share, influence)
        largest = np.lexsort((self.used.row, -np.abs(moved)))[:N_TOP]
        return [self._contribution(i, float(moved[i]), share=float(share[i])) for i in largest.tolist() if moved[i]]

    def _forests(self) -> list[tuple[Forest, float]]:
        """List the forests with the exponent that their forecast, or 1 - risk, has in the acquisition value."""
        exponent = DEFAULT_ACQUISITION.feasibility_exponent
        targets = [forest for forest in self.past.target_forests.values() if forest.linear is None]
        return [*((forest, -exponent) for forest in self.past.risks.values()), *((forest, 1.0) for forest in targets)]

    def _contribution(self, index: int, moved: float, *, share: float) -> Contribution:
        """Describe one experience; its weight is its greatest share in a forest's forecast."""
        table, row = self.table, self.used.row[index]
        kind = int(table.kind[row])
        return Contribution(
            id=bytes(table.id[row]).decode(),
            contribution=moved,
            alpha=0.0,
            weight=share,
            distance=float(self.distance[index]),
            task=table.tasks[table.task[row]].name,
            task_fingerprint=table.tasks[table.task[row]].fingerprint,
            model=table.models[table.model[row]][0],
            method=table.methods[table.method[row]],
            status=OutcomeStatus.SUCCEEDED if table.succeeded[row] else OutcomeStatus.FAILED,
            kind=TRUNCATED if self.used.truncated[index] else None if kind < 0 else FAILURE_KINDS[kind],
            f1=known_f1(table, row),
        )


def draw_candidates(space: Space, n: int, *, task: Task, system: System, rng: np.random.Generator) -> Configurations:
    """Draw pipelines uniformly from the supported pairs of a space; a number is not rounded.

    Args:
        space: The search space.
        n: Pipelines to draw.
        task: Their task.
        system: Their system.
        rng: Source of randomness.
    """
    pairs = [(i, j) for i, model in enumerate(space.models) for j, method in enumerate(space.methods)
             if is_supported(model, method.name)]  # fmt: skip
    chosen = np.array(pairs, dtype=np.int64).reshape(-1, 2)[rng.integers(len(pairs), size=n)] if pairs else None
    pair = np.zeros((0, 2), dtype=np.int64) if chosen is None else chosen
    zeros = np.zeros(len(pair), dtype=np.int64)
    numbers: dict[str, Floats] = {}
    texts: dict[str, NDArray[np.object_]] = {}
    for j, method in enumerate(space.methods):
        mask = pair[:, 1] == j
        for name, parameter in method.params.items():
            number, text = _draw_column(parameter, int(mask.sum()), rng=rng)
            numbers.setdefault(name, np.full(len(pair), np.nan))[mask] = number
            texts.setdefault(name, np.full(len(pair), "", dtype=object))[mask] = text
    return Configurations(
        models=space.models,
        methods=[method.name for method in space.methods],
        tasks=(task,),
        systems=(system,),
        model=pair[:, 0],
        method=pair[:, 1],
        task=zeros,
        system=zeros,
        numbers=numbers,
        texts=texts,
    )


def _draw_column(parameter: Parameter, n: int, *, rng: np.random.Generator) -> tuple[Floats, Sequence[str]]:
    """Draw n values: their numbers, NaN for texts, and their texts, empty for numbers."""
    if isinstance(parameter, Categorical):
        values = [parameter.values[i] for i in rng.integers(len(parameter.values), size=n).tolist()]
        numbers = np.array([np.nan if isinstance(v, str) else float(v) for v in values], dtype=np.float64)
        return numbers, [v if isinstance(v, str) else "" for v in values]
    if isinstance(parameter, Boolean):
        return rng.integers(2, size=n).astype(np.float64), [""] * n
    return _draw_numbers(parameter, n, rng=rng), [""] * n


def _draw_numbers(parameter: Numeric, n: int, *, rng: np.random.Generator) -> Floats:
    low, high = scale_bounds(parameter)
    drawn = rng.uniform(low, high, size=n)
    return np.exp(drawn) if parameter.log else drawn
