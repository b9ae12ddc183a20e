"""The distribution over pipelines: where a search starts, and how it is written down."""

import json
import math
from dataclasses import replace

import pytest

from tests.priors.builders import SPACE
from xautolm_hpc.distribution import (
    BooleanMarginal,
    CategoricalMarginal,
    Distribution,
    NumericMarginal,
    scale_bounds,
    to_scale,
    uniform,
)
from xautolm_hpc.errors import InputError
from xautolm_hpc.space import Numeric


def test_a_search_without_experience_starts_uniform() -> None:
    start = uniform(SPACE)

    assert start.models == {"small": 1 / 3, "wide": 1 / 3, "deep": 1 / 3}
    assert start.methods == {"full": 1.0, "head": 1.0}
    assert start.params["full"]["batch_size"] == CategoricalMarginal((1 / 3, 1 / 3, 1 / 3))
    assert start.params["full"]["class_weighted_loss"] == BooleanMarginal(0.5)


def test_a_number_starts_in_the_middle_of_its_scale_with_the_range_as_deviation() -> None:
    params = uniform(SPACE).params["full"]

    assert params["epochs"] == NumericMarginal(mean=6.0, dev=10.0, uniform=True)
    rate = params["learning_rate"]
    assert isinstance(rate, NumericMarginal)
    assert (rate.mean, rate.dev) == pytest.approx((math.log(1e-4), math.log(100)))


def test_a_logarithmic_number_has_the_logarithm_as_its_scale() -> None:
    parameter = Numeric(1.0, math.e**2, log=True)

    assert to_scale(parameter, math.e) == pytest.approx(1.0)
    assert scale_bounds(parameter) == pytest.approx((0.0, 2.0))
    assert scale_bounds(Numeric(-1.0, 3.0)) == (-1.0, 3.0)


def test_probabilities_of_methods_are_their_normalised_weights() -> None:
    distribution = replace(uniform(SPACE), methods={"full": 1.5, "head": 0.5})

    shown = distribution.probabilities()

    assert shown["methods"] == {"full": 0.75, "head": 0.25}
    assert sum(shown["models"].values()) == pytest.approx(1.0)


def test_a_distribution_survives_json_bit_for_bit() -> None:
    start = uniform(SPACE)
    params = {**start.params["full"], "epochs": NumericMarginal(0.1 + 0.2, 1 / 3, uniform=False)}
    distribution = replace(
        start,
        models={"small": 0.1, "wide": 0.7, "deep": 1 - 0.1 - 0.7},
        params={**start.params, "full": params},
    )

    read = Distribution.from_json(json.loads(json.dumps(distribution.to_json(SPACE))), SPACE)

    assert read == distribution


def test_json_says_which_value_a_probability_belongs_to() -> None:
    written = uniform(SPACE).to_json(SPACE)["params"]["full"]

    assert written["optimizer"] == {"values": ["adamw", "sgd"], "probabilities": [0.5, 0.5]}
    assert written["epochs"] == {"scale": "linear", "mean": 6.0, "dev": 10.0, "uniform": True}
    assert written["class_weighted_loss"] == {"p_true": 0.5}


def test_a_distribution_of_another_space_is_refused() -> None:
    fewer = replace(SPACE, models=SPACE.models[:2])

    with pytest.raises(InputError, match=r"priors.json: is a distribution over another search space"):
        Distribution.from_json(uniform(SPACE).to_json(SPACE), fewer)
    with pytest.raises(InputError, match=r"priors.json: is no distribution over this search space: .*deep"):
        Distribution.from_json(uniform(fewer).to_json(fewer), SPACE)
