"""Learning curves: F1 on ``dev`` after each epoch, as a table with small bars, and as the lines of a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.report.blocks import Section, Table
from xautolm_hpc.report.quantities import UNKNOWN, counted

BARS = "▁▂▃▄▅▆▇█"
N_BARS = 24
"""Bars of a curve at most; a longer one is drawn at so many of its epochs."""

CURVES_TITLE = "Learning curves"
"""Heading of the section."""

N_SHOWN = 10
"""Curves in the table, the best first."""

GROUPS = ("front", "dominated", "unranked", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a trial had learnt after each of its epochs.

    Attributes:
        trial: Number of the trial.
        name: Its model and method.
        end: How it ended: ``succeeded``, ``truncated``, ``stopped``, or the kind of its failure.
        f1: F1 on ``dev`` after each epoch, at least one.
        seconds: Seconds of training until then; ``None`` where a record has none.
    """

    trial: int
    name: str
    end: str
    f1: tuple[float, ...]
    seconds: tuple[float, ...] | None

    @property
    def best(self) -> float:
        """Best F1 on ``dev``."""
        return max(self.f1)

    @property
    def epoch_s(self) -> float | None:
        """Seconds of an epoch on average, or ``None``."""
        return None if self.seconds is None else self.seconds[-1] / len(self.seconds)


def find_curves(summary: Mapping[str, Any]) -> list[Curve]:
    """List the curves of the trials of a summary, the best F1 on ``dev`` first; those without one are left out."""
    trials = [trial for group in GROUPS for trial in summary[group]]
    curves = [curve for trial in trials if (curve := _curve(trial)) is not None]
    return sorted(curves, key=lambda curve: (-curve.best, curve.trial))


def curve_section(summary: Mapping[str, Any]) -> Section | None:
    """Build the section of the learning curves; ``None`` if no trial has one."""
    curves = find_curves(summary)
    if not curves:
        return None
    shown = curves[:N_SHOWN]
    least, most = min(min(curve.f1) for curve in curves), max(curve.best for curve in curves)
    rows = tuple(
        (
            str(curve.trial),
            curve.name,
            bars(curve.f1, least=least, most=most),
            f"{curve.best:.4f}",
            f"{curve.f1.index(curve.best) + 1} of {len(curve.f1)}",
            UNKNOWN if curve.epoch_s is None else f"{curve.epoch_s:.3g}",
            curve.end,
        )
        for curve in shown
    )
    columns = ("Trial", "Model, method", "F1 on dev, by epoch", "Best", "At epoch", "Seconds an epoch", "End")
    line = f"The bars reach from {least:.4f} to {most:.4f}, the least and the most of any trial."
    if len(shown) < len(curves):
        line += f" The best {len(shown)} of {counted(len(curves), 'trial')}; report.json has all."
    table = Table(
        columns, rows, right=frozenset({"Trial", "Best", "Seconds an epoch"}),
        rank=("Trial", "F1 on dev, by epoch", "Best", "At epoch", "Model, method"),
    )  # fmt: skip
    return Section(title=CURVES_TITLE, lines=(line,), table=table)


def bars(values: Sequence[float], *, least: float, most: float) -> str:
    """Draw values as bars of text.

    Args:
        values: The values, at least one.
        least: Value of the lowest bar.
        most: Value of the highest one.
    """
    places = list(range(len(values)))
    if len(values) > N_BARS:
        places = [round(place * (len(values) - 1) / (N_BARS - 1)) for place in range(N_BARS)]
    scale = (len(BARS) - 1) / (most - least) if most > least else 0.0
    return "".join(BARS[round((values[place] - least) * scale)] for place in places)


def _curve(trial: Mapping[str, Any]) -> Curve | None:
    """Read the curve of a trial of a summary; an older report has none."""
    points = [point for point in trial.get("curve", ()) if len(point) > 3 and point[3] is not None]
    if not points:
        return None
    seconds = tuple(point[4] for point in points if len(point) > 4 and point[4] is not None)
    return Curve(
        trial=trial["trial"],
        name=f"{trial['model']}, {trial['method']}",
        end=trial["kind"] or (TRUNCATED if trial.get("truncated") else trial["status"]),
        f1=tuple(point[3] for point in points),
        seconds=seconds if len(seconds) == len(points) else None,
    )
