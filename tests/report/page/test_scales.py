"""Axes: where values stand, and that their ticks are round, inside and few."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xautolm_hpc.report.page.scales import N_TICKS, make_scale, tick_text

VALUES = st.lists(st.floats(-1e9, 1e9).map(lambda value: round(value, 6)), min_size=1, max_size=20)


@given(VALUES)
def test_every_value_stands_between_the_ends(values: list[float]) -> None:
    scale = make_scale(values, 50.0, end_px=700.0)

    assert all(50.0 <= scale.place(value) <= 700.0 for value in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 3 * N_TICKS
    assert ticks == sorted(ticks)
    assert all(scale.low <= tick <= scale.high for tick in ticks)


@given(st.lists(st.floats(1e-8, 1e8), min_size=2, max_size=20))
def test_values_stand_on_a_logarithmic_axis_by_their_ratios(values: list[float]) -> None:
    scale = make_scale(values, 0.0, end_px=100.0, is_log=True)

    low, high = min(values), max(values)
    middle = math.sqrt(low * high)
    assert scale.place(middle) == pytest.approx(50.0, abs=0.11)
    assert scale.place(low) < scale.place(high) or low == pytest.approx(high, rel=1e-3)
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks())


def test_ticks_are_round() -> None:
    assert make_scale([0.0, 1.0], 0.0, end_px=1.0).ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert make_scale([1.0, 100.0], 0.0, end_px=1.0, is_log=True).ticks() == [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]


def test_a_count_has_whole_ticks() -> None:
    assert make_scale([0.0, 1.0], 0.0, end_px=1.0, is_count=True).ticks() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.25, "0.25"), (1500.0, "1500"), (2e-5, "2e-05"), (3e7, "3e+07")]
)
def test_ticks_are_short(value: float, text: str) -> None:
    assert tick_text(value) == text
