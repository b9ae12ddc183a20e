"""The prior ``evidence`` at work: what it selects, its prior weight, what it learns during a search."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.priors.builders import SYSTEM, TASK, a_failure, a_success, an_experience
from tests.priors.evidence.test_forecast import WORLD, _content, _full, _outcome, _ranking, _world
from xautolm_hpc.distribution import uniform
from xautolm_hpc.priors.evidence.acquisition import (
    INITIAL_PRIOR_WEIGHT,
    MAX_PRIOR_WEIGHT,
    MIN_PRIOR_WEIGHT,
    AcquisitionSettings,
    Ranking,
    prior_weight_after,
)
from xautolm_hpc.priors.evidence.encoding import layout, pipelines_of
from xautolm_hpc.priors.evidence.observations import own_observations
from xautolm_hpc.records import Outcome, Pipeline
from xautolm_hpc.sample import draw_pipeline
from xautolm_hpc.table import build_table


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    return _ranking(_content(build_table(_world())))


def _trials(n: int, seed: int = 8) -> list[Pipeline]:
    rng = np.random.default_rng(seed)
    return [draw_pipeline(uniform(WORLD), WORLD, rng=rng) for _ in range(n)]


def test_the_best_candidate_is_selected_as_often_as_the_prior_weight_says(ranking: Ranking) -> None:
    draws = [
        _full("kin", batch_size=32),
        _full("small", learning_rate=9e-4),
        _full("small"),
        _full("large", batch_size=16),
    ]
    rng = np.random.default_rng(0)

    taken = Counter(ranking.select(draws, rng) for _ in range(300))

    assert set(taken) == {0, 2}
    assert taken[2] / 300 == pytest.approx(INITIAL_PRIOR_WEIGHT, abs=0.07)


def test_a_feasibility_exponent_above_0_selects_the_surer_of_two_candidates(ranking: Ranking) -> None:
    draws = [_full("small", epochs=2, learning_rate=2e-5), _full("large", batch_size=16)]
    x, rng = ranking.context.encode(draws), np.random.default_rng(0)
    sure = replace(ranking, prior_weight=1.0, present=replace(ranking.present, target_forests={}))

    assert ranking.present.p_feasible(x)[0] > ranking.present.p_feasible(x)[1]
    assert replace(sure, settings=AcquisitionSettings(feasibility_exponent=1.0)).select(draws, rng) == 0
    assert replace(sure, settings=AcquisitionSettings(feasibility_exponent=1.0)).select(draws[::-1], rng) == 1
    assert replace(sure, settings=AcquisitionSettings(feasibility_exponent=0.0)).select(draws[::-1], rng) == 0


def test_the_feasibility_exponent_grows_with_the_trials_up_to_a_limit(ranking: Ranking) -> None:
    trials = _trials(40)
    draws, rng = [trials[1], trials[34]], np.random.default_rng(0)
    x = ranking.context.encode(draws)
    settings = AcquisitionSettings(feasibility_exponent=1.0, time_weight=0.0)
    bold = replace(ranking, prior_weight=1.0, settings=settings)

    assert ranking.present.p_feasible(x)[0] > ranking.present.p_feasible(x)[1]
    assert ranking.present.predicted_utility(x, "f1")[0] < ranking.present.predicted_utility(x, "f1")[1]
    assert bold.select(draws, rng) == 1
    assert replace(bold, n_trials=60).select(draws, rng) == 0
    assert [settings.exponent_after(n) for n in (0, 15, 30, 60, 1000)] == [1, 2, 3, 5, 5]
    known = [(pipeline, _outcome(pipeline)) for pipeline in trials[:7]]
    assert ranking.after([*known, (trials[8], a_failure("node_failure"))]).n_trials == 7


def test_a_prior_that_knows_only_how_many_succeed_gains_no_weight(ranking: Ranking) -> None:
    observations = ranking.past.observations
    only_rate = replace(
        ranking.past,
        risks={},
        target_forests={},
        observations=replace(observations, failure_class=np.full_like(observations.failure_class, -1)),
    )
    x = ranking.context.encode(_trials(30))

    after_successes = prior_weight_after(only_rate, x, outcomes=[a_success(0.5)] * 30)

    assert after_successes == pytest.approx(INITIAL_PRIOR_WEIGHT, abs=0.02)


def test_a_prior_that_predicts_the_trials_gains_weight(ranking: Ranking) -> None:
    results = [(pipeline, _outcome(pipeline)) for pipeline in _trials(20)]

    assert ranking.after(results).prior_weight == MAX_PRIOR_WEIGHT


def test_a_prior_that_is_wrong_soon_has_the_least_weight(ranking: Ranking) -> None:
    def reversed_outcome(pipeline: Pipeline) -> Outcome:
        return a_failure("error") if _outcome(pipeline).status == "succeeded" else a_success(0.5)

    weights = [ranking.after([(p, reversed_outcome(p)) for p in _trials(n)]).prior_weight for n in (2, 6, 20, 40)]

    assert weights[0] >= weights[1] >= weights[2] == weights[3] == MIN_PRIOR_WEIGHT


def test_outcomes_without_pattern_lower_the_prior_weight(ranking: Ranking) -> None:
    rng = np.random.default_rng(2)
    outcomes = [a_success(float(rng.random()), float(rng.uniform(10, 100))) if rng.random() < 0.5 else a_failure()
                for _ in range(60)]  # fmt: skip

    assert ranking.after(list(zip(_trials(60), outcomes, strict=True))).prior_weight < INITIAL_PRIOR_WEIGHT / 2


def test_failures_of_the_cluster_leave_the_ranking_as_it_is(ranking: Ranking) -> None:
    assert ranking.after([(p, a_failure("node_failure")) for p in _trials(5)]) is ranking


def test_the_trials_of_a_search_correct_what_past_experience_says(ranking: Ranking) -> None:
    heavy = [_full("large", batch_size=32, epochs=1 + i % 11, learning_rate=1e-4 + i * 1e-6) for i in range(24)]
    x = ranking.context.encode(heavy[:1])

    after = ranking.after([(p, a_success(0.9)) for p in heavy])

    assert ranking.present.p_feasible(x)[0] < 0.3
    assert after.present.p_feasible(x)[0] > 0.5
    assert after.past is ranking.past


def test_the_few_successes_of_a_search_are_no_extremes_of_their_task() -> None:
    rows = pipelines_of(_trials(3), models={m.id: m for m in WORLD.models}, task=TASK, system=SYSTEM)
    outcomes = [a_success(0.2), a_failure("error"), a_success(0.6)]

    observations = own_observations(rows, outcomes, columns=layout(WORLD), objectives=("f1",), weight=2.0)

    np.testing.assert_allclose(observations.targets[:, 0], [1 / 3, np.nan, 2 / 3])


def test_what_was_learnt_follows_from_the_outcomes_alone(ranking: Ranking) -> None:
    results = [(pipeline, _outcome(pipeline)) for pipeline in _trials(12)]
    draws = _trials(24, seed=9)

    once, again = (ranking.after(results).select(draws, np.random.default_rng(4)) for _ in range(2))
    step_by_step = ranking.after(results[:6]).after(results).select(draws, np.random.default_rng(4))

    assert once == again == step_by_step


def test_two_objectives_lead_to_different_ends_of_the_front() -> None:
    content = _content(build_table(_world()), objectives=("f1", "evaluation_time_s"))
    ranking = replace(_ranking(content, objectives=("f1", "evaluation_time_s")), prior_weight=1.0)
    draws = [_full("small", epochs=1, learning_rate=1.3e-5), _full("small", epochs=11), _full("kin", batch_size=32)]
    rng = np.random.default_rng(0)

    taken = Counter(ranking.select(draws, rng) for _ in range(200))

    assert taken[2] == 0
    assert min(taken[0], taken[1]) > 10


def _bounds(f1: float, n: int = 12) -> list[tuple[Pipeline, Outcome]]:
    """End trials of one good pipeline at their limit, each with a lower bound of F1."""
    return [(_full("small", dropout_rate=0.01 * i), replace(a_success(f1), truncated=True)) for i in range(n)]


def test_a_lower_bound_raises_what_is_predicted_and_never_lowers_it(ranking: Ranking) -> None:
    x = ranking.context.encode([_full("small")])
    whole = [(p, _outcome(p)) for p in _trials(30, seed=4)]
    start = ranking.after(whole).present.predicted_utility(x, "f1")[0]

    low = ranking.after([*whole, *_bounds(0.65)]).present.predicted_utility(x, "f1")[0]
    high = ranking.after([*whole, *_bounds(0.99)]).present.predicted_utility(x, "f1")[0]
    as_whole = ranking.after([*whole, *((p, replace(o, truncated=False)) for p, o in _bounds(0.65))])

    assert as_whole.present.predicted_utility(x, "f1")[0] < start - 0.2
    assert low == pytest.approx(start, abs=0.1)
    assert high > start


def test_the_time_of_a_truncated_trial_is_unknown_and_its_end_no_failure(ranking: Ranking) -> None:
    outcomes = [o for _, o in _bounds(0.5)]
    rows = pipelines_of([p for p, _ in _bounds(0.5)], models=ranking.context.models, task=TASK, system=SYSTEM)

    own = own_observations(rows, outcomes, columns=layout(WORLD), objectives=("f1", "evaluation_time_s"), weight=2.0)

    assert np.isnan(own.targets[:, 1]).all()
    assert np.isfinite(own.targets[:, 0]).all()
    assert own.is_bound.all()
    assert (own.failure_class == -1).all()


def test_a_draw_is_accepted_the_less_the_more_certainly_it_fails(ranking: Ranking) -> None:
    sound, heavy = _full("small"), _full("large", batch_size=32)
    trusted = replace(ranking, prior_weight=1.0)

    assert trusted.p_accept(sound) > 0.9
    assert 0.09 < trusted.p_accept(heavy) < 0.35
    assert replace(ranking, prior_weight=0.0).p_accept(heavy) == 1.0


def test_every_draw_keeps_a_chance() -> None:
    doomed = _ranking(
        _content(build_table([an_experience(a_failure(), i, pipeline=p) for i, p in enumerate(_trials(40))]))
    )

    assert replace(doomed, prior_weight=1.0).p_accept(_full("small")) == pytest.approx(0.1)
