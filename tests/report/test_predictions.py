"""The file of a trial's answers, and what is made of one that is damaged."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xautolm_hpc.predictions import MOST_CLASSES, PREDICTION_FILES, Predictions, read_predictions, write_predictions

NAME = PREDICTION_FILES["validation"]
CLASSES = Predictions(truth=np.array([0, 2, 1]), predicted=np.array([0, 1, 1]), n_classes=3)


def packed(**columns: Any) -> bytes:
    """Pack columns as a file."""
    content = io.BytesIO()
    np.savez(content, **columns)
    return content.getvalue()


def test_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_predictions(tmp_path / NAME, CLASSES)
    write_predictions(tmp_path / PREDICTION_FILES["test"], Predictions(f1=np.array([0.0, 1 / 3])))

    read, of_test = read_predictions(tmp_path, "validation"), read_predictions(tmp_path, "test")

    assert read is not None
    assert of_test is not None
    assert (read.truth is None or read.truth.tolist(), read.n_classes, len(read)) == ([0, 2, 1], 3, 3)
    assert read.predicted is not None
    assert read.predicted.tolist() == [0, 1, 1]
    assert of_test.f1 is not None
    assert of_test.f1.tolist() == [0.0, 1 / 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(PREDICTION_FILES.values())


ROWS = np.arange(3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 no file of numbers",
        packed(row=ROWS),
        packed(row=ROWS[1:], f1=np.ones(2)),
        packed(row=ROWS, f1=np.ones(2)),
        packed(row=ROWS, f1=np.array([0.0, np.nan, 1.0])),
        packed(row=ROWS, f1=np.array([0.0, 2.0, 1.0])),
        packed(row=ROWS, f1=np.array(["a", "b", "c"])),
        packed(row=ROWS, truth=ROWS, predicted=ROWS, n_classes=np.int32(2)),
        packed(row=ROWS, truth=ROWS, predicted=ROWS - 1, n_classes=np.int32(3)),
        packed(row=ROWS, truth=ROWS, predicted=ROWS, n_classes=np.int32(MOST_CLASSES + 1)),
        packed(row=ROWS, truth=ROWS, predicted=ROWS, n_classes=np.int64(2_000_000_000)),
        packed(row=ROWS, truth=ROWS, predicted=ROWS, n_classes=np.float64("inf")),
        packed(row=ROWS, truth=ROWS, predicted=ROWS, n_classes=np.float64(3.5)),
        packed(row=ROWS[:0], truth=ROWS[:0], predicted=ROWS[:0], n_classes=np.int32(-3)),
        packed(row=ROWS[:0], truth=ROWS[:0], predicted=ROWS[:0], n_classes=np.int32(0)),
        packed(row=ROWS, truth=ROWS, predicted=ROWS.reshape(3, 1), n_classes=np.int32(3)),
        packed(row=ROWS, truth=ROWS, predicted=np.array([{}, {}, {}], dtype=object), n_classes=np.int32(3)),
        packed(row=np.int32(3), f1=np.ones(3)),
    ],
)
def test_answers_that_cannot_be_understood_are_unknown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)

    assert read_predictions(tmp_path, "validation") is None


def test_a_file_that_is_cut_short_is_unknown(tmp_path: Path) -> None:
    write_predictions(tmp_path / NAME, CLASSES)
    whole = (tmp_path / NAME).read_bytes()

    for n_bytes in range(0, len(whole), 16):
        (tmp_path / NAME).write_bytes(whole[:n_bytes])
        assert read_predictions(tmp_path, "validation") is None


def test_a_trial_without_the_file_has_unknown_answers(tmp_path: Path) -> None:
    assert read_predictions(tmp_path, "test") is None
