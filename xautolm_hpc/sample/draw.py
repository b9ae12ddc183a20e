"""One pipeline drawn from a distribution, and the random streams of a search."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from xautolm_hpc.distribution import (
    BooleanMarginal,
    CategoricalMarginal,
    Distribution,
    Marginal,
    NumericMarginal,
    scale_bounds,
)
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import Pipeline, Value
from xautolm_hpc.space import Categorical, Numeric, Parameter, Space, is_quantisable, is_supported

# Spawn keys, which no (seed, trial, draw) can equal.
_TRAINING_STREAM, FEASIBILITY_STREAM, _SELECTION_STREAM, _EXPLORATION_STREAM = 1, 2, 3, 4


def draw_stream(search_seed: int, trial: int, *, draw: int) -> np.random.Generator:
    """Return the random stream of one draw; it depends on its three numbers alone."""
    return np.random.default_rng(np.random.SeedSequence([search_seed, trial, draw]))


def selection_stream(search_seed: int, trial: int) -> np.random.Generator:
    """Return the random stream of the selection among a trial's candidates."""
    return np.random.default_rng(np.random.SeedSequence([search_seed, trial], spawn_key=(_SELECTION_STREAM,)))


def exploration_stream(search_seed: int, trial: int) -> np.random.Generator:
    """Return the random stream that decides if a trial is drawn uniformly, and which draws it accepts."""
    return np.random.default_rng(np.random.SeedSequence([search_seed, trial], spawn_key=(_EXPLORATION_STREAM,)))


def training_seed(search_seed: int, trial: int) -> int:
    """Compute the seed of a trial's training, 31 bits; the same in every attempt."""
    sequence = np.random.SeedSequence([search_seed, trial], spawn_key=(_TRAINING_STREAM,))
    return int(sequence.generate_state(1)[0]) >> 1


def draw_pipeline(distribution: Distribution, space: Space, *, rng: np.random.Generator) -> Pipeline:
    """Draw a model, a method the model supports, and the method's parameters.

    Args:
        distribution: A distribution over the space.
        space: The search space.
        rng: Source of randomness.

    Raises:
        SpaceError: No model supports any method.
    """
    if not any(is_supported(model, method.name) for model in space.models for method in space.methods):
        raise SpaceError(
            f"space: no model supports any of the methods {', '.join(m.name for m in space.methods)}; "
            "add a method or another model"
        )
    while True:
        model = space.models[_draw_index(list(distribution.models.values()), rng)]
        method = space.methods[_draw_index(list(distribution.methods.values()), rng)]
        if is_supported(model, method.name):
            break
    marginals = distribution.params[method.name]
    drawn = {name: _draw_value(p, marginals[name], rng=rng) for name, p in method.params.items()}
    return Pipeline(
        task_kind=space.task_kind,
        model_id=model.id,
        model_revision=model.revision,
        method=method.name,
        params=_settle_quantization(drawn, may_quantise=is_quantisable(model)),
    )


def _settle_quantization(params: Mapping[str, Value], *, may_quantise: bool) -> dict[str, Value]:
    """Leave ``quantization`` out unless it quantises and the model may be quantised."""
    is_kept = may_quantise and params.get("quantization") != "none"
    return {name: value for name, value in params.items() if name != "quantization" or is_kept}


def _draw_value(parameter: Parameter, marginal: Marginal, *, rng: np.random.Generator) -> Value:
    if isinstance(parameter, Categorical) and isinstance(marginal, CategoricalMarginal):
        return parameter.values[_draw_index(marginal.probabilities, rng)]
    if isinstance(marginal, BooleanMarginal):
        return bool(rng.random() < marginal.p_true)
    if isinstance(parameter, Numeric) and isinstance(marginal, NumericMarginal):
        return _draw_number(parameter, marginal, rng=rng)
    raise TypeError(f"{type(marginal).__name__} is no marginal of a {type(parameter).__name__}")


def _draw_number(parameter: Numeric, marginal: NumericMarginal, *, rng: np.random.Generator) -> float | int:
    """Draw a number on its scale: uniformly, or from the normal until it lies between the bounds."""
    low, high = scale_bounds(parameter)
    if marginal.uniform:
        low, high = _uniform_bounds(parameter)
        scaled = rng.uniform(low, high)
    else:
        scaled = rng.normal(marginal.mean, marginal.dev)
        while not low <= scaled <= high:
            scaled = rng.normal(marginal.mean, marginal.dev)
    number = math.exp(scaled) if parameter.log else scaled
    if parameter.integer:
        number = round(number)
        low, high = math.ceil(parameter.low), math.floor(parameter.high)
    else:
        low, high = parameter.low, parameter.high  # exp(log(high)) may round to above high
    return min(max(number, low), high)


def _uniform_bounds(parameter: Numeric) -> tuple[float, float]:
    """Compute the bounds of a uniform draw on the scale; half a step wider for integers, so both ends count whole."""
    step = 0.5 if parameter.integer else 0.0
    low, high = parameter.low - step, parameter.high + step
    return (math.log(low), math.log(high)) if parameter.log else (low, high)


def _draw_index(weights: Sequence[float], rng: np.random.Generator) -> int:
    cumulative = list(accumulate(weights))
    return min(bisect_right(cumulative, rng.random() * cumulative[-1]), len(cumulative) - 1)
