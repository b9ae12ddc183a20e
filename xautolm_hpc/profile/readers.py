"""How each form of rows is read: its columns, its rows, its features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.profile import features, question_features
from xautolm_hpc.profile.classes import has_unlabelled_test, is_unlabelled, order_labels
from xautolm_hpc.profile.questions import has_unanswered_test, normalise_questions
from xautolm_hpc.profile.rows import Note, Sample, normalise_rows
from xautolm_hpc.task_kinds import TASK_KINDS, RowForm


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReader:
    """How rows of one form are read and described; its functions take rows of this form only.

    Attributes:
        columns: Returns the columns to read: setting of the search file -> column.
        normalise: Builds rows from the cells of a file; ``note`` takes lines about what was changed in them,
            ``lines`` are those of the rows, for messages.
        lacks_target: Tells whether the last cell of a row, which is to be predicted, is missing.
        has_unlabelled_test: Tells whether the rows of test show that none of them is labelled; takes the rows of every
            split, the data set and the column for messages.
        describe: Computes the features of rows, and their mean embedding or ``None``; takes the number of threads.
        lengths: Computes text lengths in words: median, 95th percentile, longest.
        baseline: Computes the score of a constant answer on ``validation``, chosen on ``train``.
        labels: Lists the labels of all rows in their order, which class names of the files may give.
    """

    columns: Callable[[ProfileRequest], Mapping[str, str]]
    normalise: Callable[..., Sequence[Any]]
    lacks_target: Callable[[object], bool]
    has_unlabelled_test: Callable[..., bool]
    describe: Callable[..., question_features.Description]
    lengths: Callable[[Sequence[Any]], tuple[float, float, float]]
    baseline: Callable[[Sequence[Any], Sequence[Any]], float]
    labels: Callable[[Sequence[Sample], Sequence[str]], tuple[str, ...]]


def _text_columns(request: ProfileRequest) -> dict[str, str]:
    return {"text": request.text_column, "label": request.label_column}


def _question_columns(request: ProfileRequest) -> dict[str, str]:
    return {
        "question": request.question_column,
        "context": request.context_column,
        "answers": request.answers_column,
    }


def _labelled(
    path: Path, cells: Sequence[Sequence[object]], *, columns: Sequence[str], note: Note, lines: Sequence[int]
) -> Sequence[Any]:
    return normalise_rows(path, cells, text_column=columns[0], label_column=columns[1], lines=lines)


def _extractive(
    path: Path, cells: Sequence[Sequence[object]], *, columns: Sequence[str], note: Note, lines: Sequence[int]
) -> Sequence[Any]:
    return normalise_questions(path, cells, columns=columns, is_extractive=True, note=note, lines=lines)


def _generative(
    path: Path, cells: Sequence[Sequence[object]], *, columns: Sequence[str], note: Note, lines: Sequence[int]
) -> Sequence[Any]:
    return normalise_questions(path, cells, columns=columns, is_extractive=False, note=note, lines=lines)


def _is_null(cell: object) -> bool:
    """Check whether answers are missing; an empty list of them means that a question has none."""
    return cell is None


def _describe_labelled(rows: Sequence[Any], *, n_threads: int) -> question_features.Description:
    return features.describe_rows(rows, n_threads=n_threads), None


def _majority(train: Sequence[Any], validation: Sequence[Any]) -> float:
    n_classes = len({row.label for row in [*train, *validation]})
    return features.majority_f1(train, validation, n_classes=n_classes)


def _labels(rows: Sequence[Sample], class_names: Sequence[str]) -> tuple[str, ...]:
    return order_labels((row.label for row in rows), class_names=class_names)


def _no_labels(rows: Sequence[Sample], class_names: Sequence[str]) -> tuple[str, ...]:
    return ()


_question_reader = partial(
    TaskReader,
    columns=_question_columns,
    lacks_target=_is_null,
    has_unlabelled_test=has_unanswered_test,
    describe=question_features.describe_questions,
    lengths=question_features.length_tokens,
    baseline=question_features.empty_answer_f1,
    labels=_no_labels,
)

READERS: Mapping[RowForm, TaskReader] = {
    "labelled-text": TaskReader(
        columns=_text_columns,
        normalise=_labelled,
        lacks_target=is_unlabelled,
        has_unlabelled_test=has_unlabelled_test,
        describe=_describe_labelled,
        lengths=features.length_tokens,
        baseline=_majority,
        labels=_labels,
    ),
    "question-with-spans": _question_reader(normalise=_extractive),
    "question-with-texts": _question_reader(normalise=_generative),
}
"""Form of rows -> its reader."""


def reader_for(request: ProfileRequest) -> TaskReader:
    """Find the reader of a request.

    Raises:
        DataError: The kind of task cannot be profiled, or does not have the metric.
    """
    if request.task_kind not in TASK_KINDS:
        raise DataError(f"task kind '{request.task_kind}' cannot be profiled; valid: {', '.join(TASK_KINDS)}")
    metrics = TASK_KINDS[request.task_kind].metrics
    if request.metric is not None and request.metric not in metrics:
        valid = ", ".join(metrics)
        raise DataError(f"task.metric = '{request.metric}' is no metric of {request.task_kind}; valid: {valid}")
    return READERS[TASK_KINDS[request.task_kind].rows]
