"""Checks the range of every value of a segment, over whole columns: a million experiences take seconds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError, StoreError, quoted
from xautolm_hpc.records import Outcome, Pipeline, Provenance, System, Task, canonical_json, from_json, to_json
from xautolm_hpc.store.columns import Columns, digest, parse
from xautolm_hpc.store.decode import identities, models, values
from xautolm_hpc.store.layout import (
    COUNTS,
    DICTIONARIES,
    FLAG_FIELDS,
    KINDS_OF,
    NO_CODE,
    NO_INTEGER,
    STATUSES_OF,
    TEXT_FIELDS,
    TIME_FIELDS,
)
from xautolm_hpc.store.range_kinds import EARLIEST_US, LATEST_US, Named, Number, Range
from xautolm_hpc.store.ranges import RANGES, check_record, outcome_problem
from xautolm_hpc.store.union import union

CHECKED_ROWS = 20_000
RECORDS: dict[str, type[Any]] = {"pipeline": Pipeline, "outcome": Outcome, "provenance": Provenance}
FLAG = Number(greatest=1, is_whole=True)
MICROSECONDS = Number(least=EARLIEST_US, greatest=LATEST_US, is_whole=True)


def range_problems(columns: Columns) -> list[str]:
    """List the values in columns that were read whole which their format does not allow; empty if there are none."""
    checks: tuple[Callable[[Columns], Iterator[str]], ...] = (
        _dictionary_problems,
        _code_problems,
        _outcome_problems,
        _number_problems,
        _named_problems,
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
    if len(columns) and digest(replace(union([columns]), format_version=columns.format_version)) != digest(columns):
        return ["its rows or dictionaries are not in the order of the format, or not used"]
    return []


def _dictionary_problems(columns: Columns) -> Iterator[str]:
    """Check every entry as any record that is read is checked."""
    kinds: dict[str, Any] = {"tasks": Task, "systems": System}
    for name, record_type in kinds.items():
        for entry in columns.dictionaries[name]:
            record = from_json(record_type, parse(entry), where=f"an entry of {name}")
            canonical_json(to_json(record))
            check_record(record, where=f"an entry of {name}")
    values(columns)
    allowed = RANGES[Pipeline]
    for model in models(columns):
        yield from _faults("model_id", [model[0]], allowed=allowed["model_id"])
        yield from _faults("model_revision", [model[1]], allowed=allowed["model_revision"])


def _faults(name: str, found: Sequence[Any], *, allowed: Range) -> Iterator[str]:
    """Write what is wrong with the first of some values of a field that is out of range."""
    for value in found:
        fault = allowed.fault(value)
        if fault is not None:
            yield f"{quoted_name(name)}{fault[0]} is {quoted(fault[1])}; expected {fault[2]}"
            return


def quoted_name(name: str) -> str:
    """Return the name of a column; one from a file may be anything."""
    return name if name.isidentifier() and len(name) < 80 else quoted(name)


def _code_problems(columns: Columns) -> Iterator[str]:
    """Check every text field."""
    codes, known = columns.groups["codes"], values(columns)
    texts: list[Any] = [*known, None]  # the null code -1 takes the last one
    for name in DICTIONARIES["tasks"] + DICTIONARIES["systems"] + DICTIONARIES["models"]:
        if bool((codes[name] == NO_CODE).any()):
            yield f"{name} is null somewhere"
    for record, names in TEXT_FIELDS.items():
        for name in names:
            found = [texts[code] for code in np.unique(codes[name]).tolist()]
            yield from _faults(name, found, allowed=RANGES[RECORDS[record]][name])


def _outcome_problems(columns: Columns) -> Iterator[str]:
    """Check that status, kind and origin are words of the format and agree."""
    codes, texts = columns.groups["codes"], [*values(columns), None]
    statuses, kinds = STATUSES_OF[columns.format_version], KINDS_OF[columns.format_version]
    truncated = (columns.groups["numbers"]["truncated"] == 1).astype(np.int32)
    found = np.unique(np.stack([*(codes[name] for name in ("status", "kind", "origin")), truncated]), axis=1).T.tolist()
    for *three, is_truncated in found:
        status, kind, origin = (texts[code] for code in three)
        problem = outcome_problem(status, kind=kind, origin=origin, is_truncated=bool(is_truncated))
        if problem is not None:
            yield f"an outcome is wrong: {problem}"
        if status not in statuses or kind not in (None, *kinds):
            yield f"an outcome is {quoted(status)} with kind {quoted(kind)}; no words of its format"


def _number_problems(columns: Columns) -> Iterator[str]:
    """Check every number whose field is known."""
    groups, outcome, provenance = columns.groups, RANGES[Outcome], RANGES[Provenance]
    checked = [(name, column, outcome[name]) for name, column in groups["numbers"].items() if name not in FLAG_FIELDS]
    checked += [(name, groups["numbers"][name], FLAG) for name in FLAG_FIELDS]
    checked += [(name, groups["counts"][name], provenance[name]) for name in COUNTS if name != "suspect"]
    checked += [("suspect", groups["counts"]["suspect"], FLAG)]
    for name, column in groups["integers"].items():
        field = TIME_FIELDS.get(name, name)
        is_known = column != NO_INTEGER if provenance[field].is_nullable else np.ones(len(column), np.bool_)
        checked.append((name, column[is_known], MICROSECONDS if name in TIME_FIELDS else provenance[field]))
    for name, column, allowed in checked:
        yield from _outside(name, column, allowed=allowed)


def _outside(name: str, column: NDArray[Any], *, allowed: Range) -> Iterator[str]:
    found = allowed.first_outside(column) if isinstance(allowed, Number) else None
    if found is not None:
        yield f"{quoted_name(name)} is {quoted(found)} somewhere; expected {allowed.expected}"


def _named_problems(columns: Columns) -> Iterator[str]:
    """Check names, values and number of parameters and metrics."""
    groups, known = columns.groups, values(columns)
    params, metrics = RANGES[Pipeline]["params"], RANGES[Outcome]["metrics"]
    if not isinstance(params, Named) or not isinstance(metrics, Named):
        raise TypeError("params and metrics have names")
    n_params, n_metrics = np.zeros(len(columns), np.int64), np.zeros(len(columns), np.int64)
    yield from _faults("the name of a parameter", [*groups["params"], *groups["param_floats"]], allowed=params.name)
    yield from _faults("the name of a metric", list(groups["metrics"]), allowed=metrics.name)
    for name, column in groups["metrics"].items():
        yield from _outside(name, column, allowed=metrics.of(name))
        n_metrics += ~np.isnan(column)
    for name in groups["params"].keys() | groups["param_floats"].keys():
        codes = groups["params"].get(name, np.full(len(columns), NO_CODE, np.int32))
        floats = groups["param_floats"].get(name, np.full(len(columns), np.nan))
        if bool(((codes != NO_CODE) & ~np.isnan(floats)).any()):
            yield f"parameter {quoted(name)} has two values at once"
        found = [known[code] for code in np.unique(codes).tolist() if code != NO_CODE]
        yield from _faults(name, [*found, *_extremes(floats)], allowed=params.of(name))
        n_params += (codes != NO_CODE) | ~np.isnan(floats)
    for what, numbers, most in (("parameters", n_params, params.most), ("metrics", n_metrics, metrics.most)):
        if numbers.size and int(numbers.max()) > most:
            yield f"an experience has {int(numbers.max())} {what}; expected at most {most}"


def _extremes(column: NDArray[np.float64]) -> list[float]:
    """Return the least and the greatest known number of a column."""
    known = column[~np.isnan(column)]
    return [float(known.min()), float(known.max())] if known.size else []


def _variable_problems(columns: Columns) -> Iterator[str]:
    """Parse every curve and message."""
    for name in ("message", "curve"):
        pieces = columns.variable[name].pieces()
        for piece in set(pieces) if name == "message" else pieces:
            if piece:
                yield from _faults(name, [parse(piece)], allowed=RANGES[Outcome][name])
