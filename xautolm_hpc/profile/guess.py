"""Guesses what kind of task some data is: which column holds what, and how its columns are divided.

A name that people use for a column counts first, its content second. What is not clear is not guessed: the error names
the columns and the option that says it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xautolm_hpc.dataset import EXTENSIONS, Files, extension_of
from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.formats import Unlabelled, read_columns, stands_twice
from xautolm_hpc.profile.questions import normalise_questions
from xautolm_hpc.profile.rows import REGRESSION, look_like_numbers
from xautolm_hpc.profile.source import find_files, hint_for, read_content

TEXT_NAMES = (
    "text", "sentence", "content", "message", "review", "body", "tweet", "comment", "utterance", "document", "abstract",
    "description", "headline", "title", "question", "query", "input",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "sentiment", "emotion", "intent", "topic", "tag", "stance",
    "polarity", "rating", "team", "department", "language", "y", "output",
)  # fmt: skip
SURE_LABEL_NAMES = LABEL_NAMES[:3]
"""Names of which a column is the label whatever it holds."""
QUESTION_NAMES = {
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph", "article"),
    "answers": ("answers", "answer", "answers_spans"),
}
"""Setting of question answering -> usual names of its column."""

LEAST_TEXT_WORDS = 3
"""Words of a text on average: cells of fewer are names and numbers."""

MAX_CLASSES = 1000
MAX_CLASS_WORDS = 12
LEAST_ROWS_A_CLASS = 3
"""Rows that a class has on average: of less, a column is a number or a name of each row rather than its class."""

MAX_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DataGuess:
    """What some data was found to be.

    Attributes:
        path: The file or folder that a search file is to name.
        kind: Kind of task.
        columns: Setting of ``[data]`` -> column.
        unused: Columns that nothing is made of.
        unused_texts: Those of them that hold texts which a classification could read too.
        delimiter: What divides the columns of CSV and TSV files; ``None`` of others.
        n_rows: Rows of each split that has files of its own.
    """

    path: Path
    kind: str
    columns: Mapping[str, str]
    unused: tuple[str, ...]
    unused_texts: tuple[str, ...]
    delimiter: str | None
    n_rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of train: its name, and what its cells look like."""

    name: str
    cells: Sequence[object]
    n_words: float
    n_distinct: int

    @property
    def is_text(self) -> bool:
        """Whether its cells are texts."""
        return self.n_words > 0

    @property
    def is_class(self) -> bool:
        """Whether its cells can be the classes of the rows."""
        n_rows = len([cell for cell in self.cells if not _is_empty(cell)])
        is_few = 2 <= self.n_distinct <= min(MAX_CLASSES, n_rows / LEAST_ROWS_A_CLASS)
        return is_few and self.n_words <= MAX_CLASS_WORDS and all(map(_is_label, self.cells))

    def describe(self) -> str:
        """Describe it for a message."""
        kinds = sorted({type(cell).__name__ for cell in self.cells if not _is_empty(cell)}) or ["nothing"]
        words = f", {self.n_words:.0f} words" if self.is_text else ""
        return f"{self.name} ({' and '.join(kinds)}{words}, {self.n_distinct:,} different)"


def guess_data(data_path: Path, files: Files | None = None, *, given: Mapping[str, str]) -> DataGuess:
    """Find out what kind of task some data is, as far as that is clear.

    Args:
        data_path: A file or folder.
        files: Split -> names of its files in the folder, where that is known.
        given: What the user said: ``kind``, ``delimiter``, and columns by their settings (``text``, ``label`` …).

    Raises:
        DataError: The data cannot be read, a given column does not exist, or it is not clear which column is which.
    """
    data_path = data_path if files is not None else _only_file(data_path)
    paths = find_files(data_path, files)
    read = {
        split: [read_columns(path, read_content(path), delimiter=given.get("delimiter")) for path in group]
        for split, group in paths.items()
    }
    first = read["train"][0]
    cells = [row for file in read["train"] if file.columns == first.columns for row in file.cells]
    columns = [_column(name, [row[place] for row in cells]) for place, name in enumerate(first.columns)]
    _check_doubled(paths["train"][0], first.doubled, given=given)
    _check_given(data_path, columns, given=given)
    try:
        kind, chosen = _choose_columns(data_path, columns, given=given)
    except DataError as error:
        for name in first.doubled:
            error.add_note(stands_twice(name))
        raise
    unused = [column for column in columns if column.name not in chosen.values()]
    texts = [column.name for column in unused if column.n_words >= LEAST_TEXT_WORDS and not column.is_class]
    return DataGuess(
        path=data_path,
        kind=kind,
        columns=chosen,
        unused=tuple(column.name for column in unused),
        unused_texts=tuple(texts) if kind == "text-classification" else (),
        delimiter=first.delimiter,
        n_rows={split: sum(len(file.cells) for file in group) for split, group in read.items()},
    )


