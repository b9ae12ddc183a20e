"""The classes of a task: their order, spellings of one class, and rows that have none."""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from xautolm_hpc.errors import DataError
from xautolm_hpc.profile.formats import Unlabelled
from xautolm_hpc.profile.rows import Sample

NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
NOT_LABELLED = "-1"
"""Class that the hub writes where a row is not labelled, unless rows of train have it."""

MAX_LISTED_GROUPS = 5

FEW_IN_TEST = 10
"""Rows of a class in test of which each moves its F1 by some .1."""


def order_labels(labels: Iterable[str], *, class_names: Sequence[str] = ()) -> tuple[str, ...]:
    """Order the classes of a task; the order is that of their numbers in a trained model.

    Args:
        labels: The classes that occur.
        class_names: Names in the order that a file of the hub's library gives them.

    Returns:
        Each class once: named ones in that order, then numbers by value (``2`` before ``10``, ``7`` beside ``007``),
        then other texts by their characters.
    """
    places = {name: place for place, name in reversed([*enumerate(class_names)])}
    return tuple(sorted(set(labels), key=lambda label: _rank(label, places)))


def find_spellings(rows: Iterable[Sample]) -> list[str]:
    """List classes that look like one class written in several ways; they are not merged.

    Returns:
        No line, or one that names these classes with their numbers of rows.
    """
    counts = Counter(row.label for row in rows)
    alike: dict[str, list[str]] = defaultdict(list)
    for label in sorted(counts):
        alike[_spelling(label)].append(label)
    groups = [labels for labels in alike.values() if len(labels) > 1]
    if not groups:
        return []
    shown = "; ".join(
        " and ".join(f"'{label}' ({counts[label]:,} rows)" for label in labels) for labels in groups[:MAX_LISTED_GROUPS]
    )
    more = f"; and {len(groups) - MAX_LISTED_GROUPS} more" if len(groups) > MAX_LISTED_GROUPS else ""
    return [f"classes that may be one, written in several ways: {shown}{more}. Each is learnt as a class of its own"]


def rare_classes(parts: Mapping[str, Sequence[Sample]]) -> list[str]:
    """List classes so rare beside the others that a few rows of test decide about their F1.

    Args:
        parts: Split -> rows.

    Returns:
        No line, or one that names these classes with their numbers of rows.
    """
    counts = Counter(row.label for rows in parts.values() for row in rows)
    in_test = Counter(row.label for row in parts["test"])
    few = counts.total() / len(counts) / 2
    rare = [label for label, n in sorted(counts.items(), key=lambda item: (item[1], item[0])) if n < few]
    rare = [label for label in rare if in_test[label] < FEW_IN_TEST]
    if not rare:
        return []
    shown = "; ".join(
        f"class '{label}' has {counts[label]:,} of {counts.total():,} rows, {in_test[label]} in test"
        for label in rare[:MAX_LISTED_GROUPS]
    )
    more = f"; so have {len(rare) - MAX_LISTED_GROUPS} more" if len(rare) > MAX_LISTED_GROUPS else ""
    return [f"{shown}{more}: F1 of so few rows is very uncertain"]


def is_unlabelled(cell: object) -> bool:
    """Check whether the cell of a label holds none: null, NaN, empty, or class -1 of a file that names its classes."""
    is_empty = isinstance(cell, str) and not cell.strip()
    return cell is None or cell != cell or is_empty or isinstance(cell, Unlabelled)


def has_unlabelled_test(files: Mapping[str, Sequence[Sample]], *, where: str, column: str) -> bool:
    """Check whether every row of test has class -1, which no row of train has.

    Args:
        files: Split -> rows.
        where: The data set, for messages.
        column: Column of the label, for messages.

    Raises:
        DataError: Rows of validation, or some rows of test, are not labelled.
    """
    if any(row.label == NOT_LABELLED for row in files["train"]):
        return False
    for name, rows in files.items():
        numbers = [number for number, row in enumerate(rows, start=1) if row.label == NOT_LABELLED]
        if numbers and not (name == "test" and len(numbers) == len(rows)):
            raise DataError(
                f"`{where}`: column '{column}' is -1 in {len(numbers):,} of {len(rows):,} rows of {name}, first in row "
                f"{numbers[0]:,}, and no row of train has this class: these rows are not labelled. Label or remove them"
            )
    return any(row.label == NOT_LABELLED for row in files.get("test", ()))


def _rank(label: str, places: Mapping[str, int]) -> tuple[int, Decimal, str]:
    if label in places:
        return 0, Decimal(places[label]), label
    return (1, Decimal(label), label) if NUMBER.fullmatch(label) else (2, Decimal(0), label)


def _spelling(label: str) -> str:
    """Reduce a class to what stays the same when it is written in another way."""
    if NUMBER.fullmatch(label):
        return f"number {Decimal(label).normalize()}"
    plain = unicodedata.normalize("NFKC", label).casefold()
    return re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", plain)
