"""From values to pixels: linear and logarithmic axes with round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

MARGIN = 0.04
"""Share of the range that is left free at each end of a linear axis."""

N_TICKS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One axis.

    Attributes:
        low: Value at ``start_px``.
        high: Value at ``end_px``.
        start_px: Pixel of the lower end; likewise ``end_px`` of the upper one.
        is_log: Whether it is logarithmic; its values are above 0 then.
        is_count: Whether its values are whole numbers.
    """

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False
    is_count: bool = False

    def place(self, value: float) -> float:
        """Compute the pixel of a value, to a tenth."""
        low, high, here = (math.log(v) if self.is_log else v for v in (self.low, self.high, value))
        return round(self.start_px + (here - low) / (high - low) * (self.end_px - self.start_px), 1)

    def ticks(self) -> list[float]:
        """List round values along the axis."""
        if self.is_log:
            exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
        else:
            step = _round_step((self.high - self.low) / N_TICKS)
            step = max(1.0, step) if self.is_count else step
            first = math.ceil(self.low / step)
            found = [n * step for n in range(first, first + 3 * N_TICKS)]
        shown = [value for value in found if self.low <= value <= self.high]
        return shown if len(shown) <= 2 * N_TICKS else shown[::3]


def make_scale(
    values: Sequence[float], start_px: float, *, end_px: float, is_log: bool = False, is_count: bool = False
) -> Scale:
    """Build an axis that holds some values.

    Args:
        values: The values; without any it reaches from 0 to 1.
        start_px: Pixel of its lower end.
        end_px: Pixel of its upper end.
        is_log: Whether it is logarithmic; all values are above 0 then.
        is_count: Whether its values are whole numbers.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if is_log:
        low, high = low / 1.15, high * 1.15
    else:
        spare = (high - low) * MARGIN or abs(high) * MARGIN or 0.5
        low, high = (0.0 if low == 0 and high > 0 else low - spare), high + spare
    return Scale(low=low, high=high, start_px=start_px, end_px=end_px, is_log=is_log, is_count=is_count)


def tick_text(value: float) -> str:
    """Write the value of a tick."""
    return f"{value:.6g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.0e}"


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is at least ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= least * (1 - 1e-9))
