"""The search space: the reference's lists as published, forms of a distribution, what a search file may change."""

import json
import re
from typing import Any

import pytest

from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import Value
from xautolm_hpc.space import (
    Boolean,
    Categorical,
    Numeric,
    Parameter,
    Space,
    build_space,
    contains,
    is_supported,
    load_presets,
    parse_parameter,
    space_from_json,
    space_to_json,
)

# XAutoLM's classification experiments: the value lists of every method, and what partial and LoRA have beside them.
REFERENCE_COMMON: dict[str, Parameter] = {
    "batch_size": Categorical((2, 4, 8, 16, 32, 64, 128, 256)),
    "max_length": Categorical((64, 128, 256, 512, 1024, 2048, 4096)),
    "learning_rate": Categorical((5e-6, 1e-5, 2e-5, 3e-5, 4e-5, 5e-5, 1e-4)),
    "epochs": Numeric(1.0, 10.0, integer=True),
    "warmup_steps": Categorical((0, 100, 500, 1000, 1500, 2000)),
    "weight_decay": Categorical((0.0, 0.001, 0.005, 0.01, 0.1)),
    "optimizer": Categorical(("adamw", "adam", "sgd", "adagrad")),
    "gradient_accumulation_steps": Categorical((1, 2, 4, 8, 16)),
    "lr_scheduler": Categorical(("linear", "cosine", "cosine_with_restarts", "polynomial", "constant")),
    "early_stopping_delta": Categorical((0.001, 0.005, 0.01)),
    "use_mixed_precision": Boolean(),
    "use_gradient_clipping": Boolean(),
    "gradient_clipping_max_norm": Categorical((0.5, 1.0, 5.0)),
    "class_weighted_loss": Boolean(),
    "num_workers": Categorical(("3/4", "half", "1/4", "default")),
}
REFERENCE_DROPOUT: dict[str, Parameter] = {"dropout_rate": Categorical((0.1, 0.2, 0.3, 0.4, 0.5))}
REFERENCE_METHODS: dict[str, dict[str, Parameter]] = {
    "full": REFERENCE_COMMON | REFERENCE_DROPOUT,
    "partial": REFERENCE_COMMON | REFERENCE_DROPOUT | {"num_trainable_layers": Categorical((1, 2, 4, 8, 16, 32, 64))},
    "lora": REFERENCE_COMMON
    | {
        "lora_r": Numeric(1.0, 32.0, integer=True),
        "lora_alpha": Categorical((8, 16, 32, 64)),
        "lora_dropout": Categorical((0.0, 0.1, 0.2, 0.3)),
        "lora_bias": Categorical(("none", "all", "lora_only")),
        "model_save": Categorical(("classifier", "all")),
        "init_lora_weights": Categorical(("gaussian", "pissa", "loftq", "none")),
        "fan_in_fan_out": Boolean(),
    },
}
# Model id -> (blocks, width), as published; those of encoder and decoder together for T5 and BART.
REFERENCE_ENCODERS = {
    "bert-base-uncased": (12, 768),
    "bert-base-cased": (12, 768),
    "bert-large-uncased": (24, 1024),
    "bert-large-cased": (24, 1024),
    "bert-base-multilingual-uncased": (12, 768),
    "bert-base-multilingual-cased": (12, 768),
    "pysentimiento/robertuito-base-uncased": (12, 768),
    "PlanTL-GOB-ES/roberta-base-bne": (12, 768),
    "distilbert-base-uncased": (6, 768),
    "distilbert-base-cased": (6, 768),
    "distilbert-base-multilingual-cased": (6, 768),
    "roberta-base": (12, 768),
    "roberta-large": (24, 1024),
    "microsoft/deberta-v3-base": (12, 768),
    "microsoft/deberta-base": (12, 768),
    "microsoft/mdeberta-v3-base": (12, 768),
    "albert-base-v1": (12, 768),
    "albert-large-v1": (24, 1024),
    "albert-xlarge-v1": (24, 2048),
    "albert-xxlarge-v1": (12, 4096),
    "google/electra-small-discriminator": (12, 256),
    "google/electra-base-discriminator": (12, 768),
    "google/electra-large-discriminator": (24, 1024),
    "xlm-roberta-base": (12, 768),
    "xlm-roberta-large": (24, 1024),
}
REFERENCE_GENERATIVE = {
    *(f"google-t5/t5-{size}" for size in ("small", "base", "large", "3b", "11b")),
    *(f"google/flan-t5-{size}" for size in ("base", "large", "xl", "xxl")),
    *("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "facebook/bart-base", "facebook/bart-large"),
    *(f"microsoft/{name}" for name in ("Phi-3-mini-4k-instruct", "Phi-3-medium-4k-instruct", "phi-2", "phi-1_5")),
    *(f"mistralai/Mistral-7B-{name}" for name in ("v0.1", "Instruct-v0.1", "Instruct-v0.2")),
    "mistralai/Mixtral-8x7B-Instruct-v0.1",
}
NO_DISTRIBUTION = (
    'is no distribution; valid: a list of values, "bool", or { low = …, high = …, log = true|false, integer'
)


def space_of(preset: str = "default", /, **changes: Any) -> Space:
    """Build a space as a search file would."""
    given: dict[str, Any] = {"models": None, "methods": None, "overrides": {}, "own_models": {}}
    preset = changes.pop("preset", preset)
    return build_space(preset, task_kind="text-classification", **{**given, **changes})


def test_the_references_preset_has_the_references_value_lists_and_nothing_else() -> None:
    methods = {method.name: dict(method.params) for method in space_of("xautolm").methods}

    assert methods == REFERENCE_METHODS
    assert all(_types(methods[name]) == _types(REFERENCE_METHODS[name]) for name in REFERENCE_METHODS)


def _types(params: dict[str, Parameter]) -> dict[str, list[type]]:
    """List the types of categorical values: 1 == 1.0 == True, but they are three values."""
    lists = {name: p.values for name, p in params.items() if isinstance(p, Categorical)}
    return {name: [type(value) for value in values] for name, values in lists.items()}


def test_the_references_preset_has_the_references_25_encoders_and_23_generative_models() -> None:
    models = {model.id: model for model in space_of("xautolm").models}
    encoders = {name: (m.n_layers, m.hidden_size) for name, m in models.items() if m.family == "encoder"}

    assert encoders == REFERENCE_ENCODERS
    assert set(models) - set(encoders) == REFERENCE_GENERATIVE
    assert (len(encoders), len(models)) == (25, 48)


@pytest.mark.parametrize("preset", ["default", "xautolm"])
def test_a_preset_builds_with_every_distribution_sane(preset: str) -> None:
    space = space_of(preset)
    params = [p for method in space.methods for p in method.params.values()]

    assert space.models
    assert all(p.low < p.high and (p.low > 0 or not p.log) for p in params if isinstance(p, Numeric))
    assert [m.name for m in space.methods] == list(load_presets()[preset]["methods"])


@pytest.mark.parametrize("preset", load_presets())
def test_a_space_comes_back_from_json_as_it_was(preset: str) -> None:
    space = space_of(preset)

    back = space_from_json(json.loads(json.dumps(space_to_json(space))), where="run.json")

    assert back == space
    assert [list(method.params) for method in back.methods] == [list(method.params) for method in space.methods]
    assert [_types(dict(m.params)) for m in back.methods] == [_types(dict(m.params)) for m in space.methods]


def test_our_preset_has_none_of_the_references_dead_points() -> None:
    names = {name for method in space_of("default").methods for name in method.params}

    assert not names & {"num_workers", "verbose", "warmup_steps", "model_save", "fan_in_fan_out"}
    assert all(isinstance(m.params["learning_rate"], Numeric) for m in space_of("default").methods)


@pytest.mark.parametrize(
    ("written", "parameter"),
    [
        ("bool", Boolean()),
        ([8, 16], Categorical((8, 16))),
        ([1, 1.0, True, "1"], Categorical((1, 1.0, True, "1"))),
        ({"low": 0, "high": 0.2}, Numeric(0.0, 0.2)),
        ({"low": 1e-5, "high": 1e-3, "log": True}, Numeric(1e-5, 1e-3, log=True)),
        ({"low": 1, "high": 10, "integer": True}, Numeric(1.0, 10.0, integer=True)),
        ({"low": 1.0, "high": 64, "integer": True, "log": True}, Numeric(1.0, 64.0, log=True, integer=True)),
    ],
)
def test_each_form_of_a_distribution_is_read(written: Any, parameter: Parameter) -> None:
    assert parse_parameter("x", written) == parameter


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], f"space.params.lora.x: [] {NO_DISTRIBUTION}"),
        ("boolean", f"space.params.lora.x: 'boolean' {NO_DISTRIBUTION}"),
        (3, f"space.params.lora.x: 3 {NO_DISTRIBUTION}"),
        ([[1]], f"space.params.lora.x: [[1]] {NO_DISTRIBUTION}"),
        ([0.1, float("nan")], f"space.params.lora.x: [0.1, nan] {NO_DISTRIBUTION}"),
        ({"low": 1}, f"space.params.lora.x: {{'low': 1}} {NO_DISTRIBUTION}"),
        (
            {"low": 1, "high": 2, "lgo": True},
            f"space.params.lora.x: {{'low': 1, 'high': 2, 'lgo': True}} {NO_DISTRIBUTION}",
        ),
        ([1, 2, 1], "space.params.lora.x: a value stands twice in [1, 2, 1]"),
        ({"low": 2, "high": 2}, "space.params.lora.x: low = 2 must be a number below high = 2"),
        ({"low": True, "high": 2}, "space.params.lora.x: low = True must be a number below high = 2"),
        ({"low": "a", "high": 2}, "space.params.lora.x: low = 'a' must be a number below high = 2"),
        ({"low": 1, "high": float("inf")}, "space.params.lora.x: low = 1 must be a number below high = inf"),
        ({"low": 1, "high": 2, "log": 1}, "space.params.lora.x: log and integer must be true or false"),
        ({"low": 0, "high": 1, "log": True}, "space.params.lora.x: low = 0 must be above 0 on a log scale"),
        (
            {"low": 0.5, "high": 4, "integer": True},
            "space.params.lora.x: low = 0.5 and high = 4 must be whole where integer = true",
        ),
    ],
)
def test_a_malformed_distribution_is_refused_in_words(written: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}"):
        parse_parameter("lora.x", written)


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Boolean(), [True, False], [1, 0, 0.0, "true"]),
        (Categorical((1, 2)), [1, 2], [True, 1.0, "1", 3]),
        (Categorical((0.0, 1.0)), [0.0, 1.0], [0, 1, False]),
        (Categorical((True,)), [True], [1, 1.0]),
        (Categorical(("none",)), ["none"], ["None", 0]),
        (Numeric(0.0, 1.0), [0.0, 0.5, 1.0, 0, 1], [-0.1, 1.1, True, False, "0.5", float("nan")]),
        (Numeric(1.0, 10.0, integer=True), [1, 10, 3.0], [0, 11, 2.5, True]),
    ],
)
def test_only_values_that_can_be_drawn_are_contained(
    parameter: Parameter, inside: list[Value], outside: list[Value]
) -> None:
    assert [value for value in inside if not contains(parameter, value)] == []
    assert [value for value in outside if contains(parameter, value)] == []


