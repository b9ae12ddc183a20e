"""Measures of a replayed search, and comparisons of methods."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.replay.search_methods import EVIDENCE, SHIPPED, UNIFORM, ReplayedTrial
from benchmarks.replay.trials import TaskTable

Floats = NDArray[np.float64]
Row = Mapping[str, Any]

TARGET_SHARE, HYPERVOLUME_SHARE = 0.95, 2 / 3
"""Share of the best F1 that is the target, and share of the trials after which the hypervolume is taken."""

MEASURES = {"time_to_target_s": -1, "failure_rate": -1, "hypervolume": 1, "area": 1}
"""Measure -> 1 where more is better, else -1."""

N_BOOTSTRAP = 2000


def measure_search(trials: Sequence[ReplayedTrial], searched: TaskTable) -> dict[str, Any]:
    """Measure one search.

    Returns:
        ``time_to_target_s`` until 95 % of the best known F1 (the whole cost if missed), ``reached``, the
        ``failure_rate`` (half a failure and half a success added), the ``lost_share`` of the seconds, those of trials
        without F1, ``hypervolume`` after two thirds of the trials, ``area`` under the best F1 so far over the trials
        (as a share of the best known), the ``curve`` of best so far, and the ``incumbent`` (canonical text).
    """
    n_first = math.ceil(HYPERVOLUME_SHARE * len(trials))
    f1 = np.array([o.metrics.get("f1", 0.0) if o.succeeded else 0.0 for _, o, _ in trials])
    cost_s = np.array([cost for _, _, cost in trials])
    best = np.maximum.accumulate(f1)
    hits = np.flatnonzero(best >= TARGET_SHARE * searched.best_f1)
    spent_s = np.cumsum(cost_s)
    return {
        "time_to_target_s": float(spent_s[hits[0]] if len(hits) else spent_s[-1]),
        "reached": bool(len(hits)),
        "lost_share": float(sum(cost for _, o, cost in trials if not o.succeeded) / spent_s[-1]),
        "failure_rate": (sum(not o.succeeded for _, o, _ in trials) + 0.5) / (len(trials) + 1),
        "hypervolume": hypervolume(f1[:n_first], cost_s[:n_first], worst_s=float(np.percentile(searched.cost_s, 99))),
        "area": float(best.mean() / max(searched.best_f1, 1e-9)),
        "curve": [round(float(value), 5) for value in best],
        "incumbent": trials[int(f1.argmax())][0].canonical(),
    }


def hypervolume(f1: Floats, cost_s: Floats, *, worst_s: float) -> float:
    """Compute the share of the unit square that trials dominate, F1 against log time, reference (0, worst time)."""
    top = math.log(max(worst_s, 1.0 + 1e-9))
    saved = np.clip(1.0 - np.log(np.maximum(cost_s, 1.0)) / top, 0.0, 1.0)
    area, height = 0.0, 0.0
    for index in np.argsort(-saved, kind="stable"):
        if f1[index] > height and saved[index] > 0:
            area += float((f1[index] - height) * saved[index])
            height = float(f1[index])
    return area


def compare(rows: Sequence[Row], *, key: str, against: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Compare every method with one, by the geometric mean over the tasks of the ratio of means.

    Args:
        rows: One a search: ``task``, ``half``, ``seed``, ``method`` and the measures.
        key: The measure to compare, above 0.
        against: The method to compare with.
        seed: Of the bootstrap, which resamples tasks, then seeds.

    Returns:
        Method -> ``ratio`` (method / against), ``low`` and ``high`` of the 95 % interval, ``p`` two-sided.
    """
    tasks = sorted({row["task"] for row in rows})
    values: dict[tuple[str, str], list[float]] = {}
    for row in sorted(rows, key=lambda r: (r["task"], r["method"], r["half"], r["seed"])):
        values.setdefault((row["task"], row["method"]), []).append(row[key])
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(tasks), size=(N_BOOTSTRAP, len(tasks)))
    found = {}
    for method in sorted({row["method"] for row in rows}):
        pairs = [(np.array(values[task, method]), np.array(values[task, against])) for task in tasks]
        ratio = math.exp(float(np.mean([_log_ratio(a.mean(), b.mean()) for a, b in pairs])))
        logs = np.array([_resampled_log_ratios(a, b, n=draws.shape, rng=rng) for a, b in pairs])
        resampled = logs[draws, np.arange(N_BOOTSTRAP)[:, None], np.arange(len(tasks))].mean(axis=1)
        share = min(float(np.mean(resampled <= 0)), float(np.mean(resampled >= 0)))
        low, high = np.exp(np.percentile(resampled, [2.5, 97.5]))
        found[method] = {"ratio": ratio, "low": float(low), "high": float(high), "p": 2 * share}
    return found


def _log_ratio(a: Any, b: Any) -> Any:
    return np.log(np.maximum(a, 1e-9) / np.maximum(b, 1e-9))


def _resampled_log_ratios(a: Floats, b: Floats, *, n: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Resample the searches of two methods together; the ratio of their means so many times over."""
    index = rng.integers(len(a), size=(*n, len(a)))
    ratios: Floats = _log_ratio(a[index].mean(axis=-1), b[index].mean(axis=-1))
    return ratios


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values for their number, by Holm's step-down method."""
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        adjusted[name] = largest
    return adjusted


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Compare all methods with NSPE uniform, and ``evidence`` with the best other method: the primary comparisons.

    Returns:
        Measure -> method -> comparison with NSPE uniform, the p-values of all but the primary one Holm-adjusted;
        under ``best other``, the comparison of ``evidence`` with the best of the other methods, and its name.
    """
    summary: dict[str, Any] = {}
    for key, sign in MEASURES.items():
        found = compare(rows, key=key, against=UNIFORM)
        others = {name: value["p"] for name, value in found.items() if name not in (UNIFORM, EVIDENCE)}
        for name, p in holm(others).items():
            found[name]["p_holm"] = p
        if EVIDENCE in found and others:
            rest = [name for name in found if name not in (EVIDENCE, SHIPPED)]
            best = max(rest, key=lambda name: sign * found[name]["ratio"])
            against = compare([r for r in rows if r["method"] in (EVIDENCE, best)], key=key, against=best)
            found["best other"] = {**against[EVIDENCE], "name": best}
        summary[key] = found
    return summary
