"""Trials that the worker refused for their hyperparameters are no evidence; what was trained stays evidence."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.priors.builders import TASK, a_failure, a_pipeline, a_success, an_experience
from xautolm_hpc.hyperparameters import METHODS, find_name_problem, find_value_problem, rules_of
from xautolm_hpc.priors.eligible import find_eligible
from xautolm_hpc.priors.refused import refused_by_rules
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.records import Experience, Outcome, Value
from xautolm_hpc.table import REFERENCE_SCOPE, build_table

SETTINGS = PriorSettings(kind="xautolm", objectives=("f1",))
BASE: dict[str, Value] = {"learning_rate": 1e-4, "batch_size": 16, "max_length": 64, "epochs": 2}
REFUSED: list[dict[str, Value]] = [
    {"learning_rate": "fast"},
    {"learning_rate": 5000.0},
    {"batch_size": 16.0},
    {"epochs": True},
    {"lr_scheduler": "step"},
    {"optimizer": "AdamW"},
    {"class_weighted_loss": 1},
    {"lr": 1e-4},
    {"lora_r": 8},
]


def _of(params: dict[str, Any], outcome: Outcome, trial: int = 0, *, method: str = "full") -> Experience:
    return an_experience(outcome, trial, pipeline=a_pipeline(method=method, params={**BASE, **params}))


@pytest.mark.parametrize("kind", ["unsupported", "error"])
@pytest.mark.parametrize("params", REFUSED)
def test_a_failure_that_the_rules_refuse_is_no_evidence_and_counted(params: dict[str, Value], kind: str) -> None:
    table = build_table([_of(params, a_failure(kind)), _of({}, a_failure(kind), 1), _of({}, a_success(), 2)])

    eligible = find_eligible(table, task=TASK, settings=replace(SETTINGS, deduplicate=False))

    assert sorted(eligible.positive.tolist()) == [False, True]
    assert eligible.skipped["refused_hyperparameters"] == 1


def test_an_unknown_method_is_refused() -> None:
    table = build_table([_of({}, a_failure("unsupported"), method="prefix")])

    assert refused_by_rules(table).tolist() == [True]


@pytest.mark.parametrize("params", REFUSED)
@pytest.mark.parametrize("kind", ["gpu_oom", "host_oom", "time_limit", "diverged"])
def test_a_trial_that_was_trained_stays_evidence(params: dict[str, Value], kind: str) -> None:
    assert refused_by_rules(build_table([_of(params, a_failure(kind)), _of(params, a_success(), 1)])).sum() == 0


@pytest.mark.parametrize("params", [{"learning_rate": 300.0}, {"epochs": 400}, {"batch_size": 3}, {"dropout_rate": 0}])
def test_values_that_no_preset_draws_but_the_worker_trains_stay_evidence(params: dict[str, Value]) -> None:
    assert refused_by_rules(build_table([_of(params, a_failure("error"))])).tolist() == [False]


def test_a_record_that_lacks_parameters_stays_evidence() -> None:
    few = an_experience(a_failure("unsupported"), pipeline=a_pipeline(params={"batch_size": 8}))

    assert refused_by_rules(build_table([few])).tolist() == [False]


@pytest.mark.parametrize("kind", ["unsupported", "error"])
def test_records_of_the_reference_follow_its_own_rules(kind: str) -> None:
    outcome = replace(a_failure(kind), time_scope=f"{REFERENCE_SCOPE}load+train")
    theirs = _of({"use_early_stopping": True, "optimizer": "unknown", "quantization": "none"}, outcome)

    assert refused_by_rules(build_table([theirs])).tolist() == [False]


NAMES = sorted({name for method in METHODS for name in rules_of(method)} | {"lr", "num_workers"})
VALUES = st.one_of(
    st.booleans(), st.integers(-3, 70), st.floats(-1, 2), st.sampled_from(("adamw", "AdamW", "linear", "none", "8"))
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(METHODS), st.sampled_from(NAMES), VALUES), min_size=1, max_size=6))
def test_columns_are_refused_as_single_values_are(drawn: list[tuple[str, str, Value]]) -> None:
    rows = [
        an_experience(a_failure("error"), trial, pipeline=a_pipeline(method=method, params={name: value}))
        for trial, (method, name, value) in enumerate(drawn)
    ]
    table = build_table(rows)
    expected = {
        e.id.encode(): any(
            find_name_problem(e.pipeline.method, name) or find_value_problem(e.pipeline.method, name, value=value)
            for name, value in e.pipeline.params.items()
        )
        for e in rows
    }

    refused = refused_by_rules(table)

    assert dict(zip(table.id.tolist(), refused.tolist(), strict=True)) == expected
