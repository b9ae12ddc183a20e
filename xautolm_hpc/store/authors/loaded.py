"""What was read of a store: the columns of its segments, with the marks that are in force."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.store.authors.authority import Authority
from xautolm_hpc.store.columns import Columns, only_marks, with_marks
from xautolm_hpc.store.structure import StoreFinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was read of a store.

    Attributes:
        parts: Segment -> its columns, with those of its marks that are in force.
        pending: Segment -> those of its marks that wait to be accepted; only segments that have some.
        waiting_only: Segments that hold nothing but marks that wait.
        findings: What is wrong with the segments left out, and with the key of the marks.
    """

    parts: Mapping[Path, Columns]
    pending: Mapping[Path, tuple[bytes, ...]]
    waiting_only: frozenset[Path]
    findings: tuple[StoreFinding, ...]

    def columns(self) -> list[Columns]:
        """List the columns of the segments; those of an empty store have no experiences."""
        return [*self.parts.values()] or [only_marks(())]

    def waiting(self) -> frozenset[bytes]:
        """Collect the marks that wait to be accepted."""
        return frozenset(mark for marks in self.pending.values() for mark in marks)

    def all_marks(self) -> frozenset[bytes]:
        """Collect the marks that are in force and those that wait."""
        return self.waiting().union(*(part.marks for part in self.parts.values()))


def judged(parts: Mapping[Path, Columns], authority: Authority, *, findings: Iterable[StoreFinding]) -> Loaded:
    """Divide the marks of segments into those in force and those that wait.

    Args:
        parts: Segment -> its columns, with all its marks.
        authority: Who has a say in the store.
        findings: What is wrong with segments that were left out.
    """
    if parts:
        authority.open(mark for part in parts.values() for mark in part.marks)
    sorted_marks = authority.sort(mark for part in parts.values() for mark in part.marks)
    acting, waiting = {*sorted_marks.in_force}, {*sorted_marks.pending}
    marked = {path: part for path, part in parts.items() if part.marks}
    in_force = {path: with_marks(part, [m for m in part.marks if m in acting]) for path, part in marked.items()}
    pending = {path: found for path, part in marked.items() if (found := tuple(m for m in part.marks if m in waiting))}
    return Loaded(
        parts={**parts, **in_force},
        pending=pending,
        waiting_only=frozenset(p for p, marks in pending.items() if not len(parts[p]) and parts[p].marks == marks),
        findings=(*findings, *authority.findings()),
    )
