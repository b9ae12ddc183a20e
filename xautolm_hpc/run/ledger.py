"""The ledger: what the driver did, one JSON line each, on disk before the deed where it must not happen twice.

Events: ``changed``, ``drawn``, ``intent``, ``submitted``, ``end``, ``commit``, ``late``, ``stop``, ``model_out``. A
torn last line is dropped; a line of a driver whose lease had already passed to another is ignored.
"""

import json
import os
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import parse_json, read_regular
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.run.events import check_line

Line = dict[str, Any]
LARGEST_BYTES = 4 * 1024**3


class Ledger:
    """The ledger of one run, written by the holder of one lease.

    Args:
        path: ``ledger.jsonl``.
        lease_number: Lease that every line of this writer carries.
    """

    def __init__(self, path: Path, lease_number: int) -> None:
        """Open the ledger for writing: a torn last line of a dead driver is cut off."""
        self.path = path
        self.lease_number = lease_number
        content = read_regular(path, largest_bytes=LARGEST_BYTES) if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)

    def append(self, event: str, at: float, **fields: Any) -> Line:
        """Write one line and flush it to disk.

        Args:
            event: Name of the event.
            at: Seconds since the epoch.
            fields: Plain data.

        Returns:
            The line as written.

        Raises:
            RunFolderError: Only a part of the line could be written; it is cut off again.
        """
        line = {"event": event, "at": at, "lease": self.lease_number, **fields}
        text = (json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n").encode()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            n_bytes_before = os.fstat(descriptor).st_size
            if os.write(descriptor, text) < len(text):
                os.ftruncate(descriptor, n_bytes_before)
                raise RunFolderError(f"`{self.path}`: only a part of a line was written; is the disk full?")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return line


def read_ledger(path: Path) -> list[Line]:
    """Read the lines that count, in order.

    Raises:
        RunFolderError: A line before the last one is damaged, or the file is a link, or none that can be read.
    """
    if path.is_symlink():
        raise RunFolderError(f"`{path}` is a link; a ledger is written where it lies. Put the file itself there")
    try:
        whole = read_regular(path, largest_bytes=LARGEST_BYTES).split(b"\n")[:-1]  # the last one is torn or empty
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, InputError) as error:
        raise RunFolderError(
            f"{error}. The ledger holds what happened in the run: restore it, or start again with --fork"
        ) from error
    lines: list[Line] = []
    newest_lease = 0
    for number, text in enumerate(whole, start=1):
        line = _parse_line(text, where=f"`{path}` line {number}")
        if line["lease"] >= newest_lease:
            newest_lease = line["lease"]
            lines.append(line)
    return lines


def _parse_line(text: bytes, *, where: str) -> Line:
    try:
        line = parse_json(text, where="it")
        check_line(line, where="it")
    except InputError as error:
        raise RunFolderError(
            f"{where} is damaged: {text[:60]!r} ({error}). Restore the file, or start again with --fork"
        ) from error
    return dict(line)
