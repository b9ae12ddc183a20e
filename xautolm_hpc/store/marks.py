"""Marks: decisions of a person about experiences, stored in the set like the experiences themselves.

A mark of format 2 names its site, the ids it is about, and its author; it affects only records of its site. The shapes:

- ``["forget", site, ids, author, hmac]`` hides records;
- ``["accept", site, ids, author, hmac]`` makes suspect records evidence;
- ``["resolve", site, [id], key, round, author, hmac]`` says which record of an attempt key counts; the highest round
  decides.

Those of format 1 have no author: ``["forget", id, site]``, ``["accept", run_id]``, ``["resolve", key, id, round]``.
Which marks are in force is decided in :mod:`~xautolm_hpc.store.authors.authority`.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xautolm_hpc.store.columns import line, parse

FORGET, ACCEPT, RESOLVE = "forget", "accept", "resolve"
ID = re.compile(r"[0-9a-f]{32}")
AUTHOR = re.compile(r"[0-9a-f]{16}")
HMAC = re.compile(r"[0-9a-f]{64}")
SHAPES: Mapping[tuple[Any, ...], int] = {
    (FORGET, str, str): 1,
    (ACCEPT, str): 1,
    (RESOLVE, str, str, int): 1,
    (FORGET, str, list, str, str): 2,
    (ACCEPT, str, list, str, str): 2,
    (RESOLVE, str, list, str, int, str, str): 2,
}
"""Action and types of what follows -> format of the mark."""

Sites = Mapping[str, set[str]]
"""Experience id -> sites."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMark:
    """One mark.

    Attributes:
        action: :data:`FORGET`, :data:`ACCEPT` or :data:`RESOLVE`.
        site: Site whose records it affects; ``None`` in format 1 where it names none, and affects all.
        ids: Ids it names, 32 hex digits each; none if it accepts a whole run.
        run_id: Run that it accepts, in format 1.
        key: Attempt key that it resolves.
        round_number: Round of the resolution.
        author: Id of the author's key, 16 hex digits; ``None`` in format 1.
        hmac: HMAC-SHA256 of the mark by that key, 64 hex digits; ``None`` in format 1.
    """

    action: str
    site: str | None = None
    ids: tuple[str, ...] = ()
    run_id: str | None = None
    key: str | None = None
    round_number: int = 0
    author: str | None = None
    hmac: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the marks of a set say together.

    Attributes:
        forgotten: Experience id -> sites that forgot it.
        accepted_runs: Run ids whose suspect trials count.
        accepted: Experience id -> sites whose suspect record of it counts.
        resolved: Attempt key -> site, ``None`` for all sites -> round -> ids that it names.
    """

    forgotten: Sites
    accepted_runs: frozenset[str]
    accepted: Sites
    resolved: Mapping[str, Mapping[str | None, Mapping[int, set[str]]]]

    def choice(self, key: str, site: str) -> str | None:
        """Find which id counts among a site's records under an attempt key; ``None`` while that is not decided."""
        rounds: dict[int, set[str]] = defaultdict(set)
        for scope in (None, site):
            for number, ids in self.resolved.get(key, {}).get(scope, {}).items():
                rounds[number] |= ids
        last = rounds[max(rounds)] if rounds else set()
        return next(iter(last)) if len(last) == 1 else None

    def last_round(self, key: str) -> int:
        """Find the highest round in which an attempt key was resolved; 0 if it never was."""
        return max((number for rounds in self.resolved.get(key, {}).values() for number in rounds), default=0)


def tombstone(experience_id: str, site: str) -> bytes:
    """Encode the mark of format 1 by which a site forgets an experience of its own."""
    return line([FORGET, experience_id, site])


def accept_mark(run_id: str) -> bytes:
    """Encode the mark of format 1 by which a run's suspect trials count."""
    return line([ACCEPT, run_id])


def resolve_mark(key: str, experience_id: str, *, round_number: int) -> bytes:
    """Encode the mark of format 1 that says which record of an attempt key counts."""
    return line([RESOLVE, key, experience_id, round_number])


def forget_body(site: str, ids: Iterable[str]) -> list[Any]:
    """Build what a mark of format 2 says that hides records of a site; its author signs it."""
    return [FORGET, site, sorted(set(ids))]


def accept_body(site: str, ids: Iterable[str]) -> list[Any]:
    """Build what a mark of format 2 says that makes suspect records of a site evidence."""
    return [ACCEPT, site, sorted(set(ids))]


def resolve_body(site: str, experience_id: str, *, key: str, round_number: int) -> list[Any]:
    """Build what a mark of format 2 says that chooses among a site's records under an attempt key."""
    return [RESOLVE, site, [experience_id], key, round_number]


