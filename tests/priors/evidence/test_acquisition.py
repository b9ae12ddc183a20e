"""The prior ``evidence`` at work: what it takes, how far it is trusted, what it learns during a search."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.priors.builders import SYSTEM, TASK, a_failure, a_success
from tests.priors.evidence.test_forecast import WORLD, _content, _full, _outcome, _ranking, _world
from xautolm_hpc.distribution import uniform
from xautolm_hpc.priors.evidence.acquisition import FIRST_TRUST, LEAST_TRUST, MOST_TRUST, Ranking, Taste, trust_after
from xautolm_hpc.priors.evidence.encoding import layout, pipelines_of
from xautolm_hpc.priors.evidence.observations import own_lessons
from xautolm_hpc.records import Outcome, Pipeline
from xautolm_hpc.sample import draw_pipeline
from xautolm_hpc.table import build_table


@pytest.fixture(scope="module")
def ranking() -> Ranking:
    return _ranking(_content(build_table(_world())))


def _trials(n: int, seed: int = 8) -> list[Pipeline]:
    rng = np.random.default_rng(seed)
    return [draw_pipeline(uniform(WORLD), WORLD, rng=rng) for _ in range(n)]


def test_the_most_promising_draw_is_taken_as_often_as_the_prior_is_trusted(ranking: Ranking) -> None:
    draws = [
        _full("kin", batch_size=32),
        _full("small", learning_rate=9e-4),
        _full("small"),
        _full("large", batch_size=16),
    ]
    rng = np.random.default_rng(0)

    taken = Counter(ranking.choose(draws, rng) for _ in range(300))

    assert set(taken) == {0, 2}
    assert taken[2] / 300 == pytest.approx(FIRST_TRUST, abs=0.07)


def test_a_cautious_search_takes_the_surer_of_two_draws(ranking: Ranking) -> None:
    draws = [_full("small", epochs=2, learning_rate=2e-5), _full("large", batch_size=16)]
    x, rng = ranking.scene.encode(draws), np.random.default_rng(0)
    sure = replace(ranking, trust=1.0, present=replace(ranking.present, goals={}))

    assert ranking.present.survival(x)[0] > ranking.present.survival(x)[1]
    assert replace(sure, taste=Taste(caution=1.0)).choose(draws, rng) == 0
    assert replace(sure, taste=Taste(caution=1.0)).choose(draws[::-1], rng) == 1
    assert replace(sure, taste=Taste(caution=0.0)).choose(draws[::-1], rng) == 0


def test_a_search_grows_more_cautious_but_not_without_end(ranking: Ranking) -> None:
    trials = _trials(40)
    draws, rng = [trials[1], trials[34]], np.random.default_rng(0)
    x = ranking.scene.encode(draws)
    taste = Taste(caution=1.0, thrift=0.0)
    bold = replace(ranking, trust=1.0, taste=taste)

    assert ranking.present.survival(x)[0] > ranking.present.survival(x)[1]
    assert ranking.present.merit(x, "f1")[0] < ranking.present.merit(x, "f1")[1]
    assert bold.choose(draws, rng) == 1
    assert replace(bold, n_trials=60).choose(draws, rng) == 0
    assert [taste.caution_after(n) for n in (0, 15, 30, 60, 1000)] == [1, 2, 3, 5, 5]
    known = [(pipeline, _outcome(pipeline)) for pipeline in trials[:7]]
    assert ranking.after([*known, (trials[8], a_failure("node_failure"))]).n_trials == 7


def test_knowing_how_many_succeed_but_not_which_is_no_reason_for_trust(ranking: Ranking) -> None:
    lessons = ranking.past.lessons
    told = replace(ranking.past, risks={}, goals={}, lessons=replace(lessons, cause=np.full_like(lessons.cause, -1)))
    x = ranking.scene.encode(_trials(30))

    after_successes = trust_after(told, x, outcomes=[a_success(0.5)] * 30)

    assert after_successes == pytest.approx(FIRST_TRUST, abs=0.02)


def test_a_prior_that_foretells_the_trials_is_trusted_more(ranking: Ranking) -> None:
    results = [(pipeline, _outcome(pipeline)) for pipeline in _trials(20)]

    assert ranking.after(results).trust == MOST_TRUST


def test_a_prior_that_is_wrong_is_soon_left_alone_but_never_wholly(ranking: Ranking) -> None:
    def reversed_outcome(pipeline: Pipeline) -> Outcome:
        return a_failure("error") if _outcome(pipeline).status == "succeeded" else a_success(0.5)

    trusts = [ranking.after([(p, reversed_outcome(p)) for p in _trials(n)]).trust for n in (2, 6, 20, 40)]

    assert trusts[0] >= trusts[1] >= trusts[2] == trusts[3] == LEAST_TRUST


def test_outcomes_without_pattern_do_not_raise_the_trust(ranking: Ranking) -> None:
    rng = np.random.default_rng(2)
    outcomes = [a_success(float(rng.random()), float(rng.uniform(10, 100))) if rng.random() < 0.5 else a_failure()
                for _ in range(60)]  # fmt: skip

    assert ranking.after(list(zip(_trials(60), outcomes, strict=True))).trust < FIRST_TRUST / 2


def test_failures_of_the_cluster_leave_the_ranking_as_it_is(ranking: Ranking) -> None:
    assert ranking.after([(p, a_failure("node_failure")) for p in _trials(5)]) is ranking


def test_the_trials_of_a_search_correct_what_past_experience_says(ranking: Ranking) -> None:
    heavy = [_full("large", batch_size=32, epochs=1 + i % 11, learning_rate=1e-4 + i * 1e-6) for i in range(24)]
    x = ranking.scene.encode(heavy[:1])

    after = ranking.after([(p, a_success(0.9)) for p in heavy])

    assert ranking.present.survival(x)[0] < 0.3
    assert after.present.survival(x)[0] > 0.5
    assert after.past is ranking.past


def test_the_few_successes_of_a_search_are_no_extremes_of_their_task() -> None:
    rows = pipelines_of(_trials(3), models={m.id: m for m in WORLD.models}, task=TASK, system=SYSTEM)
    outcomes = [a_success(0.2), a_failure("error"), a_success(0.6)]

    lessons = own_lessons(rows, outcomes, columns=layout(WORLD), objectives=("f1",), weight=2.0)

    np.testing.assert_allclose(lessons.goals[:, 0], [1 / 3, np.nan, 2 / 3])


def test_what_was_learnt_follows_from_the_outcomes_alone(ranking: Ranking) -> None:
    results = [(pipeline, _outcome(pipeline)) for pipeline in _trials(12)]
    draws = _trials(24, seed=9)

    once, again = (ranking.after(results).choose(draws, np.random.default_rng(4)) for _ in range(2))
    step_by_step = ranking.after(results[:6]).after(results).choose(draws, np.random.default_rng(4))

    assert once == again == step_by_step


def test_two_objectives_lead_to_different_ends_of_the_front() -> None:
    content = _content(build_table(_world()), objectives=("f1", "evaluation_time_s"))
    ranking = replace(_ranking(content, objectives=("f1", "evaluation_time_s")), trust=1.0)
    draws = [_full("small", epochs=1, learning_rate=1.3e-5), _full("small", epochs=11), _full("kin", batch_size=32)]
    rng = np.random.default_rng(0)

    taken = Counter(ranking.choose(draws, rng) for _ in range(200))

    assert taken[2] == 0
    assert min(taken[0], taken[1]) > 10
