"""Uniform draws as columns, many at a time: what a prior is shown on."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.distribution import scale_bounds
from xautolm_hpc.priors.encode import Configurations
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Boolean, Categorical, Numeric, Parameter, Space, is_supported

Floats = NDArray[np.float64]


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
