"""Counts the operations of a step as torch starts them, on any device, the meta device too."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

EMPTY = frozenset({"detach", "empty", "empty_like", "new_empty", "empty_strided", "_local_scalar_dense", "lift_fresh"})
"""Operations without a kernel that torch does not know for views."""


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is active.

    Attributes:
        n_kernels: Operations that start a kernel: all but views.
        flops: Arithmetic of the products of matrices, a multiplication and an addition counted as two.
        moved_bytes: Bytes of what all other operations read and write.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_kernels = 0
        self.flops = 0
        self.moved_bytes = 0

    def __torch_dispatch__(  # noqa: PLR0917 torch's own signature
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count an operation and compute it."""
        del types
        options = dict(kwargs or {})
        result = func(*args, **options)
        if not _starts_nothing(func):
            self.n_kernels += 1
            packet = func._overloadpacket
            if packet in flop_registry:
                self.flops += int(flop_registry[packet](*args, **options, out_val=result))
            else:
                self.moved_bytes += sum(map(_bytes, (*args, *options.values(), result)))
        return result


def _starts_nothing(func: Any) -> bool:
    """Check whether an operation only looks at memory that is there."""
    return func.is_view or func._overloadpacket.__name__ in EMPTY


def _bytes(value: Any) -> int:
    """Count the bytes of tensors, those in lists too."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
