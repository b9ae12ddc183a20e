"""The set union of columns.

Equal sets of experiences give equal columns, bit for bit, in whatever order they came: rows ascend by id and site,
dictionaries are sorted, unused entries are dropped. The digest of a segment is computed of this form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.store.columns import Array, Columns, Ragged, parse
from xautolm_hpc.store.layout import CURVE_S, DICTIONARIES, DIGEST_BYTES, GROUPS, NO_CODE

Forgotten = Mapping[str, set[str]]
"""Experience id -> sites that forgot it."""

Positions = Mapping[str, Mapping[bytes, int]]
"""Dictionary -> entry -> its index."""

UNKNOWN: Mapping[str, float] = {**{name: group.null for name, group in GROUPS.items()}, "counts": -(2**31)}
"""Dataset -> value that counts as unknown; in ``counts`` everything is known."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Which of the stacked rows to take, where the rows of each experience begin among them, and which are own.

    The last is ``None`` where all rows are alike in that, or no experience has two.
    """

    chosen: NDArray[np.intp] | None
    first: NDArray[np.intp] | None
    is_own: NDArray[np.bool_] | None

    def merge(self, column: Array, *, unknown: float) -> Array:
        """Select the rows of a column, and of each experience the greatest known value, if it can be of its own."""
        taken = column if self.chosen is None else column[self.chosen]
        if self.first is None:
            return taken
        if taken.ndim > 1:
            return taken[self.first]  # equal ids have equal pipelines
        greatest = np.fmax if taken.dtype.kind == "f" else np.maximum
        merged: Array = greatest.reduceat(taken, self.first)
        if self.is_own is None:
            return merged
        own = greatest.reduceat(np.where(self.is_own, taken, taken.dtype.type(unknown)), self.first)
        return np.where(np.isnan(own) if np.isnan(unknown) else own == unknown, merged, own)

    def merge_pieces(self, pieces: Sequence[bytes]) -> list[bytes]:
        """Select the rows of a variable part, and of each experience the greatest piece, if it can be of its own."""
        taken = list(pieces) if self.chosen is None else [pieces[row] for row in self.chosen.tolist()]
        if self.first is None:
            return taken
        bounds = pairwise([*self.first.tolist(), len(taken)])
        is_own = np.ones(len(taken), np.bool_) if self.is_own is None else self.is_own
        own = [piece if is_one else b"" for piece, is_one in zip(taken, is_own.tolist(), strict=True)]
        return [_greatest_piece(own[start:end]) or _greatest_piece(taken[start:end]) for start, end in bounds]

    def have_own(self, are_own: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Find the experiences that have a row of the store's own."""
        taken = are_own if self.chosen is None else are_own[self.chosen]
        return taken if self.first is None else np.logical_or.reduceat(taken, self.first)


def union(parts: Sequence[Columns], *, forgotten: Forgotten | None = None) -> Columns:
    """Merge columns into stored form: equal sets give equal columns.

    Records of one id and site become one row; sites are kept apart because a site forgets only its own experiences.

    Args:
        parts: Columns, at least one.
        forgotten: Experiences to leave out.
    """
    return _without_unused(assemble(parts, by_site=True, forgotten=forgotten))


def assemble(parts: Sequence[Columns], *, by_site: bool, forgotten: Forgotten | None = None) -> Columns:
    """Merge columns as :func:`assemble_owned` does, without telling which rows are own."""
    return assemble_owned(parts, by_site=by_site, forgotten=forgotten)[0]


