"""How sure an F1 is: bootstrap intervals over the rows of a split, from what a trial answered on each of them.

A bootstrap draws rows with replacement. How often each distinct answer is drawn is multinomial, so the counts of the
distinct answers are drawn instead of rows: (true, predicted) pairs of a classification, F1 values of text answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.predictions import Predictions

N_DRAWS = 2000
"""Bootstrap samples; the ends of an interval then vary by about a twentieth of its width from seed to seed."""

LEVEL = 0.95
"""Share of intervals that hold the F1 of infinitely many such rows."""

SEED = 20_241
"""The same answers always have the same interval."""

CELLS_AT_ONCE = 4_000_000
"""Counts in memory at a time."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval of F1.

    Attributes:
        low: Lower end, 0..1; of a difference -1..1.
        high: Upper end likewise.
    """

    low: float
    high: float


def f1_interval(answers: Predictions) -> Interval | None:
    """Compute the interval of a trial's F1.

    Args:
        answers: What it answered on each row.

    Returns:
        The bias-corrected percentile interval at :data:`LEVEL`, or ``None`` without rows. With many classes the F1 of
        a sample is on average below that of all rows, which the plain percentiles do not allow for.

    Source:
        Efron and Tibshirani 1993, "An Introduction to the Bootstrap", section 14.3 with acceleration 0.
    """
    if len(answers) == 0:
        return None
    return _percentiles(_draws([answers])[0], found=f1_of(answers))


def difference_interval(first: Predictions, second: Predictions) -> Interval | None:
    """Compute the interval of the difference of two trials' F1, drawing the same rows for both.

    Args:
        first: What one trial answered on each row.
        second: What another one answered on the same rows.

    Returns:
        Interval of the first one's F1 minus the second one's; ``None`` where they did not answer the same rows.
    """
    if len(first) == 0 or len(first) != len(second) or (first.f1 is None) != (second.f1 is None):
        return None
    if first.truth is not None and (second.truth is None or not np.array_equal(first.truth, second.truth)):
        return None
    ones, others = _draws([first, second])
    return _percentiles(ones - others, found=f1_of(first) - f1_of(second))


def f1_of(answers: Predictions) -> float:
    """Compute the F1 of some answers, at least one: macro-F1 over all classes, or the mean over the rows."""
    if answers.f1 is not None:
        return float(np.mean(answers.f1))
    if answers.truth is None or answers.predicted is None:
        return 0.0
    hits, true, predicted = (
        np.bincount(labels, minlength=answers.n_classes)
        for labels in (answers.truth[answers.truth == answers.predicted], answers.truth, answers.predicted)
    )
    return float(np.mean(_class_f1(hits, true + predicted)))


def confusion(answers: Predictions) -> NDArray[np.int64] | None:
    """Count rows by their label and the predicted one: (n_classes, n_classes); ``None`` without labels."""
    if answers.truth is None or answers.predicted is None:
        return None
    cells = answers.truth * answers.n_classes + answers.predicted
    return np.bincount(cells, minlength=answers.n_classes**2).reshape(answers.n_classes, answers.n_classes)


def class_scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute precision, recall and F1 of each class: (n_classes, 3); what cannot be computed is 0.

    Args:
        counts: Rows by label and predicted label, (n_classes, n_classes).
    """
    hits = np.diag(counts)
    predicted, true = counts.sum(axis=0), counts.sum(axis=1)
    columns = (hits / np.maximum(predicted, 1), hits / np.maximum(true, 1), _class_f1(hits, predicted + true))
    return np.stack(columns, axis=1)


def _class_f1(hits: NDArray[Any], involved: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(2 * hits / np.maximum(involved, 1), dtype=np.float64)


def _percentiles(values: NDArray[np.float64], *, found: float) -> Interval:
    """Return the ends of an interval from the values of all samples, moved by how far their middle is off ``found``."""
    normal, n = NormalDist(), len(values)
    below = (np.sum(values < found) + np.sum(values <= found)) / (2 * n)
    bias = normal.inv_cdf(min(max(float(below), 1 / n), 1 - 1 / n))
    ends = [normal.cdf(2 * bias + normal.inv_cdf((1 + sign * LEVEL) / 2)) for sign in (-1, 1)]
    low, high = np.quantile(values, ends)
    return Interval(float(low), float(high))


def _draws(answers: Sequence[Predictions]) -> list[NDArray[np.float64]]:
    """Draw the F1 of each trial in each bootstrap sample; the trials answered the same rows: (n_draws,) each."""
    columns = [column for each in answers for column in _columns(each)]
    cells, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)  # (n_cells, n_columns)
    rng = np.random.default_rng(SEED)
    n_rows, step = int(counts.sum()), max(1, CELLS_AT_ONCE // max(len(cells), answers[0].n_classes))
    parts = [
        rng.multinomial(n_rows, counts / n_rows, size=min(step, N_DRAWS - start)) for start in range(0, N_DRAWS, step)
    ]
    return [
        np.concatenate([_f1_of_each(part, cells, place=place, answers=each) for part in parts])
        for place, each in enumerate(answers)
    ]


def _columns(answers: Predictions) -> list[NDArray[np.float64]]:
    if answers.truth is not None and answers.predicted is not None:
        return [answers.truth.astype(np.float64), answers.predicted.astype(np.float64)]
    return [] if answers.f1 is None else [answers.f1]


def _f1_of_each(
    drawn: NDArray[np.int64], cells: NDArray[np.float64], *, place: int, answers: Predictions
) -> NDArray[np.float64]:
    """Compute the F1 of some bootstrap samples, (n_samples,), from how often each cell was drawn, (n_samples, n_cells).

    Args:
        drawn: How often.
        cells: The distinct answers, (n_cells, n_columns).
        place: Number of the trial among those of the cells.
        answers: Its answers.
    """
    if answers.f1 is not None:
        return np.asarray(drawn @ cells[:, place] / drawn.sum(axis=1), dtype=np.float64)
    true, predicted = (cells[:, 2 * place + n].astype(np.int64) for n in (0, 1))
    is_hit = (true == predicted).astype(np.int64)
    by_true, by_predicted = (_one_hot(labels, answers.n_classes) for labels in (true, predicted))
    hits = drawn @ (by_true * is_hit[:, None])  # (n_samples, n_classes)
    return np.asarray(_class_f1(hits, drawn @ (by_true + by_predicted)).mean(axis=1), dtype=np.float64)


def _one_hot(labels: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """Mark the class of each cell, (n_cells, n_classes); floats, which a matrix product is fast for."""
    marks = np.zeros((len(labels), n_classes))
    marks[np.arange(len(labels)), labels] = 1
    return marks
