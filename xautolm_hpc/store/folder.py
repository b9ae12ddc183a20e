"""The segments of a store on disk: listed, read, added and merged, without locks.

Segments never change; a reader that misses one it has listed finds its content in a newer one and starts again.
"""

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc import __version__
from xautolm_hpc.clock import Clock, SystemClock
from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.store import files, segment
from xautolm_hpc.store.checking import check_segments
from xautolm_hpc.store.columns import Columns, digest
from xautolm_hpc.store.files import ASIDE_SUFFIX
from xautolm_hpc.store.layout import EVERYTHING, IDS, Wanted
from xautolm_hpc.store.structure import CheckLimits, Finding
from xautolm_hpc.store.trust import CheckedSegments, Identity, identity_of
from xautolm_hpc.store.union import raw_ids
from xautolm_hpc.store.visible import stored_form

K = TypeVar("K")
RATIO = 8
SMALLEST = 32
MAX_PER_TIER = 8


def tier(n_experiences: int) -> int:
    """Say which tier a segment is in: tier t holds from 32 * 8^t experiences on, tier 0 also smaller ones."""
    found, limit = 0, SMALLEST * RATIO
    while n_experiences >= limit:
        found, limit = found + 1, limit * RATIO
    return found


def tier_mates(sizes: Mapping[K, int], n_new: int) -> list[K]:
    """Choose the segments to merge with a new one, such that no tier it passes through is full afterwards.

    Args:
        sizes: Segment -> number of its experiences.
        n_new: Experiences of the new segment.

    Returns:
        The segments to read, write anew together with the new one, and remove; often none.
    """
    chosen: list[K] = []
    n = n_new
    while True:
        alike = [name for name in sizes if name not in chosen and tier(sizes[name]) == tier(n)]
        if len(alike) < MAX_PER_TIER - 1:
            return chosen
        chosen += alike
        n += sum(sizes[name] for name in alike)


T = TypeVar("T")
PAUSES_S = (0.0, 0.05, 0.1, 0.2, *[0.4] * 150)
"""Waits between readings of a folder whose segments vanish: a minute, as long as NFS may show an old listing."""

MOMENTS_S = (0.01, 0.04, 0.15)
"""Waits for another process of this site to remember a segment, before it is checked: far shorter than a check."""

LEFT_OVER_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """What of a segment says whether an experience is there already."""

    identity: Identity
    ids: NDArray[np.bytes_]
    marks: tuple[bytes, ...]


