"""Batches of fixed shape: padded to a length of a few, short ones filled up with rows that do not count.

A row that does not count is a copy of the first one, with targets that every loss leaves out: loss and gradients are
those of the short batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.train.data import Tokens
from xautolm_hpc.train.ragged import RaggedRows, pad_rows
from xautolm_hpc.train.steps.buckets import choose_edges, padded_length

UNCOUNTED = -100
"""Target that every loss leaves out: what torch's cross-entropy ignores."""

LABELS = "labels"
"""Input that holds the targets of tokens, where each token has one."""

N_WEIGHTS = 1
"""Numbers before the inputs of a batch: the weight of its step."""


@dataclass(frozen=True)
class BatchLayout:
    """Shape of a batch, and where its parts lie in one flat buffer, so that it is copied to the device at once.

    Attributes:
        names: Names of the inputs, in their order in the buffer.
        lengths: Padded length of each.
        n_rows: Rows.
        target_shape: Shape of the target of one row: () or (n_numbers,).
    """

    names: tuple[str, ...]
    lengths: tuple[int, ...]
    n_rows: int
    target_shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Numbers in the buffer."""
        return self._starts[-1]

    @cached_property
    def _starts(self) -> list[int]:
        """Return where the inputs, then the targets begin in the buffer, and its end."""
        parts = [length * self.n_rows for length in self.lengths] + [self.n_rows * prod(self.target_shape)]
        return list(accumulate(parts, initial=N_WEIGHTS))

    def weight(self, flat: Tensor) -> Tensor:
        """View the weight of the step, ()."""
        return flat[0]

    def inputs(self, flat: Tensor) -> dict[str, Tensor]:
        """View the inputs, each (n_rows, length)."""
        return {name: flat[begin:end].view(shape) for name, begin, end, shape in self._parts}

    @cached_property
    def _parts(self) -> list[tuple[str, int, int, tuple[int, int]]]:
        """Return name, begin, end and shape of each input."""
        ends = zip(self._starts[:-2], self._starts[1:-1], strict=True)
        shapes = [(self.n_rows, length) for length in self.lengths]
        return [(name, *place, shape) for name, place, shape in zip(self.names, ends, shapes, strict=True)]

    def targets(self, flat: Tensor) -> Tensor:
        """View the targets, (n_rows, ...)."""
        begin, end = self._starts[-2:]
        return flat[begin:end].view(self.n_rows, *self.target_shape)

    def write(self, flat: Tensor, tokens: Tokens, *, rows: NDArray[np.int64], step_weight: int) -> None:
        """Write samples into a buffer on the host.

        Args:
            flat: The buffer, (size,).
            tokens: The split.
            rows: Samples, at most ``n_rows``, at least one.
            step_weight: What the loss of the whole step is divided by.
        """
        numbers, n_rows = flat.numpy(), len(rows)
        numbers[0] = step_weight
        placed = {name: numbers[begin:end].reshape(shape) for name, begin, end, shape in self._parts}
        counted = {name: column[:n_rows] for name, column in placed.items()}
        pad_rows(tokens.columns, rows, into=counted, padding=tokens.padding)
        begin, end = self._starts[-2:]
        targets = numbers[begin:end].reshape(self.n_rows, *self.target_shape)
        targets[:n_rows] = tokens.targets[rows]
        if n_rows < self.n_rows:
            for name, column in placed.items():
                column[n_rows:] = UNCOUNTED if name == LABELS else column[0]
            targets[n_rows:] = UNCOUNTED


@dataclass(frozen=True, slots=True)
class InputLengths:
    """How long the inputs of each sample are. Inputs of equal lengths, as ids and their mask, share one.

    Attributes:
        distinct: Lengths of the samples, each (n_samples,), no two alike.
        of_input: Name of an input -> its place in ``distinct``.
    """

    distinct: tuple[NDArray[np.int64], ...]
    of_input: Mapping[str, int]

    def longest(self, rows: NDArray[np.int64]) -> tuple[int, ...]:
        """Return the longest of some samples, in the order of ``distinct``."""
        return tuple(int(lengths[rows].max()) for lengths in self.distinct)

    def choose_edges(
        self, micro_batches: Sequence[NDArray[np.int64]], *, n_rows: int, n_repeats: int
    ) -> tuple[tuple[int, ...], ...]:
        """Choose the padded lengths for the micro-batches of a plan, in the order of ``distinct``.

        Args:
            micro_batches: Rows of each.
            n_rows: Rows of a pass at most.
            n_repeats: How often the plan is carried out.
        """
        edges: list[tuple[int, ...]] = []
        n_graphs = 1
        for lengths in self.distinct:
            longest = [int(lengths[rows].max()) for rows in micro_batches]
            chosen = choose_edges(longest, n_rows=n_rows, n_repeats=n_repeats, n_parallel=n_graphs)
            edges.append(chosen)
            n_graphs *= len(chosen)
        return tuple(edges)

    def pad(self, longest: Sequence[int], edges: Sequence[Sequence[int]]) -> dict[str, int]:
        """Return the padded length of each input for the longest lengths of a batch."""
        padded = [padded_length(length, own) for length, own in zip(longest, edges, strict=True)]
        return {name: padded[place] for name, place in self.of_input.items()}


def measure_lengths(columns: Mapping[str, RaggedRows]) -> InputLengths:
    """Measure how long the inputs of each sample are.

    Args:
        columns: Name of an input -> its numbers for each sample.
    """
    distinct: list[NDArray[np.int64]] = []
    of_input: dict[str, int] = {}
    for name, column in columns.items():
        lengths = column.lengths
        same = (place for place, known in enumerate(distinct) if np.array_equal(known, lengths))
        of_input[name] = next(same, len(distinct))
        if of_input[name] == len(distinct):
            distinct.append(lengths)
    return InputLengths(tuple(distinct), of_input)


class HostBuffers:
    """Buffers on the host, all of one size, that are used again: new pinned memory makes host and device wait."""

    def __init__(self, size: int, *, dtype: torch.dtype, is_pinned: bool) -> None:
        """Reserve nothing yet.

        Args:
            size: Numbers of a buffer.
            dtype: Their type.
            is_pinned: Whether copies between them and a GPU must not wait.
        """
        self._size, self._dtype = size, dtype
        self._options: dict[str, Any] = {"pin_memory": True} if is_pinned else {}
        self._free: list[Tensor] = []

    def take(self) -> Tensor:
        """Return a buffer that nothing uses."""
        if self._free:
            return self._free.pop()
        return torch.empty(self._size, dtype=self._dtype, device="cpu", **self._options)

    def give_back(self, buffer: Tensor) -> None:
        """Keep a buffer, to be used again; the device neither reads nor writes it any more."""
        self._free.append(buffer)
