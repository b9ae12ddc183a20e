"""The union of several stores."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.store.authors.decisions import MarkDecision
from xautolm_hpc.store.authors.loaded import Loaded
from xautolm_hpc.store.columns import Columns, only_marks
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, KEYS
from xautolm_hpc.store.marks import FORGET, decode_mark, forget_body
from xautolm_hpc.store.packaged import check_writable
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.union import raw_ids, rows_with_ids
from xautolm_hpc.store.visible import experience_id, sites_of, stored_forms, without_hidden


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """Result of a merge.

    Attributes:
        n_new: Experiences the target did not have.
        segment: Name of the segment that holds what came from other stores, or of the only one; ``None`` when all
            stores were empty.
        findings: Segments that were left out, with the reason.
        n_pending_marks: Marks of the sources that wait to be accepted.
    """

    n_new: int
    segment: str | None
    findings: tuple[StoreFinding, ...]
    n_pending_marks: int = 0


def merge(
    sources: Iterable[Path],
    into: Path,
    *,
    accept_forget: Sequence[str] = (),
    limits: CheckLimits | None = None,
    group: str | None = None,
) -> Merged:
    """Merge other stores into one, as one segment beside that of its own; merging again changes nothing.

    Args:
        sources: Stores to read.
        into: Store to grow; created if it does not exist.
        accept_forget: Sites whose tombstones are accepted, and also hold for experiences of other sites.
        limits: Limits for checking a foreign segment.
        group: Group of users that may read the target; ``None`` leaves its folder as it is.

    Raises:
        InputError: A source does not exist.
        NoStoreError: The target, or a folder it lies in, is a file; or the target comes with this program.
        FormatError: A store is one file of a newer format; nothing was changed.
        StoreError: It could not be written, and the target is as before; or a store is one file, and damaged.
    """
    target = SegmentFolder(into, limits=limits, group=group)
    target.check_place()
    check_writable(into)
    loaded = [_load_source(source, target, limits=limits) for source in sources]
    marks = frozenset(mark for one in loaded for mark in one.all_marks())
    signed = _accept_forget(target, loaded, sites=accept_forget) if accept_forget else []
    own = target.load(EVERYTHING)
    findings = (*own.findings, *(finding for one in loaded for finding in one.findings))
    if not own.parts and not any(one.parts for one in loaded):
        return Merged(n_new=0, segment=None, findings=findings)
    judged = target.authority.sort(marks)
    foreign = [part for one in loaded for part in without_hidden(one.columns())]
    forms = stored_forms([*own.parts.values(), *foreign, only_marks([*judged.in_force, *signed])])
    return Merged(
        n_new=_n_new(own.parts.values(), forms),
        segment=target.replace(own, forms, waiting=judged.pending)[-1],
        findings=findings,
        n_pending_marks=len(judged.pending),
    )


def _load_source(source: Path, target: SegmentFolder, *, limits: CheckLimits | None) -> Loaded:
    """Read another store; what it hides by its own marks is not taken, and its marks are judged by the target.

    Raises:
        InputError: It does not exist.
        StoreError: It is not known which of its segments are its own; what has no effect in it would be taken.
    """
    if not source.exists():
        raise InputError(f"`{source}` does not exist; expected a store to merge")
    return SegmentFolder(source, limits=limits, checked=target.checked).load(EVERYTHING).sure()


def _n_new(had: Iterable[Columns], forms: Iterable[Columns]) -> int:
    """Count the ids of the merged store that the target did not have."""
    ids = np.unique(np.concatenate([raw_ids(form.groups["digests"]["id"]) for form in forms]))
    is_new = np.ones(len(ids), np.bool_)
    for part in had:
        is_new &= ~np.isin(ids, raw_ids(part.groups["digests"]["id"]))
    return int(is_new.sum())


def _accept_forget(target: SegmentFolder, sources: Sequence[Loaded], *, sites: Sequence[str]) -> list[bytes]:
    """Accept what other sites forget, also of what other sites than they have.

    Returns:
        Marks, signed by the target, that hide the records of other sites.
    """
    target.make()
    every = target.all_marks().union(*(one.all_marks() for one in sources))
    accepted = [mark for mark in every if decode_mark(mark).action == FORGET and decode_mark(mark).site in sites]
    target.authority.decide(MarkDecision.ACCEPTED, accepted)
    named = sorted({one for mark in accepted for one in decode_mark(mark).ids})
    owned: dict[str, set[str]] = defaultdict(set)
    for part in (*target.load(KEYS).parts.values(), *(part for one in sources for part in one.parts.values())):
        found = part.take(rows_with_ids(part.groups["digests"]["id"], named))
        for row, site in enumerate(sites_of(found)):
            owned[site].add(experience_id(found, row))
    return target.authority.sign([forget_body(site, owned[site]) for site in sorted(set(owned) - set(sites))])
