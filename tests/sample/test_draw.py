"""Drawing pipelines: streams, supported pairs, and the shape of each marginal."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from tests.priors.builders import SPACE, a_model
from xautolm_hpc.distribution import BooleanMarginal, CategoricalMarginal, Marginal, NumericMarginal, uniform
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import Value
from xautolm_hpc.sample.draw import draw_pipeline, draw_stream, training_seed
from xautolm_hpc.space import Boolean, Categorical, Method, Numeric, Parameter, Space, contains


def _draws(parameter: Parameter, marginal: Marginal | None = None, *, n: int = 4000) -> list[Value]:
    space = Space("text-classification", (a_model(),), (Method("full", {"x": parameter}),))
    start = uniform(space)
    distribution = start if marginal is None else replace(start, params={"full": {"x": marginal}})
    rng = np.random.default_rng(7)
    return [draw_pipeline(distribution, space, rng=rng).params["x"] for _ in range(n)]


def _numbers(values: list[Value]) -> list[float]:
    return [float(value) for value in values]


def test_one_stream_belongs_to_each_seed_trial_and_draw() -> None:
    numbers = {(s, t, d): draw_stream(s, t, draw=d).random() for s in range(3) for t in range(3) for d in range(3)}

    assert len(set(numbers.values())) == 27
    assert draw_stream(1, 2, draw=0).random() == numbers[1, 2, 0]


def test_training_seeds_are_31_bits_and_differ_by_search_and_trial() -> None:
    seeds = [training_seed(search, trial) for search in range(10) for trial in range(100)]

    assert len(set(seeds)) == 1000
    assert max(seeds) < 2**31
    assert max(seeds) > 2**30
    assert training_seed(3, 5) == training_seed(3, 5)


def test_training_does_not_share_its_stream_with_the_first_draw() -> None:
    of_draw = int(np.random.SeedSequence([3, 5, 0]).generate_state(1)[0]) >> 1

    assert training_seed(3, 5) != of_draw


def test_a_drawn_pipeline_lies_in_the_space() -> None:
    rng = np.random.default_rng(0)

    pipelines = [draw_pipeline(uniform(SPACE), SPACE, rng=rng) for _ in range(300)]

    for pipeline in pipelines:
        method = SPACE.method(pipeline.method)
        assert method is not None
        assert list(pipeline.params) == list(method.params)
        assert all(contains(method.params[name], value) for name, value in pipeline.params.items())
    assert {p.model_id for p in pipelines} == {"small", "wide", "deep"}


def test_an_unsupported_pair_is_never_drawn_and_the_others_stay_in_proportion() -> None:
    rng = np.random.default_rng(0)

    pairs = Counter(
        (p.model_id, p.method) for p in (draw_pipeline(uniform(SPACE), SPACE, rng=rng) for _ in range(5000))
    )

    assert ("deep", "head") not in pairs
    assert {pair: n / 5000 for pair, n in pairs.items()} == pytest.approx(dict.fromkeys(pairs, 0.2), abs=0.02)


def test_a_space_in_which_no_pair_is_supported_is_rejected() -> None:
    space = replace(SPACE, models=(a_model("deep", unsupported_methods=("full", "head")),))

    with pytest.raises(SpaceError, match=r"no model supports any of the methods full, head"):
        draw_pipeline(uniform(space), space, rng=np.random.default_rng(0))


def test_the_revision_of_the_model_is_drawn_with_it() -> None:
    space = replace(SPACE, models=(a_model(revision="abc"),))

    assert draw_pipeline(uniform(space), space, rng=np.random.default_rng(0)).model_revision == "abc"


def test_models_and_methods_follow_their_weights() -> None:
    distribution = replace(
        uniform(SPACE), models={"small": 0.0, "wide": 1.0, "deep": 0.0}, methods={"full": 0.5, "head": 1.5}
    )
    rng = np.random.default_rng(0)

    pipelines = [draw_pipeline(distribution, SPACE, rng=rng) for _ in range(2000)]

    assert {p.model_id for p in pipelines} == {"wide"}
    assert sum(p.method == "head" for p in pipelines) / 2000 == pytest.approx(0.75, abs=0.03)


def test_values_follow_their_probabilities_and_keep_their_type() -> None:
    values = _draws(Categorical((1, 1.5, "x", True)), CategoricalMarginal((0.5, 0.25, 0.25, 0.0)))

    counts = Counter(values)
    assert {value: n / 4000 for value, n in counts.items()} == pytest.approx({1: 0.5, 1.5: 0.25, "x": 0.25}, abs=0.03)
    assert {type(value) for value in values} == {int, float, str}


def test_booleans_follow_their_probability() -> None:
    values = _draws(Boolean(), BooleanMarginal(0.9))

    assert {type(value) for value in values} == {bool}
    assert _numbers(values).count(1.0) / 4000 == pytest.approx(0.9, abs=0.02)


def test_an_untouched_number_is_uniform_between_its_bounds() -> None:
    quarters = np.histogram(_numbers(_draws(Numeric(2.0, 6.0))), bins=[2, 3, 4, 5, 6])[0]

    assert quarters.sum() == 4000
    assert quarters / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def test_an_untouched_logarithmic_number_is_uniform_in_its_logarithm() -> None:
    decades = np.histogram(_numbers(_draws(Numeric(1e-5, 1e-1, log=True))), bins=[1e-5, 1e-4, 1e-3, 1e-2, 1e-1])[0]

    assert decades.sum() == 4000
    assert decades / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def test_an_untouched_integer_takes_each_value_as_often_ends_included() -> None:
    values = _draws(Numeric(1.0, 4.0, integer=True))

    counts = Counter(_numbers(values))
    assert {type(value) for value in values} == {int}
    assert {value: n / 4000 for value, n in counts.items()} == pytest.approx(
        dict.fromkeys([1, 2, 3, 4], 0.25), abs=0.03
    )


def test_a_logarithmic_integer_takes_small_values_more_often() -> None:
    counts = Counter(_numbers(_draws(Numeric(1.0, 64.0, log=True, integer=True))))

    assert min(counts) == 1
    assert max(counts) == 64
    assert counts[1] / 4000 == pytest.approx(math.log(1.5 / 0.5) / math.log(64.5 / 0.5), abs=0.03)


def test_a_touched_number_is_a_normal_cut_off_at_its_bounds() -> None:
    values = _numbers(_draws(Numeric(0.0, 10.0), NumericMarginal(9.0, 2.0, uniform=False)))

    assert 0 <= min(values) < max(values) <= 10
    # Of a normal cut off half a deviation above its mean, .3085 is gone: P(x < 9) = .5 / .6915.
    assert np.mean(np.array(values) < 9) == pytest.approx(0.5 / 0.6915, abs=0.03)
    assert values.count(10.0) == 0


def test_a_touched_logarithmic_integer_is_rounded_within_its_bounds() -> None:
    values = _draws(Numeric(1.0, 8.0, log=True, integer=True), NumericMarginal(math.log(4), 0.1, uniform=False))

    assert {type(value) for value in values} == {int}
    assert Counter(values).most_common(1)[0][0] == 4
    assert set(_numbers(values)) <= {3, 4, 5, 6}


def test_a_number_of_no_deviation_is_its_mean() -> None:
    assert set(_draws(Numeric(0.0, 1.0), NumericMarginal(1.0, 0.0, uniform=False), n=5)) == {1.0}
