"""The whole prior: against the formulas by the letter, and unmoved by what must not move it."""

import dataclasses
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nouns import stopped
from tests.priors.builders import (
    SPACE,
    SYSTEM,
    TASK,
    a_failure,
    a_pipeline,
    a_success,
    an_experience,
    random_experiences,
)
from xautolm_hpc.config import PriorSection
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
from xautolm_hpc.priors import Prior, PriorSettings, compute_prior, prior_to_json, summary_line
from xautolm_hpc.records import Experience, Outcome, Value
from xautolm_hpc.space import Boolean, Categorical, Space, contains
from xautolm_hpc.table import ExperienceTable, ParamColumn, build_table

SETTINGS = PriorSettings(kind="xautolm")


def _prior(experiences: list[Experience], space: Space = SPACE, **changes: Any) -> Prior:
    return _prior_of(build_table(experiences), space, **changes)


def _prior_of(table: ExperienceTable, space: Space = SPACE, **changes: Any) -> Prior:
    return compute_prior(table, space, task=TASK, system=SYSTEM, settings=replace(SETTINGS, **changes))


def _one(params: dict[str, Value], *, model: str = "small", method: str = "full") -> Experience:
    return an_experience(a_success(), pipeline=a_pipeline(model, method, params))


# One success, whose only utility is .5: alpha = 1 x .5 (adaptive limit 1, one success, distance 0).
def _after_one_success(experience: Experience) -> Distribution:
    return _prior([experience], adaptive_positive_limit=1.0).distribution


def test_one_success_moves_model_and_method() -> None:
    after = _after_one_success(_one({}, model="wide", method="head"))

    assert after.models == pytest.approx({"small": 1 / 4.5, "wide": 2.5 / 4.5, "deep": 1 / 4.5})
    assert after.methods == {"full": 1.0, "head": 1.5}


def test_one_success_moves_each_kind_of_parameter() -> None:
    params: dict[str, Value] = {
        "batch_size": 16,
        "optimizer": "sgd",
        "epochs": 10,
        "learning_rate": 1e-3,
        "dropout_rate": 0.0,
        "class_weighted_loss": True,
    }

    full = _after_one_success(_one(params)).params["full"]

    assert full["batch_size"] == CategoricalMarginal(pytest.approx((2 / 9, 5 / 9, 2 / 9)))  # type: ignore[arg-type]
    assert full["optimizer"] == CategoricalMarginal(pytest.approx((1 / 3, 2 / 3)))  # type: ignore[arg-type]
    assert full["class_weighted_loss"] == BooleanMarginal(0.75)
    assert full["epochs"] == NumericMarginal(8.0, 5.0, uniform=False)
    assert full["dropout_rate"] == NumericMarginal(pytest.approx(0.1), 0.2, uniform=False)  # type: ignore[arg-type]
    rate = full["learning_rate"]
    assert isinstance(rate, NumericMarginal)
    assert (rate.mean, rate.dev) == pytest.approx((math.log(10**-3.5), math.log(10)))


def test_a_parameter_is_learnt_for_its_method_only() -> None:
    after = _after_one_success(_one({"learning_rate": 1e-3}, method="full"))

    assert after.params["head"] == uniform(SPACE).params["head"]


@pytest.mark.parametrize(
    "value",
    [{"batch_size": 64}, {"batch_size": 8.0}, {"batch_size": "8"}, {"epochs": 12}, {"epochs": 0}, {"epochs": True}],
)
def test_a_value_outside_the_space_is_skipped(value: dict[str, Value]) -> None:
    after = _after_one_success(_one({**value, "optimizer": "sgd"}))

    assert after.params["full"]["batch_size"] == uniform(SPACE).params["full"]["batch_size"]
    assert after.params["full"]["epochs"] == uniform(SPACE).params["full"]["epochs"]
    assert after.params["full"]["optimizer"] != uniform(SPACE).params["full"]["optimizer"]


@pytest.mark.parametrize(("model", "method"), [("unknown", "full"), ("small", "lora")])
def test_a_model_or_method_outside_the_space_updates_nothing(model: str, method: str) -> None:
    prior = _prior([_one({"learning_rate": 1e-3}, model=model, method=method)])

    assert prior.distribution == uniform(SPACE)
    assert prior_to_json(prior)["counts"]["outside_space"] == 1


def test_a_success_of_utility_0_leaves_numbers_uniform() -> None:
    experiences = [an_experience(a_success(f1), i, pipeline=a_pipeline(params={"epochs": 3 + i, "batch_size": 8}))
                   for i, f1 in enumerate((0.5, 0.9))]  # fmt: skip

    epochs = _prior(experiences, objectives=("f1",)).distribution.params["full"]["epochs"]
    untouched = _prior(experiences, objectives=("f1",), max_alpha=0.0).distribution.params["full"]["epochs"]

    assert isinstance(epochs, NumericMarginal)
    assert not epochs.uniform
    assert untouched == uniform(SPACE).params["full"]["epochs"]


