"""Files that survive a crash: written aside, flushed to disk, then renamed or linked into place.

A reader sees the whole file or none. On file systems without hard links an exclusive creation falls back to
``O_EXCL``, where a reader can meet a file still being written; it then finds no valid JSON and asks again.

Text files that people write are decoded here too, as Windows programs save them.
"""

import codecs
import contextlib
import errno
import json
import os
import re
import stat
import time
import tomllib
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from xautolm_hpc.errors import InputError

OWN_MODE = 0o600
LARGEST_JSON_BYTES = 64 * 1024**2
"""Size of a JSON file above which it is not read, unless the caller says otherwise."""

LARGEST_TOML_BYTES = 16 * 1024**2
DEEPEST_JSON = 64
"""Lists and objects within one another above which a JSON file is refused: what this program writes has under ten."""

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order mark at the start of a file -> its encoding, which takes the mark off."""


def fsync_dir(folder: Path) -> None:
    """Flush a folder, so that a rename or link in it survives a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Replace a file by new content in one step; a folder in its place is set aside.

    Args:
        path: The file.
        content: Its new content.
        flush: Whether it must survive a crash of the machine; if not, a reader still sees the whole file or none.

    Raises:
        OSError: The file system refused; the old file is untouched.
    """
    aside = _write_aside(path, content, flush=flush)
    try:
        if path.is_dir() and not path.is_symlink():
            set_aside(path)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    if flush:
        fsync_dir(path.parent)


def write_json(path: Path, value: Any, *, flush: bool = True) -> None:
    """Replace a JSON file by new content in one step, as :func:`write_bytes` does; NaN and infinities are refused."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode(), flush=flush)


def create_bytes(path: Path, content: bytes, *, mode: int = OWN_MODE) -> bool:
    """Create a file with its whole content, unless it exists already.

    Args:
        path: The file.
        content: Its content.
        mode: Its permissions, whatever the umask.

    Returns:
        Whether this call created it; ``False`` means that another one was first and nothing was changed.

    Raises:
        OSError: The file system refused for another reason.
    """
    aside = _write_aside(path, content, mode=mode)
    try:
        os.link(aside, path)
    except FileExistsError:
        # NFS repeats a request whose answer was lost, and then meets the link it has made itself.
        if not os.path.samestat(path.lstat(), aside.lstat()):
            return False
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _create_exclusively(path, content, mode=mode)
    finally:
        aside.unlink(missing_ok=True)
    fsync_dir(path.parent)
    return True


def create_json(path: Path, value: Any) -> bool:
    """Create a JSON file unless it exists already; see :func:`create_bytes`."""
    return create_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def set_aside(path: Path) -> Path:
    """Rename what is damaged and is made again, so that a person can still look at it.

    Args:
        path: A file, or whatever lies in its place.

    Returns:
        Its new path, beside the old one.
    """
    aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
    path.rename(aside)
    return aside


TORN_AFTER_S = 3600.0
"""Age of a temporary file whose writer no longer lives: writing takes seconds, and clocks of servers differ."""


def remove_torn(folder: Path) -> None:
    """Remove what writers that were killed left beside the files of a folder.

    What is younger than an hour stays: somebody may be about to give it its name.

    Args:
        folder: The folder; it need not exist.
    """
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            is_old = time.time() - path.lstat().st_mtime > TORN_AFTER_S
            if is_old and re.fullmatch(r"\..+\.[0-9a-f]{12}\.tmp", path.name) and not path.is_dir():
                path.unlink()


def read_regular(path: Path, *, largest_bytes: int) -> bytes:
    """Read a file, without waiting for anything that is none: a pipe, a socket, a device.

    Args:
        path: The file, or a link to one.
        largest_bytes: Size above which it is not read.

    Raises:
        FileNotFoundError: There is none.
        IsADirectoryError: It is a folder.
        InputError: It is no regular file, or too large.
    """
    with open_regular(path) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > largest_bytes:
            raise InputError(f"`{path}` has {n_bytes:,} bytes; expected at most {largest_bytes:,}")
        return file.read(largest_bytes)


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read, without waiting for anything that is none: a pipe, a socket, a device.

    Raises:
        FileNotFoundError: There is none.
        IsADirectoryError: It is a folder.
        InputError: It is no regular file.
    """
    return os.fdopen(_open_regular(path, os.O_RDONLY), "rb")


def read_log(path: Path, *, start: int = 0, largest_bytes: int) -> tuple[bytes, int]:
    """Read the end of a log. Its job could have put a link to anything in its place: none is followed.

    Args:
        path: The log.
        start: Byte from which it is read.
        largest_bytes: Bytes that are read at most.

    Returns:
        What was read, and the byte from which it was.

    Raises:
        OSError: It cannot be read.
        InputError: It is no regular file, or a link.
    """
    with os.fdopen(_open_regular(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        begin = max(start, file.seek(0, os.SEEK_END) - largest_bytes)
        file.seek(begin)
        return file.read(largest_bytes), begin


def append_to_log(path: Path) -> BinaryIO:
    """Open a log to append to, made where there is none; as :func:`read_log`, no link is followed.

    Raises:
        OSError: It cannot be written; or it is a pipe.
        InputError: It is no regular file, or a link.
    """
    return os.fdopen(_open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW), "ab")


def _open_regular(path: Path, flags: int) -> int:
    """Open a file, and find out from what was opened that it is one."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, OWN_MODE)
    except OSError as error:
        if error.errno != errno.ELOOP or not flags & os.O_NOFOLLOW:
            raise
        raise InputError(f"`{path}` is a link, which is not followed") from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise InputError(f"`{path}` is no regular file")


