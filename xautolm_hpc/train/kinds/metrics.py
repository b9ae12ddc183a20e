"""The scores of a split, and those of a classification."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.predictions import Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a split.

    Attributes:
        f1: The task's F1, 0..1: macro-F1, or the mean token F1 of the answers.
        loss: Mean loss, unweighted, in nats.
        accuracy: Share of rows classified right, 0..1; ``None`` for other tasks.
        exact_match: Share of answers that equal a reference, 0..1; ``None`` for a classification.
        predictions: The answer to each row, in numbers.
    """

    f1: float
    loss: float
    accuracy: float | None = None
    exact_match: float | None = None
    predictions: Predictions = field(default_factory=Predictions, compare=False, repr=False)

    def as_metrics(self) -> dict[str, float]:
        """Return the known scores as metrics of the split that the trial is judged by."""
        named = {"f1": self.f1, "accuracy": self.accuracy, "exact_match": self.exact_match}
        return {name: value for name, value in named.items() if value is not None} | {"validation_loss": self.loss}


def macro_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], *, n_classes: int) -> float:
    """Compute the mean F1 over all classes of the task; a class that neither occurs nor is predicted counts 0.

    Written here because importing scikit-learn would add a second to every trial.

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


def score_classes(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> Scores:
    """Score a classification of a split.

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
        predictions=Predictions(truth=truth, predicted=predicted.astype(np.int64), n_classes=logits.shape[1]),
    )


def score_answers(pairs: NDArray[np.float64], *, loss: float) -> Scores:
    """Average the scores of text answers.

    Args:
        pairs: Exact match and F1 of the answer to each question, (n_questions, 2), at least one.
        loss: Mean loss, in nats.
    """
    exact, f1 = pairs.mean(axis=0)  # (2,)
    return Scores(f1=float(f1), exact_match=float(exact), loss=loss, predictions=Predictions(f1=pairs[:, 1]))