def _only_file(data_path: Path) -> Path:
    """Return the one file of a folder that has no file called train but only one that can be read; else the path."""
    if not data_path.is_dir():
        return data_path
    names = sorted(path.name for path in data_path.iterdir() if not path.name.startswith("."))
    readable = [name for name in names if extension_of(name) is not None]
    is_split = any(name.lower().startswith("train") for name in names)
    has_folders = any((data_path / name).is_dir() for name in names)
    if len(readable) == 1 and not is_split:
        return data_path / readable[0]
    if not readable and not has_folders:
        there = ", ".join(names[:MAX_LISTED]) or "nothing"
        hint = hint_for(map(Path, names))
        raise DataError(
            f"`{data_path}` has no file that can be read; read are {', '.join(EXTENSIONS)}, found: {there}{hint}"
        )
    if readable and not is_split and not has_folders:
        raise DataError(
            f"`{data_path}` has {len(readable)} files and none is called train: {', '.join(readable[:MAX_LISTED])}. "
            "Name one of them, or call them train, validation and test"
        )
    return data_path


def _column(name: str, cells: list[object]) -> _Column:
    """Measure a column."""
    texts = [cell for cell in cells if isinstance(cell, str) and cell.strip()]
    is_text = bool(texts) and len(texts) >= len([cell for cell in cells if not _is_empty(cell)])
    n_words = sum(len(text.split()) for text in texts) / len(texts) if is_text else 0.0
    return _Column(name, cells, n_words, len(Counter(repr(cell) for cell in cells if not _is_empty(cell))))


def _check_doubled(path: Path, doubled: Sequence[str], *, given: Mapping[str, str]) -> None:
    """Check that no column that is wanted, or would be by its usual name, stands twice."""
    wanted = {given[setting] for setting in ("text", "label", *QUESTION_NAMES) if setting in given}
    is_chosen = {"text", "label"} <= given.keys() or QUESTION_NAMES.keys() <= given.keys()
    usual = set() if is_chosen else {*TEXT_NAMES, *LABEL_NAMES, *sum(QUESTION_NAMES.values(), ())}
    for name in doubled:
        if name in wanted or name.lower() in usual:
            raise DataError(f"`{path}`: {stands_twice(name)}")


def _check_given(where: Path, columns: Sequence[_Column], *, given: Mapping[str, str]) -> None:
    known = [column.name for column in columns]
    for setting in ("text", "label", *QUESTION_NAMES):
        if setting in given and given[setting] not in known:
            listed = ", ".join(known[:MAX_LISTED])
            raise DataError(f"`{where}` has no column '{given[setting]}' (--{setting}); its columns: {listed}")
    if "text" in given and given["text"] == given.get("label"):
        raise DataError(f"--text and --label both name column '{given['text']}'; expected two columns")


