"""Replay of experiences, one after the other, into the marginals of a distribution.

It works on plain lists of numbers: each step depends on the one before, so arrays gain nothing, and a step on
Python's floats takes a tenth of the time of one on numpy's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FLOOR = 0.001
"""Least probability of a value, and of a boolean's either side, right after a step; least weight of a method."""

LEAST_DEVIATION_SHARE = 0.01
"""Least standard deviation of a number, as a share of its range."""

_SAFE_TOTAL = 0.9  # a small sum magnifies what rounding did before
_STEPS_PER_DIVISION = 64  # few enough that rounding does not add up, enough to make dividing all values cheap


@dataclass(frozen=True, slots=True)
class CategoricalReplay:
    """A replay into a categorical marginal.

    Attributes:
        probabilities: One per value, after the last step.
        code: Value of each step, (n,).
        after: Probability of that value after the step, (n,).
        total: What all probabilities were divided by in the step, (n,).
    """

    probabilities: tuple[float, ...]
    code: Ints
    after: Floats
    total: Floats

    def contributions(self, value: int, start: float) -> Floats:
        """Compute the change of one value's probability in each step, from ``start``; shape (n,)."""
        log_share = -np.cumsum(np.log(self.total))  # of what the value had, untouched since the first step
        last = np.maximum.accumulate(np.where(self.code == value, np.arange(len(self.code)), -1))
        level = np.where(last < 0, start, self.after[last])
        path = level * np.exp(log_share - np.where(last < 0, 0.0, log_share[last]))
        return np.diff(path, prepend=start)


@dataclass(frozen=True, slots=True)
class WeightReplay:
    """A replay into the weights of the methods.

    Attributes:
        weights: One per method, after the last step.
        code: Method of each step, (n,).
        after: Weight of that method after the step, (n,).
        total: Sum of all weights after the step, (n,).
    """

    weights: tuple[float, ...]
    code: Ints
    after: Floats
    total: Floats

    def contributions(self, method: int, start: Sequence[float]) -> Floats:
        """Compute the change of one method's probability in each step, from the weights at the start; (n,)."""
        last = np.maximum.accumulate(np.where(self.code == method, np.arange(len(self.code)), -1))
        path = np.where(last < 0, start[method], self.after[last]) / self.total
        return np.diff(path, prepend=start[method] / sum(start))


@dataclass(frozen=True, slots=True)
class MeanReplay:
    """A replay into a mean (of a number, on its scale) or into a boolean's probability.

    Attributes:
        path: Its value after each step, (n,).
        dev: Standard deviation after the last step; that of a boolean means nothing.
    """

    path: Floats
    dev: float

    def contributions(self, start: float) -> Floats:
        """Compute the change in each step, from ``start``; shape (n,)."""
        return np.diff(self.path, prepend=start)


def replay_categorical(start: Sequence[float], *, alpha: Floats, code: Ints) -> CategoricalReplay:
    """Replay p_i <- max(p_i + alpha, .001), all then divided by their sum.

    The division is postponed: weights and their sum are kept, so that a step changes one value and not all of them.

    Args:
        start: Probabilities at the start, their sum being 1.
        alpha: Learning rate of each step, (n,).
        code: Value that each step is about, (n,).
    """
    weights = list(start)
    after, total = np.empty(len(code)), np.empty(len(code))
    for first in range(0, len(code), _STEPS_PER_DIVISION):
        block = slice(first, first + _STEPS_PER_DIVISION)
        after[block], total[block] = _replay_block(weights, alpha[block].tolist(), code=code[block].tolist())
        scale = sum(weights)
        weights = [weight / scale for weight in weights]
    return CategoricalReplay(tuple(weights), code, after, total)


def _replay_block(weights: list[float], alpha: list[float], *, code: list[int]) -> tuple[list[float], list[float]]:
    """Replay a few steps into weights whose sum is 1; return ``after`` and ``total`` of each step."""
    afters, totals = [], []
    scale = 1.0  # a probability is its weight by the scale
    for step_alpha, value in zip(alpha, code, strict=True):
        before = weights[value] / scale
        raised = before + step_alpha
        if raised < FLOOR:
            raised = FLOOR
        total = 1.0 + raised - before
        weights[value] = raised * scale
        scale = scale * total if total > _SAFE_TOTAL else sum(weights)
        afters.append(raised / total)
        totals.append(total)
    return afters, totals


def replay_weights(start: Sequence[float], *, alpha: Floats, code: Ints) -> WeightReplay:
    """Replay w <- max(w + alpha, .001); nothing is normalised.

    Args:
        start: Weights at the start.
        alpha: Learning rate of each step, (n,).
        code: Method that each step is about, (n,).
    """
    weights, total = list(start), sum(start)
    afters, totals = [], []
    for step_alpha, method in zip(alpha.tolist(), code.tolist(), strict=True):
        before = weights[method]
        raised = max(before + step_alpha, FLOOR)
        weights[method] = raised
        total += raised - before
        afters.append(raised)
        totals.append(total)
    return WeightReplay(tuple(weights), code, np.array(afters), np.array(totals))


def replay_boolean(start: float, *, alpha: Floats, value: Floats) -> MeanReplay:
    """Replay p <- clip((1 - alpha) p + alpha x, .001, .999) for x of 0 or 1, (n,)."""
    return _replay_mean(start, alpha=alpha, value=value, bounds=(FLOOR, 1.0 - FLOOR))


def replay_numeric(mean: float, dev: float, *, alpha: Floats, value: Floats, bounds: tuple[float, float]) -> MeanReplay:
    """Replay mean <- clip((1 - alpha) mean + alpha x, low, high), dev <- clip((1 - alpha) dev, .01 range, range).

    Args:
        mean: Mean at the start, on the parameter's scale.
        dev: Standard deviation at the start, on that scale.
        alpha: Learning rate of each step, (n,).
        value: Number that each step is about, on that scale, (n,).
        bounds: Lowest and highest value on that scale.
    """
    low, high = bounds
    least, greatest = LEAST_DEVIATION_SHARE * (high - low), high - low
    for keep in (1.0 - alpha).tolist():
        dev = min(max(keep * dev, least), greatest)
    return MeanReplay(_replay_mean(mean, alpha=alpha, value=value, bounds=bounds).path, dev)


def _replay_mean(mean: float, *, alpha: Floats, value: Floats, bounds: tuple[float, float]) -> MeanReplay:
    """Replay mean <- clip((1 - alpha) mean + alpha x) between two bounds."""
    low, high = bounds
    path = []
    for keep, gain in zip((1.0 - alpha).tolist(), (alpha * value).tolist(), strict=True):
        mean = keep * mean + gain
        if mean < low:
            mean = low
        elif mean > high:
            mean = high
        path.append(mean)
    return MeanReplay(np.array(path), 0.0)
