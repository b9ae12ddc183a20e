"""Encodes experiences as columns; checks every value, because stored experiences are never changed."""

import dataclasses
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.records import Experience, Outcome, System, Task, from_json, to_json
from xautolm_hpc.redact import cut_message
from xautolm_hpc.store.columns import Array, Columns, Ragged, line
from xautolm_hpc.store.layout import (
    COUNT_FIELDS,
    COUNTS,
    DICTIONARIES,
    DIGEST_BYTES,
    FLAG_FIELDS,
    FLOAT_FIELDS,
    JOB_FIELDS,
    NO_CODE,
    NO_INTEGER,
    TEXT_FIELDS,
    TIME_FIELDS,
)
from xautolm_hpc.store.range_kinds import EPOCH
from xautolm_hpc.store.ranges import MOST_CURVE_POINTS, RANGES, check_experiences
from xautolm_hpc.store.union import union
from xautolm_hpc.table import pipeline_digest


def encode(experiences: Sequence[Experience]) -> Columns:
    """Encode experiences as columns in stored form; records of one id become one row, a long message is cut.

    Raises:
        InputError: A value is not of its field's type, not finite, or out of range.
    """
    short = [_with_short_message(e) for e in experiences]
    try:
        check_experiences(short)
    except InputError as error:
        raise InputError(f"{error}; nothing was stored") from error
    rows = [_with_float_metrics(e) for e in short]
    codes: dict[str, dict[bytes, int]] = {name: {} for name in DICTIONARIES}
    names = _names(rows, record="pipeline", field="params")
    groups: dict[str, dict[str, Array]] = {
        "digests": {
            "id": _digests([e.id for e in rows]),
            "pipeline": _digests([pipeline_digest(e.pipeline) for e in rows]),
        },
        "codes": _code_columns(rows, codes),
        "counts": {name: _count_column(rows, name) for name in COUNTS},
        "integers": _integer_columns(rows),
        "numbers": {name: _number_column(rows, name) for name in (*FLOAT_FIELDS, *COUNT_FIELDS, *FLAG_FIELDS)},
        "metrics": {name: _metric_column(rows, name) for name in _names(rows, record="outcome", field="metrics")},
        "params": {name: _param_codes(rows, name, values=codes["values"]) for name in names},
        "param_floats": {name: _param_floats(rows, name) for name in names},
    }
    raw = Columns(
        groups=groups,
        variable={
            "curve": Ragged.of([_curve(e) for e in rows]),
            "message": Ragged.of([_message(e) for e in rows]),
        },
        dictionaries={name: tuple(entries) for name, entries in codes.items()},
        marks=(),
    )
    return union([raw])


def microseconds(text: str, *, where: str) -> int:
    """Count the microseconds from 1970 to a time given as ISO 8601.

    Raises:
        InputError: The text is not such a time, or has no time zone.
    """
    try:
        time = datetime.fromisoformat(text)
        return (time - EPOCH) // timedelta(microseconds=1)
    except (TypeError, ValueError) as error:
        expected = "an ISO 8601 time with its time zone, for instance 2026-01-31T12:00:00+00:00"
        raise InputError(f"{where} is {quoted(text)}; expected {expected}") from error


def _with_short_message(e: Experience) -> Experience:
    """Cut the message before anything else holds a copy of it."""
    message = e.outcome.message
    if not isinstance(message, str) or message == (short := cut_message(message)):
        return e
    return dataclasses.replace(e, outcome=dataclasses.replace(e.outcome, message=short))


def _with_float_metrics(e: Experience) -> Experience:
    """Convert every metric to float, so that the id computed now equals the id of the experience read back."""
    if all(type(value) is float for value in e.outcome.metrics.values()):
        return e
    metrics = {name: float(value) for name, value in e.outcome.metrics.items()}
    return dataclasses.replace(e, outcome=dataclasses.replace(e.outcome, metrics=metrics))


def _digests(hexadecimal: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hexadecimal)), np.uint8).reshape(-1, DIGEST_BYTES)


def _names(rows: Sequence[Experience], *, record: str, field: str) -> list[str]:
    return sorted({name for e in rows for name in getattr(getattr(e, record), field)})


