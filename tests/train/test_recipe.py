"""Hyperparameters of both presets are understood; what is not understood is unsupported, never ignored."""

import dataclasses
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xautolm_hpc.errors import InputError
from xautolm_hpc.hyperparameters import (
    IGNORED,
    METHODS,
    SAME_AS,
    check_params,
    find_doubles,
    find_ignored_warmup,
    rules_of,
)
from xautolm_hpc.records import Value
from xautolm_hpc.space import find_refused
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.recipe import Recipe, parse_recipe

MINIMAL: Mapping[str, Value] = {"learning_rate": 1e-4, "batch_size": 16, "max_length": 128, "epochs": 3}
PRESETS = tomllib.loads(resources.files("xautolm_hpc").joinpath("presets.toml").read_text())
CASES = [(preset, method) for preset, space in PRESETS.items() for method in space["methods"] if method in METHODS]


def _ends(parameter: Any) -> list[Value]:
    """List every value of a list, or both ends of a range."""
    if parameter == "bool":
        return [False, True]
    if isinstance(parameter, dict):
        return [parameter["low"], parameter["high"]]
    return list(parameter)


@pytest.mark.parametrize(("preset", "method"), CASES)
def test_every_value_of_both_presets_is_understood(preset: str, method: str) -> None:
    space = PRESETS[preset]["methods"][method]
    first = {name: _ends(parameter)[0] for name, parameter in space.items()}

    refused = set()
    for name, parameter in space.items():
        for value in _ends(parameter):
            try:
                parse_recipe(method, {**first, name: value})
            except TrialError:
                refused.add((name, value))

    assert refused == ({("init_lora_weights", "loftq")} if (preset, method) == ("xautolm", "lora") else set())


def test_what_is_left_out_has_a_default() -> None:
    recipe = parse_recipe("full", MINIMAL)

    assert (recipe.early_stopping_patience, recipe.early_stopping_delta) == (2, 0.001)
    assert (recipe.gradient_accumulation_steps, recipe.max_grad_norm, recipe.dropout_rate) == (1, 1.0, None)


def test_defaults_of_the_recipe_are_those_of_the_table() -> None:
    rules = {name: rule for method in METHODS for name, rule in rules_of(method).items()}
    ours = {name: rule for name, rule in rules.items() if name not in (*SAME_AS, "use_gradient_clipping")}
    fields = dataclasses.fields(Recipe)

    assert {f.name for f in fields} == set(ours)
    assert [f.name for f in fields if f.default is dataclasses.MISSING] == [n for n, r in ours.items() if r.is_required]
    assert {f.name: f.default for f in fields if f.default is not dataclasses.MISSING} == {
        name: rule.default for name, rule in ours.items() if not rule.is_required
    }


def test_the_reference_s_names_become_ours() -> None:
    recipe = parse_recipe("partial", {**MINIMAL, "num_trainable_layers": 4, "gradient_clipping_max_norm": 5.0})

    assert (recipe.n_trainable_blocks, recipe.max_grad_norm) == (4, 5.0)


def test_clipping_that_is_switched_off_has_no_norm() -> None:
    params = {**MINIMAL, "use_gradient_clipping": False, "gradient_clipping_max_norm": 0.5}

    assert parse_recipe("full", params).max_grad_norm is None


def test_the_reference_s_dead_parameters_change_nothing() -> None:
    dead: dict[str, Value] = {"num_workers": "half", "model_save": "all", "fan_in_fan_out": True}

    assert parse_recipe("lora", {**MINIMAL, **dead}) == parse_recipe("lora", MINIMAL)


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("prefix", {}, r"unknown method 'prefix'; valid: full, partial, lora, dora, ia3, bitfit, head"),
        ("full", {"momentum": 0.9}, r"method full has no parameter 'momentum'; valid: learning_rate, batch_size"),
        ("ia3", {"lora_r": 8}, r"method ia3 has no parameter 'lora_r'"),
        ("full", {"train_share": 0.0}, r"train_share = 0.0 is not supported; expected a number above 0 to 1"),
        ("full", {"lora_r": 8}, r"method full has no parameter 'lora_r'"),
        ("lora", {"init_lora_weights": "loftq"}, r"init_lora_weights = 'loftq' .* default, gaussian, pissa, none"),
        ("full", {"batch_size": 8.0}, r"batch_size = 8.0 is not supported; expected a whole number of at least 1"),
        ("full", {"epochs": True}, r"epochs = True is not supported"),
        ("full", {"learning_rate": 0.0}, r"learning_rate = 0.0 .* expected a number above 0 to 1000"),
        ("full", {"learning_rate": float("nan")}, r"learning_rate = nan is not supported"),
        ("full", {"class_weighted_loss": 1}, r"class_weighted_loss = 1 is not supported; expected true or false"),
        ("full", {"optimizer": "lion"}, r"optimizer = 'lion' .* adamw, adam, sgd, adagrad, adafactor"),
    ],
)
def test_what_is_not_understood_is_unsupported(method: str, params: Mapping[str, Value], message: str) -> None:
    with pytest.raises(TrialError, match=message) as caught:
        parse_recipe(method, {**MINIMAL, **params})

    assert caught.value.kind == "unsupported"


def test_a_parameter_that_is_needed_is_named() -> None:
    with pytest.raises(TrialError, match=r"method full lacks the parameters batch_size, epochs"):
        parse_recipe("full", {"learning_rate": 1e-4, "max_length": 64})


NAMES = sorted({name for method in METHODS for name in rules_of(method)})
WORDS = ("adamw", "AdamW", "linear", "none", "all-linear", "pissa", "loftq", "unknown", "8", "")
VALUES = st.one_of(
    st.booleans(),
    st.integers(-3, 70),
    st.integers(),
    st.floats(-1, 2),
    st.floats(),
    st.sampled_from(WORDS),
    st.text(max_size=8),
)
SAID_ONCE = [name for name in NAMES if name not in (*SAME_AS, "warmup_steps")]
"""Without those that the preset says already, by another name or in another way; a file that says both is refused."""
PARAMS = st.dictionaries(st.sampled_from([*NAMES, *IGNORED, "lr", "rank"]), VALUES, max_size=4)


def _is_trained(method: str, params: Mapping[str, Value]) -> bool:
    try:
        parse_recipe(method, params)
    except TrialError:
        return False
    return True


def _is_read(method: str, params: Mapping[str, Value]) -> bool:
    try:
        check_params(method, params, where="here")
    except InputError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(method=st.sampled_from([*METHODS, "prefix"]), params=PARAMS, is_whole=st.booleans())
def test_files_are_refused_exactly_where_the_worker_would_refuse(
    method: str, params: Mapping[str, Value], is_whole: bool
) -> None:
    whole = {**MINIMAL, **params} if is_whole else params

    is_said_twice = bool(find_doubles(whole) or find_ignored_warmup(whole, ratios=[whole.get("warmup_ratio", 0)]))
    assert _is_read(method, whole) == (_is_trained(method, whole) and not is_said_twice)


@settings(max_examples=200, deadline=None)
@given(method=st.sampled_from(METHODS), name=st.sampled_from([*SAID_ONCE, *IGNORED, "lr"]), value=VALUES)
def test_a_search_file_is_refused_exactly_where_the_worker_would_refuse_its_values(
    method: str, name: str, value: Value
) -> None:
    refused = find_refused({"params": {method: {name: [value]}}})

    assert (not refused) == _is_trained(method, {**MINIMAL, name: value}), refused
