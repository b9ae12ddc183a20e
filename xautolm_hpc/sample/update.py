"""Update of a distribution from a generation: it moves towards the fittest trials (NSPE)."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from xautolm_hpc.distribution import (
    BooleanMarginal,
    CategoricalMarginal,
    Distribution,
    Marginal,
    NumericMarginal,
    scale_bounds,
    to_scale,
)
from xautolm_hpc.hyperparameters import UNSAID
from xautolm_hpc.pareto import crowding_distances, front_indices, oriented
from xautolm_hpc.records import Pipeline, Value
from xautolm_hpc.space import Categorical, Numeric, Parameter, Space, contains

Result = tuple[int, Pipeline, Mapping[str, float] | None]
"""A trial, its pipeline, and its objectives; ``None`` for a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """Settings of the update.

    Attributes:
        population: Trials of a generation, at least 1.
        selection: Share of them that the distribution moves towards, in 0..1.
        learning_factor: How far it moves, in 0..1.
        objectives: Objectives of the search.
    """

    population: int
    selection: float
    learning_factor: float
    objectives: tuple[str, ...]


def update(
    distribution: Distribution, space: Space, *, results: Sequence[Result], evolution: Evolution
) -> Distribution:
    """Move the distribution towards the fittest trials of a generation.

    A pure function: a resumed search computes its distribution again from the results.

    Args:
        distribution: The distribution that the generation was drawn from.
        space: The search space.
        results: The generation's trials, in any order.
        evolution: Settings of the update.

    Source:
        Estevez-Velarde et al., probabilistic evolution of AutoGOAL, with the selection of NSGA-II (Deb et al. 2002).
    """
    pipelines = fittest(results, evolution)
    rate = evolution.learning_factor
    if not pipelines or rate == 0:
        return distribution
    models = list(distribution.models)
    chosen = [models.index(p.model_id) for p in pipelines if p.model_id in distribution.models]
    moved = _move_categorical(tuple(distribution.models.values()), chosen, rate=rate)
    counts = {name: sum(p.method == name for p in pipelines) for name in distribution.methods}
    return Distribution(
        models=dict(zip(models, moved, strict=True)),
        methods={name: weight + rate * counts[name] for name, weight in distribution.methods.items()},
        params={
            method.name: {
                name: _move(
                    parameter,
                    distribution.params[method.name][name],
                    values=_values(pipelines, method.name, name=name, parameter=parameter),
                    rate=rate,
                )
                for name, parameter in method.params.items()
            }
            for method in space.methods
        },
    )


def n_selected(evolution: Evolution) -> int:
    """Count the fittest: selection x population, halves rounded up, at least 1."""
    return max(1, math.floor(evolution.selection * evolution.population + 0.5 + 1e-9))  # .29 x 50 is 14.49...


def fittest(results: Sequence[Result], evolution: Evolution) -> list[Pipeline]:
    """Find the fittest trials: by non-dominated front, then by crowding distance, ties by trial.

    Returns:
        Their pipelines, the fittest first; all eligible ones if they are fewer than wanted.
    """
    names = evolution.objectives
    eligible = [
        (trial, pipeline, [objectives[name] for name in names])
        for trial, pipeline, objectives in sorted(results, key=lambda result: result[0])
        if objectives is not None and all(math.isfinite(objectives.get(name, math.nan)) for name in names)
    ]
    if not eligible:
        return []
    points = oriented(np.array([values for _, _, values in eligible], dtype=np.float64), names)
    front = front_indices(points)
    crowding = np.zeros(len(points))
    for number in range(int(front.max()) + 1):
        crowding[front == number] = crowding_distances(points[front == number])
    order = np.lexsort((-crowding, front))  # stable: ties stay in the order of the trials
    return [eligible[index][1] for index in order[: n_selected(evolution)]]


def _values(pipelines: Sequence[Pipeline], method: str, *, name: str, parameter: Parameter) -> list[Value]:
    values = [p.params.get(name, UNSAID.get(name)) for p in pipelines if p.method == method]
    return [value for value in values if value is not None and contains(parameter, value)]


def _move(parameter: Parameter, marginal: Marginal, *, values: Sequence[Value], rate: float) -> Marginal:
    """Move one marginal towards the values of the fittest that have its method."""
    if not values:
        return marginal
    if isinstance(parameter, Categorical) and isinstance(marginal, CategoricalMarginal):
        known = [(type(value), value) for value in parameter.values]
        chosen = [known.index((type(value), value)) for value in values]
        return CategoricalMarginal(_move_categorical(marginal.probabilities, chosen, rate=rate))
    if isinstance(marginal, BooleanMarginal):
        return BooleanMarginal((1 - rate) * marginal.p_true + rate * statistics.fmean(map(bool, values)))
    if isinstance(parameter, Numeric) and isinstance(marginal, NumericMarginal):
        numbers = [to_scale(parameter, float(value)) for value in values]
        dev = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
        mean = (1 - rate) * marginal.mean + rate * statistics.fmean(numbers)
        low, high = scale_bounds(parameter)
        return NumericMarginal(
            mean=min(max(mean, low), high),  # rounding may leave the bounds, and then no draw would lie inside
            dev=(1 - rate) * marginal.dev + rate * dev,
            uniform=False,
        )
    raise TypeError(f"{type(marginal).__name__} is no marginal of a {type(parameter).__name__}")


def _move_categorical(probabilities: Sequence[float], chosen: Sequence[int], *, rate: float) -> tuple[float, ...]:
    total = 1 + rate * len(chosen)
    return tuple((p + rate * chosen.count(index)) / total for index, p in enumerate(probabilities))
