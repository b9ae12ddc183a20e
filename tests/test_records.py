"""Records: their trip through JSON, the words for what is wrong with one, and what an experience's id depends on."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.nouns import SYSTEM, TASK, experience, failed, pipeline, succeeded
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import (
    FAILURE_KINDS,
    INFRASTRUCTURE_KINDS,
    PIPELINE_KINDS,
    FailureOrigin,
    OutcomeStatus,
    origin_of,
)
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import (
    Experience,
    Outcome,
    Pipeline,
    Provenance,
    System,
    Task,
    canonical_json,
    from_json,
    to_json,
)

RECORDS = (Task, System, Pipeline, Outcome, Provenance, Experience)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Draw a value of an annotated type; NaN and infinities, for which JSON has no word, left out."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        fields = typing.get_type_hints(hint).items()
        return st.builds(hint, **{name: values_of(type_) for name, type_ in fields})
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values_of(choice) for choice in arguments])
    if origin is tuple:
        return st.lists(values_of(arguments[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(st.text(), values_of(arguments[1]), max_size=3)
    return FINITE if hint is float else st.from_type(hint)


@pytest.mark.parametrize("record_type", RECORDS)
def test_a_record_survives_the_trip_through_json(record_type: type[Any]) -> None:
    @settings(max_examples=25, deadline=None)
    @given(record=values_of(record_type))
    def check(record: Any) -> None:
        text = json.dumps(to_json(record), allow_nan=False)

        assert from_json(record_type, json.loads(text), where="here") == record

    check()


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true"])
def test_the_type_of_a_hyperparameter_survives_json(value: bool | int | float | str) -> None:
    text = json.dumps(to_json(pipeline(x=value)))

    back = from_json(Pipeline, json.loads(text), where="here").params["x"]

    assert (type(back), back) == (type(value), value)


def test_a_whole_number_is_read_as_float_where_the_field_is_one() -> None:
    outcome = from_json(Outcome, {"status": "succeeded", "train_s": 3, "curve": [[1, 0.5]]}, where="here")

    assert isinstance(outcome.train_s, float)
    assert [type(value) for value in outcome.curve[0]] == [float, float]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "t.json: unknown key 'colour' in System; valid: site, cluster, n_cpu_cores, "),
        ({"n_gpus": "2"}, "t.json: n_gpus: expected int, found '2'"),
        ({"n_gpus": True}, "t.json: n_gpus: expected int, found True"),
        ({"n_gpus": 2.0}, "t.json: n_gpus: expected int, found 2.0"),
        ({"site": None}, "t.json: site: expected str, found None"),
        ({"gpu_capability": True}, "t.json: gpu_capability: expected float, found True"),
    ],
)
def test_a_wrong_field_is_refused_with_its_place(change: dict[str, Any], message: str) -> None:
    data = {**to_json(SYSTEM), **change}

    with pytest.raises(InputError, match=f"^{message}"):
        from_json(System, data, where="t.json")


def test_a_missing_key_is_named() -> None:
    with pytest.raises(InputError, match=r"^t\.json: System lacks 'cluster'$"):
        from_json(System, {"site": "here"}, where="t.json")


def test_a_wrong_field_deep_inside_is_refused_with_its_whole_path() -> None:
    data = to_json(experience())
    data["pipeline"]["params"]["epochs"] = [3]

    with pytest.raises(
        InputError,
        match=r"^t: pipeline: params: epochs: expected one of bool, int, float, str, found \[3\]$",
    ):
        from_json(Experience, data, where="t")


@pytest.mark.parametrize(
    ("field", "valid"), [("status", "succeeded, failed, stopped"), ("origin", "pipeline, infrastructure")]
)
def test_an_unknown_word_is_refused_with_the_valid_ones(field: str, valid: str) -> None:
    data = to_json(failed("gpu_oom"))
    data[field] = "perhaps"

    with pytest.raises(InputError, match=rf"^t: {field}: unknown word 'perhaps'; valid: {valid}$"):
        from_json(Outcome, data, where="t")


def test_status_and_origin_are_members_in_memory_and_words_in_json() -> None:
    outcome = failed("gpu_oom")

    text = json.dumps(to_json(outcome))
    read = from_json(Outcome, json.loads(text), where="t")

    assert '"status": "failed"' in text
    assert '"origin": "pipeline"' in text
    assert (type(read.status), type(read.origin)) == (OutcomeStatus, FailureOrigin)


def test_a_list_where_a_record_belongs_is_refused() -> None:
    with pytest.raises(InputError, match=r"^t: expected a System object, found \[\]$"):
        from_json(System, [], where="t")


def test_a_long_wrong_value_is_cut_in_the_message() -> None:
    with pytest.raises(InputError, match=r"^t: n_gpus: expected int, found 'x{79}$"):
        from_json(System, {"site": "a", "cluster": "b", "n_gpus": "x" * 500}, where="t")


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_canonical_json_refuses_what_is_no_number(number: float) -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        canonical_json({"x": number})


def test_canonical_json_depends_on_content_alone() -> None:
    text = canonical_json({"b": [1, 1.0, True], "a": "é"})

    assert text == '{"a":"é","b":[1,1.0,true]}'


def test_the_canonical_pipeline_ignores_the_order_of_parameters_and_keeps_types_apart() -> None:
    assert pipeline(a=1, b=2).canonical() == pipeline(b=2, a=1).canonical()
    assert len({pipeline(a=value).canonical() for value in (1, 1.0, True, "1")}) == 4


def test_equal_content_has_equal_ids() -> None:
    assert experience().id == experience().id
    assert len(experience().id) == 32


@pytest.mark.parametrize(
    "other",
    [
        experience(node="elsewhere", package_version="9", image_digest="sha256:1", lock_hash="2", seed=99),
        experience(site="there", suspect=True, generation=4, started_at="2026-01-01", ended_at="2026-01-02"),
        experience(succeeded(message="a word", train_s=3.0, gpu_energy_j=2.0)),
        experience(task=replace(TASK, features=(9.0, 9.0), name="renamed", semantic=(1.0,))),
        replace(experience(), system=replace(SYSTEM, n_gpus=8)),
    ],
)
def test_what_is_beside_the_point_does_not_change_the_id(other: Experience) -> None:
    assert other.id == experience().id


@pytest.mark.parametrize(
    "other",
    [
        experience(succeeded(0.6)),
        experience(replace(succeeded(), metrics={"f1": 0.5, "accuracy": 0.5})),
        experience(failed("error")),
        experience(given=pipeline(epochs=4)),
        experience(given=pipeline(epochs=3.0)),
        experience(given=pipeline(epochs=3, method="lora")),
        experience(task=replace(TASK, fingerprint="0" * 32)),
        experience(run_id="another"),
        experience(trial=1),
        experience(attempt=1),
        experience(restart=1),
    ],
)
def test_metrics_kind_pipeline_task_and_key_change_the_id(other: Experience) -> None:
    assert other.id != experience().id


def test_two_kinds_of_failure_have_two_ids_under_one_key() -> None:
    first, second = experience(failed("gpu_oom")), experience(failed("host_oom"))

    assert first.key == second.key == "6f1e0a52-3b7c-4d19-8a40-0c2f5d9b7e13/0/0/0"
    assert first.id != second.id


def test_every_failure_kind_has_one_origin() -> None:
    origins = {kind: origin_of(kind) for kind in FAILURE_KINDS}

    assert [kind for kind, origin in origins.items() if origin == "pipeline"] == list(PIPELINE_KINDS)
    assert [kind for kind, origin in origins.items() if origin == "infrastructure"] == list(INFRASTRUCTURE_KINDS)


def test_an_unknown_failure_kind_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(InputError, match=r"^unknown failure kind 'oom'; valid: gpu_oom, host_oom, .*, lost$"):
        origin_of("oom")


@pytest.mark.parametrize(
    ("outcome", "name", "value"),
    [
        (succeeded(0.25), "f1", 0.25),
        (succeeded(math.nan), "f1", None),
        (succeeded(evaluation_time_s=math.inf), "evaluation_time_s", None),
        (succeeded(peak_gpu_memory_bytes=5), "peak_gpu_memory_bytes", 5.0),
        (succeeded(), "gpu_energy_j", None),
        (Outcome(status=OutcomeStatus.SUCCEEDED), "f1", None),
    ],
)
def test_an_objective_is_its_finite_value_or_unknown(outcome: Outcome, name: str, value: float | None) -> None:
    assert outcome.objective(name) == value


@pytest.mark.parametrize(
    ("kind", "message", "line"),
    [
        ("host_oom", "the job ended as OUT_OF_MEMORY\nLoading weights: 100%", "the job ended as OUT_OF_MEMORY"),
        ("host_oom", "Traceback (most recent call last):\n  File x\nMemoryError: no more", "MemoryError: no more"),
        ("cancelled", "\n the job ended as CANCELLED\nsrun: error: task 0: Terminated\n", "the job ended as CANCELLED"),
        ("error", "the worker ended with status 1\nValueError: shapes differ\n \n", "ValueError: shapes differ"),
        ("error", " \n", ""),
        (None, None, ""),
    ],
)
def test_the_reason_is_the_line_that_says_why_a_trial_failed(kind: str | None, message: str | None, line: str) -> None:
    assert Outcome(status=OutcomeStatus.FAILED, kind=kind, message=message).reason == line


def test_every_objective_is_read_where_its_entry_says() -> None:
    measured = succeeded(0.5, evaluation_time_s=3.0, gpu_energy_j=float("inf"))

    assert {name: measured.objective(name) for name in OBJECTIVES} == {
        "f1": 0.5,
        "evaluation_time_s": 3.0,
        "gpu_energy_j": None,
        "peak_gpu_memory_bytes": None,
    }
    assert [name for name, objective in OBJECTIVES.items() if objective.is_maximised] == ["f1"]
    with pytest.raises(KeyError, match="accuracy"):
        measured.objective("accuracy")
