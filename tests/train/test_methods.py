"""A method trains exactly the parameters it says, on every architecture; the others stay bit-identical."""

import re
from typing import Any

import pytest
import torch
from torch import nn

from tests.train.tiny import CONFIGS, tiny_model, tiny_train_state, weights_of
from xautolm_hpc.train.anatomy import dissect
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.loop import train
from xautolm_hpc.train.methods import linear_layers

# What comes after the blocks, as each architecture names it. Written down by hand from the models' source.
HEADS = {
    "bert": ("bert.pooler", "classifier"),
    "roberta": ("classifier",),
    "distilbert": ("pre_classifier", "classifier"),
    "albert": ("albert.pooler", "classifier"),
    "electra": ("classifier",),
    "deberta": ("pooler", "classifier"),
    "deberta-v2": ("pooler", "classifier"),
    "xlm-roberta": ("classifier",),
    "modernbert": ("model.final_norm", "head", "classifier"),
    "gpt2": ("transformer.ln_f", "score"),
    "llama": ("model.norm", "score"),
    "mistral": ("model.norm", "score"),
    "qwen2": ("model.norm", "score"),
    "qwen3": ("model.norm", "score"),
    "phi": ("model.final_layernorm", "score"),
    "phi3": ("model.norm", "score"),
    "t5": ("transformer.decoder.final_layer_norm", "classification_head"),
    "bart": ("classification_head",),
}
BLOCKS = {
    "bert": ("bert.encoder.layer.0", "bert.encoder.layer.1"),
    "roberta": ("roberta.encoder.layer.0", "roberta.encoder.layer.1"),
    "distilbert": ("distilbert.transformer.layer.0", "distilbert.transformer.layer.1"),
    "albert": ("albert.encoder.albert_layer_groups.0",),
    "electra": ("electra.encoder.layer.0", "electra.encoder.layer.1"),
    "deberta": ("deberta.encoder.layer.0", "deberta.encoder.layer.1"),
    "deberta-v2": ("deberta.encoder.layer.0", "deberta.encoder.layer.1"),
    "xlm-roberta": ("roberta.encoder.layer.0", "roberta.encoder.layer.1"),
    "gpt2": ("transformer.h.0", "transformer.h.1"),
    **dict.fromkeys(
        ("modernbert", "llama", "mistral", "qwen2", "qwen3", "phi", "phi3"), ("model.layers.0", "model.layers.1")
    ),
    "t5": tuple(f"transformer.{part}.block.{number}" for part in ("encoder", "decoder") for number in (0, 1)),
    "bart": tuple(f"model.{part}.layers.{number}" for part in ("encoder", "decoder") for number in (0, 1)),
}
ATTENTION_LAYERS = {
    "bert": 4,  # query, key, value, output
    "roberta": 4,
    "distilbert": 4,
    "albert": 4,
    "electra": 4,
    "deberta": 4,  # query-key-value in one, two for relative positions, output
    "deberta-v2": 4,
    "xlm-roberta": 4,
    "modernbert": 2,  # query-key-value in one, output
    "gpt2": 2,
    "llama": 4,
    "mistral": 4,
    "qwen2": 4,
    "qwen3": 4,
    "phi": 4,
    "phi3": 2,
    "t5": 6,  # a decoder's block has twice as many
    "bart": 6,
}
GATED = ("llama", "mistral", "qwen2", "qwen3")
"""Their feed-forward part has three linear layers, where others have two."""
LR = 0.5
"""Large, so that no gradient is too small to be seen; plain SGD, so that no gradient means no change."""


def _changed(architecture: str, method: str, **params: Any) -> tuple[set[str], dict[str, torch.Tensor], nn.Module]:
    """Do one step and name the parameters that are not bit-identical afterwards."""
    train_state = tiny_train_state(
        tiny_model(architecture), method=method, n_rows=8, batch_size=8, learning_rate=LR, optimizer="sgd", **params
    )
    before = weights_of(train_state.model)

    train(train_state, save=lambda: None)

    after = weights_of(train_state.model)
    return {name for name in before if not torch.equal(before[name], after[name])}, before, train_state.model


def _within(names: set[str], modules: tuple[str, ...]) -> set[str]:
    return {name for name in names if name.startswith(tuple(f"{module}." for module in modules))}


@pytest.mark.parametrize("architecture", CONFIGS)
def test_blocks_and_head_are_found_by_structure(architecture: str) -> None:
    anatomy = dissect(tiny_model(architecture))

    assert anatomy.blocks == BLOCKS[architecture]
    assert set(anatomy.head) == set(HEADS[architecture])


@pytest.mark.parametrize("architecture", CONFIGS)
def test_head_trains_the_head_and_nothing_else(architecture: str) -> None:
    changed, before, _ = _changed(architecture, "head")

    assert changed == _within(set(before), HEADS[architecture])