def test_the_prior_is_the_formulas_by_the_letter() -> None:
    prior = _prior(random_experiences(1000), deduplicate=False, min_alpha=-0.03, max_alpha=0.3)

    expected = _replay_by_the_letter(prior)

    assert prior.distribution.models == pytest.approx(expected["models"], abs=1e-12)
    assert prior.distribution.methods == pytest.approx(expected["methods"], abs=1e-12)
    assert len(prior.weighed) == 1000
    for method, params in prior.distribution.params.items():
        for name, marginal in params.items():
            assert _numbers(marginal) == pytest.approx(expected[method][name], abs=1e-10), (method, name)


def _numbers(marginal: Any) -> list[float]:
    if isinstance(marginal, CategoricalMarginal):
        return list(marginal.probabilities)
    return [marginal.p_true] if isinstance(marginal, BooleanMarginal) else [marginal.mean, marginal.dev]


def _replay_by_the_letter(prior: Prior) -> dict[str, Any]:
    """Replay one experience after the other over dictionaries, as the design writes it."""
    state: dict[str, Any] = {"models": dict(uniform(SPACE).models), "methods": dict(uniform(SPACE).methods)}
    for method in SPACE.methods:
        state[method.name] = {name: _numbers(uniform(SPACE).params[method.name][name]) for name in method.params}
    by_id = {e.id: e for e in random_experiences(1000)}
    ids = [bytes(prior.table.id[row]).decode() for row in prior.weighed.row]
    for alpha, key in sorted(zip(prior.weighed.alpha.tolist(), ids, strict=True), key=lambda pair: (-pair[0], pair[1])):
        pipeline = by_id[key].pipeline
        models = state["models"]
        models[pipeline.model_id] = max(models[pipeline.model_id] + alpha, 0.001)
        total = sum(models.values())
        state["models"] = {name: p / total for name, p in models.items()}
        state["methods"][pipeline.method] = max(state["methods"][pipeline.method] + alpha, 0.001)
        for name, value in pipeline.params.items():
            state[pipeline.method][name] = _step(pipeline.method, name, state[pipeline.method][name], value, alpha)
    return state


def _step(method: str, name: str, old: list[float], value: Value, alpha: float) -> list[float]:
    parameter = next(m for m in SPACE.methods if m.name == method).params[name]
    if isinstance(parameter, Categorical):
        raised = [max(p + alpha, 0.001) if v == value else p for p, v in zip(old, parameter.values, strict=True)]
        return [p / sum(raised) for p in raised]
    if isinstance(parameter, Boolean):
        return [min(max((1 - alpha) * old[0] + alpha * float(value), 0.001), 0.999)]
    low, high = scale_bounds(parameter)
    mean = (1 - alpha) * old[0] + alpha * to_scale(parameter, float(value))
    dev = (1 - alpha) * old[1]
    return [min(max(mean, low), high), min(max(dev, 0.01 * (high - low)), high - low)]


def test_the_prior_is_the_same_in_any_order_bit_for_bit() -> None:
    experiences = random_experiences(200)
    expected = json.dumps(prior_to_json(_prior(experiences)))

    shuffled = [experiences[i] for i in np.random.default_rng(1).permutation(200)]

    assert json.dumps(prior_to_json(_prior([*shuffled, *shuffled[:50]]))) == expected


def test_the_prior_does_not_depend_on_how_a_store_numbers_tasks_and_texts() -> None:
    table = build_table(random_experiences(200))

    renumbered = _renumbered(table)

    assert renumbered.tasks != table.tasks
    assert prior_to_json(_prior_of(renumbered)) == prior_to_json(_prior_of(table))


def _renumbered(table: ExperienceTable) -> ExperienceTable:
    """Reverse every dictionary of a table, with something unused in front."""

    def flip(codes: NDArray[np.int32], n: int) -> NDArray[np.int32]:
        return np.where(codes < 0, codes, n - codes).astype(np.int32)

    tables: dict[str, Any] = {}
    for column, group in (("task", "tasks"), ("system", "systems"), ("model", "models"), ("method", "methods")):
        values = getattr(table, group)
        tables[group] = (values[0], *reversed(values))
        tables[column] = flip(getattr(table, column), len(values))
    texts = ("unused", *reversed(table.texts))
    params = {
        name: ParamColumn(type_code=c.type_code, number=c.number, text=flip(c.text, len(table.texts)))
        for name, c in sorted(table.params.items(), reverse=True)
    }
    return replace(table, **tables, texts=texts, time_scope=flip(table.time_scope, len(table.texts)), params=params)