def _choose_columns(
    where: Path, columns: Sequence[_Column], *, given: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    """Choose the kind of task, and the columns it is made of."""
    kind = given.get("kind")
    asked = {setting: _asked_column(setting, columns, given=given) for setting in QUESTION_NAMES}
    lacking = [setting for setting, column in asked.items() if column is None]
    if kind == "text-classification" or (kind is None and (lacking or "label" in given)):
        return "text-classification", _labelled_columns(where, columns, given=given)
    if lacking:
        raise DataError(
            f"`{where}`: which column holds the {lacking[0]} is not clear; columns: {_listed(columns)}. Say it with "
            f"--{lacking[0]} COLUMN"
        )
    found = {setting: column for setting, column in asked.items() if column is not None}
    names = {setting: column.name for setting, column in found.items()}
    if kind is None:
        kind = "question-answering" if _is_extractive(where, found) else "text-generation"
    return kind, names


def _asked_column(setting: str, columns: Sequence[_Column], *, given: Mapping[str, str]) -> _Column | None:
    """Find the column of a setting of question answering."""
    wanted = (given[setting],) if setting in given else QUESTION_NAMES[setting]
    by_name = {column.name if setting in given else column.name.lower(): column for column in columns}
    return next((by_name[name] for name in wanted if name in by_name), None)


def _is_extractive(where: Path, found: Mapping[str, _Column]) -> bool:
    """Check whether every answer stands in its context."""
    columns = tuple(column.name for column in found.values())
    rows = list(zip(*(column.cells for column in found.values()), strict=True))
    rows = [row for row in rows if row[-1] is not None]
    try:
        placed = normalise_questions(where, rows, columns=columns, is_extractive=True)
    except DataError:
        return False
    return any(question.answers for question in placed)


def _labelled_columns(where: Path, columns: Sequence[_Column], *, given: Mapping[str, str]) -> Mapping[str, str]:
    """Choose the columns of text and label."""
    label = given.get("label") or _find_label(where, columns, given_text=given.get("text"))
    _check_label(where, next(column for column in columns if column.name == label))
    others = [column for column in columns if column.name != label and column.is_text]
    text = given.get("text") or _named(TEXT_NAMES, others) or _longest(others)
    if text is None:
        raise DataError(
            f"`{where}`: no column beside the label '{label}' holds text; columns: {_listed(columns)}. Say it with "
            "--text COLUMN"
        )
    return {"text": text, "label": label}


def _find_label(where: Path, columns: Sequence[_Column], *, given_text: str | None) -> str:
    """Find the label: by a sure name, by a usual one, as the only column of classes, or by a usual name at least."""
    free = [column for column in columns if column.name != given_text]
    sure = {column.name.lower(): column.name for column in reversed(free) if column.n_words <= MAX_CLASS_WORDS}
    found = next((sure[name] for name in SURE_LABEL_NAMES if name in sure), None)
    found = found or _named(LABEL_NAMES, [column for column in free if column.is_class])
    if found is not None:
        return found
    text = given_text or _longest(columns)
    classes = [column.name for column in free if column.is_class and column.name != text]
    if len(classes) == 1:
        return classes[0]
    usual = None if classes else _named(LABEL_NAMES, [column for column in free if column.name != text])
    if usual is not None:
        return usual
    if len(columns) == 1:
        raise DataError(
            f"`{where}` has one column, '{columns[0].name}': a column with the label is missing. If it holds several, "
            "say what divides them with --delimiter CHARACTER"
        )
    shown = f"{len(classes)} could be it: {', '.join(classes)}" if classes else "none repeats as classes do"
    raise DataError(
        f"`{where}`: which column holds the label is not clear: {shown}; columns: {_listed(columns)}. Say it with "
        "--label COLUMN, or say with --kind that there are questions and answers"
    )


def _check_label(where: Path, label: _Column) -> None:
    """Check that the label is a class and not a quantity."""
    if not label.is_class and look_like_numbers(cell for cell in label.cells if not _is_empty(cell)):
        raise DataError(f"`{where}`: column '{label.name}': {REGRESSION}. Say it with --label if another is the label")


def _named(names: Sequence[str], columns: Sequence[_Column]) -> str | None:
    """Find the column that has one of some names, or the only one of whose words one is such a name."""
    by_name = {column.name.lower(): column.name for column in columns}
    exact = next((by_name[name] for name in names if name in by_name), None)
    parts = [name for lower, name in by_name.items() if set(lower.replace("-", "_").split("_")) & set(names)]
    return exact or (parts[0] if len(parts) == 1 else None)


def _longest(columns: Sequence[_Column]) -> str | None:
    """Find the column with the longest texts."""
    texts = [column for column in columns if column.is_text]
    return max(texts, key=lambda column: column.n_words).name if texts else None


def _listed(columns: Sequence[_Column]) -> str:
    more = ", ..." if len(columns) > MAX_LISTED else ""
    return ", ".join(column.describe() for column in columns[:MAX_LISTED]) + more


def _is_empty(cell: Any) -> bool:
    return cell is None or cell != cell or (isinstance(cell, str) and not cell.strip())


def _is_label(cell: object) -> bool:
    """Check that a cell can be a class, or holds none."""
    is_whole = isinstance(cell, float) and cell.is_integer()
    return _is_empty(cell) or is_whole or isinstance(cell, str | bool | int | Unlabelled)
