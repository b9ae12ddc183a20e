"""Finds the experiences that count: those not forgotten and not in conflict.

What a store has of its own counts, whatever came from other stores says of the same attempt or experience.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.store.columns import Columns, line, owned, parse, with_marks
from xautolm_hpc.store.decode import values
from xautolm_hpc.store.marks import Marks, Sites, read_marks
from xautolm_hpc.store.union import assemble_owned, raw_ids, rows_with_ids, union

KEY = ("trial", "attempt", "restart")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The experiences of a set of segments.

    Attributes:
        columns: Every experience that was not forgotten, once, ascending by id; those in conflict too.
        counts: Whether an experience is free of conflict, (n,) bool.
        conflicts: Attempt key -> ids of the records under it, for keys that no resolution decides.
        contradicted: Attempt key -> ids of records of other stores that do not count because the store has one of its
            own under the key, and no resolution chose them.
    """

    columns: Columns
    counts: NDArray[np.bool_]
    conflicts: Mapping[str, tuple[str, ...]]
    contradicted: Mapping[str, tuple[str, ...]]

    def visible(self) -> Columns:
        """Return the experiences that count."""
        return self.columns if bool(self.counts.all()) else self.columns.take(self.counts)


def view(parts: list[Columns]) -> View:
    """Find which experiences count; the result depends on the set only, not on how segments divide it.

    Args:
        parts: Columns with at least those of :data:`~xautolm_hpc.store.layout.KEYS`; not empty. Their marks are all
            in force.
    """
    marks = read_marks(mark for part in parts for mark in part.marks)
    accepted = [with_accepted(part, marks) for part in parts]
    columns, are_own = assemble_owned(accepted, by_site=False, forgotten=marks.forgotten)
    counts = np.ones(len(columns), np.bool_)
    conflicts, contradicted = {}, {}
    shared = {key: {experience_id(columns, row): row for row in rows} for key, rows in _shared_keys(columns).items()}
    own = {one for row_of in shared.values() for one, row in row_of.items() if are_own[row]}
    sites = _sites_of([one for row_of in shared.values() for one in row_of], parts, own=own, forgotten=marks.forgotten)
    for key, row_of in shared.items():
        rows = [*row_of.values()]
        left = _undecided(key, [*row_of], sites=sites, marks=marks)
        preferred = _preferred(key, left, own=own.intersection(row_of), sites=sites, marks=marks)
        counts[rows] = False
        if len(preferred) == 1:
            counts[row_of[preferred[0]]] = True
        else:
            conflicts[key] = tuple(preferred)
        if len(preferred) < len(left):
            contradicted[key] = tuple(one for one in left if one not in preferred)
    return View(columns=columns, counts=counts, conflicts=conflicts, contradicted=contradicted)


def settled(parts: list[Columns]) -> list[Columns]:
    """Apply what a store decided to its own experiences and drop its marks, so that they affect no other store's.

    Conflicts that it did not decide stay. Parts that need nothing of that are returned as they are, but as another
    store's.
    """
    if not any(part.marks for part in parts) and not _are_mixed(parts):
        return owned(parts, is_own=False)
    marks = read_marks(mark for part in parts for mark in part.marks)
    seen = view(parts)
    in_conflict = [one for ids in seen.conflicts.values() for one in ids]
    kept = seen.counts.copy()
    kept[rows_with_ids(seen.columns.groups["digests"]["id"], in_conflict)] = True
    ids = raw_ids(seen.columns.groups["digests"]["id"][kept])
    rows = _as_it_says([with_accepted(part, marks) for part in parts], forgotten=marks.forgotten)
    return [rows.take(np.isin(raw_ids(rows.groups["digests"]["id"]), ids))]


def without_hidden(parts: list[Columns]) -> list[Columns]:
    """Leave out what a store forgot, what contradicts its own experiences, and its marks; as another store's."""
    forgotten = read_marks(mark for part in parts for mark in part.marks).forgotten
    if not forgotten and not _are_mixed(parts):
        return [with_marks(part, ()) for part in owned(parts, is_own=False)]
    hidden = [one for ids in view(parts).contradicted.values() for one in ids]
    rows = _as_it_says(parts, forgotten=forgotten)
    is_hidden = np.zeros(len(rows), np.bool_)
    is_hidden[rows_with_ids(rows.groups["digests"]["id"], hidden)] = True
    return [union([rows.take(~is_hidden)])]


def _are_mixed(parts: Sequence[Columns]) -> bool:
    return len({part.is_own for part in parts if len(part)}) > 1


def _as_it_says(parts: list[Columns], *, forgotten: Sites) -> Columns:
    """Merge the rows of a store, by site, into what it says; of its own ids its own records alone."""
    rows, are_own = assemble_owned(parts, by_site=True, forgotten=forgotten)
    ids = raw_ids(rows.groups["digests"]["id"])
    is_other = ~are_own & np.isin(ids, ids[are_own])
    (found,) = owned([with_marks(rows if not is_other.any() else rows.take(~is_other), ())], is_own=False)
    return found


