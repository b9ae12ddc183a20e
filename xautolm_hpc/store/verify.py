"""Checks everything in a store; a problem in one segment does not stop the check of the others."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from xautolm_hpc.store import segment
from xautolm_hpc.store.authors.deciding import mark_findings
from xautolm_hpc.store.authors.loaded import judged
from xautolm_hpc.store.columns import Columns
from xautolm_hpc.store.decode import values
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import KEYS
from xautolm_hpc.store.marks import read_marks
from xautolm_hpc.store.structure import StoreFinding
from xautolm_hpc.store.union import rows_with_ids, union
from xautolm_hpc.store.visible import experience_id, view


def verify(segments: SegmentFolder) -> list[StoreFinding]:
    """Check every segment whole, in a child process, then the set of experiences in them.

    Returns:
        Problems of segments in the order of their names, then of the set; empty if there are none.
    """
    findings: list[StoreFinding] = []
    sound: dict[Path, Columns] = {}
    for path, found in segments.check_all().items():
        findings += found
        if not found:
            with contextlib.suppress(FileNotFoundError):  # merged into another segment meanwhile
                sound[path] = segment.read(path, KEYS)
    loaded = judged(sound, segments.authority, findings=())
    findings += loaded.findings
    findings += _of_set(loaded.columns())
    findings += mark_findings(segments, {mark for part in sound.values() for mark in part.marks})
    findings += [_left_over(path) for path in segments.left_overs()]
    return findings


def _of_set(parts: list[Columns]) -> Iterator[StoreFinding]:
    """Find the problems of the set of experiences; each segment is sound."""
    for key, ids in view(parts).conflicts.items():
        message = (
            f"attempt {key} has {len(ids)} records: {', '.join(ids)}. They count for nothing until "
            f"`store resolve {key} ID` says which one is right"
        )
        yield StoreFinding(problem="conflict", where=key, message=message)
    whole = union(parts)
    forgotten = read_marks(whole.marks).forgotten
    known = values(whole)
    for row in rows_with_ids(whole.groups["digests"]["id"], list(forgotten)).tolist():
        one, site = experience_id(whole, row), known[whole.groups["codes"]["site"][row]]
        others = sorted(forgotten[one] - {site})
        if others and site not in forgotten[one]:
            message = (
                f"site {others[0]!r} forgets experience {one}, which is of site {site!r}; it still counts. "
                f"Merge with --accept-forget {others[0]} to hide it"
            )
            yield StoreFinding(problem="foreign-forget", where=one, message=message)


def _left_over(path: Path) -> StoreFinding:
    message = f"`{segment.shown(path)}` was begun and not finished; `store compact` removes it once it is a day old"
    return StoreFinding(problem="left-over", where=path.name, message=message)
