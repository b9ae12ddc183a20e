"""The segments of a store on disk: listed, read, added and merged, without locks.

Segments never change; a reader that misses one it has listed finds its content in a newer one and starts again.
"""

import contextlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.clock import Clock, SystemClock
from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.store import segment, tiers
from xautolm_hpc.store.columns import Columns, digest
from xautolm_hpc.store.files import ASIDE_SUFFIX
from xautolm_hpc.store.finding import Finding
from xautolm_hpc.store.layout import EVERYTHING, IDS, Wanted
from xautolm_hpc.store.union import raw_ids, union

T = TypeVar("T")
PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Waits between readings of a folder whose segments vanish; longer ones let the caches of NFS run out."""

LEFT_OVER_S = 86_400


class SegmentFolder:
    """A folder of segments; a path that ends in ``.h5`` is one file instead."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self.path = path
        self.is_file = path.suffix == ".h5" and not path.is_dir()
        self._clock = clock or SystemClock()
        self._ids: dict[str, NDArray[np.bytes_]] = {}

    def paths(self) -> list[Path]:
        """List the segments, sorted; none where nothing is.

        Raises:
            StoreError: The path is no store, or cannot be listed.
        """
        if self.is_file:
            return [self.path] if self.path.exists() else []
        found = self._listing()
        while (again := self._listing()) != found:  # one listing can miss a segment and the one it was merged into
            found = again
        return found

    def load(self, wanted: Wanted) -> tuple[dict[Path, Columns], list[Finding]]:
        """Read the wanted columns of every segment that can be read.

        Returns:
            Segment -> columns, and what is wrong with those left out.

        Raises:
            FormatError: A segment has a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        return self._again_when_gone(lambda: self._load_once(wanted))

    def known(self, ids: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Say which ids some segment holds already, forgotten or not, (n,) bool."""
        is_known = np.zeros(len(ids), np.bool_)
        for found in self._again_when_gone(self._ids_of_segments).values():
            position = np.searchsorted(found, ids)
            is_known |= np.append(found, b"")[position] == ids
        return is_known

    def add(self, columns: Columns) -> str:
        """Commit columns in stored form as a new segment, merged with others where a tier is full.

        Returns:
            Name of the segment that holds them now.

        Raises:
            StoreError: It could not be written, and the store is as before; or segments keep vanishing.
        """
        self._make_folder()
        return self._again_when_gone(lambda: self._add_once(columns))

    def replace(self, old: Collection[Path], whole: Columns) -> str:
        """Write columns in stored form as a segment, then remove the segments that they contain.

        Returns:
            Name of the segment.

        Raises:
            StoreError: It could not be written; the store is as before.
        """
        self._make_folder()
        name = self._write(whole, old)
        if not self.is_file:
            self._remove_left_overs(self.path / name)
        return name

    def sizes_bytes(self) -> list[int]:
        """List the sizes of the segments.

        Raises:
            StoreError: The path is no store, or segments keep vanishing.
        """
        return self._again_when_gone(lambda: [path.stat().st_size for path in self.paths()])

    def left_overs(self) -> list[Path]:
        """List files that writers began and never finished; a fresh one may belong to a writer at work."""
        if not self.path.is_dir():
            return []
        return sorted(self.path.glob(f".seg-*{ASIDE_SUFFIX}"))

    def _listing(self) -> list[Path]:
        try:
            return sorted(p for p in self.path.iterdir() if p.name.startswith("seg-") and p.suffix == ".h5")
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise StoreError(f"`{self.path}` is no store; expected a folder of segments or a file `*.h5`") from error
        except OSError as error:
            raise StoreError(f"`{self.path}` cannot be listed: {error}. See to its permissions") from error

    def _again_when_gone(self, action: Callable[[], T]) -> T:
        """Do something again while segments vanish under it."""
        for pause_s in PAUSES_S:
            try:
                return action()
            except FileNotFoundError:
                self._clock.sleep(pause_s)
        raise StoreError(
            f"`{self.path}`: segments that were listed could not be opened, {len(PAUSES_S)} times in a row; "
            "the folder is being emptied, or the file server shows an old listing. Try again in a minute"
        )

    def _load_once(self, wanted: Wanted) -> tuple[dict[Path, Columns], list[Finding]]:
        """Read every segment listed; one that vanishes meanwhile is a ``FileNotFoundError``."""
        parts: dict[Path, Columns] = {}
        findings = []
        for path in self.paths():
            try:
                parts[path] = segment.read(path, wanted)
            except FormatError:
                raise
            except StoreError as error:
                if self.is_file:
                    raise
                message = f"{error}. It was left out; copy it anew from where it came from, or remove it"
                findings.append(Finding(problem="damaged", where=path.name, message=message))
        return parts, findings

    def _ids_of_segments(self) -> dict[Path, NDArray[np.bytes_]]:
        """Read the ids of each segment once; a segment never changes, a one-file store does."""
        found = {}
        for path in self.paths():
            if self.is_file or path.name not in self._ids:
                with contextlib.suppress(StoreError):  # verify names it; a commit goes on without it
                    self._ids[path.name] = raw_ids(segment.read(path, IDS).groups["digests"]["id"])
            if path.name in self._ids:
                found[path] = self._ids[path.name]
        self._ids = {path.name: ids for path, ids in found.items()}
        return found

    def _add_once(self, columns: Columns) -> str:
        if self.is_file:
            old = {path: segment.read(path, EVERYTHING) for path in self.paths()}
            return self._write(union([columns, *old.values()]), old)
        sizes = {path: len(ids) for path, ids in self._ids_of_segments().items()}
        old = {}
        for path in tiers.peers(sizes, len(columns)):
            with contextlib.suppress(StoreError):  # a damaged segment stays where it is
                old[path] = segment.read(path, EVERYTHING)
        return self._write(union([columns, *old.values()]), old)

    def _write(self, whole: Columns, old: Collection[Path]) -> str:
        """Write columns in stored form, then remove the segments they contain."""
        content_digest = digest(whole)
        path = self.path if self.is_file else self.path / segment.segment_name(content_digest)
        if self.is_file or path not in old:
            segment.write(whole, path, content_digest=content_digest)
        for contained in old:
            if contained != path:
                with contextlib.suppress(OSError):  # committed all the same; the next merge meets it again
                    contained.unlink()
        return path.name

    def _make_folder(self) -> None:
        folder = self.path.parent if self.is_file else self.path
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"`{folder}` could not be made: {error}. See to its permissions or choose another"
            ) from error

    def _remove_left_overs(self, newest: Path) -> None:
        """Remove unfinished files a day older than a file just written, by the file server's own clock."""
        now_s = newest.stat().st_mtime
        for path in self.left_overs():
            with contextlib.suppress(FileNotFoundError):
                if now_s - path.stat().st_mtime > LEFT_OVER_S:
                    path.unlink()
