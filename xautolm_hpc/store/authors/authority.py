"""Decides which marks are in force in a store: its own, and those that were accepted by name.

A mark that another store signed, or that only claims to be this one's, waits without effect: another site has no say
over what this store holds, whatever site it names.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from xautolm_hpc.errors import StoreError
from xautolm_hpc.node import Clock
from xautolm_hpc.store.authors.decisions import Decisions, MarkDecision, mark_digest
from xautolm_hpc.store.authors.key import AuthorKey, KeyFile
from xautolm_hpc.store.columns import parse
from xautolm_hpc.store.marks import decode_mark
from xautolm_hpc.store.structure import StoreFinding

T = TypeVar("T")
KEY_NAME, DECISIONS_NAME = ".key", ".marks"


class Standing(StrEnum):
    """What a mark counts for in a store."""

    OWN = "own"
    ACCEPTED = "accepted"
    FOUND = "found"
    """Of format 1, there before this store knew authors: in force until it is refused."""

    PENDING = "pending"
    REFUSED = "refused"


_NOTHING: Mapping[str, MarkDecision] = {}
IN_FORCE = (Standing.OWN, Standing.ACCEPTED, Standing.FOUND)
BY_DECISION = {
    MarkDecision.SIGNED: Standing.OWN,
    MarkDecision.FOUND: Standing.FOUND,
    MarkDecision.ACCEPTED: Standing.ACCEPTED,
    MarkDecision.REFUSED: Standing.REFUSED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """Marks by what they count for; refused ones are in neither.

    Attributes:
        in_force: Marks that take effect.
        pending: Marks that wait to be accepted.
    """

    in_force: tuple[bytes, ...]
    pending: tuple[bytes, ...]


class Authority:
    """Who has a say over the experiences of a store.

    Args:
        store: The store: a folder, or one file.
        is_file: Whether it is one file.
        is_source: Whether it is only read, for another store; then nothing is written into it.
        clock: Time.
    """

    def __init__(self, store: Path, *, is_file: bool, is_source: bool, clock: Clock) -> None:
        def beside(name: str) -> Path:
            return store.with_name(store.name + name) if is_file else store / name

        self._key_file = KeyFile(beside(KEY_NAME), clock=clock)
        self._decisions = Decisions(beside(DECISIONS_NAME))
        self._is_file, self._is_source = is_file, is_source
        self._found_here: frozenset[bytes] = frozenset()

    def open(self, marks: Iterable[bytes], *, is_written: bool = False) -> None:
        """Note the marks of format 1 that a store has when it is first opened; after that, nothing.

        Where nothing can be written they are in force for this process.

        Args:
            marks: All marks of the store.
            is_written: Whether the store is about to be written.
        """
        if self._decisions.exist() or self._key_file.path.exists():
            return
        old = [mark for mark in marks if decode_mark(mark).author is None]
        self._found_here = frozenset(old)
        if not self._is_source and (old or is_written or not self._is_file):
            with suppress(OSError):
                self._decisions.begin(sorted(old))
                self._found_here = frozenset()

    def sort(self, marks: Iterable[bytes]) -> Sorted:
        """Find which marks of the store are in force, and which wait."""
        standings = self.standings(marks)
        return Sorted(
            in_force=tuple(sorted(mark for mark, found in standings.items() if found in IN_FORCE)),
            pending=tuple(sorted(mark for mark, found in standings.items() if found is Standing.PENDING)),
        )

    def standings(self, marks: Iterable[bytes]) -> dict[bytes, Standing]:
        """Find what each mark counts for."""
        given = [*marks]
        if not given:
            return {}
        key, decided = self._key(), _or(_NOTHING, self._decisions.read)
        return {mark: self._standing(mark, key, decision=decided.get(mark_digest(mark))) for mark in given}

    def _standing(self, mark: bytes, key: AuthorKey | None, *, decision: MarkDecision | None) -> Standing:
        if decision is MarkDecision.REFUSED:
            return Standing.REFUSED
        if key is not None and key.has_signed(decode_mark(mark), found=parse(mark)):
            return Standing.OWN
        if mark in self._found_here:
            return Standing.FOUND
        return Standing.PENDING if decision is None else BY_DECISION[decision]

    def key_id(self) -> str | None:
        """Return the id of the store's key, ``None`` if there is none that can be read."""
        key = self._key()
        return None if key is None else key.id

    def _key(self) -> AuthorKey | None:
        return _or(None, self._key_file.read)

    def sign(self, bodies: Sequence[Sequence[Any]]) -> list[bytes]:
        """Sign marks with the store's key, which is made at the first.

        Args:
            bodies: What the marks say.

        Raises:
            StoreError: The key cannot be read or made.
        """
        if not bodies:
            return []
        key = self._key_file.made()
        marks = [key.sign(body) for body in bodies]
        self._decisions.record(MarkDecision.SIGNED, marks)
        return marks

    def decide(self, decision: MarkDecision, marks: Iterable[bytes]) -> None:
        """Accept or refuse marks.

        Raises:
            StoreError: That could not be written.
        """
        self._decisions.record(decision, sorted(marks))

    def findings(self) -> list[StoreFinding]:
        """List what is wrong with the key and the decisions; empty if nothing is."""
        found = []
        for path, read in ((self._key_file.path, self._key_file.read), (self._decisions.path, self._decisions.read)):
            try:
                read()
            except StoreError as error:
                found.append(StoreFinding(problem="key", where=path.name, message=str(error)))
        return found


def _or(default: T, read: Callable[[], T]) -> T:
    """Read something; the default if that fails, which :meth:`Authority.findings` then lists."""
    try:
        return read()
    except StoreError:
        return default
