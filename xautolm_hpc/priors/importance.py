"""Which hyperparameters mattered in a search: permutation importance on a forest that predicts F1."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.hyperparameters import LEAST_FOR_IMPORTANCE
from xautolm_hpc.records import Experience, Value

N_TREES, N_FOLDS, N_REPEATS, SEED = 40, 3, 3, 0

ABSENT = -1.0
"""Code of a hyperparameter that a trial's method does not have."""


def hyperparameter_importance(succeeded: Sequence[Experience]) -> dict[str, Any] | None:
    """Compute by how much worse F1 is predicted once a hyperparameter is shuffled among the trials.

    Args:
        succeeded: Trials that succeeded; those without F1 are passed over.

    Returns:
        ``trials`` counted; ``r2`` of the forest on trials that it was not fitted to, at most 1; ``shares`` of the
        hyperparameters, model and method, greatest first, which add up to 1. ``None`` with too few trials, where F1 is
        always the same, or where the forest predicts no better than the mean: then nothing can be said.

    Source:
        Breiman 2001, "Random Forests", section 10, as scikit-learn computes it, on held-out trials.
    """
    known = [(e, value) for e in succeeded if (value := e.outcome.objective("f1")) is not None]
    f1 = np.array([value for _, value in known])
    columns = _columns([e for e, _ in known])
    if len(known) < LEAST_FOR_IMPORTANCE or np.ptp(f1) == 0 or not columns:
        return None
    r2, drops = _held_out(np.stack(list(columns.values()), axis=1), f1)
    drops = np.maximum(drops, 0.0)
    if r2 <= 0 or drops.sum() == 0:
        return None
    shares = dict(zip(columns, (drops / drops.sum()).tolist(), strict=True))
    return {"trials": len(known), "r2": r2, "shares": dict(sorted(shares.items(), key=lambda item: -item[1]))}


def _held_out(inputs: NDArray[np.float64], f1: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Average R² and its drop for each column, (n_columns,), over folds of trials that a forest did not see."""
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import KFold

    scores, drops = [], []
    for seen, unseen in KFold(N_FOLDS, shuffle=True, random_state=SEED).split(inputs):
        forest = ExtraTreesRegressor(N_TREES, min_samples_leaf=2, random_state=SEED).fit(inputs[seen], f1[seen])
        found = permutation_importance(forest, inputs[unseen], f1[unseen], n_repeats=N_REPEATS, random_state=SEED)
        scores.append(forest.score(inputs[unseen], f1[unseen]))
        drops.append(found.importances_mean)
    return float(np.mean(scores)), np.mean(drops, axis=0)


def _columns(trials: Sequence[Experience]) -> dict[str, NDArray[np.float64]]:
    """Write model, method and hyperparameters as columns of numbers; those that never differ are left out."""
    rows: list[Mapping[str, Value]] = [
        {"model": e.pipeline.model_id, "method": e.pipeline.method, **e.pipeline.params} for e in trials
    ]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    return {name: column for name, column in columns.items() if np.ptp(column) > 0}


def _column(values: Sequence[Value | None]) -> NDArray[np.float64]:
    """Write values as numbers; texts by the order in which they are sorted."""
    texts = sorted({value for value in values if isinstance(value, str)})
    codes = {text: float(place) for place, text in enumerate(texts)}
    return np.array([_number(value, codes) for value in values], dtype=np.float64)


def _number(value: Value | None, codes: Mapping[str, float]) -> float:
    if value is None:
        return ABSENT
    return codes[value] if isinstance(value, str) else float(value)
