"""Classes have their own order, a class written two ways is told, and rows without a class are no class."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.profile.profile_samples import NODE, make_request, sample_rows, write_jsonl
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import ProfileResult
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.classes import find_spellings, order_labels, rare_classes
from xautolm_hpc.profile.rows import Row, digest_rows


@pytest.mark.parametrize(
    ("labels", "class_names", "ordered"),
    [
        (["0", "1", "10", "11", "2"], [], ("0", "1", "2", "10", "11")),
        (["1", "-1", "0", "-10"], [], ("-10", "-1", "0", "1")),
        (["10.0", "2.0", "2.5"], [], ("2.0", "2.5", "10.0")),
        (["7", "10", "007"], [], ("007", "7", "10")),
        (["other", "10", "9"], [], ("9", "10", "other")),
        (["b", "B", "a10", "a9"], [], ("B", "a10", "a9", "b")),
        (["neg", "pos", "new"], ["pos", "unused", "neg"], ("pos", "neg", "new")),
        (["10", "2"], ["10", "2"], ("10", "2")),
    ],
)
def test_classes_are_ordered_by_name_then_number_then_text(
    labels: list[str], class_names: list[str], ordered: tuple[str, ...]
) -> None:
    assert order_labels(labels, class_names=class_names) == ordered


def test_whole_numbers_are_classes_in_the_order_of_their_values_and_the_task_stays_the_same(tmp_path: Path) -> None:
    rows = sample_rows(240, labels=[str(number) for number in range(12)])

    task = profile_task(make_request(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path), system=NODE).task

    assert task.labels == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")
    assert task.dataset_id == digest_rows(sorted(rows))


def test_a_rare_class_is_told_with_its_rows_in_test(tmp_path: Path) -> None:
    labels = [*["storage"] * 19, "jobs"]
    rows = sample_rows(300, labels=labels)
    even = sample_rows(40, labels=["storage", "jobs"])

    notes = profile_task(make_request(write_jsonl(tmp_path / "rows.jsonl", rows), tmp_path), system=NODE).notes

    assert notes == ("class 'jobs' has 15 of 300 rows, 3 in test: F1 of so few rows is very uncertain",)
    assert rare_classes({"train": even, "test": even[:8]}) == []


def test_a_class_label_keeps_its_own_order(tmp_path: Path) -> None:
    names = ["storage", "jobs", "accounts"]
    rows = sample_rows(90, labels=names)
    features = datasets.Features({"label": datasets.ClassLabel(names=names), "text": datasets.Value("string")})
    columns = {"label": [names.index(row.label) for row in rows], "text": [row.text for row in rows]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(tmp_path / "rows.parquet"))

    task = profile_task(make_request(tmp_path / "rows.parquet", tmp_path), system=NODE).task

    assert task.labels == ("storage", "jobs", "accounts")


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["Spam"] * 3 + ["SPAM", "ham"], "'SPAM' (1 rows) and 'Spam' (3 rows)"),
        (["not spam", "not_spam", "spam"], "'not spam' (1 rows) and 'not_spam' (1 rows)"),
        (["7", "007", "8"], "'007' (1 rows) and '7' (1 rows)"),
        (["1.0", "1", "-1"], "'1' (1 rows) and '1.0' (1 rows)"),
        (["caf\u00e9", "cafe\u0301"], "'cafe\u0301' (1 rows) and 'caf\u00e9' (1 rows)"),
    ],
)
def test_one_class_written_two_ways_is_told_and_not_merged(labels: list[str], named: str) -> None:
    assert find_spellings(Row("t", label) for label in labels) == [
        f"classes that may be one, written in several ways: {named}. Each is learnt as a class of its own"
    ]


def test_classes_that_differ_are_not_told() -> None:
    assert find_spellings(Row("t", label) for label in ("1", "-1", "11", "a", "ab", "a1")) == []


def test_a_class_too_small_for_its_spelling_says_so(tmp_path: Path) -> None:
    rows = [*sample_rows(60), Row("a text of its own", "JOBS")]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)

    with pytest.raises(DataError, match=r"written in several ways: 'JOBS' \(1 rows\) and 'jobs' \(30 rows\)"):
        profile_task(make_request(path, tmp_path), system=NODE)


def _profile(tmp_path: Path, **labels: list[Any]) -> ProfileResult:
    """Profile a folder of which each split has these labels."""
    for split, given in labels.items():
        rows = sample_rows(len(given), seed=len(split))
        lines = [json.dumps({"text": row.text, "label": label}) for row, label in zip(rows, given, strict=True)]
        (tmp_path / "given").mkdir(exist_ok=True)
        (tmp_path / "given" / f"{split}.jsonl").write_text("\n".join(lines))
    return profile_task(make_request(tmp_path / "given", tmp_path), system=NODE)


LEFT_OUT = (
    "test left out: none of its 9 rows is labelled, so nothing can be measured on it; a fifth of train is test instead"
)


@pytest.mark.parametrize("label", [-1, "-1", None, "", float("nan")])
def test_a_test_split_without_labels_is_left_out_with_a_note(tmp_path: Path, label: object) -> None:
    result = _profile(tmp_path, train=[0, 1] * 30, test=[label] * 9)

    assert result.notes == (LEFT_OUT,)
    assert (result.task.labels, result.task.n_test) == (("0", "1"), 12)


def test_minus_one_is_a_class_where_train_has_it(tmp_path: Path) -> None:
    result = _profile(tmp_path, train=[-1, 0, 1] * 30, test=[-1] * 9)

    assert (result.notes, result.task.labels, result.task.n_test) == ((), ("-1", "0", "1"), 9)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"validation": [0, -1, -1]},
            r"is -1 in 2 of 3 rows of validation, first in row 2, and no row of train has this",
        ),
        ({"validation": [-1] * 3}, r"is -1 in 3 of 3 rows of validation, first in row 1"),
        ({"test": [0, 1, -1]}, r"is -1 in 1 of 3 rows of test, first in row 3"),
        ({"validation": [None] * 3}, r"validation.jsonl`: column 'label' is null in 3 rows \(line 1, 2, 3\)"),
        ({"test": [0, None]}, r"test.jsonl`: column 'label' is null in 1 row \(line 2\)"),
    ],
)
def test_rows_without_a_label_elsewhere_are_refused(tmp_path: Path, labels: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _profile(tmp_path, train=[0, 1] * 30, **labels)


def test_minus_one_of_a_class_label_means_not_labelled(tmp_path: Path) -> None:
    features = datasets.Features(
        {"label": datasets.ClassLabel(names=["jobs", "storage"]), "text": datasets.Value("string")}
    )

    def save(split: str, labels: list[int]) -> None:
        texts = [row.text for row in sample_rows(len(labels), seed=len(split))]
        saved = datasets.Dataset.from_dict({"label": labels, "text": texts}, features=features)
        saved.to_parquet(str(tmp_path / "given" / f"{split}.parquet"))

    (tmp_path / "given").mkdir()
    save("train", [1, 0] * 30)
    save("test", [-1] * 9)
    request = make_request(tmp_path / "given", tmp_path)

    assert profile_task(request, system=NODE).notes == (LEFT_OUT,)
    save("train", [1, 0, -1] * 30)
    with pytest.raises(DataError, match=r"'label' is -1, which means not labelled, in 30 rows \(row 3, 6, 9, ...\)"):
        profile_task(request, system=NODE)
