"""Utilities of successes against hand-computed values."""

import math

import numpy as np
import pytest

from xautolm_hpc.priors.xautolm.utility import front_utility, weighted_sum

BOTH = ("f1", "evaluation_time_s")
ONE_TASK = np.zeros(3, dtype=np.int64)


def test_objectives_are_scaled_and_the_minimised_one_is_flipped() -> None:
    # f1 scaled: 0, .5, 1; time scaled: 0, 1, .25, flipped 1, 0, .75.
    values = np.array([[0.2, 10.0], [0.4, 50.0], [0.6, 20.0]])

    utility = weighted_sum(values, [ONE_TASK, ONE_TASK], objectives=BOTH, weights=None)

    assert utility == pytest.approx([0.5, 0.25, 0.875])


def test_weights_are_brought_to_sum_1_and_a_missing_one_is_0() -> None:
    values = np.array([[0.2, 10.0], [0.4, 50.0], [0.6, 20.0]])
    groups = [ONE_TASK, ONE_TASK]

    three_to_one = weighted_sum(values, groups, objectives=BOTH, weights={"f1": 3.0, "evaluation_time_s": 1.0})
    only_f1 = weighted_sum(values, groups, objectives=BOTH, weights={"f1": 0.2})

    assert three_to_one == pytest.approx([0.25, 0.375, 0.75 + 0.1875])
    assert only_f1 == pytest.approx([0.0, 0.5, 1.0])


def test_scaling_stays_within_a_task() -> None:
    values = np.array([[0.2], [0.4], [90.0], [100.0]])

    utility = weighted_sum(values, [np.array([5, 5, 2, 2])], objectives=("f1",), weights=None)

    assert utility.tolist() == [0.0, 1.0, 0.0, 1.0]


def test_equal_values_count_a_half_either_way() -> None:
    values = np.array([[0.5, 10.0], [0.5, 10.0], [0.7, 3.0]])

    utility = weighted_sum(values, [np.array([0, 0, 1])] * 2, objectives=BOTH, weights=None)

    assert utility.tolist() == [0.5, 0.5, 0.5]


def test_fronts_give_a_linear_or_logarithmic_utility() -> None:
    # The first two bound the plane, the third lies behind both, the fourth behind it: F = 3 fronts.
    values = np.array([[0.9, 50.0], [0.5, 10.0], [0.5, 60.0], [0.4, 70.0]])
    scope = np.zeros(4, dtype=np.int64)

    linear = front_utility(values, scope, objectives=BOTH, logarithmic=False)
    logarithmic = front_utility(values, scope, objectives=BOTH, logarithmic=True)

    assert linear == pytest.approx([1.0, 1.0, 2 / 3, 1 / 3])
    assert logarithmic == pytest.approx([1.0, 1.0, math.log(3) / math.log(4), math.log(2) / math.log(4)])


def test_times_that_cover_different_things_do_not_dominate_one_another() -> None:
    values = np.array([[0.9, 10.0], [0.5, 20.0]])

    together = front_utility(values, np.array([7, 7]), objectives=BOTH, logarithmic=False)
    apart = front_utility(values, np.array([7, 8]), objectives=BOTH, logarithmic=False)

    assert together.tolist() == [1.0, 0.5]
    assert apart.tolist() == [1.0, 1.0]


def test_no_successes_have_no_utility() -> None:
    none = np.empty((0, 1))

    assert weighted_sum(none, [ONE_TASK[:0]], objectives=("f1",), weights=None).tolist() == []
    assert front_utility(none, ONE_TASK[:0], objectives=("f1",), logarithmic=True).tolist() == []
