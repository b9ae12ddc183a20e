"""Explanations of a prior: they add up, and name who did what."""

import json
from typing import Any

import numpy as np
import pytest

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
from xautolm_hpc.distribution import BooleanMarginal, CategoricalMarginal, Distribution, NumericMarginal
from xautolm_hpc.errors import InputError
from xautolm_hpc.priors import (
    ExplanationTarget,
    Prior,
    PriorSettings,
    compute_prior,
    contributions,
    explain,
    prior_to_json,
)
from xautolm_hpc.records import Experience
from xautolm_hpc.space import Categorical
from xautolm_hpc.table import build_table


def _prior(experiences: list[Experience], **changes: Any) -> Prior:
    settings = PriorSettings(kind="xautolm", **changes)
    return compute_prior(build_table(experiences), SPACE, task=TASK, system=SYSTEM, settings=settings)


def _targets() -> list[ExplanationTarget]:
    """List everything that can be explained in the small space."""
    targets = [ExplanationTarget(model=model.id) for model in SPACE.models] + [
        ExplanationTarget(method=m.name) for m in SPACE.methods
    ]
    for method in SPACE.methods:
        for name, parameter in method.params.items():
            values = parameter.values if isinstance(parameter, Categorical) else (None,)
            targets += [ExplanationTarget(method=method.name, param=name, value=value) for value in values]
    return targets


def _value(distribution: Distribution, target: ExplanationTarget) -> float:
    if target.model is not None:
        return distribution.models[target.model]
    if target.param is None:
        return distribution.probabilities()["methods"][str(target.method)]
    marginal = distribution.params[str(target.method)][target.param]
    if isinstance(marginal, CategoricalMarginal):
        parameter = next(m for m in SPACE.methods if m.name == target.method).params[target.param]
        assert isinstance(parameter, Categorical)
        return marginal.probabilities[[repr(v) for v in parameter.values].index(repr(target.value))]
    return marginal.p_true if isinstance(marginal, BooleanMarginal) else marginal.mean


@pytest.mark.parametrize("target", _targets(), ids=str)
def test_contributions_of_a_thousand_experiences_add_up_to_what_changed(target: ExplanationTarget) -> None:
    prior = _prior(random_experiences(1000), max_alpha=0.3)

    steps, moved = contributions(prior, target)

    assert len(moved) == len(steps.row) > 100
    change = _value(prior.distribution, target) - _value(prior.start, target)
    assert abs(moved.sum() - change) < 1e-9
    assert abs(change) > 1e-6


def test_contributions_add_up_when_there_are_few_and_strong_steps() -> None:
    prior = _prior(random_experiences(3), adaptive_positive_limit=2.0, adaptive_negative_limit=-3.0)

    for target in _targets():
        moved = contributions(prior, target)[1]
        assert moved.sum() == pytest.approx(_value(prior.distribution, target) - _value(prior.start, target), abs=1e-12)


def test_the_experience_that_moved_most_comes_first() -> None:
    good = an_experience(a_success(), 0, pipeline=a_pipeline("wide"))
    bad = an_experience(a_failure("gpu_oom"), 1, pipeline=a_pipeline("small"))

    first, second = explain(_prior([good, bad]), ExplanationTarget(model="wide"))

    assert (first.id, first.status, first.kind, first.task) == (good.id, "succeeded", None, "tickets")
    assert (second.id, second.status, second.kind, second.model) == (bad.id, "failed", "gpu_oom", "small")
    assert first.contribution == pytest.approx((1 / 3 + 0.025) / 1.025 - 1 / 3)
    assert first.alpha == pytest.approx(0.025)
    assert second.contribution > 0  # what another model loses is shared out
    assert (first.weight, first.distance) == (1.0, 0.0)
    assert first.task_fingerprint == good.task.fingerprint
    assert (first.f1, second.f1) == (good.outcome.metrics["f1"], None)


def test_what_moved_nothing_is_not_listed() -> None:
    prior = _prior([an_experience(a_success(), 0, pipeline=a_pipeline(params={"batch_size": 8}))])

    assert explain(prior, ExplanationTarget(method="full", param="optimizer", value="sgd")) == []
    assert explain(prior, ExplanationTarget(method="head", param="learning_rate")) == []


def test_a_limit_cuts_the_list() -> None:
    assert len(explain(_prior(random_experiences(30)), ExplanationTarget(model="small"), limit=4)) == 4


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (ExplanationTarget(model="gpt"), r"no model 'gpt'; valid: small, wide, deep"),
        (ExplanationTarget(method="lora"), r"no method 'lora'; valid: full, head"),
        (ExplanationTarget(), r"no method None; valid: full, head"),
        (ExplanationTarget(method="head", param="epochs"), r"'head' has no parameter 'epochs'; valid: learning_rate"),
        (
            ExplanationTarget(method="full", param="batch_size", value=9),
            r"'batch_size' of 'full' has no value 9; valid: 8, 16, 32",
        ),
        (ExplanationTarget(method="full", param="batch_size"), r"has no value None"),
    ],
)
def test_an_unknown_target_is_refused_with_what_is_valid(target: ExplanationTarget, message: str) -> None:
    with pytest.raises(InputError, match=message):
        contributions(_prior([]), target)


def test_the_written_prior_tells_counts_probabilities_and_who_moved_them() -> None:
    good = an_experience(a_success(), 0, pipeline=a_pipeline("wide"))
    lost = an_experience(a_failure("lost"), 1)

    written = json.loads(json.dumps(prior_to_json(_prior([good, lost])), allow_nan=False))

    assert written["kind"] == "xautolm"
    assert written["counts"]["records"] == 2
    assert written["counts"]["skipped"]["infrastructure"] == 1
    assert (written["counts"]["positives"], written["counts"]["negatives"]) == (1, 0)
    assert written["models"]["wide"]["uniform"] == pytest.approx(1 / 3)
    assert written["models"]["wide"]["prior"] > 1 / 3
    top = written["top"]["models"]["wide"]
    assert [(entry["id"], entry["task"], entry["status"], entry["weight"]) for entry in top] == [
        (good.id, "tickets", "succeeded", 1.0)
    ]
    assert set(written["top"]["methods"]) == {"full", "head"}


def test_a_written_prior_gives_its_distribution_back() -> None:
    prior = _prior(random_experiences(40))

    written = json.loads(json.dumps(prior_to_json(prior)))

    assert Distribution.from_json(written["distribution"], SPACE) == prior.distribution


def test_at_most_ten_experiences_are_written_for_each() -> None:
    written = prior_to_json(_prior(random_experiences(100)))

    assert {len(entries) for entries in written["top"]["models"].values()} == {10}


def test_a_number_is_explained_by_its_mean() -> None:
    experience = an_experience(a_success(), 0, pipeline=a_pipeline(params={"epochs": 11}))
    prior = _prior([experience], adaptive_positive_limit=1.0)

    entry = explain(prior, ExplanationTarget(method="full", param="epochs"))[0]

    marginal = prior.distribution.params["full"]["epochs"]
    assert isinstance(marginal, NumericMarginal)
    assert entry.contribution == pytest.approx(marginal.mean - 6.0) == pytest.approx(2.5)
    assert np.sign(entry.alpha) == 1