def _code_columns(rows: Sequence[Experience], codes: dict[str, dict[bytes, int]]) -> dict[str, Array]:
    """Encode the fields that are stored once in a dictionary, as indices into it."""

    def column(dictionary: str, encoded: Sequence[bytes | None]) -> Array:
        known = codes[dictionary]
        found = [NO_CODE if entry is None else known.setdefault(entry, len(known)) for entry in encoded]
        return np.array(found, np.int32)

    columns = {
        "task": column("tasks", _record_lines(rows, "task", record_type=Task)),
        "system": column("systems", _record_lines(rows, "system", record_type=System)),
        "model": column("models", [line([e.pipeline.model_id, e.pipeline.model_revision]) for e in rows]),
    }
    for record, names in TEXT_FIELDS.items():
        for name in names:
            values = [getattr(getattr(e, record), name) for e in rows]
            columns[name] = column("values", [None if value is None else line(value) for value in values])
    return columns


def storable(experience: Experience) -> Experience:
    """Return an experience of this site's own trial as the table of ranges allows it, so that no trial is refused.

    A long message is cut, a long curve thinned out, and a measured number out of range is unknown: a clock that was set
    back gives a negative time.
    """
    outcome = _with_short_message(experience).outcome
    unknown: dict[str, Any] = {
        name: None
        for name in (*FLOAT_FIELDS, *COUNT_FIELDS)
        if RANGES[Outcome][name].fault(getattr(outcome, name)) is not None
    }
    step = -(-len(outcome.curve) // MOST_CURVE_POINTS) or 1
    return dataclasses.replace(experience, outcome=dataclasses.replace(outcome, curve=outcome.curve[::step], **unknown))


def _record_lines(rows: Sequence[Experience], name: str, *, record_type: type[Task] | type[System]) -> list[bytes]:
    """Encode a record that many experiences share; each distinct record is encoded once."""
    by_object: dict[int, bytes] = {}
    lines = []
    for e in rows:
        record = getattr(e, name)
        if id(record) not in by_object:
            whole = from_json(record_type, to_json(record), where=f"experience {e.key}: {name}")
            by_object[id(record)] = line(to_json(whole))
        lines.append(by_object[id(record)])
    return lines


def _curve(e: Experience) -> bytes:
    points = [[float(value) for value in point] for point in e.outcome.curve]
    return line(points) if points else b""


def _message(e: Experience) -> bytes:
    return b"" if e.outcome.message is None else line(e.outcome.message)


def _number_column(rows: Sequence[Experience], name: str) -> Array:
    values = [getattr(e.outcome, name) for e in rows]
    return np.array([math.nan if v is None else v for v in values], np.float64) + 0.0  # makes -0.0 a plain 0


def _metric_column(rows: Sequence[Experience], name: str) -> Array:
    return np.array([e.outcome.metrics.get(name, math.nan) for e in rows], np.float64)


def _count_column(rows: Sequence[Experience], name: str) -> Array:
    return np.array([getattr(e.provenance, name) for e in rows], np.int32)


def _integer_columns(rows: Sequence[Experience]) -> dict[str, Array]:
    times = {column: [_time(e, name) for e in rows] for column, name in TIME_FIELDS.items()}
    jobs = {name: [_or_no_integer(getattr(e.provenance, name)) for e in rows] for name in JOB_FIELDS}
    columns = {"seed": [e.provenance.seed for e in rows], **times, **jobs}
    return {name: np.array(values, np.int64) for name, values in columns.items()}


def _or_no_integer(value: int | None) -> int:
    return NO_INTEGER if value is None else value


def _time(e: Experience, name: str) -> int:
    text = getattr(e.provenance, name)
    return NO_INTEGER if text is None else microseconds(text, where=f"experience {e.key}: {name}")


def _param_codes(rows: Sequence[Experience], name: str, *, values: dict[bytes, int]) -> Array:
    """Encode the values of a parameter that are not floats as indices; canonical JSON keeps their types apart."""
    codes = np.full(len(rows), NO_CODE, np.int32)
    for i, e in enumerate(rows):
        value = e.pipeline.params.get(name)
        if value is not None and not isinstance(value, float):
            codes[i] = values.setdefault(line(value), len(values))
    return codes


def _param_floats(rows: Sequence[Experience], name: str) -> Array:
    values = [e.pipeline.params.get(name) for e in rows]
    return np.array([value if isinstance(value, float) else math.nan for value in values], np.float64)
