"""What a GPU does otherwise than the meta device: autocast, fused attention, dropout; so that a step there costs alike.

torch casts by the device of a tensor, so nothing is cast on the meta device. Here functions are intercepted as they are
called, and cast by the same lists.

Source:
    torch's documentation, "Autocast Op Reference", section on CUDA.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

IN_HALF = frozenset(
    (
        "__matmul__",
        "addbmm",
        "addmm",
        "addmv",
        "addr",
        "baddbmm",
        "bmm",
        "chain_matmul",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "einsum",
        "linear",
        "matmul",
        "mm",
        "mv",
        "prelu",
    )
)
IN_SINGLE = frozenset(
    (
        "__pow__",
        "__rpow__",
        "acos",
        "asin",
        "cosh",
        "cosine_similarity",
        "cross_entropy",
        "cumprod",
        "cumsum",
        "dist",
        "erfinv",
        "exp",
        "expm1",
        "group_norm",
        "layer_norm",
        "log",
        "log10",
        "log1p",
        "log2",
        "log_softmax",
        "logsumexp",
        "mse_loss",
        "nll_loss",
        "norm",
        "pow",
        "prod",
        "reciprocal",
        "rms_norm",
        "rsqrt",
        "sinh",
        "smooth_l1_loss",
        "softmax",
        "softmin",
        "softplus",
        "sum",
        "tan",
    )
)
WIDEST = frozenset(
    ("addcdiv", "addcmul", "bilinear", "cat", "cross", "dot", "index_put", "scatter_add", "stack", "tensordot")
)
"""Functions that take the widest of the formats they are given."""


class GpuRules(TorchFunctionMode):
    """Makes functions on the meta device behave as they do on a GPU, while it is active.

    Attributes:
        half: Number format that autocast casts to; ``None`` computes in the formats there are.
        keeps_casts: Whether autocast keeps its copies of parameters until the forward pass ends.
    """

    def __init__(self, half: torch.dtype | None) -> None:
        """Begin without copies.

        Args:
            half: Number format that autocast casts to, or ``None``.
        """
        super().__init__()
        self.half = half
        self.keeps_casts = True
        self._casts: dict[int, tuple[Tensor, Tensor]] = {}

    def end_forward(self) -> None:
        """Drop the copies of parameters, as autocast does at its end; what was saved for the backward pass stays."""
        self._casts.clear()
        self.keeps_casts = False

    def __torch_function__(  # noqa: PLR0917 torch's own signature
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute a function with the arguments that it gets on a GPU."""
        del types
        name, options = getattr(func, "__name__", ""), dict(kwargs or {})
        if name in ANSWERS:
            return ANSWERS[name]
        dtype = self._dtype(name, args)
        if dtype is not None:
            args = self._cast(tuple(args), dtype)
            options = {key: self._cast(value, dtype) for key, value in options.items()}
        replacement = REPLACED.get(name)
        return func(*args, **options) if replacement is None else replacement(*args, **options)

    def _dtype(self, name: str, args: Sequence[Any]) -> torch.dtype | None:
        """Return the number format that autocast gives a function; ``None`` leaves its arguments alone."""
        if self.half is None:
            return None
        if name in IN_HALF or name in REPLACED_IN_HALF:
            return self.half
        if name in IN_SINGLE or (name in WIDEST and len(_formats(args)) > 1):
            return torch.float32
        return None

    def _cast(self, value: Any, dtype: torch.dtype) -> Any:
        """Convert tensors to a number format, those in lists too; copies of parameters are kept."""
        if isinstance(value, list | tuple):
            return type(value)(self._cast(part, dtype) for part in value)
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == dtype:
            return value
        may_keep = self.keeps_casts and value.is_leaf and value.requires_grad and dtype == self.half
        if not may_keep:
            return value.to(dtype)
        if id(value) not in self._casts:
            self._casts[id(value)] = (value, value.to(dtype))
        return self._casts[id(value)][1]


def _formats(value: Any) -> set[torch.dtype]:
    """Collect the number formats of tensors in arguments."""
    if isinstance(value, Tensor):
        return {value.dtype} if value.is_floating_point() else set()
    return {dtype for part in value for dtype in _formats(part)} if isinstance(value, list | tuple) else set()


class _FusedAttention(torch.autograd.Function):
    """Attention that keeps its inputs, its output and a number for each query, and no scores."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        queries, keys, values, bias = inputs
        n_batch, n_heads, n_queries, _ = queries.shape
        shape = (n_batch, n_queries, n_heads, values.shape[-1])
        outputs = torch.empty(shape, dtype=queries.dtype, device=queries.device).transpose(1, 2)
        sums = torch.empty(queries.shape[:3], dtype=torch.float32, device=queries.device)
        ctx.save_for_backward(queries, keys, values, outputs, sums, bias)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        queries, keys, values, _, sums, bias = ctx.saved_tensors
        torch.empty_like(sums)
        own = [torch.empty_like(part) for part in (queries, keys, values)]
        return *own, torch.empty_like(bias) if bias is not None and ctx.needs_input_grad[3] else None


def _attend(query: Tensor, *others: Any, **options: Any) -> Tensor:
    """Compute attention as the fused kernels do; a mask of truth values becomes a bias of numbers in each block."""
    key, value = (
        others[place] if len(others) > place else options[name] for place, name in enumerate(("key", "value"))
    )
    mask = others[2] if len(others) > 2 else options.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.empty(mask.shape, dtype=query.dtype, device=query.device)
    attended: Tensor = _FusedAttention.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
    return attended


def _drop(states: Tensor, *others: Any, **options: Any) -> Tensor:
    """Drop units as a GPU does: a byte is kept for each."""
    given = {**options, **dict(zip(("p", "training"), others, strict=False))}
    p, training = given.get("p", 0.5), given.get("training", True)
    return torch.native_dropout(states, p, train=True)[0] if training and p > 0 else states


REPLACED: Mapping[str, Callable[..., Any]] = {"scaled_dot_product_attention": _attend, "dropout": _drop}
"""Function -> what a GPU does in its place."""

REPLACED_IN_HALF = frozenset({"scaled_dot_product_attention"})

ANSWERS: Mapping[str, Any] = {"__bool__": False, "__contains__": False, "item": 1, "__int__": 1, "__index__": 1}
"""What a number of a tensor without numbers is taken for: masks are kept, as they are for batches with padding."""
