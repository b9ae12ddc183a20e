"""The union of several stores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.store.columns import Columns, only_marks
from xautolm_hpc.store.decode import values
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING
from xautolm_hpc.store.marks import read_marks, tombstone
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.union import raw_ids, rows_with_ids, union
from xautolm_hpc.store.visible import experience_id, stored_form


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Result of a merge.

    Attributes:
        n_new: Experiences the target did not have.
        segment: Name of the one segment the target now is, ``None`` when all stores were empty.
        findings: Segments that were left out, with the reason.
    """

    n_new: int
    segment: str | None
    findings: tuple[StoreFinding, ...]


def merge(
    sources: Iterable[Path],
    into: Path,
    *,
    accept_forget: Sequence[str] = (),
    limits: CheckLimits | None = None,
    group: str | None = None,
) -> Merged:
    """Merge other stores into one, as one segment; merging again changes nothing.

    Args:
        sources: Stores to read.
        into: Store to grow; created if it does not exist.
        accept_forget: Sites whose tombstones also hold for experiences of other sites.
        limits: Limits for checking a foreign segment.
        group: Group of users that may read the target; ``None`` leaves its folder as it is.

    Raises:
        InputError: A source does not exist.
        NoStoreError: The target, or a folder it lies in, is a file.
        FormatError: A store is one file of a newer format; nothing was changed.
        StoreError: It could not be written, and the target is as before; or a store is one file, and damaged.
    """
    target = SegmentFolder(into, limits=limits, group=group)
    target.check_place()
    own, findings = target.load(EVERYTHING)
    foreign: list[Columns] = []
    for source in sources:
        if not source.exists():
            raise InputError(f"`{source}` does not exist; expected a store to merge")
        loaded, found = SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING)
        foreign += loaded.values()
        findings += found
    parts = [*own.values(), *foreign]
    if not parts:
        return Merged(n_new=0, segment=None, findings=tuple(findings))
    whole = stored_form([*parts, only_marks(_accepted_tombstones(parts, accept_forget))])
    return Merged(n_new=_n_new(own.values(), whole), segment=target.replace(own, whole), findings=tuple(findings))


def _n_new(own: Iterable[Columns], whole: Columns) -> int:
    """Count the ids of the merged store (ascending) that the target did not have."""
    ids = raw_ids(whole.groups["digests"]["id"])
    is_new = np.ones(len(ids), np.bool_)
    is_new[1:] = ids[1:] != ids[:-1]
    for part in own:
        is_new &= ~np.isin(ids, raw_ids(part.groups["digests"]["id"]))
    return int(is_new.sum())


def _accepted_tombstones(parts: Sequence[Columns], sites: Sequence[str]) -> list[bytes]:
    """Build tombstones of the owning sites for the experiences that accepted sites forgot."""
    if not sites:
        return []
    whole = union(parts)
    forgotten = read_marks(whole.marks).forgotten
    named = [one for one, by in forgotten.items() if by & set(sites)]
    known = values(whole)
    return [
        tombstone(experience_id(whole, row), known[whole.groups["codes"]["site"][row]])
        for row in rows_with_ids(whole.groups["digests"]["id"], named).tolist()
    ]
