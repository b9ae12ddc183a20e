"""The numbers of every figure as plain data: each is written as JSON, and both picture and page are drawn from it."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import Value
from xautolm_hpc.report.curves import GROUPS, find_curves
from xautolm_hpc.report.figure_data import Mark, build_figure_data
from xautolm_hpc.report.quantities import QUANTITIES
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.sections import measure

Summary = Mapping[str, Any]
Trial = Mapping[str, Any]
Numbers = dict[str, Any]

FIGURES = ("pareto", "best", "curves", "parallel", "importance")
"""Names of the figures, in the order of the page."""

LOG_SHARE = 0.2
"""A hyperparameter with half of its values in so small a share of their range has a logarithmic axis."""

S_PER_H, S_PER_MIN = 3600.0, 60.0
LEAST_HOURS_S = 2 * S_PER_H
"""Duration of a run from which hours are its unit."""


def figure_numbers(summary: Summary) -> dict[str, Numbers]:
    """Collect the numbers of each figure: name of :data:`FIGURES` -> its numbers; one with nothing to show is missing.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
    """
    found = {
        "pareto": _pareto(summary),
        "best": _best(summary),
        "curves": _curves(summary),
        "parallel": _parallel(summary),
        "importance": _importance(summary),
    }
    return {name: numbers for name, numbers in found.items() if numbers is not None}


def all_trials(summary: Summary) -> list[Trial]:
    """List the trials of a summary by number."""
    return sorted((trial for group in GROUPS for trial in summary[group]), key=lambda trial: int(trial["trial"]))


def name_of(trial: Trial) -> str:
    """Write model and method of a trial, and if it was truncated, escaped for any display but not for HTML."""
    return one_line(f"{trial['model']}, {trial['method']}") + (f", {TRUNCATED}" if trial.get("truncated") else "")


def _pareto(summary: Summary) -> Numbers:
    """Collect the first objective against the second, or by trial where there is one objective."""
    data = build_figure_data(summary)
    names = {int(trial["trial"]): name_of(trial) for trial in all_trials(summary)}
    points = [_point(mark, "front", names=names) for mark in data.front]
    points += [_point(mark, "dominated", names=names) for mark in data.dominated]
    return {
        "title": data.title,
        "x_label": data.x_label,
        "y_label": data.y_label,
        "is_log": data.spans_decades(),
        "x_is_count": data.x_is_trial,
        "front_name": data.front_name,
        "rest_name": data.rest_name,
        "points": points,
        "line": [list(corner) for corner in data.corners()],
        "failures": [{"trial": f.trial, "x": f.x, "kind": f.kind, "origin": str(f.origin)} for f in data.failures],
        "majority": {"x": data.majority_x, "y": data.majority_y},
        "empty_reason": data.empty_reason,
    }


def _point(mark: Mark, group: str, *, names: Mapping[int, str]) -> Numbers:
    return {"trial": mark.trial, "group": group, "x": mark.x, "y": mark.y, "name": names[mark.trial]}


def _best(summary: Summary) -> Numbers | None:
    """Collect the first objective of each trial, and the best so far, against the time since the run began."""
    first, ended_s = summary["objectives"][0]["name"], summary.get("ended_s", {})
    unit_s = S_PER_H if max(ended_s.values(), default=0.0) > LEAST_HOURS_S else S_PER_MIN
    quantity, is_maximised = QUANTITIES[first], OBJECTIVES[first].is_maximised
    known = [
        (ended_s[str(trial["trial"])] / unit_s, value / quantity.divisor, trial)
        for trial in all_trials(summary)
        if trial["status"] == "succeeded" and str(trial["trial"]) in ended_s
        if (value := measure(trial, first)) is not None
    ]
    if not known:
        return None
    points: list[Numbers] = []
    line: list[list[float]] = []
    for x, y, trial in sorted(known, key=lambda entry: (entry[0], int(entry[2]["trial"]))):
        is_best = not line or (y > line[-1][1] if is_maximised else y < line[-1][1])
        points.append({"trial": trial["trial"], "x": x, "y": y, "name": name_of(trial), "is_best": is_best})
        line += [[x, line[-1][1]]] if line and is_best else []
        line += [[x, y]] if is_best else []
    end = max(ended_s.values()) / unit_s
    return {
        "title": f"Best {quantity.title} so far against time",
        "x_label": f"{'Hours' if unit_s == S_PER_H else 'Minutes'} since the first trial began",
        "y_label": f"{quantity.heading}, {OBJECTIVES[first].better} is better",
        "points": points,
        "line": [*line, [end, line[-1][1]]],
        "majority": {"x": None, "y": summary["majority_f1"] if first == "f1" else None},
    }


def _curves(summary: Summary) -> Numbers | None:
    """Collect F1 on ``dev`` of each trial against seconds of training, or epochs where times are unknown."""
    curves = find_curves(summary)
    if not curves:
        return None
    has_times = all(curve.seconds is not None for curve in curves)
    return {
        "title": "Learning curves",
        "x_label": "Seconds of training" if has_times else "Epochs",
        "x_is_count": not has_times,
        "y_label": "F1 on dev",
        "curves": [
            {
                "trial": curve.trial,
                "name": one_line(curve.name),
                "end": one_line(curve.end),
                "x": list(curve.seconds if has_times and curve.seconds else range(1, len(curve.f1) + 1)),
                "y": list(curve.f1),
            }
            for curve in curves
        ],
    }


def _parallel(summary: Summary) -> Numbers | None:
    """Collect the hyperparameters of the trials that succeeded, each on an axis of its own, and F1 on the last one."""
    trials = [t for t in all_trials(summary) if t["status"] == "succeeded" and measure(t, "f1") is not None]
    rows = [{"model": t["model"], "method": t["method"], **t["params"], "F1": measure(t, "f1")} for t in trials]
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name != "F1"]
    axes = [axis for name in names if (axis := _axis(name, [row.get(name) for row in rows])) is not None]
    if not axes:
        return None
    scores = [float(row["F1"]) for row in rows]
    axes.append({"name": "F1", "low": min(scores), "high": max(scores), "is_log": False})
    lines = [
        {"trial": t["trial"], "name": name_of(t), "values": [row.get(axis["name"]) for axis in axes]}
        for t, row in zip(trials, rows, strict=True)
    ]
    return {"title": "Hyperparameters of the trials that succeeded", "axes": axes, "lines": lines}


def _axis(name: str, values: Sequence[Value | None]) -> Numbers | None:
    """Describe the axis of a hyperparameter; ``None`` where it never differs."""
    known = [value for value in values if value is not None]
    if len(set(map(repr, known))) < 2:
        return None
    numbers = [float(value) for value in known if not isinstance(value, bool | str)]
    if len(numbers) < len(known):
        return {"name": name, "categories": sorted({_category(value) for value in known})}
    low, high = min(numbers), max(numbers)
    return {
        "name": name,
        "low": low,
        "high": high,
        "is_log": low > 0 and median(numbers) < low + LOG_SHARE * (high - low),
    }


def _category(value: Value) -> str:
    return one_line(str(value).lower() if isinstance(value, bool) else str(value))


def axis_place(axis: Mapping[str, Any], value: Value | None) -> float | None:
    """Compute where a value stands on an axis, from 0 to 1; ``None`` for a hyperparameter that a trial does not have.

    Args:
        axis: One of the ``axes`` of the figure ``parallel``.
        value: The value.
    """
    if value is None:
        return None
    if "categories" in axis:
        return float(axis["categories"].index(_category(value)) / max(1, len(axis["categories"]) - 1))
    if axis["low"] == axis["high"]:
        return 0.5
    low, high, here = (math.log(v) if axis["is_log"] else v for v in (axis["low"], axis["high"], float(value)))
    return float((here - low) / (high - low))


def _importance(summary: Summary) -> Numbers | None:
    """Collect the shares of the hyperparameters."""
    found = summary.get("importance")
    if not found:
        return None
    bars = [{"name": one_line(name), "share": share} for name, share in found["shares"].items() if share > 0]
    return {"title": "Importance of hyperparameters for F1", "bars": bars, "r2": found["r2"], "trials": found["trials"]}
