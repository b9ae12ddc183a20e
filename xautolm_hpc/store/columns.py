"""Experiences as columns in memory."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.records import canonical_json
from xautolm_hpc.store.layout import (
    COLUMNS,
    DICTIONARIES,
    DIGEST_BYTES,
    ENDS_DTYPE,
    FORMAT,
    GROUPS,
    VARIABLE,
    columns_of,
)

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Ragged:
    """One variable part of n experiences, end to end.

    Attributes:
        ends: End of each experience's part in the content, ascending, (n,) int64.
        content: Canonical JSON of each part, empty where it is absent.
    """

    ends: NDArray[np.int64]
    content: bytes

    @classmethod
    def of(cls, pieces: Sequence[bytes]) -> "Ragged":
        """Join pieces end to end."""
        lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
        return cls(np.cumsum(lengths), b"".join(pieces))

    def pieces(self) -> list[bytes]:
        """List each experience's part."""
        return [self.content[start:end] for start, end in pairwise([0, *self.ends.tolist()])]

    def take(self, rows: Array) -> "Ragged":
        """Choose rows by index or mask."""
        starts = np.concatenate([np.zeros(1, np.int64), self.ends])[:-1]
        bounds = zip(starts[rows].tolist(), self.ends[rows].tolist(), strict=True)
        return Ragged.of([self.content[start:end] for start, end in bounds])


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """A set of n experiences, and its marks.

    Attributes:
        groups: Dataset of :data:`~xautolm_hpc.store.layout.GROUPS` -> column -> values, (n,); digests (n, 16).
        variable: Variable part -> its pieces; empty where they were not read.
        dictionaries: Dictionary -> canonical JSON of its entries.
        marks: Canonical JSON of each mark, ascending.
        format_version: Format of the segment they are or were in. They have every column of the newest format; those
            that the segment's format lacks are null.
        is_own: Whether they are this store's own experiences, and not those that came from another one.
    """

    groups: Mapping[str, Mapping[str, Array]]
    variable: Mapping[str, Ragged]
    dictionaries: Mapping[str, tuple[bytes, ...]]
    marks: tuple[bytes, ...]
    format_version: int = FORMAT
    is_own: bool = False

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.groups["digests"]["id"])

    def take(self, rows: Array) -> "Columns":
        """Choose rows by index or mask."""
        groups = {g: {name: column[rows] for name, column in group.items()} for g, group in self.groups.items()}
        return replace(self, groups=groups, variable={name: part.take(rows) for name, part in self.variable.items()})

    def stored(self, group: str) -> dict[str, Array]:
        """Return the columns of a dataset that its segment has, in order."""
        found = self.groups[group]
        names = columns_of(group, self.format_version) if group in COLUMNS else sorted(found)
        return {name: found[name] for name in names}


def line(value: Any) -> bytes:
    """Encode plain data as one line of canonical JSON; lone surrogates survive."""
    return canonical_json(value).encode("utf-8", "surrogatepass")


def parse(encoded: bytes) -> Any:
    """Decode what :func:`line` encoded.

    Raises:
        ValueError: It is not JSON.
    """
    return json.loads(encoded.decode("utf-8", "surrogatepass"))


def only_marks(marks: Iterable[bytes]) -> Columns:
    """Build columns with marks and without experiences."""
    groups = {
        group: {
            name: np.zeros((0, DIGEST_BYTES) if group == "digests" else 0, found.dtype)
            for name in COLUMNS.get(group, ())
        }
        for group, found in GROUPS.items()
    }
    return Columns(
        groups=groups,
        variable={name: Ragged.of([]) for name in VARIABLE},
        dictionaries=dict.fromkeys(DICTIONARIES, ()),
        marks=tuple(sorted(set(marks))),
    )


def with_marks(columns: Columns, marks: Iterable[bytes]) -> Columns:
    """Replace the marks of columns."""
    return replace(columns, marks=tuple(sorted(set(marks))))


def owned(parts: Iterable[Columns], *, is_own: bool) -> list[Columns]:
    """Return columns as a store's own, or as those of other stores."""
    return [part if part.is_own is is_own else replace(part, is_own=is_own) for part in parts]


def digest(columns: Columns) -> str:
    """Digest the logical content of columns in stored form: 32 hex digits that do not depend on HDF5."""
    content = hashlib.sha256(f"format {columns.format_version}\n".encode())
    for group, (dtype, _) in GROUPS.items():
        found = columns.stored(group)
        content.update(line([group, len(columns), [*found]]))
        for column in found.values():
            content.update(np.ascontiguousarray(column, dtype=dtype).tobytes())
    for name, entries in (*columns.dictionaries.items(), ("marks", columns.marks)):
        content.update(line([name, len(entries)]) + b"\n".join(entries))
    for name in VARIABLE:
        part = columns.variable[name]
        content.update(line([name, len(part.content)]))
        content.update(np.ascontiguousarray(part.ends, dtype=ENDS_DTYPE).tobytes())
        content.update(part.content)
    return content.hexdigest()[:32]
