"""The prior ``evidence`` as the content of ``priors.json``: lessons, what they forecast, and who taught it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import scale_bounds, uniform
from xautolm_hpc.priors.eligible import Evidence, find_evidence
from xautolm_hpc.priors.evidence.acquisition import FIRST_TRUST, TASTE, Scene, make_scene, score
from xautolm_hpc.priors.evidence.encoding import Configurations, encode, rows_of
from xautolm_hpc.priors.evidence.observations import goals_of, lessons_to_json, past_lessons, select_rows
from xautolm_hpc.priors.evidence.surrogate import Forest, Surrogate, fit_surrogate
from xautolm_hpc.priors.settings import PriorSettings, check_settings
from xautolm_hpc.priors.similarity import experience_distances
from xautolm_hpc.priors.xautolm.explain import N_TOP, Contribution
from xautolm_hpc.records import FAILURE_KINDS, System, Task, to_json
from xautolm_hpc.space import Boolean, Categorical, Numeric, Parameter, Space, is_supported
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

N_POOL, POOL_SEED = 1024, 0
N_DRAWS = 64
"""Draws of which a search takes the best, for p(model) and p(method)."""


def forecast_content(
    table: ExperienceTable, space: Space, *, task: Task, system: System, settings: PriorSettings,
    models: Mapping[str, Model],
) -> dict[str, Any]:  # fmt: skip
    """Compute the prior ``evidence`` and turn it into the content of ``priors.json``.

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
    scene = make_scene(space, models=models, task=task, system=system, objectives=settings.objectives)
    evidence = find_evidence(table, task=task, settings=settings)
    distance = experience_distances(table, evidence.row, task=task, system=system, metric=settings.distance)
    selected = select_rows(table, evidence, distance=distance)
    goals = goals_of(table, evidence, objectives=scene.objectives)
    used = _take(evidence, selected)
    lessons = past_lessons(
        table,
        used,
        rows=rows_of(table, used.row, models=scene.models),
        columns=scene.columns,
        goals=goals[selected],
        distance=distance[selected],
    )
    past = fit_surrogate(lessons, scene.columns, objectives=scene.objectives)
    pool = draw_pool(space, N_POOL, task=task, system=system, rng=np.random.default_rng(POOL_SEED))
    start = uniform(space)
    before = start.probabilities()
    told = _tell(past, scene, pool=pool, space=space) if len(lessons) and len(pool) else {}
    teachers = _Teachers(table, used, distance=distance[selected], past=past)
    return {
        "kind": "evidence",
        "counts": _counts(table, evidence, used=used),
        **{
            group: {name: {"uniform": p, "prior": told.get(group, before[group])[name]} for name, p in known.items()}
            for group, known in before.items()
        },
        "distribution": start.to_json(space),
        "forecast": {group: told[f"forecast of {group}"] for group in before} if told else {},
        "top": {
            group: {name: to_json(teachers.of(told[f"members of {group}"][name])) for name in known} if told else {}
            for group, known in before.items()
        },
        "lessons": {"columns": scene.columns, "objectives": scene.objectives, **lessons_to_json(lessons)},
    }


def _take(evidence: Evidence, selected: NDArray[np.int64]) -> Evidence:
    names = ("row", "positive", "objectives", "site_weight", "n_records")
    return replace(evidence, **{name: getattr(evidence, name)[selected] for name in names})


def _counts(table: ExperienceTable, evidence: Evidence, *, used: Evidence) -> dict[str, Any]:
    """Count records, evidence, and what was learnt from; a model outside the space teaches too."""
    n_positive, n_selected = int(evidence.positive.sum()), int(used.positive.sum())
    return {
        "records": len(table),
        "skipped": dict(evidence.skipped),
        "positives": n_positive,
        "negatives": len(evidence) - n_positive,
        "selected_positives": n_selected,
        "selected_negatives": len(used) - n_selected,
        "outside_space": 0,
    }


