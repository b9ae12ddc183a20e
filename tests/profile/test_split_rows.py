"""A data set is divided in the same way whatever its order, and no text is in two splits."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.profile.profile_samples import sample_rows
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import SPLITS
from xautolm_hpc.profile.rows import Row
from xautolm_hpc.profile.split import Split, cut_fifth, draw_stratified, split_rows

MANY = sample_rows(400, labels=("a", "a", "a", "b"))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def divide(seed: int = 13, *, limits: dict[str, int | None] | None = None, **files: list[Row]) -> Split[Row]:
    return divide_files(files, limits or {}, seed=seed)


def divide_files(files: dict[str, list[Row]], limits: dict[str, int | None], *, seed: int = 13) -> Split[Row]:
    return split_rows(files, limits=limits, split_seed=seed, where="data/x.jsonl")


def texts(rows: Iterable[Row]) -> set[str]:
    return {row.text for row in rows}


def sizes(split: Split[Row]) -> dict[str, int]:
    return {name: len(split.parts[name]) for name in SPLITS}


def test_one_file_gives_a_fifth_to_test_then_to_validation_then_to_dev() -> None:
    split = divide(train=MANY)

    assert sizes(split) == {"train": 205, "dev": 51, "validation": 64, "test": 80}
    assert sorted(row for rows in split.parts.values() for row in rows) == sorted(MANY)


def test_every_cut_keeps_the_share_of_each_class() -> None:
    split = divide(train=MANY)

    shares = {name: Counter(row.label for row in rows)["b"] / len(rows) for name, rows in split.parts.items()}

    assert shares == pytest.approx(dict.fromkeys(SPLITS, 0.25), abs=0.01)


def test_given_files_are_kept_and_only_dev_is_cut() -> None:
    validation, test = sample_rows(30, seed=1, labels=("a", "b")), sample_rows(40, seed=2, labels=("a", "b"))

    split = divide(train=MANY, validation=validation, test=test)

    assert sizes(split) == {"train": 320, "dev": 80, "validation": 30, "test": 40}
    assert sorted(split.parts["test"]) == sorted(test)


@pytest.mark.parametrize("limits", [{}, {"train": 100, "validation": 20, "test": 20}], ids=["all rows", "drawn"])
@pytest.mark.parametrize("names", [("train",), ("train", "validation", "test")], ids=["a file", "a folder"])
def test_the_order_of_the_rows_does_not_matter(names: tuple[str, ...], limits: dict[str, int | None]) -> None:
    files = {name: sample_rows(100, seed=seed, labels=("a", "b")) for seed, name in enumerate(names)}
    other = {name: [rows[index] for index in rng().permutation(100)] for name, rows in files.items()}

    assert divide_files(other, limits) == divide_files(files, limits)


def test_another_seed_divides_otherwise() -> None:
    assert divide(14, train=MANY).parts["test"] != divide(13, train=MANY).parts["test"]


def test_two_splits_of_one_size_are_ordered_apart() -> None:
    validation, test = sample_rows(30, seed=1, labels=("a", "b")), sample_rows(30, seed=2, labels=("a", "b"))

    parts = divide(train=MANY, validation=validation, test=test).parts

    validation_order = [sorted(validation).index(row) for row in parts["validation"]]
    assert validation_order != [sorted(test).index(row) for row in parts["test"]]


def test_a_negative_seed_is_a_seed() -> None:
    assert divide(-1, train=MANY) == divide(-1, train=MANY)


def test_a_text_of_several_files_stays_in_test_or_else_in_validation() -> None:
    validation = [*sample_rows(10, seed=1, labels=("a", "b")), MANY[0], MANY[1]]
    test = [*sample_rows(10, seed=2, labels=("a", "b")), MANY[1], MANY[2]]

    split = divide(train=MANY, validation=validation, test=test)

    assert MANY[0] in split.parts["validation"]
    assert {MANY[1], MANY[2]} <= set(split.parts["test"])
    assert sizes(split) == {"train": 318, "dev": 79, "validation": 11, "test": 12}
    assert split.notes == (
        "1 of 12 rows of validation left out: their text is in test",
        "3 of 400 rows of train left out: their text is in validation or test",
    )


def test_the_described_rows_are_train_and_validation_before_anything_is_left_out() -> None:
    validation = [*sample_rows(10, seed=1, labels=("a", "b")), MANY[0]]
    test = [*sample_rows(10, seed=2, labels=("a", "b")), MANY[1]]

    split = divide(limits={"train": 50}, train=MANY, validation=validation, test=test)

    assert split.described == sorted([*MANY, *validation])


def test_rows_cut_off_as_test_are_not_described() -> None:
    split = divide(train=MANY)

    assert split.described == sorted(set(MANY) - set(split.parts["test"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 25), st.sampled_from("ab")), min_size=60, max_size=120), st.integers(0, 9))
def test_equal_texts_stay_on_one_side_whatever_their_labels(drawn: list[tuple[int, str]], seed: int) -> None:
    rows = [*sample_rows(40, labels=("a", "b")), *(Row(f"text {number}", label) for number, label in drawn)]

    split = divide(seed, train=rows)

    sides = [texts(split.parts[name]) for name in SPLITS]
    assert all(not one & other for one, other in combinations(sides, 2))
    assert sum(sizes(split).values()) == len(rows)


def test_a_text_repeated_beyond_a_fifth_of_its_class_is_not_cut_off() -> None:
    rows = [Row("yes", "a")] * 50 + sample_rows(50, labels=("a",))

    rest, fifth = cut_fifth(rows, rng())

    assert len(fifth) == 20
    assert Row("yes", "a") not in fifth
    assert len(rest) == 80


@pytest.mark.parametrize(("n_rows", "n_cut"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (8, 2), (12, 2), (13, 3)])
def test_a_fifth_of_a_class_is_rounded_half_up(n_rows: int, n_cut: int) -> None:
    rest, fifth = cut_fifth(sample_rows(n_rows, labels=("a",)), rng())

    assert (len(rest), len(fifth)) == (n_rows - n_cut, n_cut)


@pytest.mark.parametrize("seed", range(8))
def test_a_pair_of_equal_texts_is_not_cut_off_where_one_row_is_due(seed: int) -> None:
    rows = [Row("twice", "a"), Row("twice", "a"), Row("once", "a")]

    rest, fifth = cut_fifth(rows, np.random.default_rng(seed))

    assert (rest, fifth) == (rows[:2], rows[2:])


def test_rows_drawn_are_exactly_as_many_as_asked_in_proportion_to_the_classes() -> None:
    rows = sample_rows(700, labels=("a", "a", "a", "a", "b", "b", "c"))  # 400, 200, 100

    drawn = draw_stratified(rows, 101, min_rows=2, rng=rng())

    assert Counter(row.label for row in drawn) == {"a": 58, "b": 29, "c": 14}  # 57.71, 28.86, 14.43


def test_a_small_class_keeps_its_minimum_when_rows_are_drawn() -> None:
    rows = [*sample_rows(990, labels=("a",)), *sample_rows(9, labels=("b",), seed=1), *sample_rows(1, labels=("c",))]

    drawn = draw_stratified(rows, 50, min_rows=2, rng=rng())

    assert Counter(row.label for row in drawn) == {"a": 47, "b": 2, "c": 1}


def test_the_rows_of_train_that_are_asked_for_count_dev() -> None:
    limits: dict[str, int | None] = {"train": 100, "validation": 20, "test": 30}

    split = divide(limits=limits, train=MANY)

    assert sizes(split) == {"train": 80, "dev": 20, "validation": 20, "test": 30}


def test_drawing_fewer_rows_of_train_moves_neither_validation_nor_test() -> None:
    whole, part = divide(train=MANY), divide(limits={"train": 100}, train=MANY)

    assert part.parts["validation"] == whole.parts["validation"]
    assert part.parts["test"] == whole.parts["test"]
    assert texts(part.parts["train"]) | texts(part.parts["dev"]) < texts(whole.parts["train"]) | texts(
        whole.parts["dev"]
    )


def test_asking_for_more_rows_than_there_are_uses_all_and_says_so() -> None:
    split = divide(limits={"test": 1000}, train=MANY)

    assert sizes(split)["test"] == 80
    assert split.notes == ("data.test_rows = 1,000, but test has 80 rows: all are used",)


def test_a_class_with_too_few_rows_is_refused() -> None:
    rows = [*MANY, Row("only one", "c")]
    message = (
        "`data/x.jsonl`: 1 of 3 classes keep fewer than 2 rows to train on: 'c' (1). Add rows, merge or remove "
        "these classes"
    )

    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        divide(train=rows)
    with pytest.raises(DataError, match=f"^{re.escape(message)}, or raise data.train_rows$"):
        divide(limits={"train": 50}, train=rows)


def test_labels_that_are_quantities_are_called_regression() -> None:
    rows = [Row(f"text {number}", f"{number}.25") for number in range(30)]

    with pytest.raises(DataError, match=r"The values look like numbers to predict \(regression\), which this program"):
        divide(train=rows)


def test_a_class_of_test_that_train_lacks_is_refused() -> None:
    test = sample_rows(10, seed=2, labels=("a", "z"))

    with pytest.raises(DataError, match=r"1 of 3 classes keep fewer than 2 rows to train on: 'z' \(0\)"):
        divide(train=MANY, test=test)


def test_too_few_rows_for_all_splits_are_refused() -> None:
    message = (
        "`data/x.jsonl`: 4 rows are too few: nothing is left for dev, validation, test. Every class needs 5 "
        "different texts, and questions 5 different contexts, to be in all of train, dev, validation and test"
    )

    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        divide(train=sample_rows(4, labels=("a", "b")))


def test_five_rows_of_a_class_reach_every_split() -> None:
    split = divide(train=sample_rows(10, labels=("a", "b")))

    labels = [{row.label for row in split.parts[name]} for name in SPLITS]
    assert labels == [{"a", "b"}] * 4
