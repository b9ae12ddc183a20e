"""Whether the numbers of a model's weights are finite.

One that is not ruins every training, whatever its hyperparameters.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from xautolm_hpc.train.exceptions import UnfitModelError


def check_finite(model: nn.Module, *, model_id: str, place: str) -> None:
    """Check that every parameter of a model is finite.

    Args:
        model: The model, as loaded to the CPU.
        model_id: Its name.
        place: Where its files lie.

    Raises:
        UnfitModelError: One is not; the message has its name.
    """
    for name, parameter in model.named_parameters():
        if not _is_finite(parameter.detach()):
            raise _not_finite(name, model_id=model_id, place=place)


def check_samples(paths: Iterable[Path], *, model_id: str, place: str) -> None:
    """Check that the first row of every tensor in safetensors files is finite; the rest is not read.

    Args:
        paths: Files of weights; those of other kinds are left out.
        model_id: Name of the model.
        place: Where its files lie.

    Raises:
        UnfitModelError: One is not; the message has its name.
    """
    for path in paths:
        if path.suffix != ".safetensors":
            continue
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                if file.get_slice(name).get_shape() and not _is_finite(file.get_slice(name)[:1]):
                    raise _not_finite(name, model_id=model_id, place=place)


def _is_finite(tensor: Tensor) -> bool:
    """Check a tensor by its extremes, which needs no memory of its size; NaN is an extreme, too."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(torch.stack(torch.aminmax(tensor))).all())


def _not_finite(name: str, *, model_id: str, place: str) -> UnfitModelError:
    return UnfitModelError(
        f"model {model_id}: its weights in `{place}` are not all finite: {name} holds NaN or infinite values. Get the "
        "files again, or take the model out of space.models"
    )
