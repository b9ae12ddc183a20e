"""Measures a step as torch's operations pass by, on any device: on the meta device nothing is computed or reserved."""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

BLOCK_BYTES = 512
"""What the memory of a tensor on a GPU is rounded up to."""

STARTS_NOTHING = frozenset(
    {"detach", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "_local_scalar_dense"}
)
"""Operations without a kernel that torch does not list as views."""


N_TEXTS, LENGTH_PRIME = 11, 61
"""Texts of the batch that is followed, and a prime by which the length of its texts can be divided.

Both are in the size of every tensor that grows with the batch, and in no other: so one step tells what grows."""

LIKELY_GROWTH = 64
"""How many times larger the batch is whose peak is looked for: so large that the activations outweigh all else."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of some tensors: those whatever the batch is, for each of its tokens, and for each token and token.

    Attributes:
        fixed_bytes: Bytes whatever the batch is.
        token_bytes: Bytes for each token.
        pair_bytes: Bytes for each token and token of its text.
    """

    fixed_bytes: float = 0.0
    token_bytes: float = 0.0
    pair_bytes: float = 0.0

    def plus(self, other: "Size", times: float = 1.0) -> "Size":
        """Add another one, some times."""
        return Size(
            self.fixed_bytes + times * other.fixed_bytes,
            self.token_bytes + times * other.token_bytes,
            self.pair_bytes + times * other.pair_bytes,
        )

    def at(self, n_tokens: float, length: float) -> float:
        """Return the bytes for a batch of so many tokens, in texts of a length."""
        return self.fixed_bytes + n_tokens * (self.token_bytes + length * self.pair_bytes)


class StepMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows which tensors are alive, and counts operations, while it is active.

    Attributes:
        live: Memory of the tensors that are alive.
        peak: Memory of those that were alive when they took most.
        n_kernels: Operations that start a kernel.
        flops: Arithmetic of products of matrices; a multiplication and an addition are two.
        moved: What all other operations read and write.
    """

    def __init__(self, length: int, there: Iterable[Tensor] = ()) -> None:
        """Begin without tensors.

        Args:
            length: Tokens of each of the :data:`N_TEXTS` texts.
            there: Tensors that are there already and do not count: parameters, buffers, inputs.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = self.moved = Size()
        self.n_kernels = 0
        self.flops = 0
        self._length = length
        self._n_tokens = N_TEXTS * length
        self._most_bytes = -1.0
        self._alive: dict[int, Any] = {tensor.untyped_storage()._cdata: tensor for tensor in there}

    def __torch_dispatch__(  # noqa: PLR0917 torch's own signature
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute an operation, count it and follow its results."""
        del types
        options = dict(kwargs or {})
        result = func(*args, **options)
        made = _tensors(result)
        for tensor in made:
            self._follow(tensor)
        if not func.is_view and func._overloadpacket.__name__ not in STARTS_NOTHING:
            self._count(func, args, options=options, result=result)
        return result

    def _follow(self, made: Tensor) -> None:
        """Count the memory of a tensor until it is freed, unless it looks at memory that is counted."""
        storage = made.untyped_storage()
        key = storage._cdata
        if key in self._alive:
            return
        size = self._size(-(-storage.nbytes() // BLOCK_BYTES) * BLOCK_BYTES, storage.nbytes())
        self.live = self.live.plus(size)
        bytes_then = self.live.at(LIKELY_GROWTH * self._n_tokens, self._length)
        if bytes_then > self._most_bytes:
            self.peak, self._most_bytes = self.live, bytes_then
        self._alive[key] = weakref.ref(storage, partial(self._forget, key, size))

    def _forget(self, key: int, size: Size, *_: Any) -> None:
        self.live = self.live.plus(size, -1.0)
        del self._alive[key]

    def _size(self, n_bytes: int, exact_bytes: int) -> Size:
        """Find by its divisors what a tensor grows with."""
        if exact_bytes and exact_bytes % LENGTH_PRIME**2 == 0:
            return Size(pair_bytes=n_bytes / (self._n_tokens * self._length))
        if exact_bytes and exact_bytes % LENGTH_PRIME == 0 and exact_bytes % N_TEXTS == 0:
            return Size(token_bytes=n_bytes / self._n_tokens)
        return Size(fixed_bytes=n_bytes)

    def _count(self, func: Any, args: Sequence[Any], *, options: Mapping[str, Any], result: Any) -> None:
        self.n_kernels += 1
        packet = func._overloadpacket
        if packet in flop_registry:
            self.flops += int(flop_registry[packet](*args, **options, out_val=result))
            return
        for tensor in _tensors((*args, *options.values(), result)):
            n_bytes = tensor.numel() * tensor.element_size()
            self.moved = self.moved.plus(self._size(n_bytes, n_bytes))


def _tensors(value: Any) -> list[Tensor]:
    """List the tensors in a result or in arguments, those in lists too."""
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, list | tuple) else []