@pytest.mark.parametrize("architecture", CONFIGS)
def test_partial_trains_the_topmost_blocks_and_the_head(architecture: str) -> None:
    changed, before, _ = _changed(architecture, "partial", n_trainable_blocks=1)

    assert changed == _within(set(before), BLOCKS[architecture][-1:] + HEADS[architecture])


@pytest.mark.parametrize("architecture", CONFIGS)
def test_partial_with_more_blocks_than_there_are_leaves_the_embeddings_alone(architecture: str) -> None:
    changed, before, _ = _changed(architecture, "partial", num_trainable_layers=64)

    assert changed == _within(set(before), BLOCKS[architecture] + HEADS[architecture])


@pytest.mark.parametrize("architecture", CONFIGS)
def test_full_trains_everything(architecture: str) -> None:
    changed, before, _ = _changed(architecture, "full")

    assert changed == set(before)


@pytest.mark.parametrize("architecture", CONFIGS)
@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_lora_trains_adapters_of_every_target_and_the_head(architecture: str, targets: str) -> None:
    changed, before, model = _changed(architecture, "lora", lora_targets=targets, lora_r=2)

    adapted = {name.rpartition(".lora_B.")[0] for name in changed if ".lora_B." in name}
    expected = linear_layers(tiny_model(architecture), BLOCKS[architecture], which=targets)
    heads = {name for name in before if ".modules_to_save." in name}
    assert adapted == {f"base_model.model.{name}" for name in expected}
    # A starts out without a gradient, because B is 0.
    assert changed == {name for name in before if ".lora_B." in name} | heads
    assert {re.sub(r"base_model\.model\.(.*)\.modules_to_save.*", r"\1", name) for name in heads} >= {
        head for head in HEADS[architecture] if isinstance(tiny_model(architecture).get_submodule(head), nn.Linear)
    }
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("architecture", CONFIGS)
def test_attention_is_fewer_layers_than_all_and_the_same_in_every_block(architecture: str) -> None:
    model, blocks = tiny_model(architecture), BLOCKS[architecture]

    attention = linear_layers(model, blocks, which="attention")
    every = linear_layers(model, blocks, which="all-linear")

    assert len(attention) == ATTENTION_LAYERS[architecture] * len(blocks)
    n_inner = 3 if architecture in GATED else 2
    assert len(every) == len(attention) + n_inner * len(blocks)


@pytest.mark.parametrize(("bias", "where"), [("lora_only", "attention"), ("all", "")])
def test_lora_bias_trains_the_biases_it_names(bias: str, where: str) -> None:
    changed, before, _ = _changed("bert", "lora", lora_bias=bias, lora_r=2)

    biases = {name for name in before if name.endswith(".bias") and "modules_to_save" not in name}
    trained = biases & changed
    expected = {name for name in biases if where in name and "original_module" not in name}
    if bias == "lora_only":
        expected = {name for name in expected if "base_layer" in name}
    assert trained == expected


@pytest.mark.parametrize("init", ["default", "gaussian", "pissa", "none"])
def test_lora_begins_as_the_pretrained_model_whatever_its_initialisation(init: str) -> None:
    ids = torch.arange(5, 13).reshape(2, 4)
    with torch.no_grad():
        expected = tiny_model("bert").train(mode=False)(input_ids=ids).logits
    train_state = tiny_train_state(tiny_model("bert"), method="lora", init_lora_weights=init, lora_r=4)

    with torch.no_grad():
        logits = train_state.model.eval()(input_ids=ids).logits

    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_pissa_starts_from_the_largest_directions_of_the_weights() -> None:
    weight = tiny_model("bert").get_parameter("bert.encoder.layer.0.attention.self.query.weight").detach()

    train_state = tiny_train_state(tiny_model("bert"), method="lora", init_lora_weights="pissa", lora_r=4, lora_alpha=4)

    layer = train_state.model.get_submodule("base_model.model.bert.encoder.layer.0.attention.self.query")
    left, values, right = torch.linalg.svd(weight)
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight  # type: ignore[index, union-attr]
    torch.testing.assert_close(product, left[:, :4] * values[:4] @ right[:4], atol=1e-2, rtol=1e-2)


def test_a_model_without_a_stack_of_blocks_is_unsupported() -> None:
    model = tiny_model("bert")
    model.get_submodule("bert.encoder").layer = nn.ModuleList()

    with pytest.raises(TrialError, match=r"BertForSequenceClassification has no list of like blocks; train it with"):
        dissect(model)


def test_a_block_without_linear_layers_has_nothing_for_lora() -> None:
    with pytest.raises(TrialError, match=r"no linear layers for targets = 'attention'"):
        linear_layers(tiny_model("bert"), ("bert.embeddings",), which="attention")
