"""Decodes columns to experiences."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np

from xautolm_hpc.errors import StoreError
from xautolm_hpc.failures import FailureOrigin, OutcomeStatus
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task, Value, canonical_json
from xautolm_hpc.store.columns import Array, Columns, parse
from xautolm_hpc.store.layout import (
    COUNT_FIELDS,
    COUNTS,
    FLAG_FIELDS,
    FLOAT_FIELDS,
    JOB_FIELDS,
    LARGEST_EXACT,
    NO_INTEGER,
    TEXT_FIELDS,
    TIME_FIELDS,
)
from xautolm_hpc.store.range_kinds import EPOCH

R = TypeVar("R")
E = TypeVar("E", bound=StrEnum)


def decode(columns: Columns) -> list[Experience]:
    """Decode columns that were read whole to experiences, in the order of the rows.

    Raises:
        StoreError: A dictionary entry is of a wrong type.
    """
    tasks = shared_records(columns, Task, dictionary="tasks")
    systems = shared_records(columns, System, dictionary="systems")
    codes = columns.groups["codes"]
    rows = zip(
        [tasks[i] for i in codes["task"].tolist()],
        [systems[i] for i in codes["system"].tolist()],
        [Pipeline(**fields) for fields in _pipeline_rows(columns)],
        _outcomes(columns),
        _provenances(columns),
        strict=True,
    )
    return [
        Experience(task=task, system=system, pipeline=pipeline, outcome=outcome, provenance=provenance)
        for task, system, pipeline, outcome, provenance in rows
    ]


def identities(columns: Columns) -> tuple[list[str], list[str]]:
    """Compute the ids and pipeline digests of the rows, without building experiences.

    Returns:
        Ids and digests, 32 hex digits each, in the order of the rows.
    """
    known: list[Any] = [*values(columns), None]
    prints = [parse(entry)["fingerprint"] for entry in columns.dictionaries["tasks"]]
    codes, counts = columns.groups["codes"], columns.groups["counts"]
    text = {name: [known[i] for i in codes[name].tolist()] for name in ("run_id", "status", "kind")}
    tries = zip(text["run_id"], *(counts[name].tolist() for name in ("trial", "attempt", "restart")), strict=True)
    tasks = [prints[i] for i in codes["task"].tolist()]
    pipelines = [canonical_json(row) for row in _pipeline_rows(columns)]
    results = zip(tasks, text["status"], text["kind"], _metrics(columns), strict=True)
    rows = zip(tries, pipelines, map(canonical_json, results), strict=True)
    ids = [
        _digest(f"[{canonical_json('/'.join(map(str, key)))},{pipeline},{result[1:]}") for key, pipeline, result in rows
    ]
    return ids, [_digest(pipeline) for pipeline in pipelines]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def shared_records(columns: Columns, record_type: Callable[..., R], *, dictionary: str) -> list[R]:
    """Build the records of a dictionary, without the checks of :func:`~xautolm_hpc.records.from_json`.

    Raises:
        StoreError: An entry has a field that the record lacks, or lacks one.
    """
    try:
        return [record_type(**_tuples(parse(entry))) for entry in columns.dictionaries[dictionary]]
    except (TypeError, ValueError, AttributeError) as error:
        raise StoreError(f"{dictionary} hold a record this version does not know: {error}") from error


def values(columns: Columns) -> list[Any]:
    """List the dictionary of values: texts, and the bools and whole numbers of parameters.

    Raises:
        StoreError: An entry is of another type.
    """
    found = [parse(entry) for entry in columns.dictionaries["values"]]
    for value in found:
        if not (type(value) in (str, bool) or (type(value) is int and abs(value) <= LARGEST_EXACT)):
            raise StoreError(f"values hold {value!r:.80}; expected a text, a bool or a whole number of at most 2^53")
    return found


def models(columns: Columns) -> list[tuple[str, str | None]]:
    """List the dictionary of models: id and revision."""
    return [(model_id, revision) for model_id, revision in map(parse, columns.dictionaries["models"])]


def utc_text(microseconds: int) -> str:
    """Write a time as ISO 8601 in UTC, in milliseconds, or in microseconds if it is not a whole millisecond."""
    timespec = "microseconds" if microseconds % 1000 else "milliseconds"
    return (EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec=timespec)


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}


def _fields(columns: Columns, record: str) -> dict[str, Sequence[str | None]]:
    known: list[Any] = [*values(columns), None]  # the null code -1 takes the last one
    return {name: [known[i] for i in columns.groups["codes"][name].tolist()] for name in TEXT_FIELDS[record]}


def _rows(columns: dict[str, Any], n: int) -> Iterator[dict[str, Any]]:
    """Iterate over the rows of columns, each as keyword arguments."""
    names = list(columns)
    for values in zip(*columns.values(), strict=True) if names else ((),) * n:
        yield dict(zip(names, values, strict=True))


def _pipeline_rows(columns: Columns) -> Iterator[dict[str, Any]]:
    """Iterate over the pipelines, each as its fields."""
    known, n = models(columns), len(columns)
    pairs = [known[i] for i in columns.groups["codes"]["model"].tolist()]
    rows = zip(pairs, _params(columns), _rows(_fields(columns, "pipeline"), n), strict=True)
    for (model_id, revision), params, fields in rows:
        yield {"model_id": model_id, "model_revision": revision, "params": params, **fields}


def _params(columns: Columns) -> list[dict[str, Value]]:
    known = values(columns)
    params: list[dict[str, Value]] = [{} for _ in range(len(columns))]
    for name, codes in columns.groups["params"].items():
        for i in np.flatnonzero(codes >= 0).tolist():
            params[i][name] = known[codes[i]]
    _add_floats(params, columns.groups["param_floats"])
    return params


def _add_floats(records: Sequence[dict[str, Any]], columns: Mapping[str, Array]) -> None:
    for name, column in columns.items():
        present = np.flatnonzero(~np.isnan(column))
        for i, value in zip(present.tolist(), column[present].tolist(), strict=True):
            records[i][name] = value


def _outcomes(columns: Columns) -> list[Outcome]:
    """Build the outcomes; whole numbers become ints again."""
    numbers = columns.groups["numbers"]
    fields: dict[str, Any] = dict(_fields(columns, "outcome"))
    fields["status"] = _members(fields["status"], OutcomeStatus, name="status")
    fields["origin"] = _members(fields["origin"], FailureOrigin, name="origin")
    for name in FLOAT_FIELDS:
        fields[name] = [None if math.isnan(v) else v for v in numbers[name].tolist()]
    for name in COUNT_FIELDS:
        fields[name] = [None if math.isnan(v) else int(v) for v in numbers[name].tolist()]
    for name in FLAG_FIELDS:
        fields[name] = [None if math.isnan(v) else bool(v) for v in numbers[name].tolist()]
    fields["metrics"] = _metrics(columns)
    fields["curve"] = [
        tuple(tuple(point) for point in parse(piece)) if piece else () for piece in columns.variable["curve"].pieces()
    ]
    fields["message"] = [parse(piece) if piece else None for piece in columns.variable["message"].pieces()]
    return [Outcome(**row) for row in _rows(fields, len(columns))]


def _members(words: Sequence[str | None], words_of: type[E], *, name: str) -> list[E | None]:
    """Turn the words of a column into members of an enum; null stays ``None``.

    Raises:
        StoreError: A word is none of the enum's.
    """
    member_of: dict[str | None, E | None] = {None: None, **{str(member.value): member for member in words_of}}
    try:
        return [member_of[word] for word in words]
    except KeyError as error:
        raise StoreError(f"{name} holds {error}; valid: {', '.join(words_of)}") from error


def _metrics(columns: Columns) -> list[dict[str, float]]:
    metrics: list[dict[str, float]] = [{} for _ in range(len(columns))]
    _add_floats(metrics, columns.groups["metrics"])
    return metrics


def _provenances(columns: Columns) -> list[Provenance]:
    """Build the provenance of every row."""
    integers = columns.groups["integers"]
    fields: dict[str, Any] = dict(_fields(columns, "provenance"))
    fields |= {name: columns.groups["counts"][name].tolist() for name in COUNTS}
    fields["seed"] = integers["seed"].tolist()
    fields |= {name: [None if v == NO_INTEGER else v for v in integers[name].tolist()] for name in JOB_FIELDS}
    fields["suspect"] = [bool(value) for value in fields["suspect"]]
    for column, name in TIME_FIELDS.items():
        times = integers[column].tolist()
        fields[name] = [None if value == NO_INTEGER else utc_text(value) for value in times]
    return [Provenance(**row) for row in _rows(fields, len(columns))]
