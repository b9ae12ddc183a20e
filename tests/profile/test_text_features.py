"""The meta-features equal what a hand or another library computes, also of odd data."""

import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.profile.profile_samples import sample_rows
from xautolm_hpc.profile.features import FEATURES, describe_rows, landmark_accuracy, length_tokens, majority_f1
from xautolm_hpc.profile.rows import Row

TINY = [Row("ab", "x"), Row("abcd", "x"), Row("größ", "x"), Row("abcdef", "y")]


def two_topics(n_rows: int, label_of_second: str = "tools") -> list[Row]:
    half = n_rows // 2
    return [Row("apple pear", "fruit")] * half + [Row("bolt screw", label_of_second)] * half


def test_features_1_to_9_of_four_rows() -> None:
    expected = {
        "n_samples": 4.0,
        "n_classes": 2.0,
        "class_entropy_bits": 0.75 * math.log2(4 / 3) + 0.25 * 2,
        "min_class_share": 0.25,
        "max_class_share": 0.75,
        "imbalance": 1 / 3,
        "mean_length_chars": 4.0,  # lengths 2, 4, 4, 6
        "std_length_chars": math.sqrt(2),
        "relative_std_length": math.sqrt(2) / 4,
    }

    features = describe_rows(TINY, n_threads=1)

    assert dict(zip(FEATURES, features, strict=True)) == pytest.approx(expected | {"landmark_accuracy": None})


def test_the_landmark_of_texts_whose_words_determine_the_class_is_1() -> None:
    accuracy = landmark_accuracy(two_topics(20), n_threads=1)

    assert accuracy == 1.0


def test_the_landmark_of_uninformative_texts_is_the_share_of_the_largest_class() -> None:
    rows = [Row("apple pear", "a")] * 15 + [Row("apple pear", "b")] * 10

    accuracy = landmark_accuracy(rows, n_threads=1)

    assert accuracy == pytest.approx(0.6)


def test_the_landmark_does_not_depend_on_the_threads() -> None:
    rows = sample_rows(200)

    assert landmark_accuracy(rows, n_threads=1) == landmark_accuracy(rows, n_threads=4)


@pytest.mark.parametrize(
    "rows",
    [
        [Row("the and", "a"), Row("of the", "b")] * 10,
        [Row("apple", "a"), Row("apple", "b")] * 10,
        [Row("a", "a"), Row("!", "b")] * 10,
        sample_rows(8),
    ],
    ids=["stop words only", "one word in all", "no word of two letters", "no class with a row for every fold"],
)
def test_where_no_landmark_can_be_computed_it_is_none_and_the_other_features_are_not(rows: list[Row]) -> None:
    features = describe_rows(rows, n_threads=1)

    assert features[-1] is None
    assert all(value is not None and math.isfinite(value) for value in features[:-1])


@pytest.mark.parametrize(
    "rows",
    [
        [*sample_rows(40, labels=("a", "b")), Row("disk node", "c")],
        [Row("apple pear", "a"), Row("apple pear", "b")] * 9,
    ],
    ids=["a class smaller than the folds", "equal texts"],
)
def test_odd_data_gives_no_warning(rows: list[Row]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accuracy = landmark_accuracy(rows, n_threads=2)

    assert accuracy is not None
    assert 0 < accuracy < 1


def test_lengths_count_words_and_punctuation_marks() -> None:
    rows = [Row("don't stop!", "a"), Row("größer", "a"), Row("a b c", "a")]  # 5, 1, 3

    median, high, longest = length_tokens(rows)

    assert (median, high, longest) == pytest.approx((3, np.percentile([1, 3, 5], 95), 5))


def test_the_majority_answer_scores_as_in_scikit_learn() -> None:
    train = [Row("t", label) for label in "aabbbc"]
    truth = list("abbcb")
    expected = f1_score(truth, ["b"] * 5, labels=["a", "b", "c"], average="macro", zero_division=0.0)

    f1 = majority_f1(train, [Row("t", label) for label in truth], n_classes=3)

    assert f1 == pytest.approx(expected)


def test_of_equally_frequent_labels_the_first_is_the_majority_answer() -> None:
    train = [Row("t", label) for label in "ba"]

    assert majority_f1(train, [Row("t", "a")], n_classes=2) == 0.5
    assert majority_f1(train, [Row("t", "b")], n_classes=2) == 0.0
