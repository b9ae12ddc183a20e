"""What a line of the ledger must hold, so that whoever reads it need not look for what is wrong."""

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.node import check_moment
from xautolm_hpc.records import from_json

LARGEST_COUNT = 10**9
"""Number above which none of a trial, attempt, generation or lease is believed."""

NAMED_BY_JOB = r".*-(s|profile-|final-)[0-9]{1,9}"
"""Names of submissions whose folders earlier versions did not write: the name tells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawn:
    generation: int
    plans: tuple[Mapping[str, Any], ...]
    refusals: Mapping[str, int]
    exhausted: bool
    refusal_reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intent:
    name: str
    generation: int
    attempts: tuple[tuple[int, ...], ...]
    resources: Mapping[str, Any]
    folder: str | None = None
    attempt_dirs: tuple[str, ...] | None = None
    max_parallel: int | None = None
    trials_per_job: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Submitted:
    jobs: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfAttempt:
    trial: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    trial: int
    attempt: int
    source: str
    restart: int = 0
    end: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stop:
    reason: str
    suspects: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelOut:
    model: str
    from_trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Any:
    event: str
    at: float
    lease: int


EVENTS: Mapping[str, type[Any]] = {
    "drawn": _Drawn,
    "intent": _Intent,
    "submitted": _Submitted,
    "given_back": _OfAttempt,
    "end": _End,
    "late": _End,
    "commit": _Commit,
    "stop": _Stop,
    "model_out": _ModelOut,
}
"""Event -> what a line of it holds at least; a later version may write other events, and more into these."""


def check_line(line: object, *, where: str) -> None:
    """Check a line of the ledger.

    Args:
        line: What stands there, parsed.
        where: File and number of the line, for messages.

    Raises:
        InputError: A field is missing, of the wrong type, or what it cannot be.
    """
    head = _known(_Any, line, where=where)
    check_moment(head.at, where=f"{where}: at")
    found = _known(EVENTS[head.event], line, where=where) if head.event in EVENTS else None
    for record in (head, found):
        for name in () if record is None else typing.get_type_hints(type(record)):
            value = getattr(record, name)
            if type(value) is int and not -1 <= value <= LARGEST_COUNT:
                raise InputError(f"{where}: {name} is {quoted(value)}; expected a number from 0 to {LARGEST_COUNT}")
    if isinstance(found, _Intent):
        _check_intent(found, where=where)
    if isinstance(found, _Submitted):
        odd = [key for key in found.jobs if re.fullmatch(r"[0-9]{1,9}/[0-9]{1,9}", key) is None]
        if odd:
            raise InputError(f"{where}: jobs: {quoted(odd[0])} is not TRIAL/ATTEMPT")


def _check_intent(intent: _Intent, *, where: str) -> None:
    """Check that a submission names places within the run, and attempts, and how many share a job."""
    if intent.trials_per_job < 1:
        raise InputError(f"{where}: trials_per_job is {intent.trials_per_job}; expected at least 1")
    if any(len(pair) != 2 for pair in intent.attempts):
        raise InputError(f"{where}: attempts: expected pairs of trial and attempt")
    if intent.folder is None or intent.attempt_dirs is None:
        if re.fullmatch(NAMED_BY_JOB, intent.name) is None:
            raise InputError(f"{where}: {quoted(intent.name)} is no name of a submission")
        return
    for path in map(PurePosixPath, (intent.folder, *intent.attempt_dirs)):
        if path.is_absolute() or ".." in path.parts or "\0" in str(path) or not path.parts:
            raise InputError(f"{where}: {quoted(str(path))} is no place within the run")


def _known(record_type: type[Any], line: object, *, where: str) -> Any:
    """Read the fields that this version knows."""
    names = typing.get_type_hints(record_type)
    known = {name: line[name] for name in names if name in line} if isinstance(line, dict) else line
    return from_json(record_type, known, where=where)
