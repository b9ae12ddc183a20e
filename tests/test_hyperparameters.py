"""One table says which hyperparameters a method has and what they may be; errors say what to write instead."""

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
    check_params,
    default_of,
    find_problems,
    optimizer_state_bytes,
    rules_of,
)
from xautolm_hpc.records import Value

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

    told = str(caught.value).splitlines()
    assert [line.startswith("`one.toml`: ") for line in told] == [True] * 4
    assert told[0] == "`one.toml`: batch_size = 0 is not supported; expected a whole number of at least 1"
    assert told[1].startswith("`one.toml`: method full has no parameter 'learning_rte'; valid: learning_rate, ")
    assert told[1].endswith(". Did you mean 'learning_rate'?")
    assert told[2].endswith("expected one of adamw, adam, sgd, adagrad, adafactor. Did you mean 'adamw'?")
    assert told[3] == "`one.toml`: method full lacks the parameters epochs"


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


def test_the_state_of_an_unknown_optimiser_is_refused_not_counted_as_nothing() -> None:
    with pytest.raises(InputError, match=r"optimizer = 'lion': its state is not known; valid: adamw, adam"):
        optimizer_state_bytes("lion")
