"""Layout of a segment, formats 1 and 2; ``store/FORMAT.md`` describes it, and a test compares the two.

A segment holds few datasets: the columns of one kind are the rows of one matrix, so that a commit of 32 experiences
is cheap and a reader takes the columns it wants.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from xautolm_hpc.failures import FAILURE_KINDS, FORMAT_1_KINDS, STATUSES

FORMAT = 2
"""Format this version writes."""

READABLE = (1, 2)
"""Formats this version reads."""

NO_CODE = -1
NO_INTEGER = -(2**63)
LARGEST_EXACT = 2**53
"""Largest whole number that a float64 holds exactly."""


class Group(NamedTuple):
    """One dataset of columns.

    Attributes:
        dtype: Type of the values on disk.
        null: Value that stands for "unknown" or "absent".
    """

    dtype: str
    null: Any


GROUPS: Mapping[str, Group] = {
    "digests": Group("<u1", 0),
    "codes": Group("<i4", NO_CODE),
    "counts": Group("<i4", 0),
    "integers": Group("<i8", NO_INTEGER),
    "numbers": Group("<f8", float("nan")),
    "metrics": Group("<f8", float("nan")),
    "params": Group("<i4", NO_CODE),
    "param_floats": Group("<f8", float("nan")),
}
"""Dataset -> type of its values; each row is a column of the store, named in the attribute ``names``."""

DIGEST_BYTES = 16
DIGESTS = ("id", "pipeline")

TEXT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "pipeline": ("task_kind", "method"),
    "outcome": ("status", "kind", "origin", "time_scope", "energy_source", "energy_scope", "step", "step_reason"),
    "provenance": ("run_id", "site", "prior_kind", "package_version", "image_digest", "lock_hash", "node"),
}
"""Record -> its fields that are indices into ``values``."""

NULLABLE_TEXTS = ("kind", "origin", "image_digest", "lock_hash", "node", "step", "step_reason")
"""Those of :data:`TEXT_FIELDS` that may be null."""

DICTIONARIES: Mapping[str, tuple[str, ...]] = {
    "tasks": ("task",),
    "systems": ("system",),
    "models": ("model",),
    "values": tuple(name for fields in TEXT_FIELDS.values() for name in fields),
}
"""Dictionary -> the columns of ``codes`` that are indices into it; all ``params`` are indices into ``values``."""

COUNTS = ("trial", "attempt", "restart", "generation", "suspect")
"""Fields of the provenance that are ``counts``; ``suspect`` is 0 or 1."""

TIME_FIELDS: Mapping[str, str] = {"started_at_us": "started_at", "ended_at_us": "ended_at"}
"""Column of ``integers`` -> field of the provenance; microseconds since 1970-01-01T00:00:00 UTC."""

JOB_FIELDS = ("job", "job_position")
"""Fields of the provenance that are ``integers`` from 0, or null."""

FLOAT_FIELDS = (
    "load_s",
    "train_s",
    "eval_s",
    "evaluation_time_s",
    "retry_s",
    "queue_s",
    "gpu_energy_j",
    "cpu_energy_j",
    "epochs_done",
    "schedule_share",
    "cpu_share",
)
COUNT_FIELDS = ("peak_gpu_memory_bytes", "peak_rss_bytes", "n_steps", "n_samples", "epochs")
"""Whole numbers of the outcome; like :data:`FLOAT_FIELDS` they are ``numbers``."""

FLAG_FIELDS = ("truncated",)
"""Bools of the outcome that may be null; as ``numbers`` they are 0 or 1."""

SHARES = ("f1", "dev_f1")
"""Metrics whose range is 0..1."""

SHARE_FIELDS = ("schedule_share", "cpu_share")
"""Those of :data:`FLOAT_FIELDS` whose range is 0..1."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "digests": DIGESTS,
    "codes": tuple(sorted(name for names in DICTIONARIES.values() for name in names)),
    "counts": tuple(sorted(COUNTS)),
    "integers": tuple(sorted(("seed", *TIME_FIELDS, *JOB_FIELDS))),
    "numbers": tuple(sorted((*FLOAT_FIELDS, *COUNT_FIELDS, *FLAG_FIELDS))),
}
"""Dataset -> its columns in order; those of the other datasets are the names in the experiences, sorted."""

ADDED_BY_2: Mapping[str, tuple[str, ...]] = {
    "codes": ("step", "step_reason"),
    "integers": JOB_FIELDS,
    "numbers": ("cpu_share", "epochs", "epochs_done", "schedule_share", "truncated"),
}
"""Dataset -> those of its columns that format 1 lacks."""

CURVE_S = 4
"""Index of the seconds in an entry of the curve; format 1 has none."""

STATUSES_OF = {1: STATUSES[:2], 2: STATUSES}
KINDS_OF = {1: FORMAT_1_KINDS, 2: FAILURE_KINDS}
"""Format -> the failure kinds it has a word for; likewise :data:`STATUSES_OF`."""


def columns_of(dataset: str, format_version: int) -> tuple[str, ...]:
    """List the columns that a dataset of :data:`COLUMNS` has in a format, in order."""
    added = ADDED_BY_2.get(dataset, ()) if format_version == 1 else ()
    return tuple(name for name in COLUMNS[dataset] if name not in added)


VARIABLE = ("curve", "message")
"""Variable parts: each is a blob of its own, so that they are not read for priors."""

VARIABLE_ENDS = "variable_ends"
ENDS_DTYPE = "<i8"
MARKS = "marks"

Wanted = Mapping[str, tuple[str, ...] | None]
"""Dataset -> the columns to read, ``None`` for all; a dataset that is not named is not read."""

EVERYTHING: Wanted = {**dict.fromkeys(GROUPS), VARIABLE_ENDS: None}
IDS: Wanted = {"digests": ("id",)}
KEYS: Wanted = {"digests": ("id",), "codes": ("run_id", "site"), "counts": ("trial", "attempt", "restart")}
"""Columns that decide which experiences count."""

TABLE: Wanted = {
    "digests": None,
    "codes": ("task", "system", "model", "method", "run_id", "site", "status", "kind", "time_scope", "step"),
    "counts": ("trial", "attempt", "restart", "suspect"),
    "numbers": ("epochs_done", "eval_s", "evaluation_time_s", "gpu_energy_j", "peak_gpu_memory_bytes", "truncated"),
    "metrics": ("dev_f1", "f1"),
    "params": None,
    "param_floats": None,
}
SUMMARY: Wanted = {
    "digests": ("id",),
    "codes": ("task", "model", "method", "run_id", "site", "status", "kind", "prior_kind"),
    "counts": ("trial", "attempt", "restart", "suspect"),
    "integers": ("started_at_us", "ended_at_us"),
    "numbers": ("truncated",),
}
