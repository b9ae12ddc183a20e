"""The experience store: a set of experiences that only grows."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError, NoStoreError
from xautolm_hpc.node import Clock
from xautolm_hpc.records import Experience
from xautolm_hpc.store.columns import Columns, digest, line, only_marks
from xautolm_hpc.store.counts import summarise
from xautolm_hpc.store.decode import decode, values
from xautolm_hpc.store.encode import encode, microseconds
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.layout import EVERYTHING, KEYS, SUMMARY, TABLE, Wanted
from xautolm_hpc.store.marks import ID, accept_mark, read_marks, resolve_mark, tombstone
from xautolm_hpc.store.structure import CheckLimits, StoreFinding
from xautolm_hpc.store.tableview import to_table
from xautolm_hpc.store.union import assemble, raw_ids, rows_with_ids, union
from xautolm_hpc.store.verify import verify
from xautolm_hpc.store.visible import View, attempt_key, experience_id, stored_form, view
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

    def check_place(self, *, setting: str | None = None) -> None:
        """Check that a store is here or can be made here, before anything is read or trained for it.

        Args:
            setting: Key of the search file that gave the path, for the message.

        Raises:
            NoStoreError: The path, or a folder it lies in, is a file.
        """
        try:
            self._segments.check_place()
        except NoStoreError as error:
            if setting is not None:
                error.add_note(f"it is {setting} of the search file")
            raise

    def append(self, experiences: Sequence[Experience]) -> Appended:
        """Commit experiences; those that the store has already, forgotten ones included, are not written again.

        Raises:
            InputError: A value is not of its field's type, not finite, or out of range; nothing was stored.
            StoreError: It could not be written; nothing was stored.
        """
        if not experiences:
            return Appended(n_new=0, segment=None)
        columns = encode(experiences)
        is_known = self._segments.known(raw_ids(columns.groups["digests"]["id"]))
        new = union([columns.take(~is_known)], forgotten=read_marks(self._segments.marks()).forgotten)
        if not len(new):
            return Appended(n_new=0, segment=None)
        return Appended(n_new=len(new), segment=self._segments.add(new))

    def amend(self, experiences: Sequence[Experience]) -> None:
        """Commit new values of experiences that may be stored already.

        Records of one id are one experience: a known value replaces an unknown one, and of two known values the
        greater counts, so a trial can become suspect.

        Raises:
            InputError: A value is not of its field's type, not finite, or out of range; nothing was stored.
            StoreError: It could not be written; nothing was stored.
        """
        if experiences:
            self._segments.add(union([encode(experiences)]))

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
            FormatError: A segment has a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        columns = self._view(EVERYTHING).visible()
        chosen = np.ones(len(columns), np.bool_)
        equal = {"task_kind": task_kind, "run_id": run_id, "site": site, "status": status}
        for name, value in equal.items():
            if value is not None:
                chosen &= _equals(columns, name, text=value)
        ended_us = columns.groups["integers"]["ended_at_us"]
        if since is not None:
            chosen &= ended_us >= microseconds(since, where="since")
        if until is not None:
            chosen &= ended_us < microseconds(until, where="until")
        return decode(columns.take(chosen))

    def read_table(self) -> ExperienceTable:
        """Read the table that priors are computed from, directly from columns; variable parts are not read.

        Raises:
            FormatError: A segment has a newer format.
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

        Args:
            paths: The stores, one's own first.
            limits: Limits for checking a foreign segment.
            on_finding: Called for every segment that is left out.

        Raises:
            FormatError: A segment has a newer format.
            StoreError: A store is one file, and damaged; or segments keep vanishing.
        """
        parts: list[Columns] = []
        checked = None
        for path in paths:
            folder = SegmentFolder(path, limits=limits, checked=checked)
            checked = checked or folder.checked
            loaded, findings = folder.load(TABLE)
            parts += loaded.values()
            if on_finding is not None:
                for finding in findings:
                    on_finding(finding)
        return to_table(_view_of(parts).visible())

    def ids(self) -> tuple[str, ...]:
        """List the ids of the experiences that count, ascending."""
        return _ids(self._view(KEYS).visible())

    def info(self) -> dict[str, Any]:
        """Count the content of the store; plain data for JSON.

        Returns:
            ``n_experiences`` and their counts ``by_task``, ``by_status``, ``by_failure_kind``, ``by_site``,
            ``by_model``, ``by_method``; ``n_suspect``; ``n_truncated``; ``n_conflicts`` (attempt keys); ``first_start``
            and ``last_end`` (UTC); ``n_segments``, ``n_bytes`` on disk and ``bytes_each``.

        Raises:
            FormatError: A segment has a newer format.
            StoreError: The store is one file, and damaged; or segments keep vanishing.
        """
        return summarise(self._view(SUMMARY), sizes_bytes=self._segments.sizes_bytes())

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
        parts = list(self._load(KEYS).values()) or [only_marks(())]
        forgotten = read_marks(mark for part in parts for mark in part.marks).forgotten
        rows = assemble(parts, by_site=True, forgotten=forgotten)
        wanted = sorted(set(ids))
        for one in wanted:
            if site not in forgotten.get(one, ()):
                self._check_forgettable(one, site=site, rows=rows)
        self._mark([tombstone(one, site) for one in wanted])

    def resolve(self, key: str, experience_id: str) -> None:
        """Choose which of several records of one attempt key counts; the last call decides.

        Args:
            key: Attempt key, ``run/trial/attempt/restart``.
            experience_id: Whole id of the record that counts.

        Raises:
            InputError: No record under the key has this id.
        """
        columns = self._view(KEYS).columns
        under_key = [one for row, one in enumerate(_ids(columns)) if attempt_key(columns, row) == key]
        if experience_id not in under_key:
            raise InputError(
                f"attempt {key} has no record {experience_id!r}; valid: {', '.join(under_key) or 'none'}. "
                "`store verify` lists the conflicts"
            )
        marks = read_marks(columns.marks)
        if marks.choice(key) != experience_id:
            last_round = marks.resolved[key][0] if key in marks.resolved else 0
            self._mark([resolve_mark(key, experience_id, round_number=last_round + 1)])

    def accept(self, run_id: str) -> int:
        """Accept a run's suspect trials as evidence.

        Returns:
            Number of suspect experiences of that run.

        Raises:
            InputError: The store has no experience of that run.
        """
        columns = self._view(SUMMARY).columns
        is_of_run = _equals(columns, "run_id", text=run_id)
        if not is_of_run.any():
            raise InputError(f"`{self.path}` has no experience of run {run_id!r}; `store info` lists what it has")
        self._mark([accept_mark(run_id)])
        return int(columns.groups["counts"]["suspect"][is_of_run].sum())

    def compact(self) -> str | None:
        """Merge all segments that can be read into one, without forgotten experiences.

        Returns:
            Name of the one segment, ``None`` for an empty store.

        Raises:
            FormatError: A segment has a newer format.
            StoreError: It could not be written; the store is as before.
        """
        parts = self._load(EVERYTHING)
        return self._segments.replace(parts, stored_form(list(parts.values()))) if parts else None

    def digest(self) -> str:
        """Digest the store's logical content: equal for equal sets, whatever their segments."""
        return digest(stored_form(list(self._load(EVERYTHING).values()) or [only_marks(())]))

    def _load(self, wanted: Wanted) -> dict[Path, Columns]:
        parts, findings = self._segments.load(wanted)
        self.findings = tuple(findings)
        return parts

    def _view(self, wanted: Wanted) -> View:
        return _view_of(list(self._load(wanted).values()))

    def _mark(self, marks: list[bytes]) -> None:
        known = {mark for part in self._load(KEYS).values() for mark in part.marks}
        new = [mark for mark in marks if mark not in known]
        if new:
            self._segments.add(only_marks(new))

    def _check_forgettable(self, one: str, *, site: str, rows: Columns) -> None:
        found = rows_with_ids(rows.groups["digests"]["id"], [one]) if ID.fullmatch(one) else ()
        sites = sorted({values(rows)[rows.groups["codes"]["site"][row]] for row in found})
        if not sites:
            raise InputError(f"`{self.path}` has no experience {one!r}; expected a whole id of 32 hex digits")
        if site not in sites:
            raise InputError(
                f"experience {one} is of site {sites[0]!r}, and {site!r} forgets only its own. Let {sites[0]!r} "
                f"forget it, or merge with --accept-forget {site}"
            )


def _view_of(parts: list[Columns]) -> View:
    return view(parts or [only_marks(())])


def _ids(columns: Columns) -> tuple[str, ...]:
    return tuple(experience_id(columns, row) for row in range(len(columns)))


def _equals(columns: Columns, name: str, *, text: str) -> NDArray[np.bool_]:
    entries = columns.dictionaries["values"]
    wanted = line(text)
    code = entries.index(wanted) if wanted in entries else len(entries)
    found: NDArray[np.bool_] = columns.groups["codes"][name] == code
    return found