class SegmentFolder:
    """A folder of segments; a path that ends in ``.h5`` is one file instead.

    Args:
        path: Where it lies.
        clock: Time.
        limits: What the check of a segment that this site has neither written nor checked may cost.
        group: Group of users that may read the store; ``None`` leaves its folder as it is.
        checked: Where to remember checked segments; by default the store's own memory, which is believed as well.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        limits: CheckLimits | None = None,
        group: str | None = None,
        checked: CheckedSegments | None = None,
    ) -> None:
        self.path = path
        self.is_file = path.suffix == ".h5" and not path.is_dir()
        own = CheckedSegments(path, terms=f"{__version__} {limits or CheckLimits()}")
        self.checked = checked or own
        self._memories = (self.checked, own) if checked else (own,)
        self._clock = clock or SystemClock()
        self._limits = limits or CheckLimits()
        self._group = group
        self._keys: dict[str, _Keys] = {}

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

        A segment that vanishes meanwhile is a reason to list again; what was read already is not read again, so that
        a reader gets done however busy the writers are.

        Returns:
            Segment -> columns, and what is wrong with those left out.

        Raises:
            FormatError: A segment has a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        read: dict[tuple[Path, Identity], Columns] = {}
        return self._again_when_gone(lambda: self._load_once(wanted, read))

    def known(self, ids: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Say which ids some segment holds already, forgotten or not, (n,) bool."""
        is_known = np.zeros(len(ids), np.bool_)
        for keys in self._again_when_gone(self._keys_of_segments).values():
            position = np.searchsorted(keys.ids, ids)
            is_known |= np.append(keys.ids, b"")[position] == ids
        return is_known

    def marks(self) -> frozenset[bytes]:
        """Collect the marks of all segments."""
        found = self._again_when_gone(self._keys_of_segments).values()
        return frozenset(mark for keys in found for mark in keys.marks)

    def check_all(self) -> dict[Path, list[Finding]]:
        """Check every segment whole, whatever is remembered of it.

        Raises:
            StoreError: The path is no store, or the check could not be started.
        """
        return check_segments(self.paths(), self._limits, are_named=not self.is_file)

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
            f"`{self.path}`: segments that were listed could not be opened, for {sum(PAUSES_S):.0f} s; "
            "the folder is being emptied, or the file server shows an old listing. Try again in a minute"
        )

    def _load_once(
        self, wanted: Wanted, read: dict[tuple[Path, Identity], Columns]
    ) -> tuple[dict[Path, Columns], list[Finding]]:
        """Read every segment listed and not read yet; one that vanishes meanwhile is a ``FileNotFoundError``."""
        parts: dict[Path, Columns] = {}
        findings: list[Finding] = []
        for path, (identity, wrong) in self._checked_listing().items():
            try:
                self._raise_for(wrong)
                if (path, identity) not in read:
                    read[path, identity] = segment.read(path, wanted, identity=identity)
                parts[path] = read[path, identity]
            except FormatError:
                raise
            except StoreError as error:
                if self.is_file:
                    raise
                problem = wrong[0].problem if wrong else "damaged"
                message = f"{error}. It was left out; copy it anew from where it came from, or remove it"
                findings.append(Finding(problem=problem, where=path.name, message=message))
        return parts, findings

    def _raise_for(self, wrong: Sequence[Finding]) -> None:
        if wrong:
            raise (FormatError if wrong[0].problem == "format" else StoreError)(wrong[0].message)

    def _checked_listing(self) -> dict[Path, tuple[Identity, Sequence[Finding]]]:
        """List the segments with what is wrong with each; those not known yet are checked by a child process."""
        found = {path: identity_of(path.stat()) for path in self.paths()}
        known, new = self._remembered(found)
        for pause_s in MOMENTS_S if new else ():  # a writer of ours may be about to remember what it wrote
            self._clock.sleep(pause_s)
            known, new = self._remembered(found)
            if not new:
                break
        if new:
            known |= self._check(new, found)
        return {path: (found[path], findings or ()) for path, findings in known.items()}

    def _check(self, new: Sequence[Path], found: Mapping[Path, Identity]) -> Mapping[Path, tuple[Finding, ...]]:
        """Check segments and remember what was found; one that vanishes or changes meanwhile begins everything anew."""
        if len(_unchanged(new, found)) < len(new):
            raise FileNotFoundError("a segment vanished before it was checked")
        checked = check_segments(new, self._limits, are_named=not self.is_file)
        sure = {path: tuple(checked[path]) for path in _unchanged(new, found) if path in checked}
        self.checked.remember((path, found[path], findings) for path, findings in sure.items())
        if len(sure) < len(new):
            raise FileNotFoundError("a segment vanished while it was checked")
        return sure

    def _remembered(self, found: Mapping[Path, Identity]) -> tuple[dict[Path, tuple[Finding, ...] | None], list[Path]]:
        """Say what is remembered of segments, and of which nothing is."""
        known: dict[Path, tuple[Finding, ...] | None] = dict.fromkeys(found)
        for memory in self._memories:
            memory.refresh()
            known |= {p: memory.findings(p, identity) for p, identity in found.items() if known[p] is None}
        return known, [path for path, findings in known.items() if findings is None]

    def _keys_of_segments(self) -> dict[Path, "_Keys"]:
        """Read the ids and marks of each segment once; a segment never changes, a one-file store does."""
        found = {}
        for path, (identity, wrong) in self._checked_listing().items():
            if wrong:  # verify names it; a commit goes on without it
                continue
            if path.name not in self._keys or self._keys[path.name].identity != identity:
                with contextlib.suppress(StoreError):
                    columns = segment.read(path, IDS, identity=identity)
                    ids = raw_ids(columns.groups["digests"]["id"])
                    self._keys[path.name] = _Keys(identity=identity, ids=ids, marks=columns.marks)
            if path.name in self._keys:
                found[path] = self._keys[path.name]
        self._keys = {path.name: keys for path, keys in found.items()}
        return found

    def _add_once(self, columns: Columns) -> str:
        old = self._whole_file() if self.is_file else self._peers(len(columns))
        return self._write(stored_form([columns, *old.values()]) if old else columns, old)

    def _whole_file(self) -> dict[Path, Columns]:
        """Read what the one file holds; one that cannot be read must not be replaced."""
        found = {}
        for path, (identity, wrong) in self._checked_listing().items():
            self._raise_for(wrong)
            found[path] = segment.read(path, EVERYTHING, identity=identity)
        return found

    def _peers(self, n_new: int) -> dict[Path, Columns]:
        """Read the segments that a new one is merged with; a damaged one stays where it is.

        One that vanishes is in another already: a commit never waits for busy writers, the next one merges instead.
        """
        found: dict[Path, Columns] = {}
        with contextlib.suppress(FileNotFoundError):
            keys = self._keys_of_segments()
            for path in tier_mates({path: len(known.ids) for path, known in keys.items()}, n_new):
                with contextlib.suppress(StoreError, FileNotFoundError):
                    found[path] = segment.read(path, EVERYTHING, identity=keys[path].identity)
        return found

    def _write(self, whole: Columns, old: Collection[Path]) -> str:
        """Write columns in stored form, then remove the segments they contain."""
        content_digest = digest(whole)
        path = self.path if self.is_file else self.path / segment.segment_name(content_digest)
        if self.is_file or path not in old:
            segment.write(
                whole,
                path,
                content_digest=content_digest,
                remember=lambda identity: self.checked.remember([(path, identity, ())]),
            )
        for contained in old:
            if contained != path:
                with contextlib.suppress(OSError):  # committed all the same; the next merge meets it again
                    files.remove(contained)
        if old and not self.is_file:
            self.checked.refresh()  # before the listing: whatever another process remembers is in it, or gone
            self.checked.forget_gone([one.name for one in self._listing()])
        return path.name

    def _make_folder(self) -> None:
        """Make the store's folder where there is none, readable for the group where one is named."""
        folder = self.path.parent if self.is_file else self.path
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            if self._group is not None and not self.is_file:
                files.share(folder, self._group)
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


def _unchanged(paths: Sequence[Path], found: Mapping[Path, Identity]) -> list[Path]:
    """Choose the files that are still what they were when they were found."""
    unchanged = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if identity_of(path.stat()) == found[path]:
                unchanged.append(path)
    return unchanged
