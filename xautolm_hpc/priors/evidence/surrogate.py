"""What past experiences forecast of a pipeline: its risk of failing by each cause, and how well and dear it would be.

Every cause is learnt by itself, over what it speaks about: running out of memory about model x batch x length on a
GPU, out of time about arithmetic, a divergence about the learning rate. A trial that failed for one cause says
nothing about another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.priors.evidence.encoding import COST_TOPIC, LEARNING_TOPIC, topic_columns
from xautolm_hpc.records import OBJECTIVES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CAUSES: Mapping[str, tuple[tuple[str, ...], frozenset[str] | None]] = {
    "memory": (("gpu_oom", "host_oom"), COST_TOPIC),
    "time": (("time_limit",), COST_TOPIC),
    "divergence": (("diverged",), LEARNING_TOPIC),
    "other": (("unsupported", "error"), None),
}
"""Cause -> its failure kinds, and what it speaks about."""

N_TREES, LEAF, FEATURE_SHARE, RIDGE, LEAST_ROWS = 64, 2, 1 / 3, 10.0, 6
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a surrogate learns from, n trials.

    Attributes:
        x: Pipelines as numbers, (n, n_columns).
        cause: Index into :data:`CAUSES`, -1 for a success, (n,).
        goals: For each objective how good (maximised: 0..1 within the task) or dear (minimised: logarithm relative
            to the task) a success was, NaN for a failure and where unknown, (n, n_objectives).
        weight: Weight, above 0, (n,).
    """

    x: Floats
    cause: Ints
    goals: Floats
    weight: Floats

    def __len__(self) -> int:
        """Count the trials."""
        return len(self.cause)

    def plus(self, other: "Lessons") -> "Lessons":
        """Append the trials of another."""
        return Lessons(
            x=np.concatenate([self.x, other.x]),
            cause=np.concatenate([self.cause, other.cause]),
            goals=np.concatenate([self.goals, other.goals]),
            weight=np.concatenate([self.weight, other.weight]),
        )


@dataclass(frozen=True, slots=True)
class Forest:
    """Trees that forecast one number, and what of it is linear.

    Attributes:
        columns: Columns it looks at.
        rows: Lessons it was fitted on, ascending.
        weight: Their weights.
        target: What was to be forecast, less what is linear.
        trees: The fitted trees.
        leaves: Leaf of each of its rows, in each tree, (n_trees, n_rows).
        linear: The linear part, or ``None``.
    """

    columns: Ints
    rows: Ints
    weight: Floats
    target: Floats
    trees: Sequence[Any]
    leaves: NDArray[np.int64]
    linear: Any

    def forecast(self, x: Floats) -> Floats:
        """Forecast (n,) of pipelines (n, n_columns)."""
        part = np.ascontiguousarray(x[:, self.columns], dtype=np.float32)
        total = np.zeros(len(x))
        for tree in self.trees:
            total += tree.tree_.predict(part).reshape(len(x))
        linear = 0.0 if self.linear is None else self.linear.predict(x[:, self.columns])
        return np.asarray(total / len(self.trees) + linear, dtype=np.float64)

    def influence(self, x: Floats, n: int) -> Floats:
        """Weigh the lessons by their part in the mean forecast of some pipelines; adds up to 1 over ``rows``.

        Args:
            x: The pipelines, (m, n_columns).
            n: Lessons in all.

        Returns:
            Weights, 0 for lessons it was not fitted on, (n,).
        """
        asked = np.ascontiguousarray(x[:, self.columns], dtype=np.float32)
        total, share = np.zeros(len(self.rows)), np.zeros(n)
        for tree, leaf in zip(self.trees, self.leaves, strict=True):
            n_nodes = tree.tree_.node_count
            in_leaf = np.bincount(leaf, weights=self.weight, minlength=n_nodes)
            visits = np.bincount(tree.tree_.apply(asked), minlength=n_nodes)
            total += (visits / np.maximum(in_leaf, 1e-300))[leaf]
        share[self.rows] = self.weight * total / (len(self.trees) * len(x))
        return share


