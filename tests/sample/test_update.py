"""Learning from a generation against hand-computed values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.priors.builders import SPACE, a_pipeline
from xautolm_hpc.distribution import BooleanMarginal, CategoricalMarginal, Distribution, NumericMarginal, uniform
from xautolm_hpc.records import Pipeline, Value
from xautolm_hpc.sample.update import Evolution, Result, fittest, n_selected, update

EVOLUTION = Evolution(population=10, selection=0.2, learning_factor=0.5, objectives=("f1",))


def _results(pipelines: Sequence[Pipeline], f1: Sequence[float | None]) -> list[Result]:
    return [
        (trial, pipeline, None if value is None else {"f1": value})
        for trial, (pipeline, value) in enumerate(zip(pipelines, f1, strict=True))
    ]


def _after(pipelines: Sequence[Pipeline], **changes: Any) -> Distribution:
    """Learn from trials of which all are selected."""
    evolution = replace(EVOLUTION, population=len(pipelines), selection=1.0, **changes)
    return update(uniform(SPACE), SPACE, results=_results(pipelines, [0.5] * len(pipelines)), evolution=evolution)


def _trials(results: Sequence[Result], evolution: Evolution) -> list[int]:
    """Name the fittest by their batch size, which is their trial."""
    return [int(pipeline.params["batch_size"]) for pipeline in fittest(results, evolution)]


def _numbered(objectives: Sequence[Mapping[str, float] | None]) -> list[Result]:
    return [(t, a_pipeline(params={"batch_size": t}), values) for t, values in enumerate(objectives)]


@pytest.mark.parametrize(
    ("population", "selection", "k"),
    [(1, 0.2, 1), (4, 0.2, 1), (6, 0.2, 1), (10, 0.2, 2), (20, 0.2, 4), (10, 0.25, 3), (50, 0.29, 15), (3, 1.0, 3)],
)
def test_a_share_of_the_population_is_selected_halves_rounded_up(population: int, selection: float, k: int) -> None:
    assert n_selected(replace(EVOLUTION, population=population, selection=selection)) == k


@pytest.mark.parametrize("n", [1, 4, 6, 10, 20])
@pytest.mark.parametrize("successes", ["none", "one", "one too few", "all"])
def test_as_many_as_there_are_up_to_k_are_learnt_from(n: int, successes: str) -> None:
    evolution = replace(EVOLUTION, population=n, selection=0.5)
    k = n_selected(evolution)
    n_successes = {"none": 0, "one": 1, "one too few": k - 1, "all": n}[successes]
    results = _numbered([{"f1": trial / n} if trial < n_successes else None for trial in range(n)])

    chosen = _trials(results, evolution)

    assert chosen == list(range(n_successes))[::-1][:k]
    assert len(chosen) == min(k, n_successes)


def test_a_generation_without_success_teaches_nothing() -> None:
    start = uniform(SPACE)

    assert update(start, SPACE, results=_results([a_pipeline()] * 2, [None, None]), evolution=EVOLUTION) is start
    assert update(start, SPACE, results=[], evolution=EVOLUTION) is start


def test_a_success_without_all_objectives_is_not_eligible() -> None:
    evolution = replace(EVOLUTION, selection=1.0, objectives=("f1", "gpu_energy_j"))
    results = _numbered([{"f1": 0.9}, {"f1": 0.1, "gpu_energy_j": 5.0}, {"f1": math.nan, "gpu_energy_j": 1.0}])

    assert _trials(results, evolution) == [1]


def test_better_fronts_come_first_then_the_less_crowded_then_the_earlier_trial() -> None:
    # Front 0: trials 5, 1, 3, 4 along f1 .9 .8 .7 .2 and time 90 50 40 10; trial 0 lies behind 3, trial 2 behind 0.
    # Crowding in front 0: ends 5 and 4 infinite; 1: (.9-.7)/.7 + (90-40)/80 = .91; 3: (.8-.2)/.7 + (50-10)/80 = 1.36.
    values = [(0.6, 45.0), (0.8, 50.0), (0.5, 46.0), (0.7, 40.0), (0.2, 10.0), (0.9, 90.0)]
    evolution = replace(EVOLUTION, population=6, selection=1.0, objectives=("f1", "evaluation_time_s"))
    results = _numbered([{"f1": f1, "evaluation_time_s": time_s} for f1, time_s in values])

    assert _trials(results, evolution) == [4, 5, 3, 1, 0, 2]
    assert _trials(results[::-1], evolution) == [4, 5, 3, 1, 0, 2]


def test_a_model_gains_by_how_often_it_was_chosen() -> None:
    after = _after([a_pipeline("wide"), a_pipeline("wide"), a_pipeline("small")])

    assert after.models == pytest.approx({"small": (1 / 3 + 0.5) / 2.5, "wide": (1 / 3 + 1.0) / 2.5, "deep": 1 / 7.5})
    assert sum(after.models.values()) == pytest.approx(1.0)


def test_a_method_gains_weight_and_is_not_normalised() -> None:
    after = _after([a_pipeline(method="head", params={}), a_pipeline(), a_pipeline()])

    assert after.methods == {"full": 2.0, "head": 1.5}


def test_each_kind_of_parameter_moves_towards_the_fittest() -> None:
    first: dict[str, Value] = {"batch_size": 16, "epochs": 3, "learning_rate": 1e-5, "class_weighted_loss": True}
    second: dict[str, Value] = {"batch_size": 16, "epochs": 5, "learning_rate": 1e-3, "class_weighted_loss": True}

    full = _after([a_pipeline(params=first), a_pipeline(params=second)]).params["full"]

    assert full["batch_size"] == CategoricalMarginal(pytest.approx((1 / 6, 2 / 3, 1 / 6)))  # type: ignore[arg-type]
    assert full["class_weighted_loss"] == BooleanMarginal(0.75)
    # Mean half way from 6 to 4; deviation half way from 10 to that of 3 and 5, sqrt(2).
    epochs, rate = full["epochs"], full["learning_rate"]
    assert isinstance(epochs, NumericMarginal)
    assert isinstance(rate, NumericMarginal)
    assert (epochs.mean, epochs.dev) == pytest.approx((5.0, 5 + math.sqrt(2) / 2))
    assert not epochs.uniform
    assert (rate.mean, rate.dev) == pytest.approx((math.log(1e-4), (math.log(100) + math.log(100) / math.sqrt(2)) / 2))


def test_a_single_value_pulls_the_deviation_towards_0() -> None:
    epochs = _after([a_pipeline(params={"epochs": 10})]).params["full"]["epochs"]

    assert epochs == NumericMarginal(8.0, 5.0, uniform=False)


def test_a_parameter_none_of_the_fittest_has_stays_as_it_is() -> None:
    after = _after([a_pipeline(params={"batch_size": 8})])

    start = uniform(SPACE)
    assert after.params["head"] == start.params["head"]
    assert after.params["full"]["epochs"] == start.params["full"]["epochs"]


def test_a_value_outside_the_space_is_not_learnt() -> None:
    after = _after([a_pipeline(params={"batch_size": 999, "epochs": 99})])

    assert after.params["full"] == uniform(SPACE).params["full"]


def test_a_learning_factor_of_0_learns_nothing() -> None:
    pipeline = a_pipeline(params={"epochs": 3, "batch_size": 8})

    assert _after([pipeline], learning_factor=0.0) == uniform(SPACE)


def test_a_mean_never_leaves_the_bounds_by_rounding() -> None:
    distribution = uniform(SPACE)
    for rate in (1.0, 0.3, 0.7):
        results = _results([a_pipeline(params={"learning_rate": 1e-5})], [0.5])
        evolution = replace(EVOLUTION, learning_factor=rate)
        distribution = update(distribution, SPACE, results=results, evolution=evolution)

    marginal = distribution.params["full"]["learning_rate"]
    assert isinstance(marginal, NumericMarginal)
    assert math.log(1e-5) <= marginal.mean <= math.log(1e-3)


def test_the_same_results_give_the_same_distribution_in_any_order() -> None:
    pipelines = [a_pipeline(model, params={"epochs": e}) for model, e in (("small", 2), ("wide", 7), ("deep", 9))]
    results = _results(pipelines, [0.1, 0.3, 0.2])
    evolution = replace(EVOLUTION, selection=0.3)

    forward = update(uniform(SPACE), SPACE, results=results, evolution=evolution)

    assert update(uniform(SPACE), SPACE, results=results[::-1], evolution=evolution) == forward
