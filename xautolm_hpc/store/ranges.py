"""The range of every field of a stored record, in one table.

Whatever lies within can be written and read, and every command and prior works on it: numbers are so small that their
squares and sums stay finite, texts and lists so short that a process holds them. The table serves records that are
imported, the writer, the importer of the reference records, and the check of foreign segments
(:mod:`~xautolm_hpc.store.column_check`, over whole columns).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.failures import FAILURE_KINDS, STATUSES, OutcomeStatus, origin_of
from xautolm_hpc.records import (
    LARGEST_SEED,
    STEPS,
    Experience,
    Outcome,
    Pipeline,
    Provenance,
    System,
    Task,
    to_json,
)
from xautolm_hpc.store.layout import LARGEST_EXACT, SHARES
from xautolm_hpc.store.range_kinds import Flag, Items, Moment, Named, Number, Range, Scalar, Text

LARGEST_COUNT = 2**31 - 1
LARGEST_FLOAT = 1.7e308

LONGEST_MESSAGE = 262_144
"""Characters of the longest message that is read; :func:`xautolm_hpc.redact.cut_message` writes far shorter ones."""

LONGEST_TASK = 2 * 1024**2
"""Characters of a task as JSON in ASCII."""

MOST_CURVE_POINTS = 10_000
MOST_NAMES = 256

TEXT = Text(longest=4_096)
NULLABLE_TEXT = Text(longest=4_096, is_nullable=True)
ID_TEXT = Text(longest=4_096, is_encodable=True)
NAME = Text(longest=200, shortest=1, is_encodable=True, is_name=True)

NUMBER_OF = Number(greatest=LARGEST_EXACT, is_whole=True)
COUNT = Number(greatest=LARGEST_COUNT, is_whole=True)
NULLABLE_COUNT = Number(greatest=LARGEST_COUNT, is_whole=True, is_nullable=True)
NULLABLE_NUMBER_OF = Number(greatest=LARGEST_EXACT, is_whole=True, is_nullable=True)
FEATURE = Number(least=-1e30, greatest=1e30, is_nullable=True)
COORDINATE = Number(least=-1e30, greatest=1e30)
SECONDS = Number(greatest=1e12, is_nullable=True)
JOULES = Number(greatest=1e18, is_nullable=True)
SHARE = Number(greatest=1)
NULLABLE_SHARE = Number(greatest=1, is_nullable=True)
SCORE = Number(least=-LARGEST_FLOAT, greatest=LARGEST_FLOAT)
PARAM = Scalar(
    whole=Number(least=-LARGEST_EXACT, greatest=LARGEST_EXACT, is_whole=True),
    real=Number(least=-1e30, greatest=1e30),
    text=Text(longest=1_024, is_encodable=True),
)

RANGES: Mapping[type[Any], Mapping[str, Range]] = {
    Task: {
        "name": TEXT,
        "kind": TEXT,
        "dataset_id": TEXT,
        "fingerprint": ID_TEXT,
        "metric": TEXT,
        "n_train": NUMBER_OF,
        "n_dev": NUMBER_OF,
        "n_validation": NUMBER_OF,
        "n_test": NUMBER_OF,
        "labels": Items(TEXT, most=LONGEST_TASK),
        "feature_schema": TEXT,
        "features": Items(FEATURE, most=4_096),
        "semantic": Items(COORDINATE, fewest=1, most=65_536, is_nullable=True),
        "length_tokens": Items(Number(greatest=1e12), fewest=3, most=3, is_nullable=True),
    },
    System: {
        "site": TEXT,
        "cluster": TEXT,
        "n_cpu_cores": NULLABLE_COUNT,
        "ram_bytes": NULLABLE_NUMBER_OF,
        "n_gpus": NULLABLE_COUNT,
        "gpu_name": NULLABLE_TEXT,
        "gpu_memory_bytes": NULLABLE_NUMBER_OF,
        "gpu_capability": Number(greatest=1_000, is_nullable=True),
        "driver_version": NULLABLE_TEXT,
        "cuda_version": NULLABLE_TEXT,
    },
    Pipeline: {
        "task_kind": ID_TEXT,
        "model_id": ID_TEXT,
        "model_revision": Text(longest=4_096, is_encodable=True, is_nullable=True),
        "method": ID_TEXT,
        "params": Named(NAME, PARAM, most=MOST_NAMES),
    },
    Outcome: {
        "status": Text(choices=STATUSES),
        "metrics": Named(NAME, SCORE, most=MOST_NAMES, by_name=dict.fromkeys(SHARES, SHARE)),
        "load_s": SECONDS,
        "train_s": SECONDS,
        "eval_s": SECONDS,
        "evaluation_time_s": SECONDS,
        "retry_s": SECONDS,
        "queue_s": SECONDS,
        "time_scope": TEXT,
        "gpu_energy_j": JOULES,
        "cpu_energy_j": JOULES,
        "energy_source": TEXT,
        "energy_scope": TEXT,
        "peak_gpu_memory_bytes": NULLABLE_NUMBER_OF,
        "peak_rss_bytes": NULLABLE_NUMBER_OF,
        "n_steps": NULLABLE_NUMBER_OF,
        "n_samples": NULLABLE_NUMBER_OF,
        "truncated": Flag(is_nullable=True),
        "epochs_done": Number(greatest=1e12, is_nullable=True),
        "epochs": NULLABLE_NUMBER_OF,
        "schedule_share": NULLABLE_SHARE,
        "step": Text(choices=STEPS, is_nullable=True),
        "step_reason": NULLABLE_TEXT,
        "cpu_share": NULLABLE_SHARE,
        "curve": Items(Items(SCORE, most=16), most=MOST_CURVE_POINTS),
        "kind": Text(choices=FAILURE_KINDS, is_nullable=True),
        "origin": NULLABLE_TEXT,
        "message": Text(longest=LONGEST_MESSAGE, is_nullable=True),
    },
    Provenance: {
        "run_id": ID_TEXT,
        "trial": COUNT,
        "attempt": COUNT,
        "restart": COUNT,
        "generation": COUNT,
        "seed": Number(greatest=LARGEST_SEED, is_whole=True),
        "site": TEXT,
        "started_at": Moment(is_nullable=True),
        "ended_at": Moment(),
        "prior_kind": TEXT,
        "package_version": TEXT,
        "image_digest": NULLABLE_TEXT,
        "lock_hash": NULLABLE_TEXT,
        "node": NULLABLE_TEXT,
        "suspect": Flag(),
        "job": NULLABLE_COUNT,
        "job_position": NULLABLE_COUNT,
    },
}
"""Record -> field -> its range. Whoever adds a field to a record adds it here."""


def check_record(record: Task | System | Pipeline | Outcome | Provenance, *, where: str) -> None:
    """Check every field of a record.

    Args:
        record: The record.
        where: What it belongs to, for the message.

    Raises:
        InputError: A field is outside its range; the message has its name, the value and what is valid.
    """
    for name, allowed in RANGES[type(record)].items():
        _check_field(name, getattr(record, name), allowed=allowed, where=where)
    if isinstance(record, Task):
        _check_length(record, where=where)
    if isinstance(record, Outcome):
        is_truncated = bool(record.truncated)
        problem = outcome_problem(record.status, kind=record.kind, origin=record.origin, is_truncated=is_truncated)
        if problem is not None:
            raise InputError(f"{where}: {problem}")


def check_experiences(experiences: Iterable[Experience], *, where: str = "experience {key}") -> None:
    """Check every field of experiences; a task or system that many share is checked once.

    Args:
        experiences: The experiences.
        where: Where they come from, for the message; ``{key}`` stands for the attempt.

    Raises:
        InputError: A field is outside its range.
    """
    checked: dict[int, Task | System] = {}  # keeps what it has checked, so that no number is used again
    for e in experiences:
        place = where.replace("{key}", f"{e.key:.200}")
        for name, shared in (("task", e.task), ("system", e.system)):
            if id(shared) not in checked:
                check_record(shared, where=f"{place}: {name}")
                checked[id(shared)] = shared
        for record in (e.pipeline, e.outcome, e.provenance):
            check_record(record, where=place)


def check_ended(outcome: Outcome, *, system: System | None, provenance: Mapping[str, Any], where: str) -> None:
    """Check what an attempt left, before it becomes part of an experience.

    Args:
        outcome: What came of it.
        system: The node it ran on, or ``None``.
        provenance: Some fields of its provenance: name -> value.
        where: What it belongs to, for the message.

    Raises:
        InputError: A field is outside its range.
    """
    check_record(outcome, where=where)
    if system is not None:
        check_record(system, where=where)
    for name, value in provenance.items():
        _check_field(name, value, allowed=RANGES[Provenance][name], where=where)


def _check_field(name: str, value: object, *, allowed: Range, where: str) -> None:
    fault = allowed.fault(value)
    if fault is not None:
        inner, found, expected = fault
        raise InputError(f"{where}: {name}{inner} is {quoted(found)}; expected {expected}")


def outcome_problem(status: str, *, kind: str | None, origin: str | None, is_truncated: bool) -> str | None:
    """Find what does not fit together in an outcome; ``None`` if it does."""
    if (kind is not None) is not (status == OutcomeStatus.FAILED):
        return f"kind is {quoted(kind)} and status {quoted(status)}; expected one for a failure, and none else"
    expected = None if kind is None else str(origin_of(kind))
    if origin != expected:
        return f"origin is {quoted(origin)} and kind {quoted(kind)}; expected {expected}"
    if is_truncated and status != OutcomeStatus.SUCCEEDED:
        return f"truncated is True and status {quoted(status)}; expected true for a success alone"
    return None


def _check_length(task: Task, *, where: str) -> None:
    """Check that a task is short enough as a whole; its labels may be many or long, not both."""
    n_values = len(task.features) + len(task.semantic or ()) + len(task.labels)
    if 12 * sum(map(len, task.labels)) + 32 * n_values < LONGEST_TASK // 2:  # the rest takes less than half
        return
    n_chars = len(json.dumps(to_json(task)))
    if n_chars > LONGEST_TASK:
        raise InputError(
            f"{where} takes {n_chars:,} characters as JSON; expected at most {LONGEST_TASK:,}: fewer labels"
        )
