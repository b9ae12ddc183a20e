"""Tells the segments of a folder from what only has the name of one: a pipe, a device, a folder, a link to nothing.

Such a file harms itself alone: it is named, never opened, and never waited for.
"""

import contextlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xautolm_hpc.store.structure import StoreFinding
from xautolm_hpc.store.trust import Identity, identity_of

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular_files(paths: Iterable[Path]) -> tuple[dict[Path, Identity], dict[Path, StoreFinding]]:
    """Find the regular files among paths; a link to one counts as that file.

    Returns:
        File -> its identity, and path -> why it is none.

    Raises:
        FileNotFoundError: A file was removed after it was listed.
    """
    found: dict[Path, Identity] = {}
    odd: dict[Path, StoreFinding] = {}
    for path in paths:
        status = why = None
        try:
            status = path.stat()
        except FileNotFoundError:
            if not path.is_symlink():
                raise
            why = f"it is a link to `{os.readlink(path):.200}`, which does not exist"  # noqa: PTH115 -- any bytes
        except OSError as error:
            why = f"it cannot be looked at: {error.strerror}"
        if status is not None and stat.S_ISREG(status.st_mode):
            found[path] = identity_of(status)
        else:
            odd[path] = _refused(path, why or not_regular(status.st_mode if status is not None else 0))
    return found, odd


def not_regular(mode: int) -> str:
    """Write that a file of some mode is no regular file."""
    return f"it is {KINDS.get(stat.S_IFMT(mode), 'something else')}, and no regular file"


def unchanged(paths: Sequence[Path], found: Mapping[Path, Identity]) -> list[Path]:
    """List the files that have not changed since they were listed."""
    same = []
    for path in paths:
        with contextlib.suppress(OSError):
            if identity_of(path.stat()) == found[path]:
                same.append(path)
    return same


def _refused(path: Path, why: str) -> StoreFinding:
    message = f"`{path.parent.name}/{path.name}` is refused: {why}"
    return StoreFinding(problem="refused", where=path.name, message=message)
