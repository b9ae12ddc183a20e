"""Which segments of a store were written in it: what these hold, no other store has a say over.

Like the key this goes along when the store is moved or copied whole, and has no meaning at another store. It names the
digests of contents, so a copy of such a segment is one too, and nobody can make another one.
"""

import errno
import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from xautolm_hpc import durable
from xautolm_hpc.errors import StoreError
from xautolm_hpc.node import Clock
from xautolm_hpc.store.files import append_lines, follow_folder, open_small, state_mode
from xautolm_hpc.store.structure import StoreFinding

OWN_NAME = ".own"
HEADER = b'["own segments",1]\n'
MOST_BYTES = 32 * 1024**2
PAUSES_S = (0.0, 0.05, 0.2)
"""Pauses before a list is taken as odd: on file systems without hard links, it can be read while it is made."""

DIGEST, TORN = re.compile(rb"[0-9a-f]{32}"), re.compile(rb"[0-9a-f]{0,31}")


class OwnSegments:
    """What a store has of its own: in a folder a list of segments, beside one file another file.

    A store that no version opened which knows this has everything of its own.

    Args:
        store: The store: a folder, or one file.
        is_file: Whether it is one file.
        is_source: Whether it is only read, for another store; then nothing is written into it.
        clock: Time.
        log: Takes the note that a store which had segments had no list of them.
    """

    def __init__(
        self, store: Path, *, is_file: bool, is_source: bool, clock: Clock, log: Callable[[str], None]
    ) -> None:
        self._clock, self._log = clock, log
        self._store, self._is_file, self._is_source = store, is_file, is_source
        self.path = store.with_name(store.name + OWN_NAME) if is_file else store / OWN_NAME
        """In a folder the list; else a segment of the file's own experiences, if it holds others too."""

        self._known: set[str] = set()
        self._noted: set[str] = set()
        self._n_odd = 0
        self._inode, self._n_read = 0, 0

    def open(self, segments: Iterable[Path]) -> None:
        """Note the segments that a folder has when it is first opened; after that, nothing.

        Args:
            segments: Segments that were read of it; what cannot be read now is its own too.

        Raises:
            StoreError: That could not be written.
        """
        if self._is_file or self._is_source or os.path.lexists(self.path):
            return
        try:
            names = {_digest_in(path.name) for path in (*segments, *self._store.glob("seg-*.h5"))}
            lines = [name.encode() + b"\n" for name in sorted(names) if DIGEST.fullmatch(os.fsencode(name))]
            content, mode = b"".join([HEADER, *lines]), state_mode(self.path.parent)
            is_made = durable.create_bytes(self.path, content, mode=mode)
        except OSError as error:
            raise self._not_written(error) from error
        if is_made and lines:
            self._log(
                f"`{self.path}`, which lists the segments that were written here, was not there and was made: the "
                f"{len(lines)} segments that are here now count as written here, also any of other stores. If the "
                "store was copied without it, copy it from the original"
            )

    def note(self, content_digest: str) -> None:
        """Note that a segment is about to be written here.

        Raises:
            StoreError: The list cannot be read or written; the segment must not be written either.
        """
        self._noted.add(content_digest)
        self._note_missing()

    def note_again(self) -> None:
        """Note what this process noted before, if it is gone, once the segment is written.

        Where two machines add to one file at once, a file server may keep one of the lines only.
        """
        with suppress(StoreError):
            self._note_missing()

    def _note_missing(self) -> None:
        missing = self._noted.difference(self._listed() or ())
        try:
            if missing:
                append_lines(self.path, [one.encode() for one in sorted(missing)])
        except OSError as error:
            raise self._not_written(error) from error

    def among(self, segments: Collection[Path]) -> frozenset[Path]:
        """Find which segments hold the store's own experiences.

        Args:
            segments: Segments that were listed before; each has the content that its name says.

        Raises:
            StoreError: The list cannot be read. Then nothing may be merged: it would no longer be the store's own.
        """
        if self._is_file:
            return frozenset(segments) & {self.path} if self.path in segments else frozenset(segments)
        known = self._listed()
        return frozenset(path for path in segments if known is None or _digest_in(path.name) in known)

    def findings(self) -> list[StoreFinding]:
        """List what is wrong with the list of a folder; empty if nothing is."""
        if self._is_file:
            return []
        try:
            self._read()
            why = f"{self._n_odd} of its lines are no digests" if self._n_odd else None
        except OSError as error:
            why = f"it cannot be read: {error}"
        return [] if why is None else [StoreFinding(problem="key", where=self.path.name, message=self._odd(why))]

    def _odd(self, why: str) -> str:
        return (
            f"`{self.path}`, which lists the segments that were written here: {why}. Those that it does not list count "
            "as those of other stores. Copy it from a backup of the store; or remove it, and all that is here now is "
            "taken as written here"
        )

    def _not_written(self, error: OSError) -> StoreError:
        return StoreError(
            f"`{self.path}`, which lists the segments that are written here, could not be written: {error}. The store "
            "is as before; see to its permissions and its space, then run again"
        )

    def _listed(self) -> Collection[str] | None:
        """Read the list as :meth:`_read` does, for what must not go on without it."""
        try:
            return self._read()
        except OSError as error:
            raise StoreError(self._odd(f"it cannot be read: {error}")) from error

    def _read(self) -> Collection[str] | None:
        """Read what was added to the list since it was last read; ``None`` if there is none.

        Raises:
            OSError: It cannot be read, or is no regular file.
        """
        for pause_s in PAUSES_S:
            if pause_s:
                self._clock.sleep(pause_s)
            try:
                with open_small(self.path) as file:
                    if file.readline(len(HEADER)) == HEADER:
                        return self._read_on(file)
            except FileNotFoundError:
                self._inode = 0  # another file may get the same one
                return None
        raise OSError(errno.EINVAL, f"it does not begin with the line {HEADER.decode().strip()}")

    def _read_on(self, file: BinaryIO) -> Collection[str]:
        """Read the lines that were not read yet; the last one may still be written."""
        status = os.fstat(file.fileno())
        if status.st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, expected at most {MOST_BYTES:,}")
        if status.st_ino != self._inode or status.st_size < self._n_read:
            self._known, self._n_odd = set(), 0
            self._inode, self._n_read = status.st_ino, len(HEADER)
            follow_folder(self.path, mode=state_mode(self.path.parent))
        file.seek(self._n_read)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._n_read += len(line)
            if DIGEST.fullmatch(line[:-1]):
                self._known.add(line[:-1].decode())
            else:
                self._n_odd += not TORN.fullmatch(line[:-1])
        return self._known


def _digest_in(name: str) -> str:
    """Return the digest in the name of a segment."""
    return name.removeprefix("seg-").removesuffix(".h5")
