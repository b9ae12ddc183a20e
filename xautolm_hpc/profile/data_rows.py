"""The rows of a data set: all its files, read and normalised, with what the user should know about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.dataset import DELIMITED, extension_of
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.profile.classes import find_spellings
from xautolm_hpc.profile.formats import FileRows, read_file
from xautolm_hpc.profile.readers import reader_for
from xautolm_hpc.profile.rows import Sample


@dataclass(frozen=True, slots=True)
class DataRows:
    """The rows of a data set.

    Attributes:
        files: ``train`` and, where there are any, ``validation`` and ``test`` -> rows, in the order of the files.
        class_names: Names of the classes in the order that the files give them; empty if they give none.
        notes: Messages about what was changed or left out, or looks wrong.
    """

    files: Mapping[str, Sequence[Sample]]
    class_names: Sequence[str]
    notes: Sequence[str]


def read_data(
    request: ProfileRequest, paths: Mapping[str, Sequence[Path]], *, contents: Mapping[Path, bytes]
) -> DataRows:
    """Read and normalise the rows of every file.

    A test split of which no row is labelled is left out, with a note: nothing can be measured on it.

    Args:
        request: What to read.
        paths: Split -> its files.
        contents: File -> its bytes.

    Raises:
        DataError: A file cannot be read, rows are not labelled, there are no rows, or they have one class only.
    """
    _check_delimiter(request, [path for group in paths.values() for path in group])
    reader = reader_for(request)
    settings = reader.columns(request)
    columns = tuple(settings.values())
    read = {
        split: [read_file(path, contents[path], columns=settings, delimiter=request.delimiter) for path in group]
        for split, group in paths.items()
    }
    notes: list[str] = []
    if _lacks_targets(request, read.get("test", ())):
        notes.append(_left_out(sum(len(file.cells) for file in read.pop("test"))))
    files = {
        split: [
            row
            for path, file in zip(paths[split], group, strict=True)
            for row in reader.normalise(path, file.cells, columns=columns, note=notes.append, lines=file.lines)
        ]
        for split, group in read.items()
    }
    if reader.has_unlabelled_test(files, where=request.data_path, column=columns[-1]):
        notes.append(_left_out(len(files.pop("test"))))
    _check_classes(request, files)
    notes += find_spellings(row for rows in files.values() for row in rows)
    return DataRows(files, _class_names(read, column=columns[-1]), notes)


def _check_delimiter(request: ProfileRequest, paths: Sequence[Path]) -> None:
    """Check that a delimiter that is set divides the columns of some file."""
    if request.delimiter is not None and not any(extension_of(path.name) in DELIMITED for path in paths):
        raise DataError(
            f"data.delimiter = {request.delimiter!r}, but no file of `{request.data_path}` is one of "
            f"{', '.join(DELIMITED)}. Remove data.delimiter"
        )


def _lacks_targets(request: ProfileRequest, files: Sequence[FileRows]) -> bool:
    """Check whether files have rows and none of them has what is to be predicted, which is the last cell."""
    targets = [row[-1] for file in files for row in file.cells]
    return bool(targets) and all(map(reader_for(request).lacks_target, targets))


def _left_out(n_rows: int) -> str:
    return (
        f"test left out: none of its {n_rows:,} rows is labelled, so nothing can be measured on it; a fifth of train "
        "is test instead"
    )


def _check_classes(request: ProfileRequest, files: Mapping[str, Sequence[Sample]]) -> None:
    """Check that there are rows, and at least two classes of a classification."""
    labels = sorted({row.label for rows in files.values() for row in rows})
    if not labels:
        raise DataError(f"`{request.data_path}` has no rows; at least 5 different texts of 2 classes are needed")
    if len(labels) == 1 and labels != [""]:
        raise DataError(
            f"`{request.data_path}`: column '{request.label_column}' holds one class only, '{labels[0]}'; "
            "classification needs 2. Set data.label"
        )


def _class_names(read: Mapping[str, Sequence[FileRows]], *, column: str) -> Sequence[str]:
    """List the names of the classes in the order of the first file of train; those of others follow."""
    files = [file for split in ("train", "validation", "test") for file in read.get(split, ())]
    return list(dict.fromkeys(name.strip() for file in files for name in file.class_names.get(column, ())))