def read_json(path: Path, *, largest_bytes: int = LARGEST_JSON_BYTES, allow_nan: bool = False) -> Any:
    """Read a JSON file.

    Args:
        path: The file.
        largest_bytes: Size above which it is not read.
        allow_nan: Whether NaN and infinities are read; this program writes none.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is no regular file, too large, nested too deep, or not JSON.
    """
    return parse_json(read_regular(path, largest_bytes=largest_bytes), where=f"`{path}`", allow_nan=allow_nan)


def parse_json(content: bytes, *, where: str, allow_nan: bool = False) -> Any:
    """Parse JSON that may be damaged, or written by anybody.

    Args:
        content: The text.
        where: Where it stands, for the message.
        allow_nan: Whether NaN and infinities are read.

    Raises:
        InputError: It is not JSON, or nested too deep.
    """
    try:
        value = json.loads(content, parse_constant=None if allow_nan else _refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON: {error}") from error
    check_depth(value, where=where)
    return value


def read_toml_file(path: Path) -> dict[str, Any]:
    """Read a TOML file that a person wrote.

    Raises:
        InputError: There is none, or it cannot be read, is no regular file, too large, nested too deep, or not TOML.
    """
    try:
        data = tomllib.loads(decode_text(read_regular(path, largest_bytes=LARGEST_TOML_BYTES)))
    except FileNotFoundError as error:
        raise InputError(f"`{path}` does not exist; give the path of a TOML file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"`{path}` cannot be read as TOML: {error}") from error
    check_depth(data, where=f"`{path}`")
    return data


def toml_text(text: str) -> str:
    """Write a text as a TOML string in one line, quoted.

    Raises:
        InputError: It has half of a surrogate pair, which no file holds.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r} is no text that a file holds: {error}") from error
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def check_depth(value: Any, *, where: str) -> None:
    """Check that lists and objects in plain data are not nested deeper than anything this program reads.

    Args:
        value: The data.
        where: Where it stands, for the message.

    Raises:
        InputError: They are.
    """
    if _is_deeper(value, DEEPEST_JSON):
        raise InputError(f"{where}: lists and objects are nested more than {DEEPEST_JSON} deep")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _is_deeper(value: Any, limit: int) -> bool:
    """Check whether lists and objects are nested deeper than a limit."""
    level = [value]
    for _ in range(limit):
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [child for children in inner for child in children if isinstance(child, (dict, list))]
        if not level:
            return False
    return True


def _write_aside(path: Path, content: bytes, *, flush: bool = True, mode: int = OWN_MODE) -> Path:
    """Write a file beside the path; a write that fails leaves nothing."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN_MODE)
    if mode != OWN_MODE:
        os.fchmod(descriptor, mode)
    _fill(aside, descriptor, content=content, flush=flush)
    return aside


def _create_exclusively(path: Path, content: bytes, *, mode: int) -> bool:
    """Create a file without a hard link; one that could not be filled does not stay."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWN_MODE)
    except FileExistsError:
        return False
    if mode != OWN_MODE:
        os.fchmod(descriptor, mode)
    _fill(path, descriptor, content=content)
    fsync_dir(path.parent)
    return True


def _fill(path: Path, descriptor: int, *, content: bytes, flush: bool = True) -> None:
    """Write an open new file, flushed to disk if so wished, or remove it."""
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk names none
        raise


def encoding_of(content: bytes) -> str:
    """Find the encoding of a text: by its byte order mark, else by where its first character has a zero byte.

    Args:
        content: The bytes of the file. Without a mark its first character is taken to be ASCII, as it is in CSV with
            such column names, in JSON and in TOML.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in content[:2]]
    if zeros == [False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] else "utf-8"


def decode_text(content: bytes) -> str:
    """Decode the bytes of a text file; a byte order mark is taken off.

    Raises:
        UnicodeDecodeError: The bytes are no text in the encoding that :func:`encoding_of` finds.
    """
    return content.decode(encoding_of(content))
