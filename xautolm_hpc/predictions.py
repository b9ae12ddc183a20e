"""``predictions.npz``: what a trained pipeline answered on each row of a split, in numbers; no text is in it.

The worker writes it beside its outcome, and the report computes intervals and the confusion of classes from it. A file
that is missing or cannot be understood means that the answers are unknown, which is no error: an earlier worker wrote
none, and a report must not end because of one.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.durable import read_regular, write_bytes
from xautolm_hpc.errors import InputError

PREDICTION_FILES: Mapping[str, str] = {"validation": "predictions.npz", "test": "predictions-test.npz"}
"""Split -> name of the file in the attempt folder."""

PREDICT, ROWS, ANSWERS = "predict.json", "rows.jsonl", "answers.jsonl"
"""Files by which new rows are answered with an exported model; the first one is also in the exported folder."""

LARGEST_BYTES = 256 * 1024**2
"""Size of a file, and of what it holds unpacked, above which it is not read."""

MOST_CLASSES = 10_000
"""Classes above which a file is not read: a report needs memory for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """The answers to the rows of one split, in the order of the split: row ``i`` is its line ``i``, from 0.

    Attributes:
        truth: Index of each row's label, (n_rows,); ``None`` for tasks without labels.
        predicted: Index of each row's predicted label, (n_rows,); ``None`` likewise.
        n_classes: Classes of the task; 0 for tasks without labels.
        f1: F1 of each row's answer, 0..1, (n_rows,); ``None`` for a classification.
    """

    truth: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None
    n_classes: int = 0
    f1: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Count the rows."""
        rows = self.truth if self.f1 is None else self.f1
        return 0 if rows is None else len(rows)


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the answers in one step, flushed to disk.

    Args:
        path: File to write.
        predictions: The answers.

    Raises:
        OSError: The file system refused.
    """
    columns: dict[str, Any] = {"row": np.arange(len(predictions), dtype=np.int32)}
    if predictions.f1 is not None:
        columns["f1"] = predictions.f1
    elif predictions.truth is not None and predictions.predicted is not None:
        columns["truth"] = predictions.truth.astype(np.int32)
        columns["predicted"] = predictions.predicted.astype(np.int32)
        columns["n_classes"] = np.int32(predictions.n_classes)
    content = io.BytesIO()
    np.savez_compressed(content, **columns)
    write_bytes(path, content.getvalue())


def read_predictions(attempt_dir: Path, split: str) -> Predictions | None:
    """Read the answers of a trained pipeline; ``None`` where they are unknown.

    Args:
        attempt_dir: Folder of the attempt.
        split: ``validation`` or ``test``.
    """
    try:
        content = read_regular(attempt_dir / PREDICTION_FILES[split], largest_bytes=LARGEST_BYTES)
        _check_size(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return _decoded({name: file[name] for name in file.files})
    except (OSError, InputError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError):
        return None


def _check_size(content: bytes) -> None:
    """Refuse a file that is small and unpacks to something large.

    Raises:
        ValueError: It does.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        if sum(member.file_size for member in packed.infolist()) > LARGEST_BYTES:
            raise ValueError("too large")


def _decoded(columns: Mapping[str, NDArray[Any]]) -> Predictions:
    """Check the columns of a file.

    Raises:
        KeyError: One is missing.
        TypeError: One is not of the type it should be.
        ValueError: One is not what it should be.
    """
    n_rows = len(columns["row"])
    if not np.array_equal(columns["row"], np.arange(n_rows)):
        raise ValueError("rows are missing")
    if "f1" in columns:
        f1 = columns["f1"].astype(np.float64, casting="same_kind")
        if f1.shape != (n_rows,) or not np.all((f1 >= 0) & (f1 <= 1)):
            raise ValueError("F1 is out of range")
        return Predictions(f1=f1)
    n_classes = columns["n_classes"].astype(np.int64, casting="same_kind").item()
    if not 1 <= n_classes <= MOST_CLASSES:
        raise ValueError("number of classes is out of range")
    truth, predicted = (columns[name].astype(np.int64, casting="same_kind") for name in ("truth", "predicted"))
    for labels in (truth, predicted):
        if labels.shape != (n_rows,) or not np.all((labels >= 0) & (labels < n_classes)):
            raise ValueError("labels are out of range")
    return Predictions(truth=truth, predicted=predicted, n_classes=n_classes)
