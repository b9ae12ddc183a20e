"""Experiences as an earlier format can say them, for sites whose version reads no newer one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from xautolm_hpc.failures import FORMAT_1_KINDS, FailureKind
from xautolm_hpc.records import Experience, Outcome, Provenance
from xautolm_hpc.store.columns import Columns
from xautolm_hpc.store.decode import decode
from xautolm_hpc.store.encode import encode
from xautolm_hpc.store.layout import ADDED_BY_2, CURVE_S, FORMAT, STATUSES_OF

ADDED = frozenset(name for names in ADDED_BY_2.values() for name in names)
UNKNOWN: Mapping[type, Mapping[str, Any]] = {
    record_type: {field.name: None for field in fields(record_type) if field.name in ADDED}
    for record_type in (Outcome, Provenance)
}
"""Record -> the fields that format 1 lacks, as unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """What an earlier format could not say.

    Attributes:
        left_out: Why experiences were left out -> how many.
        as_lost: Failure kind that became ``lost`` -> how many; their messages begin with it.
        n_shortened: Experiences that were written without fields that the format lacks.
    """

    left_out: Mapping[str, int]
    as_lost: Mapping[str, int]
    n_shortened: int


NO_LOSSES = Losses(left_out={}, as_lost={}, n_shortened=0)


def in_format(columns: Columns, format_version: int) -> tuple[Columns, Losses]:
    """Convert columns in stored form to a format; what it cannot say is left out and counted.

    Args:
        columns: Columns in stored form, of the newest format.
        format_version: One of :data:`~xautolm_hpc.store.layout.READABLE`.

    Returns:
        Columns in stored form, and what they no longer say.
    """
    if format_version == FORMAT:
        return columns, NO_LOSSES
    left_out: Counter[str] = Counter()
    as_lost: Counter[str] = Counter()
    kept, n_shortened = [], 0
    for e in decode(columns):
        why = _unsayable(e.outcome)
        if why is not None:
            left_out[why] += 1
            continue
        said = as_format_1(e)
        kept.append(said)
        if said.id != e.id:
            as_lost[str(e.outcome.kind)] += 1
        n_shortened += _is_shortened(e)
    whole = replace(encode(kept), marks=columns.marks, format_version=format_version)
    return whole, Losses(
        left_out=dict(sorted(left_out.items())), as_lost=dict(sorted(as_lost.items())), n_shortened=n_shortened
    )


def as_format_1(e: Experience) -> Experience:
    """Return an experience in the words of format 1: a failure kind that it has no word for is ``lost`` there.

    The message then begins with the kind. What format 1 lacks is unknown.
    """
    outcome = replace(e.outcome, **UNKNOWN[Outcome], curve=tuple(point[:CURVE_S] for point in e.outcome.curve))
    if outcome.kind is not None and outcome.kind not in FORMAT_1_KINDS:
        message = f"{outcome.kind}: {outcome.message or ''}"
        outcome = replace(outcome, kind=FailureKind.LOST.value, message=message)
    return replace(e, outcome=outcome, provenance=replace(e.provenance, **UNKNOWN[Provenance]))


def _unsayable(outcome: Outcome) -> str | None:
    """Return why format 1 cannot say what came of an attempt; ``None`` if it can.

    It has no word for a truncated success, and without one its F1 would be taken for that of a whole training.
    """
    if outcome.status not in STATUSES_OF[1]:
        return outcome.status.value
    return "truncated" if outcome.truncated else None


def _is_shortened(e: Experience) -> bool:
    """Check whether an experience has anything in a field that format 1 lacks."""
    known = [getattr(record, name) for record in (e.outcome, e.provenance) for name in UNKNOWN[type(record)]]
    return any(value is not None for value in known) or any(len(point) > CURVE_S for point in e.outcome.curve)
