"""Checks everything in a store; a problem in one segment does not stop the check of the others."""

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from xautolm_hpc.store import segment
from xautolm_hpc.store.authors.deciding import mark_findings
from xautolm_hpc.store.columns import Columns
from xautolm_hpc.store.copies import differing_copies, shared_ids
from xautolm_hpc.store.decode import values
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, KEYS
from xautolm_hpc.store.marks import read_marks
from xautolm_hpc.store.place import left_overs
from xautolm_hpc.store.structure import StoreFinding
from xautolm_hpc.store.union import rows_with_ids, union
from xautolm_hpc.store.visible import experience_id, view

MOST_NAMED = 5


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
    loaded = segments.judge(sound)
    findings += loaded.findings
    findings += _of_set(loaded.columns(), path=segments.path)
    if shared_ids(loaded.columns()).size:
        findings += _of_copies(segments.load(EVERYTHING).columns(), path=segments.path)
    findings += mark_findings(segments, {mark for part in sound.values() for mark in part.marks})
    findings += [_left_over(path) for path in left_overs(segments.path)]
    return findings


def _of_copies(parts: list[Columns], *, path: Path) -> Iterator[StoreFinding]:
    """List the experiences of which other stores have copies that say something else."""
    found = differing_copies(parts)
    if found:
        named = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
        message = (
            f"{len(found)} experiences of `{path}` have copies of other stores with other values: {named}. What was "
            "written here counts, and the copies only where it says nothing; nothing needs to be done"
        )
        yield StoreFinding(problem="foreign-copy", where=found[0], message=message)


def _of_set(parts: list[Columns], *, path: Path) -> Iterator[StoreFinding]:
    """Find the problems of the set of experiences; each segment is sound."""
    seen = view(parts)
    for key, ids in seen.contradicted.items():
        message = (
            f"attempt {key} has {len(ids)} records of other stores with another result: {', '.join(ids)}. They have "
            f"no effect, because this store has its own. `store resolve {shlex.quote(str(path))} {key} ID` chooses one "
            "of them, or confirms one's own"
        )
        yield StoreFinding(problem="foreign-record", where=key, message=message)
    for key, ids in seen.conflicts.items():
        message = (
            f"attempt {key} has {len(ids)} records: {', '.join(ids)}. They count for nothing until "
            f"`store resolve {shlex.quote(str(path))} {key} ID` says which one is right"
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