def stored_form(parts: list[Columns]) -> Columns:
    """Merge segments into one, without experiences that their own site forgot."""
    marks = read_marks(mark for part in parts for mark in part.marks)
    return union(parts, forgotten=marks.forgotten)


def stored_forms(parts: list[Columns]) -> list[Columns]:
    """Merge segments into one of the store's own experiences and one of those of others; what counts does not change.

    Returns:
        Those that hold anything, at least one; own ones first. The last has all marks.
    """
    marks = sorted({mark for part in parts for mark in part.marks})
    forgotten = read_marks(marks).forgotten
    groups = [[part for part in parts if part.is_own is is_own] for is_own in (True, False)]
    forms = [union(group, forgotten=forgotten) for group in groups if group]
    kept = [form for form in forms if len(form)] or forms[:1]
    return [*(with_marks(form, ()) for form in kept[:-1]), with_marks(kept[-1], marks)]


def with_accepted(columns: Columns, marks: Marks) -> Columns:
    """Clear ``suspect`` for the records, and in format 1 for the runs, that a person accepted."""
    if not (marks.accepted or marks.accepted_runs) or "suspect" not in columns.groups["counts"]:
        return columns
    codes = [i for i, value in enumerate(values(columns)) if value in marks.accepted_runs]
    is_accepted = np.isin(columns.groups["codes"]["run_id"], codes)
    for row in rows_with_ids(columns.groups["digests"]["id"], [*marks.accepted]).tolist():
        is_accepted[row] |= _site(columns, row) in marks.accepted[experience_id(columns, row)]
    suspect = np.where(is_accepted, np.int32(0), columns.groups["counts"]["suspect"])
    counts = {**columns.groups["counts"], "suspect": suspect}
    return replace(columns, groups={**columns.groups, "counts": counts})


def experience_id(columns: Columns, row: int) -> str:
    """Return one row's id, 32 hex digits."""
    return str(columns.groups["digests"]["id"][row].tobytes().hex())


def equals(columns: Columns, name: str, *, text: str) -> NDArray[np.bool_]:
    """Find the rows that have a text in a column of codes, (n,) bool."""
    entries = columns.dictionaries["values"]
    wanted = line(text)
    code = entries.index(wanted) if wanted in entries else len(entries)
    found: NDArray[np.bool_] = columns.groups["codes"][name] == code
    return found


def attempt_key(columns: Columns, row: int) -> str:
    """Return one row's attempt key; see :attr:`xautolm_hpc.records.Experience.key`."""
    run = parse(columns.dictionaries["values"][columns.groups["codes"]["run_id"][row]])
    return "/".join([run, *(str(columns.groups["counts"][name][row]) for name in KEY)])


def sites_of(columns: Columns) -> list[str]:
    """List the site of each row."""
    known = values(columns)
    return [known[code] for code in columns.groups["codes"]["site"].tolist()]


def _undecided(key: str, ids: Sequence[str], *, sites: Sites, marks: Marks) -> list[str]:
    """List the ids under an attempt key that no resolution rejects: one of the ids is chosen, for all its sites.

    If the resolutions of several sites leave none, they decide nothing.
    """

    def is_rejected(one: str) -> bool:
        choices = [marks.choice(key, site) for site in sites[one]]
        return all(choice in ids and choice != one for choice in choices)

    return [one for one in ids if not is_rejected(one)] or list(ids)


def _preferred(key: str, ids: Sequence[str], *, own: Set[str], sites: Sites, marks: Marks) -> list[str]:
    """List those of the undecided ids that count before the others: the store's own, or what was chosen over them."""
    left = [one for one in ids if one in own]
    if left or not own:
        return left or list(ids)
    chosen = {marks.choice(key, site) for one in own for site in sites[one]}
    return [one for one in ids if one in chosen] or list(ids)


def _sites_of(ids: Sequence[str], parts: Sequence[Columns], *, own: Set[str], forgotten: Sites) -> dict[str, set[str]]:
    """Find the sites that have a record of each id which they did not forget; of own ids those of own records."""
    found: dict[str, set[str]] = {one: set() for one in ids}
    for part in parts if ids else ():
        for row in rows_with_ids(part.groups["digests"]["id"], ids).tolist():
            one, site = experience_id(part, row), _site(part, row)
            if site not in forgotten.get(one, ()) and (part.is_own or one not in own):
                found[one].add(site)
    return found


def _site(columns: Columns, row: int) -> str:
    return str(parse(columns.dictionaries["values"][columns.groups["codes"]["site"][row]]))


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
