"""Says once that a store of format 1 also gets segments that earlier versions cannot read."""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import segment


class FormatNote:
    """Knows the formats of segments: each is opened once for it, and none after one of the newest format.

    Attributes:
        log: Takes the note; by default it goes to standard error.
    """

    def __init__(self) -> None:
        self.log: Callable[[str], None] = _to_stderr
        self._formats: dict[str, int] = {}

    def log_note(self, text: str) -> None:
        """Log another note about the store."""
        self.log(text)

    def before_write(self, store: Path, segments: Iterable[Path], *, format_version: int) -> None:
        """Log the note if the segments are all of earlier formats than the one that is about to be written.

        Args:
            store: The store, for the note.
            segments: Its segments; one that cannot be read does not count.
            format_version: Format of the new segment.
        """
        if any(known >= format_version for known in self._formats.values()):
            return  # it was said, or there was nothing to say: no later segment is opened for it
        names = {path.name: path for path in segments}
        for name in names.keys() - self._formats.keys():
            with suppress(StoreError, FileNotFoundError):
                self._formats[name] = segment.recorded_format(names[name])
        found = {self._formats[name] for name in names.keys() & self._formats.keys()}
        if found and max(found) < format_version:
            self.log(
                f"`{store}` holds segments of format {max(found)} and now gets one of format {format_version}: earlier "
                "versions of xautolm-hpc can no longer read it. For a site that has one, write a copy: "
                f"`xautolm-hpc store export {store} --to COPY --format {max(found)}`"
            )


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
