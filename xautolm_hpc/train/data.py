"""The split of a task as token ids, and the batches of an epoch."""

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.train.failures import TrialError

CHUNK_BATCHES = 50
"""Batches whose samples are sorted by length together: enough to save most padding, few enough to stay random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Rows of one split.

    Attributes:
        texts: Text of each row.
        labels: Index of each row's label, (n_rows,).
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Rows of one split as token ids, unpadded.

    Attributes:
        columns: Name of a model input -> its numbers for each row.
        padding: Name of a model input -> the number that pads it.
        pads_left: Whether padding stands before the text.
        labels: Index of each row's label, (n_rows,).
        lengths: Tokens of each row, (n_rows,).
    """

    columns: Mapping[str, Sequence[Sequence[int]]]
    padding: Mapping[str, int]
    pads_left: bool
    labels: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.labels)


def read_split(data_dir: Path, name: str, *, sha256: str | None, labels: Sequence[str]) -> Split:
    """Read one split of the normalised data.

    Args:
        data_dir: Folder of the split's files.
        name: ``train``, ``dev`` or ``validation``.
        sha256: Digest that the file must have.
        labels: Label names in index order.

    Raises:
        TrialError: The file is missing, is not the one profiled, or is empty; kind ``data_unavailable``.
    """
    path = data_dir / f"{name}.jsonl.gz"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise TrialError("data_unavailable", f"`{path}` is missing; is the run folder visible on this node?") from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise TrialError("data_unavailable", f"`{path}` has sha256 {found}, but the profile wrote {sha256}")
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    if not rows:
        raise TrialError("data_unavailable", f"`{path}` has no rows")
    index = {label: number for number, label in enumerate(labels)}
    unknown = sorted({str(row["label"]) for row in rows} - set(index))
    if unknown:
        raise TrialError("data_unavailable", f"`{path}` has the label {unknown[0]!r}; the task has {list(labels)}")
    return Split(
        texts=tuple(row["text"] for row in rows),
        labels=np.array([index[row["label"]] for row in rows], dtype=np.int64),
    )


def tokenise(split: Split, tokenizer: Any, *, max_length: int) -> Tokens:
    """Turn texts into token ids, all in one call and once a trial; longer ones are cut."""
    encoded = tokenizer(list(split.texts), truncation=True, max_length=max_length, padding=False)
    padding = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id}
    columns = {name: encoded[name] for name in padding if name in encoded}
    return Tokens(
        columns=columns,
        padding={name: padding[name] for name in columns},
        pads_left=tokenizer.padding_side == "left",
        labels=split.labels,
        lengths=np.array([len(ids) for ids in columns["input_ids"]], dtype=np.int64),
    )


def collate(tokens: Tokens, rows: NDArray[np.int64], *, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
    """Make one batch, padded to its longest row.

    Args:
        tokens: The split.
        rows: Rows of the batch, (n_batch,).
        device: Where the batch goes.

    Returns:
        Model inputs, each (n_batch, longest), and labels, (n_batch,).
    """
    longest = int(tokens.lengths[rows].max())
    inputs = {}
    for name, column in tokens.columns.items():
        padded = np.full((len(rows), longest), tokens.padding[name], dtype=np.int64)
        for place, row in enumerate(rows):
            values = column[row]
            if tokens.pads_left:
                padded[place, longest - len(values) :] = values
            else:
                padded[place, : len(values)] = values
        inputs[name] = torch.from_numpy(padded).to(device)
    return inputs, torch.from_numpy(tokens.labels[rows]).to(device)


def plan_epoch(
    lengths: NDArray[np.int64], *, batch_size: int, accumulation: int, rng: np.random.Generator
) -> list[list[NDArray[np.int64]]]:
    """Plan the optimiser steps of one epoch; rows of like length share a batch.

    Args:
        lengths: Tokens of each row, (n_rows,).
        batch_size: Rows of one forward pass.
        accumulation: Forward passes of one optimiser step; the last step may have fewer.
        rng: Source of the order.

    Returns:
        For each optimiser step its batches, each an array of rows; every row stands once. There are
        ceil(n_rows / (batch_size * accumulation)) steps.
    """
    order = rng.permutation(len(lengths))
    chunk = batch_size * CHUNK_BATCHES
    chunks = [order[start : start + chunk] for start in range(0, len(order), chunk)]
    order = np.concatenate([rows[np.argsort(-lengths[rows], kind="stable")] for rows in chunks])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    batches = [batches[number] for number in rng.permutation(len(batches))]
    # The batch with the longest row goes first: what does not fit in memory shows in the first step.
    batches.insert(0, batches.pop(max(range(len(batches)), key=lambda number: lengths[batches[number][0]])))
    return [batches[start : start + accumulation] for start in range(0, len(batches), accumulation)]


def n_epoch_steps(n_rows: int, *, batch_size: int, accumulation: int) -> int:
    """Count the optimiser steps of one epoch: ceil(n_rows / (batch_size * accumulation))."""
    return -(-n_rows // (batch_size * accumulation))


def plan_evaluation(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.int64]]:
    """Plan the batches of an evaluation, the longest rows first: what does not fit in memory shows at once."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def class_weights(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float32]:
    """Weigh classes by n / (k * count), so that weights average 1 over the rows; an absent class weighs 0.

    Args:
        labels: Index of each row's label, (n_rows,).
        n_classes: Classes of the task, k.

    Returns:
        Weights, (n_classes,).
    """
    counts = np.bincount(labels, minlength=n_classes)
    weights = len(labels) / (n_classes * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype(np.float32)
