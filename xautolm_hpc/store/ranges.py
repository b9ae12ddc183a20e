"""Checks the range of every value of a segment, over whole columns: a million experiences take seconds."""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from xautolm_hpc.errors import InputError, StoreError
from xautolm_hpc.failures import STORED_KINDS, OutcomeStatus, origin_of
from xautolm_hpc.records import System, Task, canonical_json, from_json, to_json
from xautolm_hpc.store.columns import Array, Columns, digest, parse
from xautolm_hpc.store.decode import identities, models, values
from xautolm_hpc.store.encode import EPOCH
from xautolm_hpc.store.layout import (
    COUNT_FIELDS,
    DICTIONARIES,
    LARGEST_EXACT,
    NO_CODE,
    NO_INTEGER,
    NULLABLE_TEXTS,
    SHARES,
    TIME_FIELDS,
)
from xautolm_hpc.store.union import union

CHECKED_ROWS = 20_000
US = timedelta(microseconds=1)
EARLIEST_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // US
LATEST_US = (datetime.max.replace(tzinfo=UTC) - EPOCH) // US


def range_problems(columns: Columns) -> list[str]:
    """List the values that format 1 does not allow, in columns that were read whole; empty if there are none."""
    checks: tuple[Callable[[Columns], Iterator[str]], ...] = (
        _dictionary_problems,
        _code_problems,
        _number_problems,
        _variable_problems,
    )
    for check in checks:  # later checks rely on earlier ones
        try:
            found = list(check(columns))
        except (InputError, StoreError, ValueError, TypeError, OverflowError, RecursionError) as error:
            found = [str(error)]
        if found:
            return found
    return []


def identity_problems(columns: Columns) -> list[str]:
    """Check that ids are those of their experiences and rows are in stored form; ranges must be checked before."""
    for start in range(0, len(columns), CHECKED_ROWS):
        part = columns.take(np.arange(start, min(start + CHECKED_ROWS, len(columns))))
        ids, pipelines = identities(part)
        stored = part.groups["digests"]
        if b"".join(map(bytes.fromhex, ids)) != stored["id"].tobytes():
            return ["it has ids that are not those of its experiences"]
        if b"".join(map(bytes.fromhex, pipelines)) != stored["pipeline"].tobytes():
            return ["it has digests that are not those of its pipelines"]
    if len(columns) and digest(union([columns])) != digest(columns):
        return ["its rows or dictionaries are not in the order of format 1, or not used"]
    return []


def _dictionary_problems(columns: Columns) -> Iterator[str]:
    """Check every entry as any record that is read is checked."""
    kinds: dict[str, Any] = {"tasks": Task, "systems": System}
    for name, record_type in kinds.items():
        for entry in columns.dictionaries[name]:
            whole = to_json(from_json(record_type, parse(entry), where=f"an entry of {name}"))
            canonical_json(whole)
    values(columns)
    for model in models(columns):
        if type(model[0]) is not str or type(model[1]) not in (str, type(None)):
            yield f"models hold {model!r:.80}; expected an id and a revision or null"


def _code_problems(columns: Columns) -> Iterator[str]:
    """Check which indices are null, that texts are texts, and that kinds and origins agree."""
    codes, known = columns.groups["codes"], values(columns)
    is_text = np.array([*(isinstance(value, str) for value in known), True])
    for name in codes:
        if name not in NULLABLE_TEXTS and bool((codes[name] == NO_CODE).any()):
            yield f"{name} is null somewhere"
        if name in DICTIONARIES["values"] and not is_text[codes[name]].all():
            yield f"{name} is no text somewhere"
    texts: list[Any] = [*known, None]
    pairs = np.unique(np.stack([codes[name] for name in ("status", "kind", "origin")]), axis=1).T.tolist()
    for status, kind, origin in ([texts[code] for code in triple] for triple in pairs):
        is_right = (kind is None and origin is None) if status == OutcomeStatus.SUCCEEDED else kind in STORED_KINDS
        if not is_right or (kind is not None and origin != origin_of(kind)):
            yield f"an outcome is {status!r:.80} with kind {kind!r:.80} and origin {origin!r:.80}"
    for name in columns.groups["params"]:
        floats = columns.groups["param_floats"].get(name)
        if floats is not None and bool(((columns.groups["params"][name] != NO_CODE) & ~np.isnan(floats)).any()):
            yield f"parameter {name!r:.80} has two values at once"


def _number_problems(columns: Columns) -> Iterator[str]:
    """Check every number's range."""
    groups = columns.groups
    yield from _integer_problems(groups["counts"], groups["integers"])
    for group in ("numbers", "metrics", "param_floats"):
        for name, column in groups[group].items():
            if bool(np.isinf(column).any()):
                yield f"{name!r:.80} is infinite somewhere"
    for name in COUNT_FIELDS:
        known = groups["numbers"][name][~np.isnan(groups["numbers"][name])]
        if bool(((known != np.floor(known)) | (np.abs(known) > LARGEST_EXACT)).any()):
            yield f"{name} is no whole number somewhere"
    yield from _score_problems(groups["metrics"])


def _integer_problems(counts: Mapping[str, Array], integers: Mapping[str, Array]) -> Iterator[str]:
    for name, column in counts.items():
        if bool((column < 0).any()) or (name == "suspect" and bool((column > 1).any())):
            yield f"{name} is out of range"
    for name, column in integers.items():
        known = column[column != NO_INTEGER] if name == "started_at_us" else column
        low, high = (EARLIEST_US, LATEST_US) if name in TIME_FIELDS else (0, 2**63 - 1)
        if known.size and (known.min() < low or known.max() > high):
            yield f"{name} is out of range"


def _score_problems(metrics: Mapping[str, Array]) -> Iterator[str]:
    for name in SHARES:
        if name not in metrics:
            continue
        column = metrics[name]
        if bool(((column < 0) | (column > 1)).any()):
            yield f"{name} is outside 0 to 1 somewhere"


def _variable_problems(columns: Columns) -> Iterator[str]:
    """Parse every curve and message."""
    for piece in set(columns.variable["message"].pieces()):
        if piece and type(parse(piece)) is not str:
            yield f"a message is {piece!r:.80}; expected a text"
            return
    for piece in columns.variable["curve"].pieces():
        if piece and not _is_curve(parse(piece)):
            yield f"a curve is {piece!r:.80}; expected lists of finite numbers"
            return


def _is_curve(points: Any) -> bool:
    return isinstance(points, list) and all(
        isinstance(point, list) and all(type(value) is float and math.isfinite(value) for value in point)
        for point in points
    )
