"""Bootstrap intervals of F1, and the confusion of classes."""

import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from xautolm_hpc.predictions import MOST_CLASSES, Predictions
from xautolm_hpc.report.intervals import class_scores, confusion, difference_interval, f1_interval, f1_of

LEAST_COVERAGE, MOST_COVERAGE = 0.93, 0.97
N_REPETITIONS = 500


def classified(cells: np.ndarray, *, n_classes: int) -> Predictions:
    """Build answers from the numbers of their cells: label * n_classes + predicted label."""
    return Predictions(truth=cells // n_classes, predicted=cells % n_classes, n_classes=n_classes)


@pytest.mark.parametrize(("n_classes", "n_rows", "accuracy"), [(2, 200, 0.8), (3, 300, 0.7), (6, 500, 0.6)])
def test_intervals_hold_the_true_macro_f1_as_often_as_they_claim(n_classes: int, n_rows: int, accuracy: float) -> None:
    rng = np.random.default_rng(11)
    right = np.eye(n_classes, dtype=bool)
    shares = np.where(right, accuracy, (1 - accuracy) / (n_classes - 1))
    shares *= (np.arange(n_classes, 0, -1) / np.arange(1, n_classes + 1).sum())[:, None]
    true_f1 = float(np.mean(2 * np.diag(shares) / (shares.sum(axis=0) + shares.sum(axis=1))))

    found = [
        f1_interval(classified(rng.choice(n_classes**2, size=n_rows, p=shares.ravel()), n_classes=n_classes))
        for _ in range(N_REPETITIONS)
    ]

    share = np.mean([each is not None and each.low <= true_f1 <= each.high for each in found])
    assert LEAST_COVERAGE <= share <= MOST_COVERAGE


def test_intervals_hold_the_true_mean_of_answers_as_often_as_they_claim() -> None:
    rng = np.random.default_rng(12)
    values, shares = np.array([0.0, 0.25, 0.5, 0.8, 1.0]), np.array([0.2, 0.1, 0.1, 0.1, 0.5])

    found = [f1_interval(Predictions(f1=rng.choice(values, size=300, p=shares))) for _ in range(N_REPETITIONS)]

    share = np.mean([each is not None and each.low <= values @ shares <= each.high for each in found])
    assert LEAST_COVERAGE <= share <= MOST_COVERAGE


def test_an_interval_is_as_wide_as_that_of_the_mean_s_standard_error() -> None:
    f1 = np.tile([0.0, 1.0], 200)

    interval = f1_interval(Predictions(f1=f1))

    assert interval is not None
    half = 1.96 * 0.5 / np.sqrt(400)
    assert (interval.low, interval.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.004)


def test_answers_without_an_error_have_an_interval_of_no_width() -> None:
    interval = f1_interval(Predictions(f1=np.ones(30)))

    assert interval is not None
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_memory_grows_with_the_classes_not_with_their_square() -> None:
    few = classified(np.array([0, 0, 1, 3, 3, 2]), n_classes=2)
    many = Predictions(truth=few.truth, predicted=few.predicted, n_classes=MOST_CLASSES)
    tracemalloc.start()

    interval = f1_interval(many)

    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    of_few = f1_interval(few)
    assert interval is not None
    assert of_few is not None
    assert peak_bytes < 8 * MOST_CLASSES**2
    share = few.n_classes / MOST_CLASSES
    assert (interval.low, interval.high) == pytest.approx((of_few.low * share, of_few.high * share))


def test_the_same_answers_have_the_same_interval() -> None:
    answers = classified(np.array([0, 0, 1, 3, 3, 2]), n_classes=2)

    assert f1_interval(answers) == f1_interval(answers)


def test_trials_that_err_on_the_same_rows_differ_less_surely_alone_than_row_by_row() -> None:
    truth = np.zeros(400, dtype=np.int64)
    truth[200:] = 1
    better, worse = truth.copy(), truth.copy()
    better[:40] = 1
    worse[:48] = 1

    first, second = (Predictions(truth=truth, predicted=given, n_classes=2) for given in (better, worse))
    difference, alone, other = difference_interval(first, second), f1_interval(first), f1_interval(second)

    assert difference is not None
    assert alone is not None
    assert other is not None
    assert difference.low > 0
    assert alone.low < other.high


def test_a_trial_is_within_noise_of_itself() -> None:
    answers = Predictions(f1=np.array([0.0, 1.0, 0.5]))

    difference = difference_interval(answers, answers)

    assert difference is not None
    assert (difference.low, difference.high) == (0.0, 0.0)


def test_trials_of_other_rows_are_not_compared() -> None:
    first = classified(np.array([0, 1, 3]), n_classes=2)

    assert difference_interval(first, classified(np.array([0, 1]), n_classes=2)) is None
    assert difference_interval(first, classified(np.array([3, 1, 0]), n_classes=2)) is None
    assert difference_interval(first, Predictions(f1=np.ones(3))) is None
    assert f1_interval(Predictions()) is None


def test_confusion_and_scores_of_classes_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth, predicted = rng.integers(0, 4, size=(2, 80))
    truth[truth == 3] = 0  # a class that does not occur
    answers = Predictions(truth=truth, predicted=predicted, n_classes=4)

    counts = confusion(answers)

    assert counts is not None
    assert np.array_equal(counts, confusion_matrix(truth, predicted, labels=range(4)))
    expected = precision_recall_fscore_support(truth, predicted, labels=range(4), zero_division=0)[:3]
    assert class_scores(counts) == pytest.approx(np.stack(expected, axis=1))
    assert f1_of(answers) == pytest.approx(f1_score(truth, predicted, average="macro", labels=range(4)))
    assert confusion(Predictions(f1=np.ones(2))) is None
