"""What the marks that a person sets say, and what a person decides about the marks of others."""

import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.store.authors.authority import Standing
from xautolm_hpc.store.authors.decisions import MarkDecision
from xautolm_hpc.store.columns import Columns
from xautolm_hpc.store.folder import SegmentFolder
from xautolm_hpc.store.marks import ID, accept_body, decode_mark, forget_body, read_marks, resolve_body
from xautolm_hpc.store.packaged import check_writable
from xautolm_hpc.store.structure import StoreFinding
from xautolm_hpc.store.union import assemble, rows_with_ids
from xautolm_hpc.store.visible import attempt_key, equals, experience_id, sites_of, view

Body = Sequence[Any]
"""What a mark says, before its author signs it."""

FORMAT_1 = "format-1"
"""Name of the marks that have no author."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkGroup:
    """Marks of one author about one site.

    Attributes:
        author: Id of the author's key; ``format-1`` for marks of format 1, which have none.
        site: Site whose records they affect; ``None`` for marks of format 1 that affect all.
        action: ``forget``, ``accept`` or ``resolve``.
        n_marks: Number of marks.
        n_ids: Number of records that they name.
    """

    author: str
    site: str | None
    action: str
    n_marks: int
    n_ids: int


def forget_bodies(parts: Sequence[Columns], ids: Iterable[str], *, site: str, path: Path) -> list[Body]:
    """Build the mark by which a site forgets records of its own; none if it forgot them before.

    Raises:
        InputError: An id is unknown or belongs to another site.
    """
    forgotten = read_marks(mark for part in parts for mark in part.marks).forgotten
    rows = assemble(parts, by_site=True, forgotten=forgotten)
    new = [one for one in sorted(set(ids)) if site not in forgotten.get(one, ())]
    for one in new:
        _check_forgettable(one, site=site, rows=rows, path=path)
    return [forget_body(site, new)] if new else []


def resolve_bodies(parts: Sequence[Columns], key: str, *, chosen: str) -> list[Body]:
    """Build the marks that choose one of the records under an attempt key, for each site that has one.

    Raises:
        InputError: No record under the key has this id.
    """
    marks = read_marks(mark for part in parts for mark in part.marks)
    rows = assemble(parts, by_site=True, forgotten=marks.forgotten)
    under_key = [row for row in range(len(rows)) if attempt_key(rows, row) == key]
    ids = sorted({experience_id(rows, row) for row in under_key})
    if chosen not in ids:
        raise InputError(
            f"attempt {key} has no record {chosen!r}; valid: {', '.join(ids) or 'none'}. "
            "`store verify` lists the conflicts"
        )
    sites = sorted({site for site in sites_of(rows.take(np.array(under_key)))})
    if all(marks.choice(key, site) == chosen for site in sites):
        return []
    number = marks.last_round(key) + 1
    return [resolve_body(site, chosen, key=key, round_number=number) for site in sites]


def accept_bodies(parts: list[Columns], run_id: str, *, path: Path) -> tuple[int, list[Body]]:
    """Build the marks by which the suspect records of a run become evidence, one for each of its sites.

    Returns:
        Number of suspect experiences, and what the marks say.

    Raises:
        InputError: The store has no experience of that run.
    """
    columns = view(parts).columns
    is_of_run = equals(columns, "run_id", text=run_id)
    if not is_of_run.any():
        raise InputError(f"`{path}` has no experience of run {run_id!r}; `store info` lists what it has")
    suspects = np.flatnonzero(is_of_run & (columns.groups["counts"]["suspect"] > 0))
    ids = [experience_id(columns, row) for row in suspects.tolist()]
    by_site = defaultdict(list)
    for part in parts:
        found = part.take(rows_with_ids(part.groups["digests"]["id"], ids))
        for row, site in enumerate(sites_of(found)):
            by_site[site].append(experience_id(found, row))
    return len(ids), [accept_body(site, by_site[site]) for site in sorted(by_site)]


def decide(segments: SegmentFolder, decision: MarkDecision, *, author: str, site: str | None) -> list[MarkGroup]:
    """Accept or refuse the marks of an author that the store itself did not sign.

    Raises:
        InputError: The store has no such marks.
        StoreError: That could not be written, or the store comes with this program.
    """
    check_writable(segments.path)
    standings = segments.authority.standings(segments.all_marks())
    open_to = [mark for mark, standing in standings.items() if standing is not Standing.OWN]
    of_author = [mark for mark in open_to if author_of(mark) == author]
    chosen = [mark for mark in of_author if site in (None, decode_mark(mark).site)]
    if not chosen:
        valid = sorted({f"{group.author} (site {group.site})" for group in grouped(open_to)})
        of_site = "" if site is None else f" about site {site!r}"
        raise InputError(
            f"`{segments.path}` has no marks of author {author!r}{of_site} to decide on; valid: "
            f"{', '.join(valid) or 'none'}. `store verify` lists marks that wait"
        )
    segments.authority.decide(decision, chosen)
    return grouped(chosen)


def author_of(mark: bytes) -> str:
    """Return the name by which the marks of an author are accepted or refused."""
    return decode_mark(mark).author or FORMAT_1


def grouped(marks: Iterable[bytes]) -> list[MarkGroup]:
    """Count marks by author, site and action."""
    ids: dict[tuple[str, str | None, str], list[int]] = defaultdict(list)
    for mark in map(decode_mark, sorted(set(marks))):
        ids[mark.author or FORMAT_1, mark.site, mark.action].append(len(mark.ids))
    return [
        MarkGroup(author=author, site=site, action=action, n_marks=len(numbers), n_ids=sum(numbers))
        for (author, site, action), numbers in sorted(ids.items(), key=lambda pair: tuple(map(str, pair[0])))
    ]


def mark_findings(segments: SegmentFolder, marks: Iterable[bytes]) -> Iterator[StoreFinding]:
    """List the marks that wait to be accepted, and those of format 1 that nobody has confirmed.

    Args:
        segments: The store.
        marks: All marks of the store.
    """
    standings = segments.authority.standings(marks)
    for standing, describe in ((Standing.PENDING, _pending), (Standing.FOUND, _found)):
        for group in grouped(mark for mark, found in standings.items() if found is standing):
            yield describe(group, own=segments.authority.key_id(), path=segments.path)


def _pending(group: MarkGroup, *, own: str | None, path: Path) -> StoreFinding:
    who = f"author {group.author}" if group.author != FORMAT_1 else "an unknown author (format 1)"
    claim = ", which claims to be this store but is not signed with its key," if group.author == own else ""
    message = (
        f"{_what(group)} by {who}{claim} have no effect here. `{_command('accept-marks', group, path=path)}` puts "
        f"them in force; `{_command('refuse-marks', group, path=path)}` drops them"
    )
    return StoreFinding(problem="pending-mark", where=group.author, message=message)


def _found(group: MarkGroup, *, own: str | None, path: Path) -> StoreFinding:
    message = (
        f"{_what(group)} are of format 1, which names no author. They were here when this store was first opened, and "
        f"are in force. `{_command('accept-marks', group, path=path)}` confirms them; "
        f"`{_command('refuse-marks', group, path=path)}` drops them"
    )
    return StoreFinding(problem="old-mark", where=group.author, message=message)


def _what(group: MarkGroup) -> str:
    site = f"of site {group.site!r}" if group.site is not None else "of any site"
    named = f"{group.n_ids} records {site}" if group.n_ids else f"whole runs {site}"
    return f"{group.n_marks} marks `{group.action}` about {named}"


def _command(verb: str, group: MarkGroup, *, path: Path) -> str:
    site = "" if group.site is None else f" --site {shlex.quote(group.site)}"
    return f"store {verb} {shlex.quote(str(path))} {group.author}{site}"


def _check_forgettable(one: str, *, site: str, rows: Columns, path: Path) -> None:
    """Check that a site has a record of an id.

    Raises:
        InputError: It has none.
    """
    found = rows_with_ids(rows.groups["digests"]["id"], [one]) if ID.fullmatch(one) else ()
    known = sites_of(rows)
    sites = sorted({known[row] for row in found})
    if not sites:
        raise InputError(f"`{path}` has no experience {one!r}; expected a whole id of 32 hex digits")
    if site not in sites:
        raise InputError(
            f"experience {one} is of site {sites[0]!r}, and {site!r} forgets only its own. Let {sites[0]!r} "
            f"forget it, or merge with --accept-forget {site}"
        )
