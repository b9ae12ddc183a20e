"""Forests that predict from observations how likely a pipeline is to fail, and how good and how costly a success is.

Each failure class has a forest of its own, over the columns it depends on: running out of memory depends on model,
batch and length on a GPU, running out of time on the arithmetic, divergence on the learning rate. A trial that failed
in one class is no observation of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.failures import PIPELINE_KINDS, FailureKind
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.priors.evidence.encoding import COST_COLUMNS, LEARNING_COLUMNS, column_indices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NAMED_CLASSES: Mapping[str, tuple[tuple[FailureKind, ...], frozenset[str]]] = {
    "memory": ((FailureKind.GPU_OOM, FailureKind.HOST_OOM), COST_COLUMNS),
    "time": ((FailureKind.TIME_LIMIT,), COST_COLUMNS),
    "divergence": ((FailureKind.DIVERGED,), LEARNING_COLUMNS),
}
_NAMED_KINDS = tuple(kind for kinds, _ in _NAMED_CLASSES.values() for kind in kinds)

FAILURE_CLASSES: Mapping[str, tuple[tuple[FailureKind, ...], frozenset[str] | None]] = {
    **_NAMED_CLASSES,
    "other": (tuple(kind for kind in PIPELINE_KINDS if kind not in _NAMED_KINDS), None),
}
"""Failure class -> its failure kinds, and the columns it depends on; ``None``: all but a few."""

N_TREES, LEAF, FEATURE_SHARE, RIDGE = 64, 2, 1 / 3, 10.0
MIN_ROWS = 6
"""Successes with a known objective below which no forest is fitted for it."""

SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observations:
    """What a surrogate learns from, n trials.

    Attributes:
        x: Pipelines as numbers, (n, n_columns).
        failure_class: Index into :data:`FAILURE_CLASSES`, -1 for a success, (n,).
        targets: Each objective of a success, scaled within its task (maximised: 0..1; minimised: logarithm relative
            to the task's mean); NaN for a failure and where unknown, (n, n_objectives).
        weight: Weight, above 0, (n,).
        is_bound: Whether its maximised targets are lower bounds, (n,) bool.
    """

    x: Floats
    failure_class: Ints
    targets: Floats
    weight: Floats
    is_bound: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the trials."""
        return len(self.failure_class)

    def plus(self, other: "Observations") -> "Observations":
        """Return these observations followed by others."""
        return Observations(
            x=np.concatenate([self.x, other.x]),
            failure_class=np.concatenate([self.failure_class, other.failure_class]),
            targets=np.concatenate([self.targets, other.targets]),
            weight=np.concatenate([self.weight, other.weight]),
            is_bound=np.concatenate([self.is_bound, other.is_bound]),
        )


@dataclass(frozen=True, slots=True)
class Forest:
    """A forest that predicts one number, after a linear model where it has one.

    Attributes:
        columns: Indices of the columns it uses.
        rows: Observations it was fitted on, ascending.
        weight: Their weights.
        target: What the trees were fitted to: the target minus the linear prediction, (n_rows,).
        trees: The fitted trees.
        leaves: Leaf of each of its rows, in each tree, (n_trees, n_rows).
        linear: The linear model, or ``None``.
    """

    columns: Ints
    rows: Ints
    weight: Floats
    target: Floats
    trees: Sequence[Any]
    leaves: NDArray[np.int64]
    linear: Any

    def forecast(self, x: Floats) -> Floats:
        """Predict the number for encoded pipelines (n, n_columns); shape (n,)."""
        part = np.ascontiguousarray(x[:, self.columns], dtype=np.float32)
        total = np.zeros(len(x))
        for tree in self.trees:
            total += tree.tree_.predict(part).reshape(len(x))
        linear = 0.0 if self.linear is None else self.linear.predict(x[:, self.columns])
        return np.asarray(total / len(self.trees) + linear, dtype=np.float64)

    def influence(self, x: Floats, n: int) -> Floats:
        """Compute each observation's weight in the mean prediction for some pipelines; the weights sum to 1.

        Args:
            x: The encoded pipelines, (m, n_columns).
            n: Observations in all.

        Returns:
            Weights, 0 for observations it was not fitted on, (n,).
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
    """Forests fitted on observations.

    Attributes:
        objectives: Objectives of the targets.
        observations: What they were fitted on.
        risks: Failure class -> forest of its probability; a class that no observation is in has none.
        target_forests: Objective -> forest of its target; an objective of too few known successes has none.
        spread: Objective -> standard deviation of its target over the observations, 1 where unknown.
    """

    objectives: tuple[str, ...]
    observations: Observations
    risks: Mapping[str, Forest]
    target_forests: Mapping[str, Forest]
    spread: Mapping[str, float] = field(default_factory=dict)

    def p_feasible(self, x: Floats) -> Floats:
        """Predict the probability of a success, (n,): the product of 1 - risk over the failure classes."""
        p_feasible = np.ones(len(x))
        for forest in self.risks.values():
            p_feasible *= 1.0 - np.clip(forest.forecast(x), 0.0, 1.0)
        return p_feasible

    def predicted_utility(self, x: Floats, objective: str) -> Floats:
        """Predict the utility of a success in one objective, 0..1 with 1 best, (n,); .5 where nothing is known."""
        forest = self.target_forests.get(objective)
        if forest is None:
            return np.full(len(x), 0.5)
        target = forest.forecast(x)
        if OBJECTIVES[objective].is_maximised:
            return np.clip(target, 0.0, 1.0)
        return 1.0 / (1.0 + np.exp(np.clip(target / self.spread[objective], -30.0, 30.0)))


def fit_surrogate(observations: Observations, columns: Sequence[str], *, objectives: tuple[str, ...]) -> Surrogate:
    """Fit the forests; equal observations give equal forests, bit for bit.

    Args:
        observations: What to learn from, in a fixed order.
        columns: Names of the columns of ``observations.x``.
        objectives: Objectives of ``observations.targets``.
    """
    risks = {}
    for code, (name, (_, wanted)) in enumerate(FAILURE_CLASSES.items()):
        rows = np.flatnonzero((observations.failure_class == -1) | (observations.failure_class == code))
        failed = (observations.failure_class[rows] == code).astype(np.float64)
        if failed.any():
            risks[name] = _fit(observations, rows, target=failed, columns=column_indices(columns, wanted))
    forests, spread = {}, {}
    for index, objective in enumerate(objectives):
        target = observations.targets[:, index]
        rows = np.flatnonzero(np.isfinite(target))
        spread[objective] = float(target[rows].std()) or 1.0 if len(rows) else 1.0
        if len(rows) >= MIN_ROWS:
            is_cost = not OBJECTIVES[objective].is_maximised
            used = column_indices(columns, COST_COLUMNS if is_cost else LEARNING_COLUMNS)
            if not is_cost:
                rows = _without_loose_bounds(observations, rows, target=target, columns=used)
            forests[objective] = _fit(observations, rows, target=target[rows], columns=used, is_linear=is_cost)
    return Surrogate(
        objectives=objectives, observations=observations, risks=risks, target_forests=forests, spread=spread
    )


def _without_loose_bounds(observations: Observations, rows: Ints, *, target: Floats, columns: Ints) -> Ints:
    """Leave out the lower bounds that say nothing: those below what the other observations predict.

    A bound that is higher is the best guess there is of its target. With too few others all bounds are taken so.

    Source:
        Schmee and Hahn 1979, "A simple method for regression analysis with censored data", one iteration.
    """
    exact, bounds = rows[~observations.is_bound[rows]], rows[observations.is_bound[rows]]
    if not len(bounds) or len(exact) < MIN_ROWS:
        return rows
    predicted = _fit(observations, exact, target=target[exact], columns=columns).forecast(observations.x[bounds])
    return np.sort(np.concatenate([exact, bounds[target[bounds] > predicted]]))


def _fit(observations: Observations, rows: Ints, *, target: Floats, columns: Ints, is_linear: bool = False) -> Forest:
    """Fit one forest; to a cost a linear model is fitted first, because trees do not extrapolate."""
    from sklearn.ensemble import ExtraTreesRegressor  # takes a second, which only this prior spends

    x, weight, linear = observations.x[np.ix_(rows, columns)], observations.weight[rows], None
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
