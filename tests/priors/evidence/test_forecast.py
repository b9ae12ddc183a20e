"""The prior ``evidence``: what it learns, that it explains itself, and what must not move it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.priors.builders import SPACE, SYSTEM, TASK, a_failure, a_model, a_pipeline, a_success, an_experience
from tests.priors.xautolm.test_prior import _renumbered
from xautolm_hpc.distribution import uniform
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import INFRASTRUCTURE_KINDS
from xautolm_hpc.priors import (
    AcquisitionSettings,
    PriorSettings,
    Ranking,
    make_search_context,
    prior_content,
    ranking_from_json,
)
from xautolm_hpc.priors.evidence import forecast
from xautolm_hpc.priors.evidence.acquisition import DEFAULT_ACQUISITION
from xautolm_hpc.priors.evidence.encoding import encode, layout, pipelines_of, rows_of
from xautolm_hpc.priors.evidence.surrogate import Forest
from xautolm_hpc.records import Experience, Outcome, Pipeline
from xautolm_hpc.sample import draw_pipeline, population
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable, build_table

OTHER = replace(TASK, name="other", fingerprint="other", features=(1.1, 2.1))
LARGE = a_model("large", n_parameters=900_000_000, n_layers=30, hidden_size=1600)
KIN = a_model("kin", n_parameters=800_000_000, n_layers=28, hidden_size=1600)
WORLD = replace(SPACE, models=(a_model("small"), LARGE, KIN))


def _world(space: Space = WORLD, n: int = 240, *, skip: str = "kin", seed: int = 3) -> list[Experience]:
    """Draw trials of another task: large models run out of memory, high rates diverge, rates of 1e-4 do best."""
    rng, start = np.random.default_rng(seed), uniform(space)
    drawn = [draw_pipeline(start, space, rng=rng) for _ in range(n)]
    kept = [p for p in drawn if p.model_id != skip]
    return [an_experience(_outcome(p), i, pipeline=p, task=OTHER) for i, p in enumerate(kept)]


def _outcome(pipeline: Pipeline) -> Outcome:
    rate, batch = float(pipeline.params["learning_rate"]), int(pipeline.params.get("batch_size", 8))
    if pipeline.model_id in ("large", "kin") and batch > 8:
        return a_failure("gpu_oom")
    if pipeline.method == "full" and rate > 5e-4:
        return a_failure("diverged")
    f1 = 0.9 - 0.2 * abs(np.log10(rate) + 4)
    return a_success(f1, 10.0 * (3 if pipeline.model_id != "small" else 1) * float(pipeline.params.get("epochs", 5)))


def _content(table: ExperienceTable, space: Space = WORLD, **changes: Any) -> dict[str, Any]:
    chosen = replace(PriorSettings(kind="evidence", objectives=("f1",)), **changes)
    models = {m.id: m for m in WORLD.models}
    return prior_content(table, space, task=TASK, system=SYSTEM, settings=chosen, models=models)


def _ranking(content: dict[str, Any], space: Space = WORLD, objectives: tuple[str, ...] = ("f1",)) -> Ranking:
    context = make_search_context(space, models={}, task=TASK, system=SYSTEM, objectives=objectives)
    ranking = ranking_from_json(json.loads(json.dumps(content)), context)
    assert ranking is not None
    return ranking


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    return _content(build_table(_world()))


@pytest.fixture(scope="module")
def ranking(content: dict[str, Any]) -> Ranking:
    return _ranking(content)


def _full(model: str, **params: Any) -> Pipeline:
    usual: dict[str, Any] = {"batch_size": 8, "optimizer": "adamw", "epochs": 5, "learning_rate": 1e-4}
    return a_pipeline(model, "full", {**usual, "dropout_rate": 0.1, "class_weighted_loss": False, **params})


def test_each_failure_raises_the_risk_of_its_class_alone(ranking: Ranking) -> None:
    sound, heavy, fast = _full("large"), _full("large", batch_size=32), _full("small", learning_rate=9e-4)
    x = ranking.context.encode([sound, heavy, fast])

    memory, divergence = (ranking.past.risks[name].forecast(x) for name in ("memory", "divergence"))

    assert memory[1] > 0.7 > 0.3 > max(memory[0], memory[2])
    assert divergence[2] > 0.2 > 0.06 > divergence[0]
    assert set(ranking.past.risks) == {"memory", "divergence"}


def test_a_model_that_was_never_tried_is_predicted_from_similar_ones(ranking: Ranking) -> None:
    assert "kin" not in {e.pipeline.model_id for e in _world()}

    p_feasible = ranking.past.p_feasible(
        ranking.context.encode([_full("kin", batch_size=32), _full("small", batch_size=32)])
    )

    assert p_feasible[0] < 0.4 < 0.8 < p_feasible[1]


def test_the_utility_and_the_time_of_a_success_are_predicted(ranking: Ranking) -> None:
    x = ranking.context.encode([_full("small"), _full("small", learning_rate=1e-5), _full("small", epochs=11)])

    utility, brevity = (
        ranking.past.predicted_utility(x, "f1"),
        ranking.past.predicted_utility(x, "evaluation_time_s"),
    )

    assert utility[0] > utility[1] + 0.1
    assert brevity[0] > brevity[2] + 0.1


def test_the_content_shows_more_of_what_works_and_says_why(content: dict[str, Any]) -> None:
    models = content["models"]
    assert models["small"]["prior"] > models["small"]["uniform"] > models["kin"]["prior"] > 0.01
    assert sum(p["prior"] for p in models.values()) == pytest.approx(1)
    assert (
        content["forecast"]["models"]["kin"]["risk: memory"]
        > 0.3
        > 0.1
        > content["forecast"]["models"]["small"]["risk: memory"]
    )
    reasons = content["top"]["models"]["kin"]
    assert {r["task_fingerprint"] for r in reasons} == {OTHER.fingerprint}
    assert [r["kind"] for r in reasons].count("gpu_oom") > 2
    assert {r["model"] for r in reasons if r["kind"] == "gpu_oom"} == {"large"}
    assert all((r["f1"] is None) == (r["status"] == "failed") for r in reasons)
    assert sorted((abs(r["contribution"]) for r in reasons), reverse=True) == [abs(r["contribution"]) for r in reasons]


def test_the_larger_the_exponent_the_more_a_failure_moves_the_acquisition_value(
    content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_oom(written: dict[str, Any]) -> dict[str, float]:
        """List the contributions of failures: no utility was learnt from these, so all that they moved is a risk."""
        return {r["id"]: r["contribution"] for r in written["top"]["models"]["kin"] if r["kind"] == "gpu_oom"}

    double = AcquisitionSettings(feasibility_exponent=2 * DEFAULT_ACQUISITION.feasibility_exponent)
    monkeypatch.setattr(forecast, "DEFAULT_ACQUISITION", double)
    small, large = of_oom(content), of_oom(_content(build_table(_world())))

    both = small.keys() & large.keys()
    assert len(both) > 2
    assert all(large[key] == pytest.approx(2 * small[key]) for key in both)


def test_the_forecast_assumes_as_many_candidates_as_a_search_draws() -> None:
    assert forecast.N_CANDIDATES == population.N_CANDIDATES


def test_the_influences_of_a_forest_add_up_to_its_forecast(ranking: Ranking) -> None:
    x = ranking.context.encode([_full("large"), _full("small", epochs=9)])
    forests: list[Forest] = [*ranking.past.risks.values(), ranking.past.target_forests["f1"]]

    for forest in forests:
        influence = forest.influence(x, len(ranking.past.observations))
        assert influence.sum() == pytest.approx(1)
        assert influence[forest.rows] @ forest.target == pytest.approx(forest.forecast(x).mean())


def test_the_prior_is_the_same_in_any_order_and_numbering_bit_for_bit(content: dict[str, Any]) -> None:
    experiences = _world()
    shuffled = [experiences[i] for i in np.random.default_rng(1).permutation(len(experiences))]

    again = _content(build_table([*shuffled, *shuffled[:20]]))
    renumbered = _content(_renumbered(build_table(experiences)))

    assert json.dumps(again) == json.dumps(content)
    assert json.dumps(renumbered) == json.dumps(content)


@given(
    kinds=st.lists(st.sampled_from(INFRASTRUCTURE_KINDS), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
)
@settings(max_examples=8, deadline=None)
def test_failures_of_the_cluster_change_nothing(kinds: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    poison = [
        an_experience(a_failure(kind), 9000 + i, pipeline=draw_pipeline(uniform(WORLD), WORLD, rng=rng), task=OTHER)
        for i, kind in enumerate(kinds)
    ]
    sound = _world(n=30)

    clean, poisoned = _content(build_table(sound)), _content(build_table([*sound, *poison]))

    assert poisoned["counts"]["skipped"]["infrastructure"] == len(kinds)
    for name in clean.keys() - {"counts"}:
        assert json.dumps(poisoned[name]) == json.dumps(clean[name]), name


def test_a_trip_through_json_gives_the_same_ranking(content: dict[str, Any], ranking: Ranking) -> None:
    x = ranking.context.encode([_full("large"), _full("small", epochs=9), _full("kin", batch_size=32)])
    direct = ranking_from_json(content, ranking.context)

    assert direct is not None
    assert direct.past.p_feasible(x).tolist() == ranking.past.p_feasible(x).tolist()
    assert direct.past.predicted_utility(x, "f1").tolist() == ranking.past.predicted_utility(x, "f1").tolist()


def test_observations_of_another_space_are_rejected(content: dict[str, Any]) -> None:
    context = make_search_context(WORLD, models={}, task=TASK, system=SYSTEM, objectives=("f1", "gpu_energy_j"))

    with pytest.raises(InputError, match=r"runs/a/priors.json: its observations belong to another search space"):
        ranking_from_json(content, context, where="runs/a/priors.json")


def test_an_empty_store_has_no_ranking_and_stays_uniform() -> None:
    empty = _content(build_table([]))
    context = make_search_context(WORLD, models={}, task=TASK, system=SYSTEM, objectives=("f1",))

    assert ranking_from_json(empty, context) is None
    assert all(p["prior"] == p["uniform"] for p in (*empty["models"].values(), *empty["methods"].values()))


def test_of_a_large_store_each_task_gives_a_share_that_grows_with_nearness() -> None:
    far = replace(TASK, name="far", fingerprint="far", features=(9.0, 9.0))
    pipelines = [_full("small", epochs=1 + i % 11, learning_rate=1e-5 + i * 1e-8) for i in range(6000)]
    experiences = [
        an_experience(a_success(), i, pipeline=p, task=OTHER if i % 2 else far) for i, p in enumerate(pipelines)
    ]
    table = build_table(experiences)

    counts = _content(table)["counts"]

    assert counts["positives"] == 6000
    assert 2990 <= counts["selected_positives"] <= 3000


def test_numbers_of_a_drawn_pipeline_equal_those_of_its_experience() -> None:
    experiences = _world(n=40)
    table = build_table(experiences)
    models = {m.id: m for m in WORLD.models}
    of_table = encode(rows_of(table, np.arange(len(table)), models=models), layout(WORLD))
    by_id = {e.id.encode(): e.pipeline for e in experiences}
    pipelines = [by_id[bytes(key)] for key in table.id]
    of_draws = encode(pipelines_of(pipelines, models=models, task=OTHER, system=SYSTEM), layout(WORLD))

    np.testing.assert_array_equal(of_table, of_draws)


def _limited(n: int = 40, *, truncated: bool) -> list[Experience]:
    """End trials with many epochs at their limit: truncated, or as a time limit after an epoch."""
    ended = (
        replace(a_success(0.6), truncated=True)
        if truncated
        else replace(a_failure("time_limit"), metrics={"dev_f1": 0.5})
    )
    return [
        an_experience(ended, 900 + i, pipeline=_full("small", epochs=11), task=OTHER, run_id=f"l{i}") for i in range(n)
    ]


@pytest.mark.parametrize("truncated", [True, False])
def test_an_end_at_the_limit_is_a_risk_where_trials_fail_there_alone(truncated: bool) -> None:
    table = build_table([*_world(), *_limited(truncated=truncated)])

    fails, evaluates = (_ranking(_content(table, at_limit=value)).past for value in ("fail", "evaluate"))

    assert "time" in fails.risks
    assert "time" not in evaluates.risks
    assert evaluates.observations.is_bound.sum() == (40 if truncated else 0)
    assert not fails.observations.is_bound.any()


def test_bounds_survive_a_trip_through_json_and_others_write_none() -> None:
    with_bounds = _content(build_table([*_world(), *_limited(truncated=True)]), at_limit="evaluate")
    without = _content(build_table(_world()), at_limit="evaluate")

    assert _ranking(with_bounds).past.observations.is_bound.sum() == 40
    assert "bound" not in without["lessons"]


def test_a_truncated_experience_that_moves_the_prior_is_named_so() -> None:
    best = [replace(e, outcome=replace(e.outcome, metrics={"f1": 0.99})) for e in _limited(4, truncated=True)]
    others = [e for e in _world(n=60) if e.outcome.succeeded]

    found = _content(build_table([*others, *best]), at_limit="evaluate")

    kinds = {reason["kind"] for reasons in found["top"]["methods"].values() for reason in reasons}
    assert "truncated" in kinds
