"""One table says which hyperparameters a method has and what they may be; errors say what to write instead."""

import math
import tomllib
from collections.abc import Mapping
from importlib import resources

import pytest

from xautolm_hpc.errors import InputError
from xautolm_hpc.hyperparameters import (
    IGNORED,
    METHODS,
    OPTIMIZERS,
    SCHEDULES,
    UNTRAINED,
    check_params,
    default_of,
    find_problems,
    rules_of,
)
from xautolm_hpc.records import Value
from xautolm_hpc.space import find_refused

MINIMAL: Mapping[str, Value] = {"learning_rate": 1e-4, "batch_size": 16, "max_length": 128, "epochs": 3}
PRESETS = tomllib.loads(resources.files("xautolm_hpc").joinpath("presets.toml").read_text())


@pytest.mark.parametrize("method", METHODS)
def test_what_is_needed_is_enough(method: str) -> None:
    assert find_problems(method, MINIMAL) == []
    check_params(method, MINIMAL, where="here")


def test_every_problem_is_found_and_told_with_its_place_and_what_is_valid() -> None:
    params = {**MINIMAL, "learning_rte": 0.1, "batch_size": 0, "optimizer": "adamW"}
    del params["epochs"]

    with pytest.raises(InputError, match=r"`one\.toml`") as caught:
        check_params("full", params, where="`one.toml`")

    lines = str(caught.value).splitlines()
    assert [line.startswith("`one.toml`: ") for line in lines] == [True] * 4
    assert lines[0] == "`one.toml`: batch_size = 0 is not supported; expected a whole number of at least 1"
    assert lines[1].startswith("`one.toml`: method full has no parameter 'learning_rte'; valid: learning_rate, ")
    assert lines[1].endswith(". Did you mean 'learning_rate'?")
    assert lines[2].endswith("expected one of adamw, adam, sgd, adagrad, adafactor. Did you mean 'adamw'?")
    assert lines[3] == "`one.toml`: method full lacks the parameters epochs"


def test_an_unknown_method_is_told_with_the_nearest() -> None:
    (problem,) = find_problems("lore", {})

    assert (problem.nearest, problem.text) == ("lora", f"unknown method 'lore'; valid: {', '.join(METHODS)}")


def test_what_is_like_nothing_has_no_nearest_name() -> None:
    (problem,) = find_problems("full", {**MINIMAL, "zzz": 1})

    assert problem.nearest is None


@pytest.mark.parametrize("method", METHODS)
def test_every_default_is_valid(method: str) -> None:
    for rule in rules_of(method).values():
        assert rule.default is None or rule.accepts(rule.default)


def test_a_hyperparameter_without_a_default_of_its_own_says_so() -> None:
    assert default_of("optimizer") == "adamw"
    with pytest.raises(ValueError, match="dropout_rate has no default of its own"):
        default_of("dropout_rate")


def test_presets_name_known_hyperparameters_optimisers_and_schedules() -> None:
    for preset in PRESETS.values():
        for method, params in preset["methods"].items():
            if method in METHODS:
                assert set(params) <= {*rules_of(method), *IGNORED}
                assert set(params.get("optimizer", [])) <= set(OPTIMIZERS)
                assert set(params.get("lr_scheduler", [])) <= set(SCHEDULES)


@pytest.mark.parametrize(
    ("method", "name", "nearest"),
    [
        ("full", "lr", "learning_rate"),
        ("full", "batch_siz", "batch_size"),
        ("full", "Batch Size", "batch_size"),
        ("full", "LEARNING-RATE", "learning_rate"),
        ("full", "num_train_epochs", "epochs"),
        ("lora", "rank", "lora_r"),
        ("lora", "target_modules", "lora_targets"),
        ("full", "rank", None),  # lora has it, full does not
    ],
)
def test_a_name_of_another_program_or_misspelt_is_told_with_ours(method: str, name: str, nearest: str | None) -> None:
    (problem,) = find_problems(method, {**MINIMAL, name: 1})

    assert problem.nearest == nearest
    assert nearest is None or problem.full_text.endswith(f"Did you mean {nearest!r}?")


@pytest.mark.parametrize(
    ("value", "nearest"), [("AdamW", "adamw"), (" adamw ", "adamw"), ("adam-w", "adamw"), ("lion", None)]
)
def test_a_word_in_another_case_is_refused_with_the_valid_one(value: str, nearest: str | None) -> None:
    (problem,) = find_problems("full", {**MINIMAL, "optimizer": value})

    assert problem.nearest == nearest


def test_a_parameter_of_other_methods_is_told_with_them() -> None:
    (problem,) = find_problems("full", {**MINIMAL, "lora_r": 8})

    assert problem.text.startswith("method full has no parameter 'lora_r' (lora and dora have it); valid: ")
    assert problem.nearest is None


@pytest.mark.parametrize(
    ("name", "refused", "accepted"),
    [
        ("learning_rate", ["fast", "0.1", True, 0, -1e-3, 1001, math.nan, math.inf, 10**400], [1e-9, 300.0, 1]),
        ("batch_size", [8.0, 8.5, "8", True, 0, -1, 2**31, 10**30, math.nan], [1, 2**31 - 1]),
        ("epochs", [0, 3.0, "3"], [400]),
        ("warmup_steps", [-1, 0.5], [0]),
        ("warmup_ratio", [-0.1, 1.1, "0"], [0, 1, 0.5]),
        ("train_share", [0, 0.0, 1.5], [1, 1e-6]),
        ("dropout_rate", [1, 1.0, -0.1], [0, 0.99]),
        ("optimizer", ["AdamW", "lion", "", 1, True], ["sgd"]),
        ("lr_scheduler", ["step", "Linear"], ["cosine_with_restarts"]),
        ("class_weighted_loss", ["true", 1, 0], [True, False]),
        ("num_workers", [math.nan, math.inf, 2**40, "x" * 201, "\0", "\ud800"], ["3/4", "default", 4, 0.5, True]),
    ],
)
def test_what_a_hyperparameter_may_be(name: str, refused: list[Value], accepted: list[Value]) -> None:
    def is_refused(value: Value) -> bool:
        return bool(find_problems("full", {**MINIMAL, name: value}))

    assert [value for value in refused if not is_refused(value)] == []
    assert [value for value in accepted if is_refused(value)] == []


@pytest.mark.parametrize("preset", PRESETS)
def test_all_that_a_preset_draws_is_valid_but_for_what_sampling_rejects(preset: str) -> None:
    refused = find_refused({"preset": preset, "params": PRESETS[preset]["methods"]})

    expected = [
        f"space.params.lora.{name}: {name} = {value!r} is not supported; expected {rules_of('lora')[name].expected}"
        for name, values in UNTRAINED.items()
        for value in values
    ]
    assert refused == (expected if preset == "xautolm" else [])