def _poisons() -> dict[str, list[Experience]]:
    best: Outcome = a_success(1.0, 1.0)
    pipeline = a_pipeline("wide", "head", {"learning_rate": 1e-2})
    rescued = an_experience(a_success(0.31, 60.0), 9001, attempt=1, pipeline=a_pipeline("small", "full", {}))
    failed = replace(rescued, outcome=a_failure("host_oom"), provenance=replace(rescued.provenance, attempt=0))
    return {
        "infrastructure": [an_experience(a_failure("node_failure"), 9000, pipeline=pipeline)],
        "no energy": [an_experience(replace(best, gpu_energy_j=None), 9000, pipeline=pipeline)],
        "other schema": [
            an_experience(best, 9000, pipeline=pipeline, task=replace(TASK, feature_schema="text-classification/0"))
        ],
        "other kind": [an_experience(best, 9000, pipeline=pipeline, task=replace(TASK, kind="text-generation"))],
        "suspect": [an_experience(a_failure(), 9000, pipeline=pipeline, suspect=True)],
        "rescued": [failed],
    }


@pytest.mark.parametrize("poison", _poisons())
def test_what_is_no_evidence_changes_nothing(poison: str) -> None:
    rescued = an_experience(a_success(0.31, 60.0), 9001, attempt=1, pipeline=a_pipeline("small", "full", {}))
    sound = [*random_experiences(60), rescued]
    objectives = ("f1", "gpu_energy_j")

    clean = _prior(sound, objectives=objectives)
    poisoned = _prior([*sound, *_poisons()[poison]], objectives=objectives)

    assert poisoned.distribution == clean.distribution
    assert poisoned.weighed.alpha.tolist() == clean.weighed.alpha.tolist()
    assert len(poisoned.table) == len(clean.table) + 1


@pytest.mark.parametrize("kind", ["xautolm", "knn"])
def test_a_truncated_success_moves_a_prior_as_the_time_limit_it_would_have_met(kind: str) -> None:
    others = [an_experience(a_success(0.9), 1), an_experience(a_success(0.2), 2)]
    cut, limit = replace(a_success(0.7), truncated=True), a_failure("time_limit")

    read = _prior([an_experience(cut, 0), *others], kind=kind)
    expected = _prior([an_experience(limit, 0), *others], kind=kind)

    assert sorted(read.weighed.positive.tolist()) == [False, True, True]
    assert sorted(read.weighed.alpha.tolist()) == pytest.approx(sorted(expected.weighed.alpha.tolist()))
    assert read.distribution.models == pytest.approx(expected.distribution.models)


@pytest.mark.parametrize("kind", ["xautolm", "knn", "uniform"])
def test_a_stopped_trial_leaves_a_prior_as_it_was_bit_for_bit(kind: str) -> None:
    others = [an_experience(a_success(0.9), 1), an_experience(a_failure("diverged"), 2)]
    left = stopped(metrics={"f1": 0.99, "dev_f1": 0.99}, evaluation_time_s=1.0, gpu_energy_j=1.0)

    with_it, without = _prior([an_experience(left, 0), *others], kind=kind), _prior(others, kind=kind)

    assert with_it.distribution == without.distribution
    assert with_it.eligible.skipped["stopped"] == 1


def test_the_uniform_prior_uses_nothing_and_counts_what_there_is() -> None:
    prior = _prior(random_experiences(20), kind="uniform")

    assert prior.distribution == uniform(SPACE)
    assert len(prior.weighed) == 0
    assert prior_to_json(prior)["counts"]["records"] == 20


def test_an_empty_store_gives_the_uniform_distribution() -> None:
    assert _prior([]).distribution == uniform(SPACE)


def test_experience_adds_no_value_to_the_space() -> None:
    prior = _prior(random_experiences(50))

    assert set(prior.distribution.models) == {"small", "wide", "deep"}
    assert all(contains(SPACE.methods[0].params["batch_size"], v) for v in (8, 16, 32))
    assert len(_numbers(prior.distribution.params["full"]["batch_size"])) == 3


def test_settings_are_those_of_the_search_file_and_its_objectives() -> None:
    written = PriorSection()

    settings = PriorSettings(objectives=("f1",), **written.model_dump())

    assert settings == PriorSettings(objectives=("f1",))
    assert {field.name for field in dataclasses.fields(settings)} == {
        *PriorSection.model_fields,
        "objectives",
        "at_limit",
    }


def test_a_summary_counts_what_was_weighed() -> None:
    experiences = [an_experience(a_success(), 0), an_experience(a_failure(), 1), an_experience(a_failure("lost"), 2)]

    assert summary_line(_prior(experiences)) == (
        "1 successes and 1 failures weighed, 2 of them about models and methods of this space; "
        "1 of 3 records are no evidence"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "magic"}, r"prior.kind: 'magic' is not valid; valid: uniform, xautolm, knn, evidence"),
        ({"distance": "hamming"}, r"prior.distance: 'hamming'.*valid: euclidean, cosine"),
        ({"utility": "best"}, r"prior.utility: 'best'.*logarithmic_front"),
        ({"objectives": ("accuracy",)}, r"search.objectives: accuracy: .*valid: f1"),
        ({"weights": {"gpu_energy_j": 1.0}}, r"prior.weights: gpu_energy_j: .*valid: f1, evaluation_time_s"),
        ({"weights": {"f1": 0.0}}, r"prior.weights: .* add up to nothing"),
    ],
)
def test_unknown_settings_are_refused_with_what_is_valid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        _prior([], **changes)
