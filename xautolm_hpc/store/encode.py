"""Encodes experiences as columns; checks every value, because stored experiences are never changed."""

import dataclasses
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FAILURE_KINDS, STORED_KINDS, FailureKind, OutcomeStatus, origin_of
from xautolm_hpc.records import LARGEST_SEED, Experience, System, Task, from_json, to_json
from xautolm_hpc.store.columns import Array, Columns, Ragged, line
from xautolm_hpc.store.layout import (
    COUNT_FIELDS,
    COUNTS,
    DICTIONARIES,
    DIGEST_BYTES,
    FLOAT_FIELDS,
    LARGEST_EXACT,
    NO_CODE,
    NO_INTEGER,
    NULLABLE_TEXTS,
    SHARES,
    TEXT_FIELDS,
    TIME_FIELDS,
)
from xautolm_hpc.store.union import union
from xautolm_hpc.table import pipeline_digest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST_COUNT = 2**31 - 1
STATUSES = tuple(OutcomeStatus)


def encode(experiences: Sequence[Experience]) -> Columns:
    """Encode experiences as columns in stored form; records of one id become one row.

    Raises:
        InputError: A value is not of its field's type, not finite, or out of range.
    """
    rows = [_with_float_metrics(e) for e in experiences]
    codes: dict[str, dict[bytes, int]] = {name: {} for name in DICTIONARIES}
    names = _names(rows, record="pipeline", field="params")
    groups: dict[str, dict[str, Array]] = {
        "digests": {
            "id": _digests([_id(e) for e in rows]),
            "pipeline": _digests([pipeline_digest(e.pipeline) for e in rows]),
        },
        "codes": _code_columns(rows, codes),
        "counts": {name: _count_column(rows, name) for name in COUNTS},
        "integers": _integer_columns(rows),
        "numbers": {
            name: _number_column(rows, name, is_count=name in COUNT_FIELDS) for name in (*FLOAT_FIELDS, *COUNT_FIELDS)
        },
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
        raise InputError(f"{where} is {text!r}; expected {expected}") from error


def _refusal(e: Experience, field: str, *, value: object, expected: str) -> InputError:
    return InputError(f"experience {e.key}: {field} is {value!r:.80}; expected {expected}; nothing was stored")


def _with_float_metrics(e: Experience) -> Experience:
    """Convert every metric to float, so that the id computed now equals the id of the experience read back."""
    if all(type(value) is float for value in e.outcome.metrics.values()):
        return e
    metrics = {name: _number(e, value, field=name) for name, value in e.outcome.metrics.items()}
    return dataclasses.replace(e, outcome=dataclasses.replace(e.outcome, metrics=metrics))


def _id(e: Experience) -> str:
    try:
        return e.id
    except (TypeError, ValueError) as error:
        raise InputError(
            f"experience {e.key}: a parameter or metric is no finite number, bool or text ({error}); "
            f"found {dict(e.pipeline.params)!r:.300} and {dict(e.outcome.metrics)!r:.200}; nothing was stored"
        ) from error


def _digests(hexadecimal: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(hexadecimal)), np.uint8).reshape(-1, DIGEST_BYTES)


def _names(rows: Sequence[Experience], *, record: str, field: str) -> list[str]:
    names = {name: e for e in rows for name in getattr(getattr(e, record), field)}
    for name, e in names.items():
        if not isinstance(name, str) or not name or "\0" in name:
            raise _refusal(e, f"a name in {field}", value=name, expected="text that is not empty and holds no NUL")
    return sorted(names)


def _code_columns(rows: Sequence[Experience], codes: dict[str, dict[bytes, int]]) -> dict[str, Array]:
    """Encode the fields that are stored once in a dictionary, as indices into it."""

    def column(dictionary: str, encoded: Sequence[bytes | None]) -> Array:
        known = codes[dictionary]
        found = [NO_CODE if entry is None else known.setdefault(entry, len(known)) for entry in encoded]
        return np.array(found, np.int32)

    for e in rows:
        _check_outcome(e)
    columns = {
        "task": column("tasks", _record_lines(rows, "task", record_type=Task)),
        "system": column("systems", _record_lines(rows, "system", record_type=System)),
        "model": column("models", [_model_line(e) for e in rows]),
    }
    for record, names in TEXT_FIELDS.items():
        for name in names:
            values = [(e, getattr(getattr(e, record), name)) for e in rows]
            is_nullable = name in NULLABLE_TEXTS
            encoded = [None if v is None and is_nullable else _text(e, v, field=name) for e, v in values]
            columns[name] = column("values", encoded)
    return columns


def storable(experience: Experience) -> Experience:
    """Return an experience as this format can hold it: a failure kind without a word in it becomes ``lost``.

    Its message then begins with the kind.
    """
    outcome = experience.outcome
    if outcome.kind is None or outcome.kind in STORED_KINDS or outcome.kind not in FAILURE_KINDS:
        return experience
    message = f"{outcome.kind}: {outcome.message or ''}"
    return dataclasses.replace(
        experience, outcome=dataclasses.replace(outcome, kind=FailureKind.LOST.value, message=message)
    )


