"""The content of the figure, in data coordinates and displayed units, before anything is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from xautolm_hpc.failures import TRUNCATED, FailureOrigin
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.report.quantities import QUANTITIES
from xautolm_hpc.report.safe_text import one_line, shortened
from xautolm_hpc.report.sections import measure

Summary = Mapping[str, Any]
Trial = Mapping[str, Any]

LEAST_LOG_RATIO = 20.0
"""Costs of trials that span more than this factor are drawn on a logarithmic axis."""

MAX_LABELS, MAX_NAME_CHARS, MAX_REJECTIONS = 12, 26, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One trial with a result.

    Attributes:
        x: Position on the horizontal axis, in the displayed unit.
        y: Position on the vertical axis, in the displayed unit.
        third: Third objective in its displayed unit, or ``None``.
        text: Trial number, model and method, escaped; and whether it was truncated.
        trial: Trial number.
    """

    x: float
    y: float
    third: float | None
    text: str
    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed trial.

    Attributes:
        x: Cost it had reached, or its number; ``None`` where the cost is unknown.
        origin: What the failure speaks about.
        kind: Failure kind.
        trial: Trial number.
    """

    x: float | None
    origin: FailureOrigin
    kind: str
    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureData:
    """Everything the figure shows.

    Attributes:
        title: What is drawn against what.
        x_label: Label of the horizontal axis, with unit and direction.
        y_label: Label of the vertical axis, with unit and direction.
        x_is_cost: Whether the horizontal axis is an objective that is minimised.
        x_is_trial: Whether the horizontal axis is the trials' numbers.
        third: Name of the third objective, or ``None``.
        front_name: Legend entry of ``front``.
        rest_name: Legend entry of ``dominated``.
        front: The Pareto set, or the trials that were best when they ended.
        dominated: The other trials with all objectives.
        step: Corners of the line through the front, to the last trial or the highest cost.
        failures: Failed trials.
        majority_x: F1 of the majority baseline if it lies on the horizontal axis, else ``None``.
        majority_y: F1 of the majority baseline if it lies on the vertical axis, else ``None``.
        rejections: Constraint and pipelines it rejected, most rejections first.
        empty_reason: Why there is no front; shown only then.
    """

    title: str
    x_label: str
    y_label: str
    x_is_cost: bool
    x_is_trial: bool
    third: str | None
    front_name: str
    rest_name: str
    front: tuple[Mark, ...]
    dominated: tuple[Mark, ...]
    step: tuple[tuple[float, float], ...]
    failures: tuple[Failure, ...]
    majority_x: float | None
    majority_y: float | None
    rejections: tuple[tuple[str, int], ...]
    empty_reason: str

    def failure_kinds(self) -> list[tuple[FailureOrigin, str]]:
        """List (origin, kind) of the failures, pipeline first, the most frequent first."""
        keys = [(failure.origin, failure.kind) for failure in self.failures]
        return sorted(set(keys), key=lambda key: (key[0] is not FailureOrigin.PIPELINE, -keys.count(key), key))

    def spans_decades(self) -> bool:
        """Return whether costs differ so much that a logarithmic axis shows them better."""
        xs = [mark.x for mark in (*self.front, *self.dominated)]
        failed = [failure.x for failure in self.failures if failure.x is not None]
        return self.x_is_cost and bool(xs) and min(xs + failed) > 0 and max(xs) > LEAST_LOG_RATIO * min(xs)

    def corners(self) -> list[tuple[float, float]]:
        """List the corners of the drawn line, including those between two points of ``step``."""
        between = [(after[0], before[1]) for before, after in pairwise(self.step)]
        return [*(corner for pair in zip(self.step, between, strict=False) for corner in pair), *self.step[-1:]]

    def labelled(self) -> list[Mark]:
        """List the points to label: all, or :data:`MAX_LABELS` spread over the front, both ends included."""
        n = len(self.front)
        if n <= MAX_LABELS:
            return list(self.front)
        ordered = sorted(self.front, key=lambda mark: (mark.x, mark.y))
        return [ordered[round(i * (n - 1) / (MAX_LABELS - 1))] for i in range(MAX_LABELS)]


def build_figure_data(summary: Summary) -> FigureData:
    """Build the content of the figure from a summary.

    Args:
        summary: Result of :func:`xautolm_hpc.report.summary.summarise`.
    """
    objectives = [objective["name"] for objective in summary["objectives"]]
    first = objectives[0]
    is_single = len(objectives) == 1
    second = None if is_single else objectives[1]
    third = objectives[2] if len(objectives) > 2 else None
    front, rest = _split_best_so_far(summary, first) if second is None else (summary["front"], summary["dominated"])
    marks = tuple(_mark(trial, first, second=second, third=third) for trial in front)
    failed = tuple(_failure(trial, second) for trial in summary["failed"])
    others = tuple(_mark(trial, first, second=second, third=third) for trial in rest)
    quantity = QUANTITIES[first]
    return FigureData(
        title=f"{quantity.title} by trial" if second is None else f"{quantity.title} against {_lower(second)}",
        x_label="Trial" if second is None else _axis_label(second),
        y_label=_axis_label(first),
        x_is_cost=second is not None and not OBJECTIVES[second].is_maximised,
        x_is_trial=second is None,
        third=third,
        front_name="best so far" if is_single else "Pareto set",
        rest_name="other trials" if is_single else "dominated",
        front=marks,
        dominated=others,
        step=_best_line(summary, marks) if second is None else _front_line((*marks, *others), first, second=second),
        failures=failed,
        majority_x=summary["majority_f1"] if second == "f1" else None,
        majority_y=summary["majority_f1"] if first == "f1" else None,
        rejections=tuple((one_line(name), count) for name, count in list(summary["refusals"].items())[:MAX_REJECTIONS]),
        empty_reason="no trial has a known value of every objective" if summary["unranked"] else "no trial succeeded",
    )


def _split_best_so_far(summary: Summary, name: str) -> tuple[list[Trial], list[Trial]]:
    """Split trials, in the order of their numbers, into those better than all before them and the others."""
    trials = sorted([*summary["front"], *summary["dominated"]], key=lambda trial: int(trial["trial"]))
    sign = -1.0 if OBJECTIVES[name].is_maximised else 1.0
    costs = [sign * (measure(trial, name) or 0.0) for trial in trials]
    before = accumulate(costs, min, initial=float("inf"))
    is_better = [cost < best for cost, best in zip(costs, before, strict=False)]
    best = [trial for trial, better in zip(trials, is_better, strict=True) if better]
    return best, [trial for trial, better in zip(trials, is_better, strict=True) if not better]


def _mark(trial: Trial, first: str, *, second: str | None, third: str | None) -> Mark:
    method = shortened(one_line(trial["method"]), MAX_NAME_CHARS)
    model = shortened(one_line(trial["model"].rpartition("/")[2]), MAX_NAME_CHARS)
    return Mark(
        x=float(trial["trial"]) if second is None else _shown(trial, second),
        y=_shown(trial, first),
        third=None if third is None else _shown(trial, third),
        text=f"{trial['trial']}: {model}, {method}" + (f", {TRUNCATED}" if trial.get("truncated") else ""),
        trial=int(trial["trial"]),
    )


def _failure(trial: Trial, second: str | None) -> Failure:
    """Place a failed trial at its number, or at the cost it had reached; for time, the training time if need be."""
    if second is None:
        x: float | None = float(trial["trial"])
    else:
        reached = measure(trial, second)
        if reached is None and second == "evaluation_time_s":
            reached = measure(trial, "train_s")
        x = None if reached is None else reached / QUANTITIES[second].divisor
    origin = FailureOrigin(trial["origin"] or FailureOrigin.PIPELINE)
    return Failure(x=x, origin=origin, kind=one_line(trial["kind"] or "unknown"), trial=int(trial["trial"]))


def _shown(trial: Trial, name: str) -> float:
    return (measure(trial, name) or 0.0) / QUANTITIES[name].divisor


def _front_line(marks: Sequence[Mark], first: str, *, second: str) -> tuple[tuple[float, float], ...]:
    """Compute the corners of the line: the best first objective at each value of the second."""
    if not marks:
        return ()
    y_sign, x_sign = (-1.0 if OBJECTIVES[name].is_maximised else 1.0 for name in (first, second))
    ordered = sorted(marks, key=lambda mark: (x_sign * mark.x, y_sign * mark.y))
    best = accumulate((y_sign * mark.y for mark in ordered), min)
    return tuple((mark.x, y_sign * y) for mark, y in zip(ordered, best, strict=True))


def _best_line(summary: Summary, marks: Sequence[Mark]) -> tuple[tuple[float, float], ...]:
    """Compute the corners of the best value so far, up to the last trial."""
    if not marks:
        return ()
    groups = ("front", "dominated", "unranked", "failed")
    last = max(float(trial["trial"]) for group in groups for trial in summary[group])
    return (*((mark.x, mark.y) for mark in marks), (last, marks[-1].y))


def _axis_label(name: str) -> str:
    heading = "F1 on validation (0 to 1)" if name == "f1" else QUANTITIES[name].heading
    return f"{heading}, {OBJECTIVES[name].better} is better"


def _lower(name: str) -> str:
    title = QUANTITIES[name].title
    return title if title.isupper() or title[1].isupper() else title[0].lower() + title[1:]
