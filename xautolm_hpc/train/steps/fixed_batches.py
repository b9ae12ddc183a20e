"""Batches of fixed shape: padded to a length of a few, short ones filled up with rows that do not count.

A row that does not count is a copy of the first one, with targets that every loss leaves out: loss and gradients are
those of the short batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.train.data import Tokens
from xautolm_hpc.train.steps.buckets import choose_edges, padded_length

UNCOUNTED = -100
"""Target that every loss leaves out: what torch's cross-entropy ignores."""

LABELS = "labels"
"""Input that holds the targets of tokens, where each token has one."""

N_WEIGHTS = 1
"""Numbers before the inputs of a batch: the weight of its step."""


@dataclass(frozen=True, slots=True)
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
        return self._starts()[-1]

    def _starts(self) -> list[int]:
        """Return where the inputs, then the targets begin in the buffer, and its end."""
        parts = [length * self.n_rows for length in self.lengths] + [self.n_rows * int(np.prod(self.target_shape))]
        return list(accumulate(parts, initial=N_WEIGHTS))

    def weight(self, flat: Tensor) -> Tensor:
        """View the weight of the step, ()."""
        return flat[0]

    def inputs(self, flat: Tensor) -> dict[str, Tensor]:
        """View the inputs, each (n_rows, length)."""
        starts = self._starts()
        return {
            name: flat[start : start + length * self.n_rows].view(self.n_rows, length)
            for name, start, length in zip(self.names, starts, self.lengths, strict=False)
        }

    def targets(self, flat: Tensor) -> Tensor:
        """View the targets, (n_rows, ...)."""
        begin, end = self._starts()[-2:]
        return flat[begin:end].view(self.n_rows, *self.target_shape)

    def write(self, flat: Tensor, tokens: Tokens, *, rows: NDArray[np.int64], step_weight: int) -> None:
        """Write samples into a buffer on the host.

        Args:
            flat: The buffer, (size,).
            tokens: The split.
            rows: Samples, at most ``n_rows``, at least one.
            step_weight: What the loss of the whole step is divided by.
        """
        flat[0] = step_weight
        for name, view in self.inputs(flat).items():
            placed, column = view.numpy(), tokens.columns[name]
            placed.fill(tokens.padding[name])
            for place, row in enumerate(rows):
                values = column[row]
                placed[place, : len(values)] = values
            placed[len(rows) :] = UNCOUNTED if name == LABELS else placed[0]
        targets = self.targets(flat).numpy()
        targets[: len(rows)] = tokens.targets[rows]
        targets[len(rows) :] = UNCOUNTED


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


def measure_lengths(columns: Mapping[str, Sequence[Sequence[int]]]) -> InputLengths:
    """Measure how long the inputs of each sample are.

    Args:
        columns: Name of an input -> its numbers for each sample.
    """
    distinct: list[NDArray[np.int64]] = []
    of_input: dict[str, int] = {}
    for name, column in columns.items():
        lengths = np.fromiter(map(len, column), dtype=np.int64, count=len(column))
        same = (place for place, known in enumerate(distinct) if np.array_equal(known, lengths))
        of_input[name] = next(same, len(distinct))
        if of_input[name] == len(distinct):
            distinct.append(lengths)
    return InputLengths(tuple(distinct), of_input)


def stage(layout: BatchLayout, *, is_pinned: bool) -> Tensor:
    """Make a buffer on the host, pinned where a copy to the device shall not wait.

    Args:
        layout: What it holds.
        is_pinned: Whether it is copied to a GPU.
    """
    options: dict[str, Any] = {"pin_memory": True} if is_pinned else {}
    return torch.empty(layout.size, dtype=torch.int64, **options)