def _check_outcome(e: Experience) -> None:
    outcome = e.outcome
    if outcome.status not in STATUSES:
        raise _refusal(e, "status", value=outcome.status, expected=" or ".join(STATUSES))
    if (outcome.kind is None) is not (outcome.succeeded):
        raise _refusal(e, "kind", value=outcome.kind, expected="one for a failure and none for a success")
    if outcome.kind is not None and outcome.kind not in STORED_KINDS:
        raise _refusal(e, "kind", value=outcome.kind, expected=f"one of {', '.join(STORED_KINDS)}")
    if outcome.kind is not None and outcome.origin != origin_of(outcome.kind):
        raise _refusal(e, "origin", value=outcome.origin, expected=origin_of(outcome.kind))


def _record_lines(rows: Sequence[Experience], name: str, *, record_type: type[Task] | type[System]) -> list[bytes]:
    """Encode a record that many experiences share; each distinct record is checked once."""
    checked: dict[bytes, bytes] = {}
    by_object: dict[int, bytes] = {}
    lines = []
    for e in rows:
        record = getattr(e, name)
        if id(record) not in by_object:
            raw = _checked_line(e, record, field=name)
            if raw not in checked:
                whole = from_json(record_type, to_json(record), where=f"experience {e.key}: {name}")
                checked[raw] = line(to_json(whole))
            by_object[id(record)] = checked[raw]
        lines.append(by_object[id(record)])
    return lines


def _model_line(e: Experience) -> bytes:
    revision = e.pipeline.model_revision
    if revision is not None:
        _text(e, revision, field="model_revision")
    _text(e, e.pipeline.model_id, field="model_id")
    return line([e.pipeline.model_id, revision])


def _checked_line(e: Experience, record: Task | System, *, field: str) -> bytes:
    try:
        return line(to_json(record))
    except (TypeError, ValueError) as error:
        raise _refusal(e, field, value=record, expected=f"finite numbers and texts ({error})") from error


def _curve(e: Experience) -> bytes:
    points = [[_number(e, value, field="curve") for value in point] for point in e.outcome.curve]
    return line(points) if points else b""


def _message(e: Experience) -> bytes:
    return b"" if e.outcome.message is None else _text(e, e.outcome.message, field="message")


def _text(e: Experience, value: object, *, field: str) -> bytes:
    if not isinstance(value, str):
        raise _refusal(e, field, value=value, expected="text")
    return line(value)


def _number(e: Experience, value: object, *, field: str) -> float:
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if type(value) is int and abs(value) <= LARGEST_EXACT:
        return float(value)
    raise _refusal(e, field, value=value, expected="a finite number (a whole one of at most 2^53) or null")


def _number_column(rows: Sequence[Experience], name: str, *, is_count: bool) -> Array:
    values = [getattr(e.outcome, name) for e in rows]
    for e, value in zip(rows, values, strict=True):
        if is_count and value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise _refusal(e, name, value=value, expected="a whole number, or null where it is unknown")
    known = [math.nan if v is None else _number(e, v, field=name) for e, v in zip(rows, values, strict=True)]
    return np.array(known, np.float64) + 0.0  # makes -0.0 a plain 0


def _metric_column(rows: Sequence[Experience], name: str) -> Array:
    metrics = [(e, e.outcome.metrics.get(name)) for e in rows]
    outside = [(e, v) for e, v in metrics if name in SHARES and v is not None and not 0 <= v <= 1]
    if outside:
        raise _refusal(outside[0][0], name, value=outside[0][1], expected="a number from 0 to 1")
    return np.array([math.nan if v is None else _number(e, v, field=name) for e, v in metrics], np.float64)


def _count_column(rows: Sequence[Experience], name: str) -> Array:
    largest, expected = (1, bool) if name == "suspect" else (LARGEST_COUNT, int)
    values = [_whole(e, name, largest=largest, expected=expected) for e in rows]
    return np.array(values, np.int32)


def _whole(e: Experience, name: str, *, largest: int, expected: type) -> int:
    value: int = getattr(e.provenance, name)
    if type(value) is not expected or not 0 <= value <= largest:
        raise _refusal(e, name, value=value, expected=f"{expected.__name__} from 0 to {largest}")
    return value


def _integer_columns(rows: Sequence[Experience]) -> dict[str, Array]:
    seeds = [_whole(e, "seed", largest=LARGEST_SEED, expected=int) for e in rows]
    times = {column: [_time(e, name) for e in rows] for column, name in TIME_FIELDS.items()}
    return {name: np.array(values, np.int64) for name, values in (("seed", seeds), *times.items())}


def _time(e: Experience, name: str) -> int:
    text = getattr(e.provenance, name)
    if text is None and name == "started_at":
        return NO_INTEGER
    return microseconds(text, where=f"experience {e.key}: {name}")


def _param_codes(rows: Sequence[Experience], name: str, *, values: dict[bytes, int]) -> Array:
    """Encode the values of a parameter that are not floats as indices; canonical JSON keeps their types apart."""
    codes = np.full(len(rows), NO_CODE, np.int32)
    for i, e in enumerate(rows):
        value = e.pipeline.params.get(name)
        if name not in e.pipeline.params or isinstance(value, float):
            continue
        if isinstance(value, int) and not isinstance(value, bool):
            _number(e, value, field=name)
        entry = line(value) if isinstance(value, bool | int) else _text(e, value, field=name)
        codes[i] = values.setdefault(entry, len(values))
    return codes


def _param_floats(rows: Sequence[Experience], name: str) -> Array:
    values = [(e, e.pipeline.params.get(name)) for e in rows]
    return np.array([_number(e, v, field=name) if isinstance(v, float) else math.nan for e, v in values], np.float64)
