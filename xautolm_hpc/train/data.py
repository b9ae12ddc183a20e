"""The rows of a task, its samples as token ids, the batches of an epoch and the micro-batches of a rank."""

import gzip
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import split_path
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.process_group import Rank
from xautolm_hpc.train.ragged import RaggedRows, pad_rows

CHUNK_BATCHES = 10
"""Batches whose samples are sorted by length together. So many save most of the padding, and so few that the samples
of a batch still differ from epoch to epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Samples of one split as token ids, unpadded. A sample is a row, or a window of a long one.

    Attributes:
        columns: Name of a model input -> its numbers for each sample.
        padding: Name of a model input -> the number that pads it.
        targets: Right answers, (n_samples,) or (n_samples, n_numbers); the task says what they mean.
        lengths: Tokens of each sample, (n_samples,).
        weights: Weight of each sample in the mean loss, (n_samples,): 1, or the number of tokens to be predicted.
        facts: What scoring needs to know of each sample; the task says what it is.
    """

    columns: Mapping[str, RaggedRows]
    padding: Mapping[str, int]
    targets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    weights: NDArray[np.int64]
    facts: Sequence[Any]

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.lengths)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows of one forward and backward pass of one process.

    Attributes:
        rows: The rows, at least one.
        counts: Whether they count in the loss. Where a batch has fewer rows than there are processes, some processes
            compute a row that does not count: all must run the same number of micro-batches.
    """

    rows: NDArray[np.int64]
    counts: bool = True


def read_rows(data_dir: Path, name: str, *, sha256: str | None) -> list[dict[str, Any]]:
    """Read one split of the normalised data.

    Args:
        data_dir: Folder of the split's files.
        name: ``train``, ``dev``, ``validation`` or ``test``.
        sha256: Digest that the file must have.

    Raises:
        TrialError: The file is missing, is not the one profiled, or is empty; kind ``data_unavailable``.
    """
    path = split_path(data_dir, name)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TrialError(
            FailureKind.DATA_UNAVAILABLE, f"`{path}` is missing; is the run folder visible on this node?"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise TrialError(FailureKind.DATA_UNAVAILABLE, f"`{path}` has sha256 {found}, but the profile wrote {sha256}")
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    if not rows:
        raise TrialError(FailureKind.DATA_UNAVAILABLE, f"`{path}` has no rows")
    return rows


def take_share(rows: list[dict[str, Any]], share: float) -> list[dict[str, Any]]:
    """Return a share of the training rows; every label keeps at least one row.

    The profile has shuffled the rows, so the first ones are a random sample. It is the same for every trial, and a
    larger share contains a smaller one.

    Args:
        rows: Rows of ``train``.
        share: Above 0, at most 1.
    """
    n_taken = math.ceil(share * len(rows))
    first = {row.get("label"): number for number, row in reversed(list(enumerate(rows)))}
    return rows[:n_taken] + [rows[number] for number in sorted(first.values()) if number >= n_taken]


def pad(column: Sequence[Sequence[int]], *, value: int, on_left: bool = False) -> Tensor:
    """Pad rows of numbers to the longest: (n_rows, longest).

    Args:
        column: The numbers of each row.
        value: What to pad with.
        on_left: Whether to pad before the numbers, as generation needs it.
    """
    longest = max(map(len, column))
    padded = np.full((len(column), longest), value, dtype=np.int64)
    for place, values in enumerate(column):
        start = longest - len(values) if on_left else 0
        padded[place, start : start + len(values)] = values
    return torch.from_numpy(padded)


def collate(tokens: Tokens, rows: NDArray[np.int64], *, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Build one batch, each input padded to its longest row.

    Args:
        tokens: The split.
        rows: Samples of the batch, (n_batch,).
        device: Device of the result.

    Returns:
        Model inputs, each (n_batch, longest), and targets, (n_batch, ...).
    """
    longest = {name: int(column.lengths_of(rows).max()) for name, column in tokens.columns.items()}
    padded = {name: np.empty((len(rows), length), dtype=np.int64) for name, length in longest.items()}
    pad_rows(tokens.columns, rows, into=padded, padding=tokens.padding)
    inputs = {name: torch.from_numpy(column).to(device) for name, column in padded.items()}
    return inputs, torch.from_numpy(tokens.targets[rows]).to(device)


def plan_epoch(
    lengths: NDArray[np.int64], *, batch_size: int, accumulation: int, rng: np.random.Generator
) -> list[list[NDArray[np.int64]]]:
    """Plan the optimiser steps of one epoch; rows of similar length share a batch.

    Args:
        lengths: Tokens of each row, (n_rows,).
        batch_size: Rows of one forward pass.
        accumulation: Forward passes of one optimiser step; the last step may have fewer.
        rng: Decides the order.

    Returns:
        For each optimiser step its batches, each an array of rows; every row occurs once. There are
        ceil(n_rows / (batch_size * accumulation)) steps.
    """
    order = rng.permutation(len(lengths))
    chunk = batch_size * CHUNK_BATCHES
    chunks = [order[start : start + chunk] for start in range(0, len(order), chunk)]
    order = np.concatenate([rows[np.argsort(-lengths[rows], kind="stable")] for rows in chunks])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    batches = [batches[number] for number in rng.permutation(len(batches))]
    # The batch with the longest row goes first: if it does not fit into memory, the first step fails.
    batches.insert(0, batches.pop(max(range(len(batches)), key=lambda number: lengths[batches[number][0]])))
    return [batches[start : start + accumulation] for start in range(0, len(batches), accumulation)]


def plan_micro_batches(batches: Sequence[NDArray[np.int64]], *, rank: Rank, max_rows: int | None) -> list[MicroBatch]:
    """Divide the batches of an optimiser step among the ranks, and each rank's share into micro-batches.

    The step is the same for any number of processes.

    Args:
        batches: Rows of each batch, the longest first, so that taking every n-th row makes shares of similar lengths.
        rank: The process to plan for.
        max_rows: Rows of a micro-batch at most; ``None`` puts a whole share into one.

    Returns:
        The micro-batches of this rank, as many as those of any other.
    """
    micro_batches = []
    for batch in batches:
        largest = -(-len(batch) // rank.n_ranks)
        size = min(max_rows or largest, largest)
        own = batch[rank.index :: rank.n_ranks]
        for start in range(0, largest, size):
            rows = own[start : start + size]
            micro_batches.append(MicroBatch(rows) if len(rows) else MicroBatch(batch[:1], counts=False))
    return micro_batches


def n_epoch_steps(n_rows: int, *, batch_size: int, accumulation: int) -> int:
    """Count the optimiser steps of one epoch: ceil(n_rows / (batch_size * accumulation))."""
    return -(-n_rows // (batch_size * accumulation))


def plan_evaluation(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Plan the batches of an evaluation, the longest rows first: what does not fit into memory fails at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
