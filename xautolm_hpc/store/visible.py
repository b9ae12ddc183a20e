"""Finds the experiences that count: those not forgotten and not in conflict."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.store.columns import Columns, parse
from xautolm_hpc.store.decode import values
from xautolm_hpc.store.marks import Marks, read_marks
from xautolm_hpc.store.union import assemble, union

KEY = ("trial", "attempt", "restart")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The experiences of a set of segments.

    Attributes:
        columns: Every experience that was not forgotten, once, ascending by id; those in conflict too.
        counts: Whether an experience is free of conflict, (n,) bool.
        conflicts: Attempt key -> ids of the records under it, for keys that no resolution decides.
    """

    columns: Columns
    counts: NDArray[np.bool_]
    conflicts: Mapping[str, tuple[str, ...]]

    def visible(self) -> Columns:
        """Return the experiences that count."""
        return self.columns if bool(self.counts.all()) else self.columns.take(self.counts)


def view(parts: list[Columns]) -> View:
    """Find which experiences count; the result depends on the set only, not on how segments divide it.

    Args:
        parts: Columns with at least those of :data:`~xautolm_hpc.store.layout.KEYS`; not empty.
    """
    marks = read_marks(mark for part in parts for mark in part.marks)
    columns = _with_accepted(assemble(parts, by_site=False, forgotten=marks.forgotten), marks)
    counts = np.ones(len(columns), np.bool_)
    conflicts = {}
    for key, rows in _shared_keys(columns).items():
        ids = [experience_id(columns, row) for row in rows]
        choice = marks.choice(key)
        counts[[row for row, one in zip(rows, ids, strict=True) if one != choice]] = False
        if choice not in ids:
            conflicts[key] = tuple(ids)
    return View(columns=columns, counts=counts, conflicts=conflicts)


def stored_form(parts: list[Columns]) -> Columns:
    """Merge segments into one, without experiences that their own site forgot; what counts does not change."""
    marks = read_marks(mark for part in parts for mark in part.marks)
    return union(parts, forgotten=marks.forgotten)


def experience_id(columns: Columns, row: int) -> str:
    """Return one row's id, 32 hex digits."""
    return str(columns.groups["digests"]["id"][row].tobytes().hex())


def attempt_key(columns: Columns, row: int) -> str:
    """Return one row's attempt key; see :attr:`xautolm_hpc.records.Experience.key`."""
    run = parse(columns.dictionaries["values"][columns.groups["codes"]["run_id"][row]])
    return "/".join([run, *(str(columns.groups["counts"][name][row]) for name in KEY)])


def _with_accepted(columns: Columns, marks: Marks) -> Columns:
    """Clear ``suspect`` for the runs that a person accepted."""
    if not marks.accepted or "suspect" not in columns.groups["counts"]:
        return columns
    codes = [i for i, value in enumerate(values(columns)) if value in marks.accepted]
    is_accepted = np.isin(columns.groups["codes"]["run_id"], codes)
    suspect = np.where(is_accepted, np.int32(0), columns.groups["counts"]["suspect"])
    counts = {**columns.groups["counts"], "suspect": suspect}
    return replace(columns, groups={**columns.groups, "counts": counts})


def _shared_keys(columns: Columns) -> dict[str, list[int]]:
    """Find the attempt keys that several rows have, in a few passes over whole columns."""
    if len(columns) < 2:
        return {}
    parts = [columns.groups["codes"]["run_id"], *(columns.groups["counts"][name] for name in KEY)]
    packed = np.zeros(len(columns), np.uint64)
    for part in parts:  # a hash: equal keys give equal numbers; collisions are separated below
        packed = (packed ^ part.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        packed ^= packed >> np.uint64(32)
    ordered = np.sort(packed)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not repeated.size:
        return {}
    rows: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(packed, repeated)).tolist():
        rows.setdefault(attempt_key(columns, row), []).append(row)
    return {key: found for key, found in rows.items() if len(found) > 1}