def decode_mark(encoded: bytes) -> StoredMark:
    """Decode a mark.

    Raises:
        ValueError: This version does not know it.
    """
    found = parse(encoded)
    is_named = isinstance(found, list) and bool(found) and isinstance(found[0], str)
    number = SHAPES.get((found[0], *(type(one) for one in found[1:]))) if is_named else None
    if number is None:
        raise ValueError(f"unknown mark {encoded!r:.120}; valid: {FORGET}, {ACCEPT}, {RESOLVE}")
    mark = (_of_format_1 if number == 1 else _of_format_2)(found)
    if mark.action == FORGET and not all(map(ID.fullmatch, mark.ids)):
        raise ValueError(f"mark {encoded!r:.120} names no experience id of 32 hex digits")
    if number == 2:
        _check_signed(mark, encoded, found=found)
    return mark


def read_marks(encoded: Iterable[bytes]) -> Marks:
    """Decode marks that are all in force.

    Raises:
        ValueError: This version does not know one of them.
    """
    forgotten: dict[str, set[str]] = defaultdict(set)
    accepted: dict[str, set[str]] = defaultdict(set)
    resolved: dict[str, dict[str | None, dict[int, set[str]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(set))
    )
    runs = set()
    for mark in map(decode_mark, encoded):
        if mark.key is not None:
            resolved[mark.key][mark.site][mark.round_number] |= set(mark.ids)
        elif mark.run_id is not None:
            runs.add(mark.run_id)
        elif mark.site is not None:
            by_id = forgotten if mark.action == FORGET else accepted
            for one in mark.ids:
                by_id[one].add(mark.site)
    return Marks(
        forgotten=dict(forgotten), accepted_runs=frozenset(runs), accepted=dict(accepted), resolved=dict(resolved)
    )


def as_format_1(encoded: Iterable[bytes]) -> list[bytes]:
    """Encode marks in format 1; what makes single records evidence is left out, because format 1 accepts whole runs."""
    said = []
    for one in encoded:
        mark = decode_mark(one)
        if mark.author is None:
            said.append(one)
        elif mark.key is not None:
            said.append(resolve_mark(mark.key, mark.ids[0], round_number=mark.round_number))
        elif mark.action == FORGET:
            said += [tombstone(experience_id, str(mark.site)) for experience_id in mark.ids]
    return said


def check_marks(encoded: Iterable[bytes], *, format_version: int) -> None:
    """Check that a segment of a format may hold some marks.

    Raises:
        ValueError: This version does not know one of them, or the format does not have it.
    """
    for one in encoded:
        if decode_mark(one).author is not None and format_version == 1:
            raise ValueError(f"mark {one!r:.120} has an author, which format 1 does not have")


def by_author(encoded: Iterable[bytes]) -> dict[str | None, list[bytes]]:
    """Group marks by the id of their author's key; those of format 1 have ``None``."""
    groups: dict[str | None, list[bytes]] = defaultdict(list)
    for mark in sorted(encoded):
        groups[decode_mark(mark).author].append(mark)
    return dict(groups)


def _of_format_1(found: Sequence[Any]) -> StoredMark:
    action, subject, *rest = found
    if action == FORGET:
        return StoredMark(action=action, site=rest[0], ids=(subject,))
    if action == ACCEPT:
        return StoredMark(action=action, run_id=subject)
    return StoredMark(action=action, key=subject, ids=(rest[0],), round_number=rest[1])


def _of_format_2(found: Sequence[Any]) -> StoredMark:
    action, site, ids, *rest, author, hmac = found
    named = tuple(one if isinstance(one, str) else "" for one in ids)
    key, round_number = rest or (None, 0)
    return StoredMark(action=action, site=site, ids=named, key=key, round_number=round_number, author=author, hmac=hmac)


def _check_signed(mark: StoredMark, encoded: bytes, *, found: Sequence[Any]) -> None:
    """Check the fields of a mark of format 2, and that it is written in the one way it can be.

    Raises:
        ValueError: It is not.
    """
    checks: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("its ids are no ascending list of 32 hex digits each", lambda: _are_ids(mark.ids)),
        ("it resolves to more than one id", lambda: mark.action != RESOLVE or len(mark.ids) == 1),
        ("its round is below 0", lambda: mark.round_number >= 0),
        ("its author is no 16 hex digits", lambda: AUTHOR.fullmatch(mark.author or "")),
        ("its HMAC is no 64 hex digits", lambda: HMAC.fullmatch(mark.hmac or "")),
        ("it is no canonical JSON", lambda: line(list(found)) == encoded),
    )
    for problem, holds in checks:
        if not holds():
            raise ValueError(f"mark {encoded!r:.120}: {problem}")


def _are_ids(ids: Sequence[str]) -> bool:
    return bool(ids) and all(map(ID.fullmatch, ids)) and list(ids) == sorted(set(ids))
