"""What a kind of task must be able to do, so that the loop can train any of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PretrainedConfig

from xautolm_hpc.records import Task
from xautolm_hpc.train.answers import Reference
from xautolm_hpc.train.data import Tokens
from xautolm_hpc.train.metrics import Scores
from xautolm_hpc.train.recipe import Recipe


class LearningTask(Protocol):
    """A kind of task, with all it needs to know of one trial."""

    @property
    def auto_class(self) -> str:
        """Name the class of transformers that builds the model with the right head."""
        ...

    @property
    def has_new_head(self) -> bool:
        """Tell whether that head is new, so that every method must train it."""
        ...

    def tokenise(self, rows: Sequence[dict[str, Any]]) -> Tokens:
        """Turn rows of the normalised split into samples."""
        ...

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], *, targets: Tensor) -> Tensor:
        """Sum the loss of a batch, each sample times its weight in :attr:`Tokens.weights`."""
        ...

    def answer(
        self, model: nn.Module, tokens: Tokens, *, rows: NDArray[np.int64], device: torch.device
    ) -> Sequence[Any]:
        """Answer some samples, without gradients: one plain object for each, that :meth:`score` understands."""
        ...

    def score(self, tokens: Tokens, answers: Sequence[Any]) -> Scores:
        """Score the answers to all samples of a split; a loss that is not finite says that they are worthless."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a kind of task is built from.

    Attributes:
        task: The task, as the profile step measured it.
        recipe: Hyperparameters.
        tokenizer: The model's tokeniser, with a token to pad with.
        config: The model's configuration.
        family: ``encoder``, ``decoder`` or ``seq2seq``.
        max_length: Tokens of a sample at most: the recipe's, or fewer if the model reads fewer.
        train_rows: Rows of ``train``, for what follows from them.
    """

    task: Task
    recipe: Recipe
    tokenizer: Any
    config: PretrainedConfig
    family: str
    max_length: int
    train_rows: Sequence[dict[str, Any]]


def encode(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> dict[str, list[list[int]]]:
    """Turn texts into token ids, all in one call; longer ones are cut. Special tokens in a text are plain text."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False, split_special_tokens=True)
    return {name: list(encoded[name]) for name in padding_of(tokenizer) if name in encoded}


def shorten(tokenizer: Any, texts: Sequence[str], *, max_length: int) -> list[str]:
    """Cut texts to so many tokens, special ones not counted."""
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
    """Say what pads each model input that a tokeniser may give."""
    return {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id}
