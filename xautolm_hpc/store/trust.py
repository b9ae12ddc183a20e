"""Records which segments this site has written or checked itself, so that none is checked twice.

A segment is identified by its inode, size and times, which differ for any copy of it. The record is only read from a
file of the same user that nobody else may write.
"""

import contextlib
import json
import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path

from xautolm_hpc import durable
from xautolm_hpc.store.structure import StoreFinding

Identity = tuple[int, int, int, int]
"""Inode, size in bytes, and times of the last change of content and of the inode, in ns."""

_Known = tuple[Identity, tuple[StoreFinding, ...], str]
"""Identity of a file, its problems, and the terms under which it was checked."""

SPARE_LINES = 512


def identity_of(status: os.stat_result) -> Identity:
    """Return what identifies a file and its state."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class CheckedSegments:
    """The checked segments of a store, and of stores that were merged or read with it.

    Args:
        store: The store that keeps the record: a folder, or one file.
        terms: Version and limits that a refusal depends on; if they change, a refused segment is checked again.
    """

    def __init__(self, store: Path, *, terms: str) -> None:
        self._terms = terms
        is_folder = store.is_dir() or store.suffix != ".h5"
        self._folder = store if is_folder else store.parent
        self._path = store / ".checked" if is_folder else store.with_name(f".{store.name}.checked")
        self._known: dict[str, _Known] = {}
        self._inode, self._n_read, self._n_lines = 0, 0, 0

    def findings(self, path: Path, identity: Identity) -> tuple[StoreFinding, ...] | None:
        """Find the problems of exactly this file; ``None`` if it was not checked."""
        known = self._known.get(self._name(path))
        if not known or known[0] != identity or (known[1] and known[2] != self._terms):
            return None
        return known[1]

    def refresh(self) -> None:
        """Read what this and other processes have recorded meanwhile."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not _is_ours(status):
                    return
                if status.st_ino != self._inode or status.st_size < self._n_read:
                    self._inode, self._n_read, self._n_lines = status.st_ino, 0, 0
                file.seek(self._n_read)
                whole, newline, _ = file.read().rpartition(b"\n")  # the last line may still be written
                lines = whole.split(b"\n") if newline else []
                self._n_read += len(whole) + len(newline)
                self._n_lines += len(lines)
                self._known |= dict(filter(None, map(_parsed, lines)))

    def record(self, checked: Iterable[tuple[Path, Identity, Collection[StoreFinding]]]) -> None:
        """Record segments; if the store cannot be written, only this process knows them."""
        lines = []
        for path, identity, findings in checked:
            name = self._name(path)
            self._known[name] = (identity, tuple(findings), self._terms)
            lines.append(_line(name, self._known[name]))
        with contextlib.suppress(OSError):
            if lines and self._folder.is_dir():
                _append(self._path, b"".join(lines))

    def remove_gone(self, names: Collection[str]) -> None:
        """Rewrite the record without segments of this store that no longer exist, if there are many of them.

        Args:
            names: The existing segments, listed after a :meth:`refresh`.
        """
        if self._n_lines < 2 * len(names) + SPARE_LINES:
            return
        self._known = {n: known for n, known in self._known.items() if n in names or "/" in n}
        content = b"".join(_line(name, known) for name, known in self._known.items())
        with contextlib.suppress(OSError):
            durable.write_bytes(self._path, content, flush=False)

    def _name(self, path: Path) -> str:
        return path.name if path.parent == self._folder else str(path.resolve())


def _is_ours(status: os.stat_result) -> bool:
    others = stat.S_IWGRP | stat.S_IWOTH
    return status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode) and not status.st_mode & others


def _line(name: str, known: _Known) -> bytes:
    identity, findings, terms = known
    return json.dumps([name, identity, [[f.problem, f.message] for f in findings], terms]).encode() + b"\n"


def _parsed(line: bytes) -> tuple[str, _Known] | None:
    """Parse one line; ``None`` if it is incomplete."""
    try:
        name, (inode, size, changed, created), problems, terms = json.loads(line)
        where = Path(name).name
        findings = tuple(StoreFinding(problem=problem, where=where, message=message) for problem, message in problems)
    except (ValueError, TypeError):
        return None
    return name, ((inode, size, changed, created), findings, terms)


def _append(path: Path, content: bytes) -> None:
    """Append to a file in one write; it is created for its owner only. Links and pipes are not written to."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)
