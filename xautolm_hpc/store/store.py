"""The experience store: a set of experiences that only grows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xautolm_hpc.errors import InputError, NoStoreError
from xautolm_hpc.node import Clock
from xautolm_hpc.records import Experience
from xautolm_hpc.store.authors.deciding import MarkGroup, accept_bodies, decide, forget_bodies, resolve_bodies
from xautolm_hpc.store.authors.decisions import MarkDecision
from xautolm_hpc.store.authors.loaded import Loaded
from xautolm_hpc.store.columns import Columns, digest, only_marks, owned, with_marks
from xautolm_hpc.store.copies import differing_copies, shared_ids
from xautolm_hpc.store.counts import summarise
from xautolm_hpc.store.decode import decode
from xautolm_hpc.store.encode import encode, microseconds
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, KEYS, SUMMARY, TABLE, Wanted
from xautolm_hpc.store.marks import read_marks
from xautolm_hpc.store.packaged import check_writable
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.tableview import to_table
from xautolm_hpc.store.union import raw_ids, union
from xautolm_hpc.store.verify import verify
from xautolm_hpc.store.visible import View, equals, experience_id, settled, stored_form, stored_forms, view
from xautolm_hpc.table import ExperienceTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """Result of an append.

    Attributes:
        n_new: Experiences the store did not have.
        segment: Name of the segment that holds them, ``None`` when there were none.
    """

    n_new: int
    segment: str | None


class ExperienceStore:
    """A set of experiences on disk.

    Attributes:
        path: Folder of segments, or one ``.h5`` file; if it does not exist the store is empty.
        findings: Segments that the last read left out, with the reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Clock | None = None,
        limits: CheckLimits | None = None,
        group: str | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self.path = path
        self.findings: tuple[StoreFinding, ...] = ()
        self._segments = SegmentFolder(path, clock=clock, limits=limits, group=group)
        if log is not None:
            self._segments.format_note.log = log

    def check_place(self, *, setting: str | None = None, is_only_read: bool = False) -> None:
        """Check that a store is here or can be made here, before anything is read or trained for it.

        Args:
            setting: Key of the search file that gave the path, for the message.
            is_only_read: Whether nothing is to be written; it may then be one that comes with this program.

        Raises:
            NoStoreError: The path, or a folder it lies in, is a file; or it comes with this program.
        """
        try:
            self._segments.check_place()
            if not is_only_read:
                check_writable(self.path)
        except NoStoreError as error:
            if setting is not None:
                error.add_note(f"it is {setting} of the search file")
            raise

    def append(self, experiences: Sequence[Experience], *, is_own: bool = True) -> Appended:
        """Commit experiences; those that the store has already, forgotten ones included, are not written again.

        Args:
            experiences: What to store.
            is_own: Whether they were made here. What others made has no say over what was made here; in turn what
                others made of the same attempts does not keep it from being written.

        Raises:
            InputError: A value is not of its field's type, not finite, or out of range; nothing was stored.
            StoreError: It could not be written; nothing was stored.
        """
        if not experiences:
            return Appended(n_new=0, segment=None)
        columns = replace(encode(experiences), is_own=is_own)
        is_known = self._segments.known(raw_ids(columns.groups["digests"]["id"]), is_own=is_own)
        marks = read_marks(self._segments.authority.sort(self._segments.all_marks()).in_force)
        new = union([columns.take(~is_known)], forgotten=marks.forgotten)
        if not len(new):
            return Appended(n_new=0, segment=None)
        is_new = ~self._segments.known(raw_ids(new.groups["digests"]["id"]), is_own=False)
        return Appended(n_new=int(is_new.sum()), segment=self._segments.add(new))

    def amend(self, experiences: Sequence[Experience]) -> None:
        """Commit new values of one's own experiences that may be stored already.

        Records of one id are one experience: a known value replaces an unknown one, and of two known values the
        greater counts, so a trial can become suspect.

        Raises:
            InputError: A value is not of its field's type, not finite, or out of range; nothing was stored.
            StoreError: It could not be written; nothing was stored.
        """
        if experiences:
            self._segments.add(replace(union([encode(experiences)]), is_own=True))

    def read(
        self,
        *,
        task_kind: str | None = None,
        run_id: str | None = None,
        site: str | None = None,
        status: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Experience]:
        """Read whole experiences that match every filter given, ascending by id.

        Args:
            task_kind: Kind of the pipeline's task.
            run_id: Run they come from.
            site: Site they come from.
            status: ``succeeded`` or ``failed``.
            since: Earliest end of the attempt, ISO 8601 with its time zone.
            until: End of the attempt is before this time, ISO 8601 with its time zone.

        Raises:
            InputError: A time is not valid.
            FormatError: The store is one file of a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        columns = self._view(EVERYTHING).visible()
        chosen = np.ones(len(columns), np.bool_)
        equal = {"task_kind": task_kind, "run_id": run_id, "site": site, "status": status}
        for name, value in equal.items():
            if value is not None:
                chosen &= equals(columns, name, text=value)
        ended_us = columns.groups["integers"]["ended_at_us"]
        if since is not None:
            chosen &= ended_us >= microseconds(since, where="since")
        if until is not None:
            chosen &= ended_us < microseconds(until, where="until")
        return decode(columns.take(chosen))

    def read_table(self) -> ExperienceTable:
        """Read the table that priors are computed from, directly from columns; variable parts are not read.

        Raises:
            FormatError: The store is one file of a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        return to_table(self._view(TABLE).visible())

    @staticmethod
    def read_tables(
        paths: Iterable[Path],
        *,
        limits: CheckLimits | None = None,
        on_finding: Callable[[StoreFinding], None] | None = None,
    ) -> ExperienceTable:
        """Read several stores as if they were merged; the first one records which segments were checked.

        What each store hides is hidden of that store; only the marks of the first one affect all of them.

        Args:
            paths: The stores, one's own first.
            limits: Limits for checking a foreign segment.
            on_finding: Called for every segment that is left out.

        Raises:
            FormatError: The store is one file of a newer format.
            StoreError: A store is one file, and damaged; or segments keep vanishing.
        """
        parts: list[Columns] = []
        checked = None
        for path in paths:
            folder = SegmentFolder(path, limits=limits, checked=checked)
            loaded = folder.load(TABLE)
            parts += loaded.columns() if checked is None else settled(loaded.columns())
            checked = checked or folder.checked
            if on_finding is not None:
                for finding in loaded.findings:
                    on_finding(finding)
        return to_table(view(parts or [only_marks(())]).visible())

    def ids(self) -> tuple[str, ...]:
        """List the ids of the experiences that count, ascending."""
        return _ids(self._view(KEYS).visible())

    def own_ids(self) -> frozenset[str]:
        """Collect the ids of the experiences that were made here and not forgotten, those in conflict too."""
        parts = self._load(KEYS).columns()
        own = [part for part in parts if part.is_own]
        return frozenset(_ids(stored_form([*own, only_marks(mark for part in parts for mark in part.marks)])))

    def info(self) -> dict[str, Any]:
        """Count the content of the store; plain data for JSON.

        Returns:
            ``n_experiences`` and their counts ``by_task``, ``by_status``, ``by_failure_kind``, ``by_site``,
            ``by_model``, ``by_method``; ``n_suspect``; ``n_truncated``; ``n_conflicts`` (attempt keys);
            ``n_contradicting``, records of other stores that say something else than this store's own and have no
            effect; ``first_start`` and ``last_end`` (UTC); ``n_segments``, ``n_bytes`` on disk and ``bytes_each``;
            ``n_pending_marks``, which wait to be accepted.

        Raises:
            FormatError: The store is one file of a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        loaded = self._load(SUMMARY)
        seen, n_copies = view(loaded.columns()), 0
        if shared_ids(loaded.columns()).size:
            n_copies = len(differing_copies(self._load(EVERYTHING).columns()))
        counts = summarise(seen, n_differing_copies=n_copies, sizes_bytes=self._segments.sizes_bytes())
        return {**counts, "n_pending_marks": len(loaded.waiting())}

    def verify(self) -> list[StoreFinding]:
        """Check every segment whole: structure, digests, ranges, references; then the set: conflicts, tombstones."""
        return verify(self._segments)

    def show(self, id_prefix: str) -> Experience:
        """Read one experience, also one in conflict.

        Raises:
            InputError: No experience, or more than one, has an id with this prefix.
        """
        columns = self._view(EVERYTHING).columns
        found = [i for i, one in enumerate(_ids(columns)) if one.startswith(id_prefix.lower())]
        if len(found) != 1:
            candidates = ", ".join(experience_id(columns, row) for row in found[:5]) or "none"
            raise InputError(
                f"{len(found)} experiences of `{self.path}` have an id that begins with {id_prefix!r}; expected one. "
                f"Found: {candidates}"
            )
        return decode(columns.take(np.array(found)))[0]

    def forget(self, ids: Iterable[str], site: str) -> None:
        """Hide experiences of one's own site for ever; compacting then removes them from disk.

        Args:
            ids: Whole ids.
            site: One's own site.

        Raises:
            InputError: An id is unknown or belongs to another site; nothing was hidden.
        """
        self._mark(forget_bodies(self._load(KEYS).columns(), ids, site=site, path=self.path))

    def resolve(self, key: str, experience_id: str) -> None:
        """Choose which of several records of one attempt key counts; the last call decides.

        Args:
            key: Attempt key, ``run/trial/attempt/restart``.
            experience_id: Whole id of the record that counts.

        Raises:
            InputError: No record under the key has this id.
        """
        self._mark(resolve_bodies(self._load(KEYS).columns(), key, chosen=experience_id))

    def accept(self, run_id: str) -> int:
        """Accept a run's suspect trials as evidence.

        Returns:
            Number of suspect experiences of that run.

        Raises:
            InputError: The store has no experience of that run.
        """
        n_accepted, bodies = accept_bodies(self._load(SUMMARY).columns(), run_id, path=self.path)
        self._mark(bodies)
        return n_accepted

    def accept_marks(self, author: str, *, site: str | None = None) -> list[MarkGroup]:
        """Accept marks of other authors that wait, or confirm those of format 1.

        Args:
            author: Id of the author's key; ``format-1`` for marks that have none.
            site: Only marks about this site.

        Returns:
            The marks, by author, site and action.

        Raises:
            InputError: The store has no such marks.
            StoreError: That could not be written.
        """
        return decide(self._segments, MarkDecision.ACCEPTED, author=author, site=site)

    def refuse_marks(self, author: str, *, site: str | None = None) -> list[MarkGroup]:
        """Refuse marks of other authors for ever; arguments and results are those of :meth:`accept_marks`."""
        return decide(self._segments, MarkDecision.REFUSED, author=author, site=site)

    def compact(self) -> str | None:
        """Merge all segments that can be read into one, without forgotten experiences.

        What came from other stores stays apart, in a second one.

        Returns:
            Name of the segment of what was made here, or of the only one; ``None`` for an empty store.

        Raises:
            FormatError: The store is one file of a newer format.
            StoreError: It could not be written; the store is as before.
        """
        loaded = self._load(EVERYTHING)
        return self._segments.replace(loaded, stored_forms(loaded.columns()))[0] if loaded.parts else None

    def digest(self) -> str:
        """Digest the store's logical content: equal for equal sets, whatever their segments."""
        loaded = self._load(EVERYTHING)
        whole = stored_form(owned(loaded.columns(), is_own=False))
        return digest(with_marks(whole, (*whole.marks, *loaded.waiting())))

    def _load(self, wanted: Wanted) -> Loaded:
        loaded = self._segments.load(wanted)
        self.findings = loaded.findings
        return loaded

    def _view(self, wanted: Wanted) -> View:
        return view(self._load(wanted).columns())

    def _mark(self, bodies: Sequence[Sequence[Any]]) -> None:
        if bodies:
            self._segments.add(replace(only_marks(self._segments.authority.sign(bodies)), is_own=True))


def _ids(columns: Columns) -> tuple[str, ...]:
    return tuple(experience_id(columns, row) for row in range(len(columns)))
