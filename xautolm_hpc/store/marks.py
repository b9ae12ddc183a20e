"""Marks: decisions of a person about experiences, stored in the set like the experiences themselves.

``["forget", id, site]`` is a tombstone: it hides an experience of that site. ``["accept", run_id]`` makes a run's
suspect trials evidence. ``["resolve", key, id, round]`` says which of the records of one attempt key counts; the
highest round decides.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from xautolm_hpc.store.columns import line, parse

FORGET, ACCEPT, RESOLVE = "forget", "accept", "resolve"
ID = re.compile(r"[0-9a-f]{32}")
SHAPES = {FORGET: (str, str, str), ACCEPT: (str, str), RESOLVE: (str, str, str, int)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The marks of a set.

    Attributes:
        forgotten: Experience id -> sites that forgot it.
        accepted: Run ids whose suspect trials count.
        resolved: Attempt key -> (round, ids that the highest round names); two ids there resolve nothing.
    """

    forgotten: dict[str, set[str]]
    accepted: frozenset[str]
    resolved: dict[str, tuple[int, frozenset[str]]]

    def choice(self, key: str) -> str | None:
        """Find which id counts for an attempt key; ``None`` while that is not decided."""
        _, ids = self.resolved.get(key, (0, frozenset()))
        return next(iter(ids)) if len(ids) == 1 else None


def tombstone(experience_id: str, site: str) -> bytes:
    """Encode the mark by which a site forgets an experience of its own."""
    return line([FORGET, experience_id, site])


def accept_mark(run_id: str) -> bytes:
    """Encode the mark by which a run's suspect trials count."""
    return line([ACCEPT, run_id])


def resolve_mark(key: str, experience_id: str, *, round_number: int) -> bytes:
    """Encode the mark that says which record of an attempt key counts."""
    return line([RESOLVE, key, experience_id, round_number])


def read_marks(encoded: Iterable[bytes]) -> Marks:
    """Decode marks.

    Raises:
        ValueError: This version does not know one of them.
    """
    forgotten: dict[str, set[str]] = defaultdict(set)
    resolutions: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    accepted = set()
    for mark in encoded:
        action, subject, *rest = _checked(mark)
        if action == FORGET:
            forgotten[subject].add(rest[0])
        elif action == ACCEPT:
            accepted.add(subject)
        else:
            resolutions[subject][rest[1]].add(rest[0])
    resolved = {key: (max(rounds), frozenset(rounds[max(rounds)])) for key, rounds in resolutions.items()}
    return Marks(forgotten=dict(forgotten), accepted=frozenset(accepted), resolved=resolved)


def _checked(mark: bytes) -> list[Any]:
    found = parse(mark)
    shape = SHAPES.get(found[0]) if isinstance(found, list) and found and isinstance(found[0], str) else None
    if shape is None or tuple(map(type, found)) != shape:
        raise ValueError(f"unknown mark {mark!r:.120}; valid: {', '.join(SHAPES)}")
    if found[0] == FORGET and not ID.fullmatch(found[1]):
        raise ValueError(f"mark {mark!r:.120} names no experience id of 32 hex digits")
    return list(found)
