"""``quantization`` is drawn for large decoders alone; a pipeline without it does not quantise."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from tests.priors.builders import TASK, a_model, a_pipeline
from xautolm_hpc.catalogue import Model
from xautolm_hpc.distribution import CategoricalMarginal, uniform
from xautolm_hpc.records import Value
from xautolm_hpc.sample.constraints import Supported
from xautolm_hpc.sample.draw import draw_pipeline, draw_stream
from xautolm_hpc.sample.memory_plan import MemoryBudget, plan_execution
from xautolm_hpc.sample.update import Evolution, update
from xautolm_hpc.space import Space, build_space

LARGE = a_model("large", family="decoder", n_parameters=1_000_000_000)
OTHERS = (
    a_model("small", family="decoder", n_parameters=999_999_999),
    a_model("encoder", family="encoder", n_parameters=2_000_000_000),
)


def _space(*models: Model, overrides: Mapping[str, Mapping[str, object]] | None = None) -> Space:
    return build_space(
        "default",
        task_kind="text-classification",
        models=tuple(model.id for model in models),
        methods=("lora",),
        overrides=overrides or {},
        own_models={model.id: model for model in models},
    )


def _drawn(space: Space, n: int = 60) -> list[Mapping[str, Value]]:
    distribution = uniform(space)
    return [draw_pipeline(distribution, space, rng=draw_stream(0, trial, draw=0)).params for trial in range(n)]


def test_it_is_the_last_dimension_of_lora_where_a_model_can_be_quantised() -> None:
    with_it, without = _space(LARGE, *OTHERS), _space(*OTHERS)

    (lora,), (plain,) = with_it.methods, without.methods
    assert list(lora.params) == [*plain.params, "quantization"]


def test_a_large_decoder_is_drawn_with_and_without_and_none_is_not_written() -> None:
    values = [params.get("quantization") for params in _drawn(_space(LARGE))]

    assert set(values) == {None, "nf4"}
    assert 15 < values.count("nf4") < 45


@pytest.mark.parametrize("model", OTHERS, ids=lambda model: model.id)
def test_for_other_models_it_becomes_none_and_the_rest_is_drawn_as_without_it(model: Model) -> None:
    overrides = {"lora": {"quantization": ["nf4"]}}

    assert _drawn(_space(model, overrides=overrides)) == _drawn(_space(model))


def test_the_reference_preset_does_not_have_it() -> None:
    space = build_space(
        "xautolm", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )

    assert all("quantization" not in method.params for method in space.methods)


def test_the_update_takes_a_pipeline_without_it_for_one_that_does_not_quantise() -> None:
    space = _space(LARGE)
    pipelines = [replace(a_pipeline(method="lora"), model_id="large", params={})]
    evolution = Evolution(population=1, selection=1.0, learning_factor=1.0, objectives=("f1",))

    moved = update(uniform(space), space, results=[(0, pipelines[0], {"f1": 0.5})], evolution=evolution)

    marginal = moved.params["lora"]["quantization"]
    assert isinstance(marginal, CategoricalMarginal)
    assert np.allclose(marginal.probabilities, (0.75, 0.25))


def test_where_the_nodes_cannot_quantise_it_is_unsupported() -> None:
    pipeline = a_pipeline(method="lora", params={"quantization": "nf4"})
    able, unable = (Supported(frozenset({"decoder"}), may_quantise=may) for may in (True, False))

    assert able.reject(pipeline, LARGE) is None
    assert unable.reject(pipeline, LARGE) == (
        "quantization = nf4 needs a GPU, and bitsandbytes in the worker's environment"
    )


def test_weights_of_four_bits_are_never_spread_over_several_gpus() -> None:
    model = replace(LARGE, n_parameters=200_000_000_000, n_layers=100, hidden_size=12_800)
    budget = MemoryBudget(memory_bytes=80 * 1024**3, has_gpu=True, n_processes=8)
    plain, quantised = (
        a_pipeline(method="lora", params={"lora_r": 1, "batch_size": 1, **quantization})
        for quantization in ({}, {"quantization": "nf4"})
    )

    sharded = plan_execution(plain, model, task=TASK, memory_budget=budget)

    assert sharded is not None
    assert sharded.sharded
    assert plan_execution(quantised, model, task=TASK, memory_budget=budget) is None
