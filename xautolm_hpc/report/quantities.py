"""Titles, units and digits of measured values, the same on screen, in Markdown and in figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xautolm_hpc.pareto import OBJECTIVES

UNKNOWN = "–"

COSTS = tuple(name for name, objective in OBJECTIVES.items() if not objective.is_metric)
"""Objectives that are fields of an outcome."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """Display of one measure.

    Attributes:
        title: Name shown, without the unit.
        unit: Unit shown, or "" for a pure number.
        divisor: Stored value / divisor = value in ``unit``; above 0.
        digits: Digits after the decimal point.
    """

    title: str
    unit: str
    divisor: float
    digits: int

    @property
    def heading(self) -> str:
        """Title with its unit, for a column or an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: float | None) -> str:
        """Write a stored value in the shown unit, without the unit; a dash where it is unknown."""
        return UNKNOWN if value is None else f"{value / self.divisor:.{self.digits}f}"

    def text_with_unit(self, value: float | None) -> str:
        """Write a stored value with its unit."""
        return f"{self.text(value)} {self.unit}".rstrip() if value is not None else UNKNOWN


QUANTITIES: Mapping[str, Quantity] = {
    **{name: Quantity(each.title, each.unit, each.divisor, each.digits) for name, each in OBJECTIVES.items()},
    "accuracy": Quantity("Accuracy", "", 1.0, 4),
    "exact_match": Quantity("Exact match", "", 1.0, 4),
    "train_s": Quantity("Training", "s", 1.0, 1),
    "eval_s": Quantity("Evaluation", "s", 1.0, 1),
    "cpu_energy_j": Quantity("CPU energy", "kJ", 1e3, 2),
}
"""Measure -> its display; holds every objective."""


def duration_text(seconds: float) -> str:
    """Write a duration with its two largest units: ``8.4 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds < 59.95:  # what rounds to 60.0 is a minute
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"


def stopwatch_text(seconds: float) -> str:
    """Write a duration for a narrow column, to the second: ``0:08``, ``3:20``, ``26:05:00``."""
    minutes, rest_s = divmod(int(seconds), 60)
    return f"{minutes}:{rest_s:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest_s:02d}"


def counted(n: int, noun: str, *, plural: str | None = None) -> str:
    """Write a count with its noun, thousands separated: ``1 trial``, ``12,000 pipelines``, ``2 retries``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or noun + 's'}"


def value_text(value: object) -> str:
    """Write a hyperparameter's value: six significant digits for reals, lower case for booleans."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence lists them: ``a``, ``a and b``, ``a, b and c``; at least one."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