def assemble_owned(
    parts: Sequence[Columns], *, by_site: bool, forgotten: Forgotten | None = None
) -> tuple[Columns, NDArray[np.bool_]]:
    """Merge columns, records of one id to one row: of each column the known value, of two the greater.

    A known value of the store's own counts, whatever the records of other stores say.

    Args:
        parts: Columns that all have, or all lack, the column ``site``; at least one.
        by_site: Whether records of one id from two sites stay two rows.
        forgotten: Experiences to leave out.

    Returns:
        The rows, ascending by id, then by site, under common, sorted dictionaries; and which of them the store has of
        its own, (n,) bool.
    """
    dictionaries = {
        name: sorted({entry for part in parts for entry in part.dictionaries[name]}, key=_rank) for name in DICTIONARIES
    }
    positions = {name: {entry: i for i, entry in enumerate(entries)} for name, entries in dictionaries.items()}
    holding = [part for part in parts if len(part)] or parts[:1]
    recoded = [_recoded(part, positions) for part in holding]
    ids = _stacked(recoded, "digests", name="id")
    site = _stacked(recoded, "codes", name="site") if "site" in recoded[0].groups["codes"] else None
    kept = np.arange(len(ids))
    if forgotten and site is not None:
        kept = np.flatnonzero(~_are_forgotten(ids, site, forgotten=forgotten, values=dictionaries["values"]))
    are_own = np.repeat([part.is_own for part in recoded], [len(part) for part in recoded])
    rows = _ordered(ids, kept, site=site, by_site=by_site, are_own=are_own)
    columns = Columns(
        groups={
            group: {
                name: rows.merge(_stacked(recoded, group, name=name), unknown=UNKNOWN[group])
                for name in _names(recoded, group)
            }
            for group in GROUPS
        },
        variable=_merged_variable(recoded, rows),
        dictionaries={name: tuple(entries) for name, entries in dictionaries.items()},
        marks=tuple(sorted({mark for part in parts for mark in part.marks})),
        is_own=all(part.is_own for part in parts),
    )
    return columns, rows.have_own(are_own)


def raw_ids(ids: Array) -> NDArray[np.bytes_]:
    """View ids of 16 bytes, (n, 16), as (n,) S16."""
    raw: NDArray[np.bytes_] = np.ascontiguousarray(ids).view(f"S{DIGEST_BYTES}").reshape(len(ids))
    return raw


def rows_with_ids(ids: Array, wanted: Sequence[str]) -> NDArray[np.intp]:
    """Find the rows of ids given as hex digits; unknown ids have none."""
    return np.flatnonzero(np.isin(raw_ids(ids), np.frombuffer(bytes.fromhex("".join(wanted)), f"S{DIGEST_BYTES}")))


def _greatest_piece(pieces: Sequence[bytes]) -> bytes:
    """Return the curve or message of which most is known, of several such the greater."""
    distinct = sorted(set(pieces))
    return distinct[0] if len(distinct) == 1 else max(distinct, key=lambda piece: (_n_seconds(piece), piece))


def _n_seconds(piece: bytes) -> int:
    """Count the entries of a curve that have the seconds so far, which format 1 lacks; a message has none."""
    found = parse(piece) if piece else ()
    return sum(len(point) > CURVE_S for point in found) if isinstance(found, list) else 0


def _rank(entry: bytes) -> tuple[int, bytes]:
    """Return a sort key: the greater index is that of the record with fewer unknowns, then of the greater encoding."""
    return -sum(entry.count(before + b"null") for before in (b":", b"[", b",")), entry


def _recoded(part: Columns, positions: Positions) -> Columns:
    """Convert a part's codes to indices into the common dictionaries."""
    codes, params = dict(part.groups["codes"]), part.groups["params"]
    for dictionary, entries in part.dictionaries.items():
        position = np.array([positions[dictionary][entry] for entry in entries] + [NO_CODE], np.int32)
        if np.array_equal(position[:-1], np.arange(len(entries))):
            continue
        for name in DICTIONARIES[dictionary]:
            if name in codes:
                codes[name] = position[codes[name]]  # the null code -1 takes the last position, which is -1
        if dictionary == "values":
            params = {name: position[column] for name, column in params.items()}
    return replace(part, groups={**part.groups, "codes": codes, "params": params})


def _names(parts: Sequence[Columns], group: str) -> list[str]:
    return sorted({name for part in parts for name in part.groups[group]})


