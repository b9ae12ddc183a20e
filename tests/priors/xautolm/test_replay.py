"""The replay of each kind of marginal, by hand and step by step as the formulas say."""

import numpy as np
import pytest

from xautolm_hpc.priors.xautolm.replay import replay_boolean, replay_categorical, replay_numeric, replay_weights


def _naive_categorical(start: list[float], alphas: list[float], codes: list[int]) -> list[list[float]]:
    """Replay by the letter: floor the value, divide all by the sum; return the probabilities after each step."""
    path = [start]
    for alpha, code in zip(alphas, codes, strict=True):
        p = list(path[-1])
        p[code] = max(p[code] + alpha, 0.001)
        path.append([value / sum(p) for value in p])
    return path


def test_a_value_gains_alpha_and_all_are_divided_by_their_sum() -> None:
    replay = replay_categorical([0.5, 0.25, 0.25], alpha=np.array([0.25]), code=np.array([0]))

    assert replay.probabilities == pytest.approx((0.6, 0.2, 0.2))


def test_a_value_never_falls_below_the_floor_before_the_division() -> None:
    replay = replay_categorical([0.5, 0.5], alpha=np.array([-0.9]), code=np.array([1]))

    assert replay.probabilities == pytest.approx((0.5 / 0.501, 0.001 / 0.501))


@pytest.mark.parametrize(("n", "scale"), [(300, 0.05), (300, 1.5), (5000, 0.05)])
def test_the_categorical_replay_is_the_formula_step_by_step(n: int, scale: float) -> None:
    rng = np.random.default_rng(n)
    alpha = np.sort(rng.uniform(-scale, scale, n))[::-1]
    code = rng.integers(0, 7, n)
    start = [1 / 7] * 7
    path = _naive_categorical(start, alpha.tolist(), code.tolist())

    replay = replay_categorical(start, alpha=alpha, code=code)

    assert replay.probabilities == pytest.approx(path[-1], abs=1e-12)
    for value in range(7):
        steps = np.diff([p[value] for p in path])
        assert replay.contributions(value, start[value]) == pytest.approx(steps, abs=1e-12)


def test_a_method_gains_alpha_and_is_not_normalised() -> None:
    replay = replay_weights([1.0, 1.0], alpha=np.array([0.5, -0.25, -3.0]), code=np.array([0, 0, 1]))

    assert replay.weights == (1.25, 0.001)


def test_contributions_to_a_method_are_the_changes_of_its_share() -> None:
    replay = replay_weights([1.0, 1.0], alpha=np.array([0.5, -0.25]), code=np.array([0, 1]))

    assert replay.contributions(0, [1.0, 1.0]) == pytest.approx([1.5 / 2.5 - 0.5, 1.5 / 2.25 - 1.5 / 2.5])
    assert replay.contributions(1, [1.0, 1.0]) == pytest.approx([1 / 2.5 - 0.5, 0.75 / 2.25 - 1 / 2.5])


def test_a_boolean_moves_towards_what_succeeded_and_away_from_what_failed() -> None:
    replay = replay_boolean(0.5, alpha=np.array([0.2, 0.1, -0.1]), value=np.array([1.0, 0.0, 1.0]))

    # .8 x .5 + .2 = .6; .9 x .6 = .54; 1.1 x .54 - .1 = .494.
    assert replay.path == pytest.approx([0.6, 0.54, 0.494])
    assert replay.contributions(0.5) == pytest.approx([0.1, -0.06, -0.046])


def test_a_boolean_stays_between_its_bounds() -> None:
    replay = replay_boolean(0.5, alpha=np.array([1.0, -1.0, -1.0]), value=np.array([1.0, 1.0, 0.0]))

    # 1 -> .999; 2 x .999 - 1 = .998; 2 x .998 - 0 -> .999.
    assert replay.path == pytest.approx([0.999, 0.998, 0.999])


def test_a_number_moves_and_its_deviation_shrinks_with_successes_and_grows_with_failures() -> None:
    replay = replay_numeric(5.0, 4.0, alpha=np.array([0.5, -0.25]), value=np.array([9.0, 5.0]), bounds=(0.0, 10.0))

    # .5 x 5 + .5 x 9 = 7, deviation 2; 1.25 x 7 - .25 x 5 = 7.5, deviation 2.5.
    assert replay.path == pytest.approx([7.0, 7.5])
    assert replay.dev == pytest.approx(2.5)


def test_a_number_stays_within_its_bounds_and_its_deviation_within_a_hundredth_and_the_whole_range() -> None:
    away = replay_numeric(5.0, 10.0, alpha=np.array([-0.9]), value=np.array([10.0]), bounds=(0.0, 10.0))
    onto = replay_numeric(5.0, 10.0, alpha=np.array([1.0]), value=np.array([10.0]), bounds=(0.0, 10.0))

    assert (away.path.tolist(), away.dev) == ([0.5], 10.0)
    assert (onto.path.tolist(), onto.dev) == ([10.0], 0.1)
    beyond = replay_numeric(5.0, 1.0, alpha=np.array([-2.0]), value=np.array([10.0]), bounds=(0.0, 10.0))
    assert beyond.path.tolist() == [0.0]


def test_nothing_to_replay_leaves_all_as_it_is() -> None:
    nothing, no_code = np.zeros(0), np.zeros(0, dtype=np.int64)

    assert replay_categorical([0.25, 0.75], alpha=nothing, code=no_code).probabilities == (0.25, 0.75)
    assert replay_weights([1.0, 2.0], alpha=nothing, code=no_code).weights == (1.0, 2.0)
    assert replay_categorical([0.5, 0.5], alpha=nothing, code=no_code).contributions(0, 0.5).tolist() == []