def test_a_search_file_narrows_models_and_methods_in_its_own_order() -> None:
    space = space_of(models=("roberta-base", "minilm-l1"), methods=("lora", "full"))

    assert [model.id for model in space.models] == ["roberta-base", "minilm-l1"]
    assert [method.name for method in space.methods] == ["lora", "full"]


def test_a_search_file_replaces_and_adds_parameters_of_one_method_only() -> None:
    space = space_of(overrides={"lora": {"lora_r": [4, 8], "extra": "bool"}})
    lora, full = space.method("lora"), space.method("full")

    assert lora is not None
    assert full is not None
    assert lora.params["lora_r"] == Categorical((4, 8))
    assert lora.params["extra"] == Boolean()
    assert list(lora.params)[-1] == "extra"
    assert "extra" not in full.params


def test_a_model_of_the_search_file_comes_before_the_catalogues() -> None:
    own = Model(
        id="minilm-l1", family="encoder", n_parameters=5, n_layers=1, hidden_size=8, vocab_size=9, context_length=16,
        licence="MIT", path="/models/mine",
    )  # fmt: skip

    space = space_of(models=("minilm-l1", "minilm-l2"), own_models={"minilm-l1": own})

    assert space.models == (own, load_catalogue()["minilm-l2"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "paper"}, "space.preset: unknown preset 'paper'; valid: default, xautolm"),
        (
            {"methods": ("lora", "lore")},
            "space.methods: preset 'default' has no method 'lore'; valid: full, partial, lora, dora, ia3, bitfit, head",
        ),
        (
            {"overrides": {"lore": {}}},
            "space.params: preset 'default' has no method 'lore'; valid: full, partial, lora, dora, ia3, bitfit, head",
        ),
        ({"methods": ("full", "full")}, "space.methods: one stands twice in ['full', 'full']"),
        ({"methods": ()}, "space.methods: the list is empty; leave it out for the preset's"),
        ({"models": ()}, "space.models: the list is empty; leave it out for the preset's"),
        (
            {"models": "larg"},
            "space.models = 'larg': expected an array of models' ids, or the name of a list: small, medium, large. Did "
            "you mean 'large'?",
        ),
        ({"models": ("gpt2", "gpt2")}, "space.models: 'gpt2' stands twice"),
        (
            {"models": ("roberta-bse",)},
            "space.models: unknown model 'roberta-bse'; near it: pysentimiento/robertuito-base-uncased, "
            "PlanTL-GOB-ES/roberta-base-bne, roberta-base, roberta-large, xlm-roberta-base, xlm-roberta-large. "
            "`xautolm-hpc models` lists the catalogue; a [[model]] table in the search file adds one by its repo or "
            "path alone",
        ),
        ({"overrides": {"full": {"epochs": 3}}}, f"space.params.full.epochs: 3 {NO_DISTRIBUTION}"),
    ],
)
def test_a_space_that_cannot_be_built_is_refused_with_what_is_valid(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}"):
        space_of(**changes)


def test_a_space_looks_its_models_and_methods_up() -> None:
    space = space_of(models=("minilm-l1",), methods=("full",))

    assert space.model("minilm-l1") is space.models[0]
    assert space.method("full") is space.methods[0]
    assert (space.model("minilm-l2"), space.method("lora")) == (None, None)


def test_bitfit_is_not_supported_where_an_architecture_has_no_biases() -> None:
    catalogue = load_catalogue()

    assert not is_supported(catalogue["google-t5/t5-small"], "bitfit")
    assert is_supported(catalogue["google-t5/t5-small"], "lora")
    assert is_supported(catalogue["bert-base-cased"], "bitfit")


def test_least_steps_come_from_the_preset_and_back_from_json_and_are_none_in_a_space_of_before() -> None:
    space = space_of()
    written = json.loads(json.dumps(space_to_json(space)))
    before = {key: value for key, value in written.items() if not key.endswith("min_steps")}

    assert (space.min_steps, space.early_stopping_min_steps) == (16, 100)
    assert space_from_json(written, where="run.json") == space
    old = space_from_json(before, where="run.json")
    assert (old.min_steps, old.early_stopping_min_steps) == (0, 0)
