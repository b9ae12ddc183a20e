"""What every kind of task must be able to do, so that one loop trains them all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig

from xautolm_hpc.records import Task
from xautolm_hpc.train.data import Tokens
from xautolm_hpc.train.kinds.answers import Reference
from xautolm_hpc.train.kinds.metrics import Scores
from xautolm_hpc.train.recipe import Recipe


class LearningTask(Protocol):
    """A kind of task, with what it needs to know of one trial."""

    @property
    def auto_class(self) -> str:
        """Name the class of transformers that builds the model with the right head."""
        ...

    @property
    def has_new_head(self) -> bool:
        """Whether that head has new weights, so that every method must train it."""
        ...

    def tokenise(self, rows: Sequence[dict[str, Any]]) -> Tokens:
        """Convert rows of the normalised split to samples."""
        ...

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], *, targets: Tensor) -> Tensor:
        """Sum the loss of a batch, each sample times its weight in :attr:`Tokens.weights`."""
        ...

    def answer(
        self, model: nn.Module, tokens: Tokens, *, rows: NDArray[np.int64], device: torch.device
    ) -> Sequence[Any]:
        """Answer some samples, without gradients; return one plain object for each, which :meth:`score` understands."""
        ...

    def score(self, tokens: Tokens, answers: Sequence[Any]) -> Scores:
        """Score the answers to all samples of a split; with useless answers the loss is not finite."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskContext:
    """What the task of a trial is built from.

    Attributes:
        task: The task as it was profiled.
        recipe: Hyperparameters.
        tokenizer: The model's tokeniser, with a token to pad with.
        config: The model's configuration.
        family: ``encoder``, ``decoder`` or ``seq2seq``.
        max_length: Tokens of a sample at most: that of the recipe, or the model's own limit if it is lower.
        train_rows: Rows of ``train``.
        n_positions: Tokens that the model's table of positions has room for; ``None`` without such a table.
    """

    task: Task
    recipe: Recipe
    tokenizer: Any
    config: PretrainedConfig
    family: str
    max_length: int
    train_rows: Sequence[dict[str, Any]]
    n_positions: int | None = None


def encode(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> dict[str, list[list[int]]]:
    """Convert texts to token ids in one call; longer texts are cut. Special tokens in a text count as plain text."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False, split_special_tokens=True)
    return {name: list(encoded[name]) for name in padding_of(tokenizer) if name in encoded}


def shorten(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> list[str]:
    """Shorten texts to ``max_length`` tokens, special tokens not counted."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    offsets = encoded["offset_mapping"]
    return [
        text if len(spans) <= max_length else text[: spans[max_length - 1][1]]
        for text, spans in zip(texts, offsets, strict=True)
    ]


def references_of(row: dict[str, Any]) -> list[Reference]:
    """List the accepted answers of a question, each as its spans."""
    return [tuple(answer.get("spans") or [answer["text"]]) for answer in row["answers"]]


def padding_of(tokenizer: Any) -> dict[str, int]:
    """Map each model input that a tokeniser may return to the number that pads it."""
    return {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id}
