"""Whatever is learnt, a method changes its own parameters alone, as many as PEFT states."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import nn

from tests.train.families import family_train_state
from tests.train.test_families import CASES
from tests.train.test_family_grid import cells
from tests.train.tiny import weights_of
from xautolm_hpc.train.loop import train

TWO_STEPS: dict[str, Any] = {
    "optimizer": "sgd", "learning_rate": 0.5, "lr_scheduler": "constant", "batch_size": 8, "epochs": 1,
    "max_length": 36, "dropout_rate": 0.0, "lora_r": 2, "lora_targets": "all-linear", "n_trainable_blocks": 1,
}  # fmt: skip
"""Plain SGD: no gradient, no change. LoRA's A has none in the first step, because B is 0."""

BLOCK = re.compile(r"\.(?:layer|layers|h|block|albert_layer_groups)\.(\d+)\.")
EMBEDDING = re.compile(r"embed|shared|\.w[tp]e\.")
ADAPTED = re.compile(r"\.(lora_[AB]|lora_magnitude_vector|ia3_l|modules_to_save)\.default\b")

OWN = {"lora": ("lora_r", "lora_targets"), "dora": ("lora_r", "lora_targets"), "partial": ("n_trainable_blocks",)}
GRID = sorted({(kind, architecture) for architecture, kind, _ in cells()})
SUPPORTED = {(kind, architecture, method) for architecture, kind, method in cells()}


def _check(folder: Path, *, kind: str, architecture: str, method: str) -> None:
    """Train two steps and hold what has changed against what the method says it trains."""
    foreign = {name for names in OWN.values() for name in names} - set(OWN.get(method, ()))
    params = {name: value for name, value in TWO_STEPS.items() if name not in foreign}
    train_state = family_train_state(folder, architecture, kind=kind, method=method, params=params)
    before = weights_of(train_state.model)

    train(train_state, save=lambda: None)

    assert train_state.progress.step == 2
    changed = {name for name, after in weights_of(train_state.model).items() if not torch.equal(before[name], after)}
    chosen = {name: parameter for name, parameter in train_state.model.named_parameters() if parameter.requires_grad}
    assert changed == set(chosen)
    assert not [name for name in changed if _is_foreign(name, method, writes=kind == "text-generation")]
    if isinstance(train_state.model, PeftModel):
        n_stated, _ = train_state.model.get_nb_trainable_parameters()
        assert (
            sum(parameter.numel() for parameter in chosen.values()) == n_stated == _n_by_hand(train_state.model, method)
        )


def _is_foreign(name: str, method: str, *, writes: bool) -> bool:
    """Check by its name that a method does not train a parameter; a language model's head may be its embeddings."""
    if method == "full":
        return False
    block = BLOCK.search(name)
    if method in ("lora", "dora", "ia3"):
        return not ADAPTED.search(name)
    if method == "bitfit":
        return not name.endswith(".bias") if block else writes or bool(EMBEDDING.search(name))
    if block is None:
        return not writes and bool(EMBEDDING.search(name))
    below = int(block[1]) < 1 and "albert" not in name
    return method == "head" or (method == "partial" and (below or ".encoder.block." in name))


def _n_by_hand(model: PeftModel, method: str) -> int:
    """Count what the papers' formulas give for the adapted layers, and the copy of the head."""
    n = sum(parameter.numel() for name, parameter in model.named_parameters() if ".modules_to_save.default." in name)
    for _, module in model.named_modules():
        base = getattr(module, "base_layer", None)
        if not isinstance(base, nn.Module):
            continue
        n_out, n_in = _shape(base)
        if method == "ia3":
            n += n_in if getattr(module, "is_feedforward", False) else n_out
        else:
            n += TWO_STEPS["lora_r"] * (n_in + n_out) + (n_out if method == "dora" else 0)
    return n


def _shape(layer: nn.Module) -> tuple[int, int]:
    """Return outputs and inputs of a linear layer; GPT-2 stores its weights transposed."""
    first, second = layer.get_parameter("weight").shape
    return (first, second) if isinstance(layer, nn.Linear) else (second, first)


@pytest.mark.parametrize("method", ["partial", "lora", "dora", "ia3", "bitfit", "head"])
@pytest.mark.parametrize(("kind", "architecture"), CASES)
def test_only_the_parameters_of_the_method_change(tmp_path: Path, kind: str, architecture: str, method: str) -> None:
    if method == "bitfit" and architecture in ("llama", "t5"):
        architecture = {"llama": "gpt2", "t5": "bart"}[architecture]  # of the same family, with biases
    _check(tmp_path, kind=kind, architecture=architecture, method=method)


@pytest.mark.families
@pytest.mark.parametrize("method", ["full", "partial", "lora", "dora", "ia3", "bitfit", "head"])
@pytest.mark.parametrize(("kind", "architecture"), GRID)
def test_only_the_parameters_of_the_method_change_in_every_architecture(
    tmp_path: Path, kind: str, architecture: str, method: str
) -> None:
    if (kind, architecture, method) not in SUPPORTED:
        return
    _check(tmp_path, kind=kind, architecture=architecture, method=method)
