"""The weights that a method does not train: the precision that they are kept in.

On a GPU that computes in half precision they are kept in it, so that they take half the memory and autocast makes no
copies of them. What is trained stays in single precision, so that small updates are not lost.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.hyperparameters import ADAPTER_METHODS
from xautolm_hpc.train.anatomy import find_blocks
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.frozen.nf4 import Nf4Linear, is_linear, round_to_nf4
from xautolm_hpc.train.recipe import Recipe

HALF_DTYPES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Precision of an accelerator -> its number format."""

KEPT_SINGLE = (nn.LayerNorm, nn.GroupNorm)
"""Modules whose weights stay in single precision: they are small, and autocast computes them in it anyway."""


FROZEN = "frozen"
"""Key of the metadata of a file of trained weights: how the weights beside them were kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPrecision:
    """How the weights that are not trained are kept.

    Attributes:
        dtype: Number format that they are rounded to.
        is_nf4: Whether the linear layers of the blocks are quantised to four bits.
        is_rounded_only: Whether they are rounded, but computed with in single precision: on a device without this
            format, for a pipeline that was trained with it.
    """

    dtype: torch.dtype = torch.float32
    is_nf4: bool = False
    is_rounded_only: bool = False

    @property
    def name(self) -> str:
        """Its name in the file of the trained weights: the number format, or ``nf4+`` and that of the rest."""
        return ("nf4+" if self.is_nf4 else "") + str(self.dtype).removeprefix("torch.")


def plan_frozen(method: str, recipe: Recipe, *, precision: str, trained_as: str | None = None) -> FrozenPrecision:
    """Decide how the weights that a method does not train are kept.

    Args:
        method: One of :data:`xautolm_hpc.hyperparameters.METHODS`.
        recipe: Its hyperparameters.
        precision: What the device computes in: ``no``, ``bf16`` or ``fp16``.
        trained_as: Name of the precision that a pipeline was trained with; ``None`` for one that is trained now.
    """
    half = torch.float32 if method == "full" else HALF_DTYPES.get(precision, torch.float32)
    if trained_as is None:
        return FrozenPrecision(dtype=half, is_nf4=recipe.quantization == "nf4")
    dtype, is_nf4 = parse_frozen(trained_as)
    return FrozenPrecision(
        dtype=dtype, is_nf4=is_nf4, is_rounded_only=dtype != half or (is_nf4 and precision not in HALF_DTYPES)
    )


def parse_frozen(name: str) -> tuple[torch.dtype, bool]:
    """Read the name of a precision: its number format, and whether the linear layers are quantised.

    Raises:
        TrialError: It is no name that :attr:`FrozenPrecision.name` gives; kind ``data_unavailable``.
    """
    known = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, *HALF_DTYPES.values())}
    dtype = known.get(name.removeprefix("nf4+"))
    if dtype is None:
        text = f"the trained weights belong to a model kept in {name!r}; this version knows: {', '.join(known)}"
        raise TrialError(FailureKind.DATA_UNAVAILABLE, f"{text}, each also after nf4+")
    return dtype, name.startswith("nf4+")


def loading_dtype(method: str, recipe: Recipe, *, frozen: FrozenPrecision) -> torch.dtype:
    """Return the number format to load a model in: the frozen one only where nothing of the file is trained.

    Parameters that are trained begin with the values of the file, and PiSSA decomposes them; a rounded value would
    change both.
    """
    trains_own = method not in ADAPTER_METHODS or recipe.lora_bias != "none" or recipe.init_lora_weights == "pissa"
    return torch.float32 if trains_own or frozen.is_rounded_only else frozen.dtype


def freeze(model: nn.Module, frozen: FrozenPrecision, *, device: torch.device) -> None:
    """Convert a model to its precision in place: what is trained to single, what is not to the frozen one.

    A tensor that several modules share stays shared; it is trained if one of them trains it.

    Args:
        model: The model with its method applied, on the CPU.
        frozen: How the weights that are not trained are kept.
        device: Device that quantises the linear layers of the blocks for ``nf4``, and on which they stay.
    """
    kept_single = {id(p) for module in model.modules() if isinstance(module, KEPT_SINGLE) for p in module.parameters()}
    for parameter in model.parameters():
        if not parameter.is_floating_point():
            continue
        stays = parameter.requires_grad or id(parameter) in kept_single
        _convert(parameter, torch.float32 if stays else frozen.dtype)
    if frozen.is_nf4:
        _quantise(model, frozen, device=device)
    if frozen.is_rounded_only:
        for parameter in model.parameters():
            _convert(parameter, torch.float32)


def describe_frozen(model: nn.Module) -> str:
    """Return the name of the precision that a model's frozen weights are kept in."""
    halves = {
        parameter.dtype
        for parameter in model.parameters()
        if not parameter.requires_grad and parameter.dtype in HALF_DTYPES.values()
    }
    dtype = next(iter(halves), torch.float32)
    return FrozenPrecision(dtype=dtype, is_nf4=any(isinstance(module, Nf4Linear) for module in model.modules())).name


def read_frozen(weights_path: Path) -> str:
    """Read how the frozen weights beside a file of trained weights were kept; earlier versions kept them single."""
    with safe_open(weights_path, framework="pt") as file:
        return str((file.metadata() or {}).get(FROZEN, FrozenPrecision().name))


def _convert(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    """Convert a parameter in place, so that every module that shares it sees the change."""
    if parameter.dtype != dtype:
        parameter.data = parameter.data.to(dtype)


def _quantise(model: nn.Module, frozen: FrozenPrecision, *, device: torch.device) -> None:
    """Convert the frozen linear layers inside the blocks to four bits; one whose bias is trained stays as it is."""
    for parent, name, layer in list(_frozen_layers(model)):
        if frozen.is_rounded_only:
            weight: Any = layer.weight
            weight.data = round_to_nf4(layer, device=device).to(weight.dtype)
        else:
            setattr(parent, name, Nf4Linear.of(layer, device=device))


def _frozen_layers(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """List the frozen linear layers inside the blocks: the module that holds each, its name there, and itself."""
    for block in find_blocks(model):
        for parent in block.modules():
            for name, layer in parent.named_children():
                if is_linear(layer) and not any(parameter.requires_grad for parameter in layer.parameters()):
                    yield parent, name, layer
