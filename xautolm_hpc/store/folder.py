"""The segments of a store on disk: lists, reads, adds and merges them, without locks.

Segments never change. If a segment vanishes between listing and reading, its content is in a newer segment, and the
reader starts again.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc import __version__
from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.node import Clock, SystemClock
from xautolm_hpc.store import files, place, segment
from xautolm_hpc.store.authors.authority import Authority
from xautolm_hpc.store.authors.loaded import Loaded, judged
from xautolm_hpc.store.authors.own import OwnSegments
from xautolm_hpc.store.checking import check_segments
from xautolm_hpc.store.columns import Columns, digest, only_marks, owned, with_marks
from xautolm_hpc.store.format_note import FormatNote
from xautolm_hpc.store.layout import EVERYTHING, IDS, Wanted
from xautolm_hpc.store.listing import regular_files, unchanged
from xautolm_hpc.store.marks import by_author
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.tiers import tier_mates
from xautolm_hpc.store.trust import CheckedSegments, Identity
from xautolm_hpc.store.union import raw_ids
from xautolm_hpc.store.visible import stored_form, stored_forms

T = TypeVar("T")
PAUSES_S = (0.0, 0.05, 0.1, 0.2, *[0.4] * 150)
"""Pauses between readings while segments vanish: a minute in all, as long as NFS may show an old listing."""

RECORD_PAUSES_S = (0.01, 0.04, 0.15)
"""Pauses before a new segment is checked: another process of this site may be about to record it as its own."""

COPY_ANEW = "; copy it again from where it came from, or remove it"
NO_IDENTITY: Identity = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keys:
    """The part of a segment that says whether an experience is stored already."""

    identity: Identity
    ids: NDArray[np.bytes_]
    marks: tuple[bytes, ...]


class SegmentFolder:
    """A folder of segments; a path that ends in ``.h5`` is one file instead.

    Args:
        path: The folder or file.
        clock: Time.
        limits: Limits for checking a segment that this site has neither written nor checked.
        group: Group of users that may read the store; ``None`` leaves its folder as it is.
        checked: Where to record checked segments; by default in the store itself, whose records are read as well.
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
        self._records = (self.checked, own) if checked else (own,)
        self._clock = clock or SystemClock()
        self._limits = limits or CheckLimits()
        self._group = group
        self.format_note = FormatNote()
        self._keys: dict[str, _Keys] = {}
        is_source = checked is not None
        self.authority = Authority(path, is_file=self.is_file, is_source=is_source, clock=self._clock)
        self.own = OwnSegments(
            path, is_file=self.is_file, is_source=is_source, clock=self._clock, log=self.format_note.log_note
        )

    def paths(self) -> list[Path]:
        """List the segments, sorted; empty if there is no store.

        Raises:
            NoStoreError: The path is not a store.
            StoreError: It cannot be listed.
        """
        if self.is_file:
            return [path for path in (self.path, self.own.path) if self.path.exists() and os.path.lexists(path)]
        found = self._listing()
        while (again := self._listing()) != found:  # one listing can miss a segment and the one it was merged into
            found = again
        return found

    def check_place(self) -> None:
        """Check that a store is here or can be made here; nothing is read or made.

        Raises:
            NoStoreError: The path, or a folder it lies in, is a file.
        """
        place.check_place(self.path, is_file=self.is_file)

    def load(self, wanted: Wanted) -> Loaded:
        """Read the wanted columns of every segment that can be read, and of the marks those that are in force.

        If a segment vanishes meanwhile the folder is listed again. Segments that were read are not read again, so that
        a reader comes to an end however busy the writers are.

        Raises:
            FormatError: The store is one file of a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        read: dict[tuple[Path, Identity], Columns] = {}
        parts, findings = self._again_when_gone(lambda: self._load_once(wanted, read))
        return self.judge(parts, findings=findings)

    def judge(self, read: Mapping[Path, Columns], *, findings: Iterable[StoreFinding] = ()) -> Loaded:
        """Find what of the columns that were read is the store's own, and which of their marks are in force."""
        return judged(read, self.authority, own=self.own, findings=findings)

    def known(self, ids: NDArray[np.bytes_], *, is_own: bool) -> NDArray[np.bool_]:
        """Find which ids some segment holds already, forgotten or not, (n,) bool.

        Args:
            ids: The ids, (n,) S16.
            is_own: Whether only what the store has of its own counts.
        """
        is_known = np.zeros(len(ids), np.bool_)
        found = self._again_when_gone(self._keys_of_segments)
        for path in self.own.among(found) if is_own else found:
            position = np.searchsorted(found[path].ids, ids)
            is_known |= np.append(found[path].ids, b"")[position] == ids
        return is_known

    def all_marks(self) -> frozenset[bytes]:
        """Collect the marks of all segments, whether they are in force or not."""
        found = self._again_when_gone(self._keys_of_segments).values()
        return frozenset(mark for keys in found for mark in keys.marks)

    def check_all(self) -> dict[Path, list[StoreFinding]]:
        """Check every segment whole, also those that were checked before.

        Raises:
            StoreError: The path is not a store, or the check could not be started; or segments keep vanishing.
        """
        found, odd = self._again_when_gone(lambda: regular_files(self.paths()))
        checked = check_segments(list(found), self._limits, are_named=not self.is_file)
        return dict(sorted({**checked, **{path: [finding] for path, finding in odd.items()}}.items()))

    def add(self, columns: Columns) -> str:
        """Commit columns in stored form as a new segment, merged with others of its kind if a tier is full.

        Returns:
            Name of the segment that holds them now.

        Raises:
            StoreError: It could not be written, and the store is as before; or segments keep vanishing.
        """
        place.make_folder(self.path, is_file=self.is_file, group=self._group)
        return self._again_when_gone(lambda: self._add_once(columns))

    def make(self) -> None:
        """Make the store's folder if it does not exist, and note how its marks and segments stand.

        Raises:
            StoreError: It could not be made.
        """
        place.make_folder(self.path, is_file=self.is_file, group=self._group)
        self.authority.open(self.all_marks(), is_written=True)

    def replace(self, old: Loaded, forms: Sequence[Columns], *, waiting: Collection[bytes] = ()) -> tuple[str, ...]:
        """Write columns in stored form as a segment each, then remove the segments that they contain.

        Marks that wait to be accepted stay in segments of their own, one for each author.

        Args:
            old: What was read of the store.
            forms: Its own experiences, then those of other stores. The last, which is written first, has the marks in
                force, so that they take effect together with what is new.
            waiting: Further marks that wait.

        Returns:
            Names of the segments, in the order of the forms.

        Raises:
            StoreError: It could not be written, or is not known to be its own; the store is as before.
        """
        old.sure()
        place.make_folder(self.path, is_file=self.is_file, group=self._group)
        self.authority.open((), is_written=True)
        all_waiting = old.waiting() | frozenset(waiting)
        if self.is_file:
            return (self._write_file(forms, waiting=all_waiting),)
        alone = {mark for path in old.waiting_only for mark in old.pending[path]}
        for marks in by_author(all_waiting - alone).values():
            self._write_segment(only_marks(marks))
        paths = [self._write_segment(form, sound=old.parts) for form in reversed(forms)]
        self._remove(path for path in old.parts if path not in (*old.waiting_only, *paths))
        place.remove_left_overs(self.path, newest=paths[0])
        return tuple(path.name for path in reversed(paths))

    def sizes_bytes(self) -> list[int]:
        """List the sizes of the segments.

        Raises:
            StoreError: The path is not a store, or segments keep vanishing.
        """
        found, _ = self._again_when_gone(lambda: regular_files(self.paths()))
        return [size for _, size, *_ in found.values()]

    def _listing(self) -> list[Path]:
        try:
            return sorted(p for p in self.path.iterdir() if p.name.startswith("seg-") and p.suffix == ".h5")
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise place.no_store(self.path, self.path) from error
        except OSError as error:
            raise StoreError(f"`{self.path}` cannot be listed: {error}. See to its permissions") from error

    def _again_when_gone(self, action: Callable[[], T]) -> T:
        """Repeat an action while segments vanish during it."""
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
    ) -> tuple[dict[Path, Columns], list[StoreFinding]]:
        """Read every listed segment that was not read yet; raises ``FileNotFoundError`` if one vanishes meanwhile."""
        parts: dict[Path, Columns] = {}
        findings: list[StoreFinding] = []
        for path, (identity, wrong) in self._checked_listing().items():
            try:
                self._raise_for(wrong)
                if (path, identity) not in read:
                    read[path, identity] = segment.read(path, wanted, identity=identity)
                parts[path] = read[path, identity]
            except StoreError as error:
                if self.is_file:
                    raise
                problem = wrong[0].problem if wrong else "damaged"
                remedy = "" if isinstance(error, FormatError) else COPY_ANEW
                message = f"{error}. It was left out{remedy}"
                findings.append(StoreFinding(problem=problem, where=path.name, message=message))
        return parts, findings

    def _raise_for(self, wrong: Sequence[StoreFinding]) -> None:
        if wrong:
            raise (FormatError if wrong[0].problem == "format" else StoreError)(wrong[0].message)

    def _checked_listing(self) -> dict[Path, tuple[Identity, Sequence[StoreFinding]]]:
        """List the segments with the problems of each; new ones are checked by a child process."""
        found, odd = regular_files(self.paths())
        known, new = self._recorded(found)
        for pause_s in RECORD_PAUSES_S if new else ():  # a writer of this site may be about to record what it wrote
            self._clock.sleep(pause_s)
            known, new = self._recorded(found)
            if not new:
                break
        if new:
            known |= self._check(new, found)
        listed = {path: (found[path], findings or ()) for path, findings in known.items()}
        return dict(sorted({**listed, **{path: (NO_IDENTITY, (finding,)) for path, finding in odd.items()}}.items()))

    def _check(self, new: Sequence[Path], found: Mapping[Path, Identity]) -> Mapping[Path, tuple[StoreFinding, ...]]:
        """Check segments and record the result; raises ``FileNotFoundError`` if one vanishes or changes meanwhile."""
        if len(unchanged(new, found)) < len(new):
            raise FileNotFoundError("a segment vanished before it was checked")
        checked = check_segments(new, self._limits, are_named=not self.is_file)
        sure = {path: tuple(checked[path]) for path in unchanged(new, found) if path in checked}
        self.checked.record((path, found[path], findings) for path, findings in sure.items())
        if len(sure) < len(new):
            raise FileNotFoundError("a segment vanished while it was checked")
        return sure

    def _recorded(
        self, found: Mapping[Path, Identity]
    ) -> tuple[dict[Path, tuple[StoreFinding, ...] | None], list[Path]]:
        """Find what is recorded of segments; return that, and the segments without a record."""
        known: dict[Path, tuple[StoreFinding, ...] | None] = dict.fromkeys(found)
        for record in self._records:
            record.refresh()
            known |= {p: record.findings(p, identity) for p, identity in found.items() if known[p] is None}
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
        self.authority.open(mark for keys in found.values() for mark in keys.marks)
        return found

    def _add_once(self, columns: Columns) -> str:
        if self.is_file:
            return self._add_to_file(columns)
        old = self._read_tier_mates(len(columns), is_own=columns.is_own)
        whole = stored_form([columns, *old.values()]) if old else columns
        if not segment.fits(whole):  # together they have too many names: they stay apart
            return self._write_segment(columns).name
        path = self._write_segment(whole, sound=old)
        self._remove(contained for contained in old if contained != path)
        return path.name

    def _add_to_file(self, columns: Columns) -> str:
        """Write the one file anew; a file that cannot be read must not be replaced."""
        found = {}
        for path, (identity, wrong) in self._checked_listing().items():
            self._raise_for(wrong)
            found[path] = segment.read(path, EVERYTHING, identity=identity)
        old = self.judge(found)
        self.authority.open((), is_written=True)
        return self._write_file(stored_forms([columns, *old.parts.values()]), waiting=old.waiting())

    def _read_tier_mates(self, n_new: int, *, is_own: bool) -> dict[Path, Columns]:
        """Read the segments that a new one is merged with: of its kind, sound, and without marks that wait.

        A segment that vanishes was merged into another already. A commit does not wait for busy writers; the next
        commit merges instead.
        """
        found: dict[Path, Columns] = {}
        with contextlib.suppress(FileNotFoundError, StoreError):
            keys = self._keys_of_segments()
            in_force = {*self.authority.sort(mark for known in keys.values() for mark in known.marks).in_force}
            alike = self.own.among(keys) if is_own else keys.keys() - self.own.among(keys)
            sizes = {path: len(keys[path].ids) for path in alike if in_force.issuperset(keys[path].marks)}
            for path in tier_mates(sizes, n_new):
                with contextlib.suppress(StoreError, FileNotFoundError):
                    read = segment.read(path, EVERYTHING, identity=keys[path].identity)
                    found[path] = replace(read, is_own=is_own)
        return found

    def _write_segment(self, whole: Columns, *, sound: Collection[Path] = ()) -> Path:
        """Write columns in stored form as a segment of a folder, unless it is a sound one; note first if it is own."""
        content_digest, present = digest(whole), self._listing()
        path = self.path / segment.segment_name(content_digest)
        self.own.open(present)
        if whole.is_own:
            self.own.note(content_digest)
        if path not in sound:
            self._write(whole, path, content_digest=content_digest, present=present)
        self.own.note_again()
        return path

    def _write_file(self, forms: Sequence[Columns], *, waiting: Iterable[bytes]) -> str:
        """Write the one file: everything; what is own goes to a file beside it before, once not all of it was own."""
        whole = forms[0] if len(forms) == 1 else stored_form(owned(forms, is_own=False))
        if not whole.is_own or os.path.lexists(self.own.path):
            own = with_marks(forms[0], ()) if forms[0].is_own else only_marks(())
            self._write(own, self.own.path, content_digest=digest(own), present=[self.path])
        whole = with_marks(whole, (*whole.marks, *waiting))
        self._write(whole, self.path, content_digest=digest(whole), present=[self.path])
        return self.path.name

    def _write(self, whole: Columns, path: Path, *, content_digest: str, present: Sequence[Path]) -> None:
        """Write columns in stored form to a file; these segments are there already."""
        self.format_note.before_write(self.path, present, format_version=whole.format_version)
        segment.write(
            whole,
            path,
            content_digest=content_digest,
            remember=lambda identity: self.checked.record([(path, identity, ())]),
        )

    def _remove(self, contained: Iterable[Path]) -> None:
        """Remove files whose content other ones have now."""
        for path in (old := [*contained]):
            with contextlib.suppress(OSError):  # the commit is done all the same; the next merge removes it
                files.remove(path)
        if old and not self.is_file:
            self.checked.refresh()  # before listing: a segment that another process recorded is then listed, or gone
            self.checked.remove_gone([one.name for one in self._listing()])
