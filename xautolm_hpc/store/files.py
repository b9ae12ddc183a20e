"""A file that is written aside, read back and checked, and only then given its name."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from xautolm_hpc.durable import fsync_dir

ASIDE_SUFFIX = ".tmp"


def write_checked(path: Path, content: bytes, *, check: Callable[[Path], None]) -> None:
    """Give a file new content in one step, after what is on disk was checked.

    Args:
        path: File; its folder exists.
        content: All its bytes.
        check: Reads the file it is given and raises when that is not what it should be.

    Raises:
        OSError: The file system refused; whatever was at ``path`` is untouched.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{ASIDE_SUFFIX}")
    try:
        _write_synced(aside, content)
        check(aside)
        os.rename(aside, path)  # noqa: PTH104 -- one call of os for every step, each of which a test makes fail
    finally:
        aside.unlink(missing_ok=True)
    fsync_dir(path.parent)


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = memoryview(content)
        while rest:  # a write may take only a part, for instance when the quota ends inside it
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