@dataclass(frozen=True, slots=True, kw_only=True)
class Surrogate:
    """Forests fitted on lessons.

    Attributes:
        objectives: Objectives of the goals.
        lessons: What they were fitted on.
        risks: Cause -> forest of its probability; a cause that never struck has none.
        goals: Objective -> forest; one of which too little is known has none.
        spread: Objective -> standard deviation of its goal over the lessons, 1 where unknown.
    """

    objectives: tuple[str, ...]
    lessons: Lessons
    risks: Mapping[str, Forest]
    goals: Mapping[str, Forest]
    spread: Mapping[str, float] = field(default_factory=dict)

    def survival(self, x: Floats) -> Floats:
        """Forecast the probability that no cause strikes, (n,)."""
        alive = np.ones(len(x))
        for forest in self.risks.values():
            alive *= 1.0 - np.clip(forest.forecast(x), 0.0, 1.0)
        return alive

    def merit(self, x: Floats, objective: str) -> Floats:
        """Forecast how good a success would be in one objective, 0..1 with 1 best, (n,)."""
        forest = self.goals.get(objective)
        if forest is None:
            return np.full(len(x), 0.5)
        goal = forest.forecast(x)
        if OBJECTIVES[objective]:
            return np.clip(goal, 0.0, 1.0)
        return 1.0 / (1.0 + np.exp(np.clip(goal / self.spread[objective], -30.0, 30.0)))


def fit_surrogate(lessons: Lessons, columns: Sequence[str], *, objectives: tuple[str, ...]) -> Surrogate:
    """Fit the forests; equal lessons give equal forests, bit for bit.

    Args:
        lessons: What to learn from, in a fixed order.
        columns: Names of the columns of ``lessons.x``.
        objectives: Objectives of ``lessons.goals``.
    """
    risks = {}
    for code, (cause, (_, topic)) in enumerate(CAUSES.items()):
        rows = np.flatnonzero((lessons.cause == -1) | (lessons.cause == code))
        struck = (lessons.cause[rows] == code).astype(np.float64)
        if struck.any():
            risks[cause] = _fit(lessons, rows, target=struck, columns=topic_columns(columns, topic))
    goals, spread = {}, {}
    for index, objective in enumerate(objectives):
        goal = lessons.goals[:, index]
        rows = np.flatnonzero(np.isfinite(goal))
        spread[objective] = float(goal[rows].std()) or 1.0 if len(rows) else 1.0
        if len(rows) >= LEAST_ROWS:
            is_cost = not OBJECTIVES[objective]
            looked_at = topic_columns(columns, COST_TOPIC if is_cost else LEARNING_TOPIC)
            goals[objective] = _fit(lessons, rows, target=goal[rows], columns=looked_at, is_linear=is_cost)
    return Surrogate(objectives=objectives, lessons=lessons, risks=risks, goals=goals, spread=spread)


def _fit(lessons: Lessons, rows: Ints, *, target: Floats, columns: Ints, is_linear: bool = False) -> Forest:
    """Fit one forest; a cost is first explained linearly, which reaches beyond what was ever tried."""
    from sklearn.ensemble import ExtraTreesRegressor  # takes a second, which only this prior spends

    x, weight, linear = lessons.x[np.ix_(rows, columns)], lessons.weight[rows], None
    if is_linear:
        linear = _fit_linear(x, target, weight=weight)
        target = target - linear.predict(x)
    forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=LEAF, max_features=FEATURE_SHARE, random_state=SEED)
    single = np.ascontiguousarray(x, dtype=np.float32)
    trees = list(forest.fit(single, target, sample_weight=weight).estimators_)
    leaves = np.array([tree.tree_.apply(single) for tree in trees])
    return Forest(columns, rows, weight, target, trees, leaves, linear)


def _fit_linear(x: Floats, target: Floats, *, weight: Floats) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    linear = make_pipeline(imputer, StandardScaler(), Ridge(RIDGE))
    return linear.fit(x, target, ridge__sample_weight=weight)
