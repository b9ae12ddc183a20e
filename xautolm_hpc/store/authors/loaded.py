"""What was read of a store: the columns of its segments, with the marks that are in force."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.errors import StoreError
from xautolm_hpc.store.authors.authority import Authority
from xautolm_hpc.store.authors.own import OwnSegments
from xautolm_hpc.store.columns import Columns, only_marks, owned, with_marks
from xautolm_hpc.store.structure import StoreFinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was read of a store.

    Attributes:
        parts: Segment -> its columns, with those of its marks that are in force, and whether they are its own.
        pending: Segment -> those of its marks that wait to be accepted; only segments that have some.
        waiting_only: Segments that hold nothing but marks that wait.
        unsure: Why it is not known which segments are its own, if it is not; then it must not be written anew.
        findings: What is wrong with the segments left out, with the key, and with the list of own segments.
    """

    parts: Mapping[Path, Columns]
    pending: Mapping[Path, tuple[bytes, ...]]
    waiting_only: frozenset[Path]
    unsure: StoreError | None
    findings: tuple[StoreFinding, ...]

    def columns(self) -> list[Columns]:
        """List the columns of the segments; those of an empty store have no experiences."""
        return [*self.parts.values()] or [only_marks(())]

    def waiting(self) -> frozenset[bytes]:
        """Collect the marks that wait to be accepted."""
        return frozenset(mark for marks in self.pending.values() for mark in marks)

    def sure(self) -> "Loaded":
        """Return this, if what it says can be written anew.

        Raises:
            StoreError: It is not known which segments are its own.
        """
        if self.unsure is not None:
            raise self.unsure
        return self

    def all_marks(self) -> frozenset[bytes]:
        """Collect the marks that are in force and those that wait."""
        return self.waiting().union(*(part.marks for part in self.parts.values()))


def judged(
    read: Mapping[Path, Columns], authority: Authority, *, own: OwnSegments, findings: Iterable[StoreFinding]
) -> Loaded:
    """Find which segments are the store's own, and which of their marks are in force and which wait.

    Args:
        read: Segment -> its columns, with all its marks.
        authority: Who has a say in the store.
        own: Which segments were written in it.
        findings: What is wrong with segments that were left out.
    """
    if read:
        authority.open(mark for part in read.values() for mark in part.marks)
        with suppress(StoreError):  # where nothing can be written, all are its own at every reading
            own.open(read)
    are_own, unsure = _own_among(read, own)
    parts = {path: part for path in read for part in owned([read[path]], is_own=path in are_own)}
    sorted_marks = authority.sort(mark for part in parts.values() for mark in part.marks)
    acting, waiting = {*sorted_marks.in_force}, {*sorted_marks.pending}
    marked = {path: part for path, part in parts.items() if part.marks}
    in_force = {path: with_marks(part, [m for m in part.marks if m in acting]) for path, part in marked.items()}
    pending = {path: found for path, part in marked.items() if (found := tuple(m for m in part.marks if m in waiting))}
    return Loaded(
        parts={**parts, **in_force},
        pending=pending,
        waiting_only=frozenset(p for p, marks in pending.items() if not len(parts[p]) and parts[p].marks == marks),
        unsure=unsure,
        findings=(*findings, *authority.findings(), *own.findings()),
    )


def _own_among(read: Collection[Path], own: OwnSegments) -> tuple[frozenset[Path], StoreError | None]:
    try:
        return own.among(read), None
    except StoreError as error:
        return frozenset(), error
