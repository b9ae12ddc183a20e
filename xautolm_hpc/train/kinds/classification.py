"""Text classification: one label for each text, from the logits of a new head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.data import Tokens, collate
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.fit.base_config import name_labels
from xautolm_hpc.train.kinds.metrics import Scores, score_classes
from xautolm_hpc.train.kinds.tasks import TaskContext, encode, padding_of
from xautolm_hpc.train.ragged import pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """Text classification, of models of every family.

    Texts are padded on the right: decoders number positions from the left and answer at the last real token.

    Attributes:
        labels: Label name -> its index.
        tokenizer: The model's tokeniser.
        max_length: Tokens of a text at most.
        class_weights: Weight of each class in the loss, (n_classes,); ``None`` gives all the same weight.
    """

    auto_class: ClassVar[str] = "AutoModelForSequenceClassification"
    has_new_head: ClassVar[bool] = True
    labels: dict[str, int]
    tokenizer: Any
    max_length: int
    class_weights: Tensor | None

    def tokenise(self, rows: Sequence[dict[str, Any]]) -> Tokens:
        """Convert texts to token ids and labels to their indices.

        Raises:
            TrialError: A label is not one of the task's; kind ``data_unavailable``.
        """
        columns = encode(self.tokenizer, [row["text"] for row in rows], max_length=self.max_length)
        packed, padding = pack(columns), padding_of(self.tokenizer)
        return Tokens(
            columns=packed,
            padding={name: padding[name] for name in columns},
            targets=label_indices(rows, self.labels),
            lengths=packed["input_ids"].lengths,
            weights=np.ones(len(rows), dtype=np.int64),
            facts=(),
        )

    def loss(self, model: nn.Module, inputs: dict[str, Tensor], *, targets: Tensor) -> Tensor:
        """Sum the cross-entropy over the batch."""
        logits = model(**inputs).logits.float()  # (n_batch, n_classes)
        weight = None if self.class_weights is None else self.class_weights.to(logits.device)
        return cross_entropy(logits, targets, weight=weight, reduction="sum")

    def answer(
        self, model: nn.Module, tokens: Tokens, *, rows: NDArray[np.int64], device: torch.device
    ) -> Sequence[NDArray[np.float32]]:
        """Compute the logits of each text, (n_classes,)."""
        inputs, _ = collate(tokens, rows, device=device)
        return list(model(**inputs).logits.float().cpu().numpy())

    def score(self, tokens: Tokens, answers: Sequence[Any]) -> Scores:
        """Compute macro-F1, accuracy and the unweighted loss."""
        return score_classes(np.stack(answers), tokens.targets)


def build(task_context: TaskContext) -> Classification:
    """Build text classification.

    Raises:
        TrialError: The task has fewer than two labels, kind ``unsupported``; a label of train is not one of
            the task's, kind ``data_unavailable``.
    """
    task = task_context.task
    if len(task.labels) < 2:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"task {task.name} has {len(task.labels)} labels; expected at least 2"
        )
    labels = {label: number for number, label in enumerate(task.labels)}
    weights = None
    if task_context.recipe.class_weighted_loss:
        weights = torch.from_numpy(class_weights(label_indices(task_context.train_rows, labels), len(labels)))
    name_labels(task_context.config, task.labels)
    task_context.tokenizer.padding_side = "right"
    return Classification(
        labels=labels, tokenizer=task_context.tokenizer, max_length=task_context.max_length, class_weights=weights
    )


def label_indices(rows: Sequence[dict[str, Any]], labels: dict[str, int]) -> NDArray[np.int64]:
    """Find the index of each row's label, (n_rows,).

    Raises:
        TrialError: A label is not one of the task's; kind ``data_unavailable``.
    """
    unknown = sorted({str(row["label"]) for row in rows} - set(labels))
    if unknown:
        raise TrialError(
            FailureKind.DATA_UNAVAILABLE, f"the data has the label {unknown[0]!r}; the task has {list(labels)}"
        )
    return np.array([labels[row["label"]] for row in rows], dtype=np.int64)


def class_weights(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float32]:
    """Compute class weights n / (k * count): they average 1 over the rows; the weight of an absent class is 0.

    Args:
        labels: Index of each row's label, (n_rows,).
        n_classes: Classes of the task, k.

    Returns:
        Weights, (n_classes,).
    """
    counts = np.bincount(labels, minlength=n_classes)
    weights = len(labels) / (n_classes * np.maximum(counts, 1))
    return np.where(counts > 0, weights, 0.0).astype(np.float32)
