"""Writes a file under a temporary name, reads it back and checks it before it gets its name; shares folders."""

import contextlib
import errno
import grp
import os
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from xautolm_hpc.durable import fsync_dir
from xautolm_hpc.errors import InputError
from xautolm_hpc.store.trust import Identity, identity_of

ASIDE_SUFFIX = ".tmp"
OWN_MODE, GROUP_MODE, SHARED_MODE, SHARED_FOLDER_MODE = 0o600, 0o640, 0o660, 0o2750


def write_checked(
    path: Path, content: bytes, *, check: Callable[[Path], None], remember: Callable[[Identity], None]
) -> None:
    """Replace the content of a file in one step, after the bytes on disk were checked.

    If the group may read the folder, it may read the file.

    Args:
        path: File; its folder exists.
        content: All its bytes.
        check: Called with the temporary file; raises if its content is wrong.
        remember: Called with the identity of the new file; not if another process has replaced it already.

    Raises:
        OSError: The file could not be written; the old file at ``path`` is untouched.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{ASIDE_SUFFIX}")
    is_shared = bool(path.parent.stat().st_mode & stat.S_IRGRP)
    try:
        inode = _write_synced(aside, content, mode=GROUP_MODE if is_shared else OWN_MODE)
        check(aside)
        os.rename(aside, path)  # noqa: PTH104 -- one call of os for every step, each of which a test makes fail
    finally:
        with contextlib.suppress(OSError):  # a file that stays is found by verify, and removed when it is old
            remove(aside)
    with contextlib.suppress(FileNotFoundError):  # merged into another segment already
        status = path.stat()
        if status.st_ino == inode:
            remember(identity_of(status))
    fsync_dir(path.parent)


def remove(path: Path) -> None:
    """Remove a file.

    Raises:
        OSError: It could not be removed, or does not exist.
    """
    os.unlink(path)  # noqa: PTH108 -- as above


def share(folder: Path, group: str, *, noted: Iterable[Path]) -> None:
    """Make a store readable for a group: its folder, its segments, and segments to come.

    Args:
        folder: The store's folder.
        group: Name of the group; one of the user's own.
        noted: Files beside the segments that whoever reads the store must read, if they exist.

    Raises:
        InputError: The group does not exist.
        OSError: The folder is another user's, or the user is not in the group.
    """
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as error:
        own = ", ".join(sorted(filter(None, map(_group_name, {os.getegid(), *os.getgroups()}))))
        raise InputError(f"store.group = {group!r}: there is no such group; yours: {own}") from error
    status = folder.stat()
    if (status.st_gid, stat.S_IMODE(status.st_mode)) == (gid, SHARED_FOLDER_MODE):
        return
    for path in (*folder.glob("seg-*.h5"), *noted):
        if path.is_file() and not path.is_symlink():
            os.chown(path, -1, gid)
            path.chmod(GROUP_MODE)
    os.chown(folder, -1, gid)
    folder.chmod(SHARED_FOLDER_MODE)  # last: a call that was interrupted before does everything again


def read_small(path: Path, *, most_bytes: int) -> bytes:
    """Read a regular file up to a limit; see :func:`open_small`.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    with open_small(path) as file:
        return file.read(most_bytes)


@contextlib.contextmanager
def open_small(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file to read; a link is not followed, and a pipe does not block.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def append_lines(path: Path, lines: Iterable[bytes]) -> None:
    """Append lines to a file that exists, and flush it; the line before may never have been finished.

    Raises:
        OSError: They could not be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        rest = memoryview(b"\n".join([b"", *lines, b""]))
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def state_mode(folder: Path) -> int:
    """Return the permissions of what a store notes beside its set: as far as others may read and write the folder."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWGRP:
        return SHARED_MODE
    return GROUP_MODE if mode & stat.S_IRGRP else OWN_MODE


def follow_folder(path: Path, *, mode: int) -> None:
    """Adjust permissions and group of one's own file to its folder's, which its owner may have changed."""
    with contextlib.suppress(OSError):
        status, group = path.stat(), path.parent.stat().st_gid
        if status.st_uid != os.geteuid():
            return
        if mode != OWN_MODE and status.st_gid != group:
            os.chown(path, -1, group)
        if stat.S_IMODE(status.st_mode) != mode:
            path.chmod(mode)


def _group_name(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def _write_synced(path: Path, content: bytes, *, mode: int) -> int:
    """Write a new file, flush it and return its inode."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN_MODE)
    try:
        if mode != OWN_MODE:
            os.fchmod(descriptor, mode)
        rest = memoryview(content)
        while rest:  # a write may be partial, for instance at the end of the quota
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
