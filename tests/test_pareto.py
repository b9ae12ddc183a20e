"""Non-dominated fronts and crowding distances against hand-computed values and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xautolm_hpc.pareto import crowding_distances, front_indices, oriented


def test_orientation_flips_only_what_is_maximised() -> None:
    flipped = oriented(np.array([[0.8, 60.0], [0.5, 10.0]]), ("f1", "evaluation_time_s"))

    assert flipped.tolist() == [[-0.8, 60.0], [-0.5, 10.0]]


def test_one_objective_ranks_the_distinct_values() -> None:
    assert front_indices(np.array([[3.0], [1.0], [2.0], [1.0]])).tolist() == [2, 0, 1, 0]


def test_two_objectives_form_the_hand_drawn_fronts() -> None:
    # (1,4) (2,2) (4,1) bound the plane; (2,4) and (3,3) lie behind them, (4,4) behind these.
    points = np.array([[4.0, 4.0], [1.0, 4.0], [3.0, 3.0], [2.0, 2.0], [4.0, 1.0], [2.0, 4.0]])

    assert front_indices(points).tolist() == [2, 0, 1, 0, 0, 1]


def test_equal_points_share_a_front() -> None:
    assert front_indices(np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0]])).tolist() == [0, 0, 1]


def test_no_points_have_no_fronts() -> None:
    assert front_indices(np.empty((0, 2))).tolist() == []
    assert crowding_distances(np.empty((0, 2))).tolist() == []


def _fronts_by_definition(points: NDArray[np.float64]) -> list[int]:
    """Peel the points that nothing left dominates, front after front."""
    front, number = [-1] * len(points), 0
    while -1 in front:
        left = [i for i, f in enumerate(front) if f == -1]
        peeled = [
            i for i in left if not any(np.all(points[j] <= points[i]) and np.any(points[j] < points[i]) for j in left)
        ]
        for i in peeled:
            front[i] = number
        number += 1
    return front


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 3).flatmap(lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), min_size=1, max_size=30)))
def test_fronts_are_those_of_the_definition(rows: list[tuple[int, ...]]) -> None:
    points = np.array(rows, dtype=np.float64)

    assert front_indices(points).tolist() == _fronts_by_definition(points)


def test_crowding_adds_the_neighbours_distances_over_the_ranges() -> None:
    # Ranges 4 and 8. Second point: (2 - 0)/4 + (8 - 2)/8 = 1.25; third: (4 - 1)/4 + (3 - 0)/8 = 1.125.
    points = np.array([[0.0, 8.0], [1.0, 3.0], [2.0, 2.0], [4.0, 0.0]])

    assert crowding_distances(points).tolist() == [math.inf, 1.25, 1.125, math.inf]


def test_an_objective_in_which_all_are_equal_adds_nothing_to_crowding() -> None:
    points = np.array([[5.0, 0.0], [5.0, 1.0], [5.0, 4.0]])

    assert crowding_distances(points).tolist() == [math.inf, 1.0, math.inf]
    assert crowding_distances(np.array([[5.0, 1.0], [5.0, 1.0]])).tolist() == [0.0, 0.0]


def test_of_equal_ends_the_earlier_row_is_the_lower_end() -> None:
    points = np.array([[0.0], [0.0], [3.0], [3.0]])

    assert crowding_distances(points) == pytest.approx([math.inf, 1.0, 1.0, math.inf])
