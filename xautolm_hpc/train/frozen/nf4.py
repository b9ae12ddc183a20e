"""Linear layers quantised to four bits (NF4, with double quantisation), by bitsandbytes.

A quantised layer holds no trained parameter. It computes in half precision: its weight is expanded for each use.

Source:
    Dettmers et al. 2023 ("QLoRA: Efficient Finetuning of Quantized LLMs", sections on NormalFloat and on double
    quantisation).
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from xautolm_hpc.execution import Execution
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.exceptions import TrialError

LIBRARY = "bitsandbytes"


def check_nf4(device: torch.device, *, execution: Execution, is_rounded_only: bool) -> None:
    """Check that a trial can quantise.

    Args:
        device: Device that it computes on.
        execution: How its steps are computed; layers of four bits are not spread over several GPUs.
        is_rounded_only: Whether nothing is computed with layers of four bits, which needs no GPU.

    Raises:
        TrialError: The device is no GPU, the library is not installed, or the model is sharded; kind ``unsupported``.
    """
    if device.type != "cuda" and not is_rounded_only:
        raise TrialError(FailureKind.UNSUPPORTED, f"quantization = nf4 needs a GPU; this trial runs on {device.type}")
    if execution.sharded:
        raise TrialError(FailureKind.UNSUPPORTED, "quantization = nf4 is not for models that are sharded over GPUs")
    if find_spec(LIBRARY) is None:
        raise TrialError(
            FailureKind.UNSUPPORTED,
            f"quantization = nf4 needs the package {LIBRARY}, which the worker's environment lacks; install it, or "
            "search without nf4",
        )


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a plain linear layer, also in the transposed form of GPT-2."""
    return type(module) in (nn.Linear, Conv1D)


class Nf4Linear(nn.Module):
    """A frozen linear layer whose weight takes half a byte a number.

    Attributes:
        weight: The weight, two numbers a byte.
        bias: The bias, frozen too; ``None`` without one.
    """

    weight: Tensor

    def __init__(self, packed: Tensor, state: Any, *, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", packed, persistent=False)
        self.state = state  # scales of the blocks of numbers, themselves quantised; on the device of the weight
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @classmethod
    def of(cls, layer: nn.Module, *, device: torch.device) -> "Nf4Linear":
        """Build it from a linear layer; the new one stays on the device.

        Args:
            layer: A layer of which :func:`is_linear` holds, in half or single precision.
            device: Where it is quantised.
        """
        packed, state = _quantise(layer, device)
        bias: Any = layer.bias
        return cls(packed, state, bias=None if bias is None else bias.detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the layer in the number format that the weight had; under autocast the result stays in it."""
        from bitsandbytes import matmul_4bit

        dtype = self.state.dtype
        outputs: Tensor = matmul_4bit(inputs.to(dtype), self.weight, quant_state=self.state)
        if self.bias is not None:
            outputs = outputs + self.bias.to(dtype)
        return outputs if torch.is_autocast_enabled(inputs.device.type) else outputs.to(inputs.dtype)


def round_to_nf4(layer: nn.Module, *, device: torch.device) -> Tensor:
    """Return the weight of a linear layer after quantising and expanding it, on the CPU and in the layer's own form."""
    from bitsandbytes.functional import dequantize_4bit

    packed, state = _quantise(layer, device)
    weight: Tensor = dequantize_4bit(packed, state).cpu()
    return weight.T.contiguous() if isinstance(layer, Conv1D) else weight


def _quantise(layer: nn.Module, device: torch.device) -> tuple[Tensor, Any]:
    """Convert the weight of a layer, as (outputs, inputs), to packed numbers and their scales."""
    from bitsandbytes.functional import quantize_4bit

    weight: Any = layer.weight
    values = weight.detach().T if isinstance(layer, Conv1D) else weight.detach()
    packed, state = quantize_4bit(values.contiguous().to(device), compress_statistics=True, quant_type="nf4")
    return packed, state
