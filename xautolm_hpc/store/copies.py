"""Finds of which of a store's own experiences other stores have copies that say something else."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.store.columns import Columns, owned, with_marks
from xautolm_hpc.store.marks import read_marks
from xautolm_hpc.store.union import assemble, raw_ids
from xautolm_hpc.store.visible import experience_id, with_accepted


def shared_ids(parts: Sequence[Columns]) -> NDArray[np.bytes_]:
    """Find the ids of a store's own experiences that other stores have too, ascending, (n,) S16."""
    own, others = (
        [raw_ids(part.groups["digests"]["id"]) for part in parts if part.is_own is is_own and len(part)]
        for is_own in (True, False)
    )
    if not own or not others:
        return np.zeros(0, "S16")
    return np.intersect1d(np.concatenate(own), np.concatenate(others))


def differing_copies(parts: Sequence[Columns]) -> list[str]:
    """List the ids of own experiences of which a copy of another store has another known value, ascending.

    That is where it would make a difference whose values counted first.

    Args:
        parts: Columns with everything; their marks are all in force.
    """
    ids = shared_ids(parts)
    marks = read_marks(mark for part in parts for mark in part.marks)
    shared = [
        part.take(np.isin(raw_ids(part.groups["digests"]["id"]), ids))
        for part in (with_marks(with_accepted(part, marks), ()) for part in parts)
    ]
    swapped = [found for part in shared for found in owned([part], is_own=not part.is_own)]
    first, second = (assemble(found, by_site=False, forgotten=marks.forgotten) for found in (shared, swapped))
    differs = np.zeros(len(first), np.bool_)
    for group, columns in first.groups.items():
        for name, column in columns.items():
            other = second.groups[group][name]
            if column.ndim == 1:
                differs |= (
                    ~np.isclose(column, other, rtol=0, atol=0, equal_nan=True)
                    if column.dtype.kind == "f"
                    else (column != other)
                )
    for name, pieces in first.variable.items():
        pairs = zip(pieces.pieces(), second.variable[name].pieces(), strict=True)
        differs |= np.array([one != other for one, other in pairs], np.bool_)
    return [experience_id(first, row) for row in np.flatnonzero(differs).tolist()]
