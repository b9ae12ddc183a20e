"""Rows of numbers of different lengths, kept in flat arrays, so that a batch of them is padded in a few calls."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class RaggedRows:
    """Rows of numbers, one after the other.

    Attributes:
        values: The numbers of all rows, (n_numbers,).
        starts: Where each row begins in ``values``, and where the last one ends, (n_rows + 1,). Columns whose rows are
            equally long share one array.
    """

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> list[int]:
        """Return the numbers of a row, counted from 0."""
        numbers: list[int] = self.values[self.starts[row] : self.starts[row + 1]].tolist()
        return numbers

    def __iter__(self) -> Iterator[list[int]]:
        """Iterate over the rows."""
        return (self[row] for row in range(len(self)))

    def lengths_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Count the numbers of some rows, (n_rows,)."""
        return self.starts[rows + 1] - self.starts[rows]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Numbers of each row, (n_rows,)."""
        return np.diff(self.starts)


def pack(columns: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, RaggedRows]:
    """Build flat columns.

    Args:
        columns: Name of a column -> the numbers of each row.
    """
    known: list[NDArray[np.int64]] = []
    packed = {}
    for name, column in columns.items():
        starts = np.fromiter(accumulate(map(len, column), initial=0), dtype=np.int64, count=len(column) + 1)
        shared = next((other for other in known if np.array_equal(other, starts)), starts)
        if shared is starts:
            known.append(starts)
        packed[name] = RaggedRows(
            np.fromiter(chain.from_iterable(column), dtype=np.int32, count=int(starts[-1])), shared
        )
    return packed


def pad_rows(
    columns: Mapping[str, RaggedRows],
    rows: NDArray[np.int64],
    *,
    into: Mapping[str, NDArray[np.int64]],
    padding: Mapping[str, int],
) -> None:
    """Write some rows of each column into arrays, padded on the right.

    Args:
        columns: The columns.
        rows: The rows, (n_rows,).
        into: Name of a column -> where its rows are written, (n_rows, length); no row is longer.
        padding: Name of a column -> the number that pads it.
    """
    places: dict[tuple[int, int], tuple[NDArray[np.bool_], NDArray[np.int64]]] = {}
    for name, placed in into.items():
        column = columns[name]
        key = (id(column.starts), placed.shape[1])
        if key not in places:
            places[key] = _places(column.starts, rows, length=placed.shape[1])
        inside, numbers = places[key]
        placed.fill(padding[name])
        placed[inside] = column.values[numbers]


def _places(
    starts: NDArray[np.int64], rows: NDArray[np.int64], *, length: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Find which places of an array (n_rows, length) hold numbers of rows, and which numbers these are."""
    begins, steps = starts[rows], np.arange(length)
    inside = steps < (starts[rows + 1] - begins)[:, None]
    return inside, (begins[:, None] + steps)[inside]