def _stacked(parts: Sequence[Columns], group: str, *, name: str) -> Array:
    """Join one column of all parts; a part without it gets nulls."""
    if len(parts) == 1:
        return parts[0].groups[group][name]
    dtype, null = GROUPS[group]
    pieces = []
    for part in parts:
        found = part.groups[group].get(name)
        shape = (len(part), DIGEST_BYTES) if group == "digests" else (len(part),)
        pieces.append(np.full(shape, null, dtype) if found is None else found)
    return np.concatenate(pieces)


def _merged_variable(parts: Sequence[Columns], rows: _Rows) -> dict[str, Ragged]:
    names = sorted({name for part in parts for name in part.variable})
    pieces = {name: [piece for part in parts for piece in part.variable[name].pieces()] for name in names}
    return {name: Ragged.of(rows.merge_pieces(found)) for name, found in pieces.items()}


def _are_forgotten(ids: Array, site: Array, *, forgotten: Forgotten, values: Sequence[bytes]) -> NDArray[np.bool_]:
    """Find the rows that their own site forgot, (n,) bool."""
    found = np.zeros(len(ids), np.bool_)
    for row in rows_with_ids(ids, list(forgotten)).tolist():
        found[row] = parse(values[site[row]]) in forgotten[ids[row].tobytes().hex()]
    return found


def _ordered(
    ids: Array, kept: NDArray[np.intp], *, site: Array | None, by_site: bool, are_own: NDArray[np.bool_]
) -> _Rows:
    """Sort the kept rows by id and site, and find where the rows of each experience begin."""
    chosen = None if len(kept) == len(ids) else kept
    high, low = np.ascontiguousarray(ids[kept].view(">u8").astype(np.uint64).T)
    if _ascend(high):
        return _Rows(chosen, None, None)
    order = np.argsort(high)
    if _ascend(high[order]):
        return _Rows(kept[order], None, None)
    if site is None:
        site = np.zeros(len(ids), np.int32)
    order = np.lexsort((site[kept], low, high))
    high, low, sites = high[order], low[order], site[kept][order]
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    if by_site:
        is_first[1:] |= sites[1:] != sites[:-1]
    if is_first.all():
        return _Rows(kept[order], None, None)
    own = are_own[kept[order]]
    return _Rows(kept[order], np.flatnonzero(is_first), own if own.any() and not own.all() else None)


def _ascend(numbers: NDArray[np.uint64]) -> bool:
    return bool((numbers[1:] > numbers[:-1]).all())


def _without_unused(columns: Columns) -> Columns:
    """Remove dictionary entries, parameters and metrics that no row uses."""
    has_value: Mapping[str, Callable[[Array], bool]] = {
        "metrics": lambda column: not np.isnan(column).all(),
        "params": lambda column: bool((column != NO_CODE).any()),
        "param_floats": lambda column: not np.isnan(column).all(),
    }
    groups = dict(columns.groups)
    for group, is_used in has_value.items():
        groups[group] = {name: column for name, column in groups[group].items() if is_used(column)}
    used = replace(columns, groups=groups)
    positions = {}
    entries = {}
    for dictionary, known in columns.dictionaries.items():
        entries[dictionary] = _used_entries(used, dictionary)
        positions[dictionary] = dict.fromkeys(known, NO_CODE)
        positions[dictionary] |= {entry: i for i, entry in enumerate(entries[dictionary])}
    return replace(_recoded(used, positions), dictionaries=entries)


def _used_entries(columns: Columns, dictionary: str) -> tuple[bytes, ...]:
    entries = columns.dictionaries[dictionary]
    is_used = np.zeros(len(entries) + 1, np.bool_)  # the last one is the null code
    for name in DICTIONARIES[dictionary]:
        if name in columns.groups["codes"]:
            is_used[columns.groups["codes"][name]] = True
    if dictionary == "values":
        for column in columns.groups["params"].values():
            is_used[column] = True
    return tuple(entry for entry, is_one in zip(entries, is_used, strict=False) if is_one)
