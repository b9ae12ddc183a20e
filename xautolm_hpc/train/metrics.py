"""Scores of a classification."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """How well a split was classified.

    Attributes:
        f1: Macro-F1, 0..1.
        accuracy: Share of rows classified right, 0..1.
        loss: Mean cross-entropy, unweighted, in nats.
    """

    f1: float
    accuracy: float
    loss: float


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], *, n_classes: int) -> float:
    """Average F1 over all classes of the task; a class that is neither there nor predicted counts 0.

    Written out because importing scikit-learn would add a second to every trial.

    Args:
        truth: Label index of each row, (n_rows,).
        predicted: Predicted label index of each row, (n_rows,).
        n_classes: Classes of the task.

    Returns:
        Macro-F1, 0..1.
    """
    confusion = np.bincount(truth * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)
    hits = np.diag(confusion)
    involved = confusion.sum(axis=0) + confusion.sum(axis=1)  # (n_classes,): predicted and true
    return float(np.mean(2 * hits / np.maximum(involved, 1)))


def score(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Scores:
    """Score the answers to a split.

    Args:
        logits: Logits of each row, (n_rows, n_classes).
        truth: Label index of each row, (n_rows,).
    """
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1))
    losses = log_sum - shifted[np.arange(len(truth)), truth]
    predicted = logits.argmax(axis=1)
    return Scores(
        f1=macro_f1(truth, predicted, n_classes=logits.shape[1]),
        accuracy=float(np.mean(predicted == truth)),
        loss=float(losses.mean()),
    )
