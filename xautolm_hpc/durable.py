"""Files that survive a crash: written aside, flushed to disk, then renamed or linked into place.

A reader sees the whole file or none. On file systems without hard links an exclusive creation falls back to
``O_EXCL``, where a reader can meet a file still being written; it then finds no valid JSON and asks again.
"""

import errno
import json
import os
import uuid
from pathlib import Path
from typing import Any

from xautolm_hpc.errors import InputError

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def fsync_dir(folder: Path) -> None:
    """Flush a folder, so that a rename or link in it survives a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by new content in one step.

    Raises:
        OSError: The file system refused; the old file is untouched.
    """
    aside = _write_aside(path, content)
    try:
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file by new content in one step; NaN and infinities are refused."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def create_bytes(path: Path, content: bytes) -> bool:
    """Create a file with its whole content, unless it exists already.

    Returns:
        Whether this call created it; ``False`` means that another one was first and nothing was changed.

    Raises:
        OSError: The file system refused for another reason.
    """
    aside = _write_aside(path, content)
    try:
        os.link(aside, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, content)
    finally:
        aside.unlink(missing_ok=True)
    fsync_dir(path.parent)
    return True


def create_json(path: Path, value: Any) -> bool:
    """Create a JSON file unless it exists already; see :func:`create_bytes`."""
    return create_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"`{path}` is not valid JSON: {error}") from error


def _write_aside(path: Path, content: bytes) -> Path:
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _create_exclusively(path: Path, content: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fsync_dir(path.parent)
    return True
