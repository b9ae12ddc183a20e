"""Linear layers of four bits, computed on the CPU by the library that only the environment for GPUs has."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from tests.train.tiny import PARAMS, tiny_model
from xautolm_hpc.node import list_gpus
from xautolm_hpc.train.frozen.nf4 import Nf4Linear, round_to_nf4
from xautolm_hpc.train.frozen.precision import FrozenPrecision, describe_frozen, freeze
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.recipe import parse_recipe

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.gpu

CPU = torch.device("cpu")


def _quantised(name: str, *, is_rounded_only: bool = False, **params: Any) -> nn.Module:
    recipe = parse_recipe("lora", {**PARAMS, "quantization": "nf4", **params})
    model = apply_method(tiny_model(name), "lora", recipe=recipe)
    precision = FrozenPrecision(dtype=torch.bfloat16, is_nf4=True, is_rounded_only=is_rounded_only)
    freeze(model, precision, device=CPU)
    return model


@pytest.mark.parametrize("is_transposed", [False, True])
def test_a_quantised_layer_computes_with_its_rounded_weight(is_transposed: bool) -> None:
    layer: Any = Conv1D(64, 128) if is_transposed else nn.Linear(128, 64)  # type: ignore[no-untyped-call]
    layer.weight.requires_grad_(False)
    layer.to(torch.bfloat16)
    inputs = torch.randn(5, 128).to(torch.bfloat16).requires_grad_(True)

    quantised = Nf4Linear.of(layer, device=CPU)
    outputs = quantised(inputs)
    layer.weight.data = round_to_nf4(layer, device=CPU)

    assert quantised.weight.dtype == torch.uint8
    assert quantised.weight.numel() == 128 * 64 // 2
    assert torch.allclose(outputs, layer(inputs), rtol=0.02, atol=0.02)
    (gradient,) = torch.autograd.grad(outputs.float().sum(), inputs)
    (expected,) = torch.autograd.grad(layer(inputs).float().sum(), inputs)
    assert torch.allclose(gradient, expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize(("name", "n_layers"), [("llama", 7), ("gpt2", 4), ("qwen3", 7)])
def test_the_linear_layers_of_the_blocks_are_quantised_and_the_adapters_learn(name: str, n_layers: int) -> None:
    model = _quantised(name, lora_r=4, lora_targets="all-linear")
    ids = torch.tensor([[5, 6, 7, 3], [8, 9, 3, 0]])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=(ids > 0).long()).logits
    nn.functional.cross_entropy(logits.float(), torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]

    assert sum(isinstance(module, Nf4Linear) for module in model.modules()) == 2 * n_layers
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.values())
    assert any("score" in key for key in trained)
    assert describe_frozen(model) == "nf4+bfloat16"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_merged_weights_answer_as_the_quantised_model_did(name: str) -> None:
    quantised, rounded = (_quantised(name, is_rounded_only=only, lora_r=4) for only in (False, True))
    ids = torch.tensor([[5, 6, 7, 3], [8, 9, 4, 3]])
    with torch.no_grad():
        for model in (quantised, rounded):
            torch.manual_seed(1)
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.normal_(std=0.1)
        merged: Any = rounded
        merged = merged.merge_and_unload()

        with torch.autocast("cpu", dtype=torch.bfloat16):
            expected = quantised.eval()(input_ids=ids).logits
        logits = merged.eval()(input_ids=ids).logits

    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert torch.allclose(logits, expected.float(), rtol=0.1, atol=0.1)


def test_pissa_and_quantisation_go_together() -> None:
    model = _quantised("llama", init_lora_weights="pissa", lora_r=4)

    assert sum(isinstance(module, Nf4Linear) for module in model.modules()) == 14
