"""Selection, weights and learning rates against hand-computed values."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.priors.builders import TASK, a_failure, a_success, an_experience
from xautolm_hpc.priors.eligible import find_eligible
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.priors.xautolm.alpha import Weighed, base_rates, experience_weights, select_nearest, weigh
from xautolm_hpc.table import build_table


def test_weights_decay_with_beta_times_distance() -> None:
    # Distances 1 and 3: mean 2, population deviation 1, so beta = 1.5 / 3 = .5.
    weights = experience_weights(np.array([1.0, 3.0]), beta_scale=1.5)

    assert weights == pytest.approx([math.exp(-0.5), math.exp(-1.5)])


def test_beta_scale_0_weighs_all_alike() -> None:
    assert experience_weights(np.array([0.0, 9.0]), beta_scale=0.0).tolist() == [1.0, 1.0]


def test_equal_distances_keep_beta_finite() -> None:
    weights = experience_weights(np.array([2.0, 2.0]), beta_scale=1.0)

    assert weights == pytest.approx([math.exp(-2 / (1e-6 + 2))] * 2)
    assert experience_weights(np.zeros(2), beta_scale=1.0).tolist() == [1.0, 1.0]
    assert experience_weights(np.zeros(0), beta_scale=1.0).tolist() == []


def test_the_nearest_of_each_sign_are_selected_and_ties_go_to_the_smaller_id() -> None:
    distance = np.array([5.0, 1.0, 1.0, 1.0, 0.0, 7.0])
    positive = np.array([True, True, True, True, False, False])

    assert select_nearest(distance, positive, k_pos=2, k_neg=1).tolist() == [1, 2, 4]
    assert select_nearest(distance, positive, k_pos=0, k_neg=9).tolist() == [4, 5]


def test_adaptive_limits_are_shared_by_the_experiences_of_a_sign() -> None:
    fixed = PriorSettings()
    adaptive = PriorSettings(adaptive_positive_limit=1.0, adaptive_negative_limit=-0.5)

    assert base_rates(fixed, n_positive=4, n_negative=10) == (0.05, -0.02)
    assert base_rates(adaptive, n_positive=4, n_negative=10) == (0.25, -0.05)
    assert base_rates(adaptive, n_positive=0, n_negative=0) == (1.0, -0.5)


def _weighed(settings: PriorSettings, *, site: str = "here") -> Weighed:
    """Weigh two successes of f1 .6 and .8 and a failure, at distances 0, 1 and 2."""
    outcomes = [a_success(0.6), a_success(0.8), a_failure()]
    table = build_table([an_experience(o, i, site=site) for i, o in enumerate(outcomes)])
    eligible = find_eligible(table, task=TASK, settings=settings)
    distance = table.trial[eligible.row].astype(np.float64)
    return weigh(table, eligible, distance=distance, settings=settings)


def _alphas(weighed: Weighed) -> list[float]:
    return [float(alpha) for alpha in weighed.alpha[np.argsort(weighed.distance)]]


def test_alpha_is_the_rate_by_utility_by_weight() -> None:
    # Distances 0, 1, 2: mean 1, deviation sqrt(2/3).
    beta = 1 / (math.sqrt(2 / 3) + 1)

    weighed = _weighed(PriorSettings(objectives=("f1",)))

    assert _alphas(weighed) == pytest.approx([0.0, 0.05 * math.exp(-beta), -0.02 * math.exp(-2 * beta)])


def test_adaptive_alpha_uses_the_numbers_selected() -> None:
    settings = PriorSettings(
        objectives=("f1",), beta_scale=0.0, adaptive_positive_limit=1.0, adaptive_negative_limit=-1.0
    )

    assert _alphas(_weighed(settings)) == pytest.approx([0.0, 0.5, -1.0])
    assert _alphas(_weighed(replace(settings, k_pos=1))) == pytest.approx([0.5, -1.0])


def test_a_site_weight_scales_the_weight() -> None:
    settings = PriorSettings(objectives=("f1",), beta_scale=0.0, sites={"far": 0.5})

    assert _alphas(_weighed(settings, site="far")) == pytest.approx([0.0, 0.025, -0.01])


def test_times_are_scaled_within_task_and_scope() -> None:
    # Two successes of each scope; scaled together the two short ones would have utilities of about 1.
    outcomes = [
        replace(a_success(time_s=time_s), time_scope=scope)
        for time_s, scope in ((10.0, "train+eval"), (20.0, "train+eval"), (1000.0, "all"), (3000.0, "all"))
    ]
    settings = PriorSettings(objectives=("evaluation_time_s",), beta_scale=0.0)
    table = build_table([an_experience(o, i) for i, o in enumerate(outcomes)])
    eligible = find_eligible(table, task=TASK, settings=settings)

    weighed = weigh(table, eligible, distance=np.zeros(4), settings=settings)

    assert weighed.utility[np.argsort(table.trial[weighed.row])].tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("utility", "second"), [("linear_front", 0.5), ("logarithmic_front", math.log(2) / math.log(3))]
)
def test_front_utilities_are_chosen_by_name(utility: str, second: float) -> None:
    weighed = _weighed(PriorSettings(objectives=("f1",), utility=utility, beta_scale=0.0))

    assert _alphas(weighed) == pytest.approx([0.05 * second, 0.05, -0.02])
