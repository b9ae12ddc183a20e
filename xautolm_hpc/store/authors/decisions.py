"""What this store decided about marks, beside the set: a line for each mark, of which the last one counts.

Like the key it goes along when the store is moved or copied whole, and has no meaning at another store.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from xautolm_hpc import durable
from xautolm_hpc.errors import StoreError
from xautolm_hpc.store.files import append_lines, follow_folder, read_small, state_mode

HEADER = b'["decisions on marks",1]'
MOST_BYTES = 256 * 1024**2


class MarkDecision(StrEnum):
    """What was decided about a mark."""

    SIGNED = "signed"
    """It was signed here; noted for those who may read the store and not its key."""

    FOUND = "found"
    """It is of format 1 and was there when the store was first opened by a version that knows format 2."""

    ACCEPTED = "accepted"
    REFUSED = "refused"


def mark_digest(mark: bytes) -> str:
    """Digest a mark as the decisions name it, 32 hex digits."""
    return hashlib.sha256(mark).hexdigest()[:32]


class Decisions:
    """The file of decisions of a store.

    Args:
        path: The file; it may not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, MarkDecision] = {}
        self._state: tuple[int, int, int] | None = None

    def exist(self) -> bool:
        """Check whether the store was opened before."""
        return self.path.exists()

    def read(self) -> Mapping[str, MarkDecision]:
        """Read the decisions: digest of a mark -> decision; empty if there are none.

        Raises:
            StoreError: The file cannot be read, or is none of decisions.
        """
        try:
            status = self.path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if state != self._state:
                self._known = self._parsed(read_small(self.path, most_bytes=MOST_BYTES))
                self._state = state
                follow_folder(self.path, mode=state_mode(self.path.parent))
        except FileNotFoundError:
            self._known, self._state = {}, None
        except (OSError, ValueError) as error:
            raise StoreError(
                f"`{self.path}`: what was decided about marks cannot be read: {error}. Copy it from a backup of the "
                "store; or remove it, and decide anew about the marks that `store verify` then lists"
            ) from error
        return self._known

    def begin(self, found: Iterable[bytes]) -> None:
        """Create the file, with the marks found at the first opening, unless it exists.

        Raises:
            OSError: It could not be created.
        """
        lines = [HEADER, *(_line(MarkDecision.FOUND, mark) for mark in found)]
        durable.create_bytes(self.path, b"\n".join(lines) + b"\n", mode=state_mode(self.path.parent))

    def record(self, decision: MarkDecision, marks: Iterable[bytes]) -> None:
        """Append a decision about some marks, and flush it.

        Raises:
            StoreError: It could not be written; nothing was decided.
        """
        lines = [_line(decision, mark) for mark in marks]
        if not lines:
            return
        try:
            if not self.exist():
                self.begin(())
            append_lines(self.path, lines)
        except OSError as error:
            raise StoreError(
                f"`{self.path}`: a decision about marks could not be written: {error}. See to the permissions and the "
                "space of the store, then run again"
            ) from error

    def _parsed(self, content: bytes) -> dict[str, MarkDecision]:
        """Parse the file; a line that was never finished counts for nothing.

        Raises:
            ValueError: It is not a file of decisions.
        """
        header, *lines = content.split(b"\n")
        if header != HEADER:
            raise ValueError(f"it begins with {header!r:.60}, expected {HEADER.decode()}")
        return dict(filter(None, map(_parsed_line, lines)))


def _line(decision: MarkDecision, mark: bytes) -> bytes:
    return json.dumps([decision.value, mark_digest(mark)], separators=(",", ":")).encode()


def _parsed_line(content: bytes) -> tuple[str, MarkDecision] | None:
    """Parse one line; ``None`` if it is empty or was never finished."""
    with suppress(ValueError, TypeError):
        name, digest = json.loads(content)
        return str(digest), MarkDecision(name)
    return None