def _tell(past: Surrogate, scene: Scene, *, pool: Configurations, space: Space) -> dict[str, Any]:
    """Forecast uniform draws, and sum up by model and method."""
    x = encode(pool, scene.columns)
    shares = scene.shares(np.full(scene.n_objectives, 1.0 / scene.n_objectives))
    taken = _taken_shares(score(past, x, shares=shares))
    told: dict[str, Any] = {}
    for group, code, names in (
        ("models", pool.model, [model.id for model in space.models]),
        ("methods", pool.method, [method.name for method in space.methods]),
    ):
        masks = {name: code == index for index, name in enumerate(names)}
        plain = {name: float(mask.mean()) for name, mask in masks.items()}
        best = {name: float(taken[mask].sum()) for name, mask in masks.items()}
        told[group] = {name: FIRST_TRUST * best[name] + (1 - FIRST_TRUST) * plain[name] for name in names}
        told[f"members of {group}"] = {name: x[mask] for name, mask in masks.items()}
        told[f"forecast of {group}"] = {
            name: _forecast(past, x[mask]) if mask.any() else {} for name, mask in masks.items()
        }
    return told


def _taken_shares(scores: Floats) -> Floats:
    """Give the probability that each of n draws is the best of :data:`N_DRAWS` of them, (n,); equal scores share."""
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(count) / len(scores)]) ** N_DRAWS
    return np.asarray((np.diff(below) / count)[place], dtype=np.float64)


def _forecast(past: Surrogate, x: Floats) -> dict[str, float]:
    """Forecast the mean of some pipelines: risk by cause, then merit by objective, each in 0..1."""
    risks = {cause: float(np.clip(forest.forecast(x), 0, 1).mean()) for cause, forest in past.risks.items()}
    merits = {name: float(past.merit(x, name).mean()) for name in past.goals}
    return {**{f"risk: {cause}": risk for cause, risk in risks.items()}, "success": float(past.survival(x).mean()),
            **{f"merit: {name}": merit for name, merit in merits.items()}}  # fmt: skip


class _Teachers:
    """Names the experiences a forecast comes from.

    Args:
        table: All experiences.
        used: Those that were learnt from.
        distance: Their distance, (n,).
        past: What was learnt.
    """

    def __init__(self, table: ExperienceTable, used: Evidence, *, distance: Floats, past: Surrogate) -> None:
        self.table, self.used, self.distance, self.past = table, used, distance, past

    def of(self, x: Floats) -> list[Contribution]:
        """List the experiences that moved the forecast of some pipelines most, either way; ties by id.

        A forest's forecast is a weighted mean over its lessons, so each lesson's part in it is exact; the parts of
        all forests are added as parts of the logarithm of the score at the beginning of a search, to first order, each
        merit as if it were the only one.
        """
        if not len(x):
            return []
        moved, share = np.zeros(len(self.used)), np.zeros(len(self.used))
        for forest, power in self._forests():
            influence = forest.influence(x, len(self.used))
            target = np.zeros(len(self.used))
            target[forest.rows] = forest.target
            mean = float(np.average(forest.target, weights=forest.weight))
            told = float((influence * target).sum())
            level = max(1.0 - told, 0.05) if power < 0 else max(told, 0.05)
            moved += power * influence * (target - mean) / level
            share = np.maximum(share, influence)
        largest = np.lexsort((self.used.row, -np.abs(moved)))[:N_TOP]
        return [self._contribution(i, float(moved[i]), share=float(share[i])) for i in largest.tolist() if moved[i]]

    def _forests(self) -> list[tuple[Forest, float]]:
        goals = [forest for forest in self.past.goals.values() if forest.linear is None]
        risks = self.past.risks.values()
        return [*((forest, -TASTE.caution) for forest in risks), *((forest, 1.0) for forest in goals)]

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
            model=table.models[table.model[row]][0],
            method=table.methods[table.method[row]],
            status="succeeded" if table.succeeded[row] else "failed",
            kind=None if kind < 0 else FAILURE_KINDS[kind],
        )


def draw_pool(space: Space, n: int, *, task: Task, system: System, rng: np.random.Generator) -> Configurations:
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
    words: dict[str, NDArray[np.str_]] = {}
    for j, method in enumerate(space.methods):
        mask = pair[:, 1] == j
        for name, parameter in method.params.items():
            number, word = _draw_column(parameter, int(mask.sum()), rng=rng)
            numbers.setdefault(name, np.full(len(pair), np.nan))[mask] = number
            words.setdefault(name, np.full(len(pair), "", dtype="U64"))[mask] = word
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
        words=words,
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
