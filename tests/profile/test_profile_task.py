"""A profile depends on the rows alone, and is written whole and the same every time."""

import dataclasses
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from tests.profile.profile_samples import NODE, make_request, read_split, sample_rows, write_jsonl
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import SPLITS, ProfileRequest
from xautolm_hpc.profile import profile_task
from xautolm_hpc.profile.rows import Row

ROWS = sample_rows(200)


@pytest.fixture
def request_of_200(tmp_path: Path) -> ProfileRequest:
    return make_request(write_jsonl(tmp_path / "rows.jsonl", ROWS), tmp_path / "run")


def files_of(request: ProfileRequest) -> dict[str, bytes]:
    return {name: (Path(request.data_dir) / f"{name}.jsonl.gz").read_bytes() for name in SPLITS}


def test_the_task_says_what_the_split_holds(request_of_200: ProfileRequest) -> None:
    result = profile_task(request_of_200, system=NODE)

    task = result.task
    parts = {name: read_split(request_of_200, name) for name in SPLITS}
    assert (task.n_train, task.n_dev, task.n_validation, task.n_test) == tuple(map(len, parts.values()))
    assert sorted(row for rows in parts.values() for row in rows) == sorted(ROWS)
    assert task.labels == ("jobs", "storage")
    assert (task.name, task.metric, task.feature_schema) == ("tickets", "macro-f1", "text-classification/1")
    assert task.features[:2] == (160.0, 2.0)
    assert task.length_tokens == (5.0, 5.0, 5.0)
    assert (result.system, result.from_cache, result.notes) == (NODE, False, ())
    assert result.majority_f1 == pytest.approx(1 / 3)  # half of 32 rows: F1 2/3, mean over two classes


def test_the_digests_are_those_of_the_files(request_of_200: ProfileRequest) -> None:
    result = profile_task(request_of_200, system=NODE)

    files = files_of(request_of_200)
    assert result.sha256 == {name: hashlib.sha256(files[name]).hexdigest() for name in SPLITS}
    assert all(content[4:8] == bytes(4) for content in files.values())  # gzip's time stamp


def test_neither_time_nor_order_of_the_rows_changes_a_byte(tmp_path: Path) -> None:
    mixed = [ROWS[index] for index in np.random.default_rng(1).permutation(len(ROWS))]
    one = make_request(write_jsonl(tmp_path / "one" / "rows.jsonl", ROWS), tmp_path / "one")
    other = make_request(write_jsonl(tmp_path / "other" / "rows.jsonl", mixed), tmp_path / "other")

    results = [profile_task(request, system=NODE) for request in (one, other)]

    assert results[0] == results[1]
    assert not results[1].from_cache
    assert files_of(one) == files_of(other)


def test_the_data_set_is_the_same_however_it_is_divided_and_drawn_from(tmp_path: Path) -> None:
    whole = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    write_jsonl(tmp_path / "folder" / "train.jsonl", ROWS[:150])
    write_jsonl(tmp_path / "folder" / "test.jsonl", ROWS[150:])
    requests = [
        make_request(whole, tmp_path / "a"),
        make_request(whole, tmp_path / "b", seed=14),
        make_request(whole, tmp_path / "c", train=50),
        make_request(tmp_path / "folder", tmp_path / "d"),
    ]

    tasks = [profile_task(request, system=NODE).task for request in requests]

    assert len({task.dataset_id for task in tasks}) == 1
    assert len({task.fingerprint for task in tasks}) == 4


def test_another_row_is_another_data_set(tmp_path: Path) -> None:
    changed = [*ROWS[:-1], Row(ROWS[-1].text, "jobs")]
    one = make_request(write_jsonl(tmp_path / "one.jsonl", ROWS), tmp_path / "one")
    other = make_request(write_jsonl(tmp_path / "other.jsonl", changed), tmp_path / "other")

    assert profile_task(one, system=NODE).task.dataset_id != profile_task(other, system=NODE).task.dataset_id


def test_drawing_fewer_rows_leaves_the_features_as_they_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)

    whole = profile_task(make_request(path, tmp_path / "a"), system=NODE).task
    drawn = profile_task(make_request(path, tmp_path / "b", train=50, validation=10, test=10), system=NODE).task

    assert (drawn.n_train, drawn.n_dev, drawn.n_validation, drawn.n_test) == (40, 10, 10, 10)
    assert drawn.features == whole.features


def test_rows_that_are_left_out_are_logged(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "data" / "test.jsonl", [*sample_rows(10, seed=1), ROWS[0]])
    logged: list[str] = []

    result = profile_task(make_request(tmp_path / "data", tmp_path / "run"), system=NODE, log=logged.append)

    assert result.notes == ("1 of 200 rows of train left out: their text is in validation or test",)
    assert set(result.notes) <= set(logged)


def test_a_file_that_is_no_split_is_noted_also_of_data_profiled_before(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "data" / "train.jsonl", ROWS)
    request = make_request(tmp_path / "data", tmp_path / "run")
    alone = profile_task(request, system=NODE)
    write_jsonl(tmp_path / "data" / "eval.jsonl", ROWS)
    (tmp_path / "data" / "readme.md").touch()

    beside = profile_task(request, system=NODE)

    assert alone.notes == ()
    assert beside.from_cache
    assert beside.notes == ("not read: eval.jsonl; a split is called train, validation or test",)


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", sample_rows(20, labels=("spam",)))
    message = f"`{path}`: column 'label' holds one class only, 'spam'; classification needs 2. Set data.label"

    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        profile_task(make_request(path, tmp_path), system=NODE)


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n")

    with pytest.raises(DataError, match=r"rows\.csv` has no rows; at least 5 different texts of 2 classes are needed"):
        profile_task(make_request(path, tmp_path), system=NODE)


def test_a_task_kind_that_cannot_be_profiled_lists_those_that_can(request_of_200: ProfileRequest) -> None:
    request = dataclasses.replace(request_of_200, task_kind="translation")

    with pytest.raises(DataError, match="kind 'translation' cannot be profiled; valid: text-classification, question-"):
        profile_task(request, system=NODE)


def test_a_data_set_that_is_refused_writes_nothing(tmp_path: Path) -> None:
    request = make_request(write_jsonl(tmp_path / "rows.jsonl", sample_rows(4)), tmp_path)

    with pytest.raises(DataError, match="too few"):
        profile_task(request, system=NODE)

    assert not Path(request.data_dir).exists()
