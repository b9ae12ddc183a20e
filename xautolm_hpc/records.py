"""The records that travel between the steps: task, system, pipeline, outcome, experience.

Unknown is ``None``, never 0. Times are seconds, energies joules, sizes bytes. A record is JSON on disk
(:func:`to_json`, :func:`from_json`) and columns in the store; both keep int, float, bool and str apart.
"""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.failures import ENDED_FROM_OUTSIDE, FailureOrigin, OutcomeStatus

T = typing.TypeVar("T")
TIME_SCOPE, BUSY_TIME_SCOPE = "train+eval", "train+eval on a busy node"
"""What ``evaluation_time_s`` covers; the second one if others delayed the trial: then it is no measure of duration."""

Value = bool | int | float | str
"""Value of one hyperparameter."""

PLAIN = frozenset({bool, int, float, str, type(None)})
"""Types that JSON holds as they are."""

STEPS = ("graph", "eager")
"""Ways to compute a training step: captured once and replayed, or operation by operation."""

LARGEST_SEED = 2**63 - 1
"""Largest training seed; the least is 0."""

METRICS = ("f1", "accuracy", "exact_match", "train_loss", "dev_loss", "dev_f1", "validation_loss")
ObjectiveName = Literal["f1", "evaluation_time_s", "gpu_energy_j", "peak_gpu_memory_bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be learnt, as the profile step measured it.

    Attributes:
        name: The user's name of the task.
        kind: One of :data:`xautolm_hpc.task_kinds.TASK_KINDS`.
        dataset_id: Digest of the sorted normalised rows before sub-sampling and splitting.
        fingerprint: Digest of rows, split and metric: two trials with one fingerprint are comparable.
        metric: Name of the metric that ``f1`` stands for, for instance ``macro-f1``.
        n_train: Rows to train on; likewise ``n_dev``, ``n_validation``, ``n_test``.
        labels: Label names in index order; empty when the task has none.
        feature_schema: Name and version of the feature list, for instance ``text-classification/1``.
        features: Meta-features in the order of the schema; ``None`` where one could not be had.
        semantic: Mean text embedding, or ``None``.
        length_tokens: (median, 95th percentile, longest) length of a text, in words and punctuation marks.
    """

    name: str
    kind: str
    dataset_id: str
    fingerprint: str
    metric: str
    n_train: int
    n_dev: int
    n_validation: int
    n_test: int
    labels: tuple[str, ...]
    feature_schema: str
    features: tuple[float | None, ...]
    semantic: tuple[float, ...] | None = None
    length_tokens: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The node an attempt really ran on.

    Attributes:
        site: Name of the site, from the cluster profile.
        cluster: Name of the cluster, from the cluster profile.
        n_cpu_cores: Cores the job may use.
        ram_bytes: Memory of the node, in bytes.
        n_gpus: GPUs the job may use; 0 on a CPU node.
        gpu_name: Product name, or ``None`` without a GPU.
        gpu_memory_bytes: Memory of one GPU, in bytes; ``None`` without a GPU.
        gpu_capability: CUDA compute capability, for instance 9.0; ``None`` without a GPU.
        driver_version: NVIDIA driver version, or ``None``.
        cuda_version: CUDA version torch was built for, or ``None``.
    """

    site: str
    cluster: str
    n_cpu_cores: int | None = None
    ram_bytes: int | None = None
    n_gpus: int | None = None
    gpu_name: str | None = None
    gpu_memory_bytes: int | None = None
    gpu_capability: float | None = None
    driver_version: str | None = None
    cuda_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One way to fine-tune: a model, a method and its hyperparameters.

    Attributes:
        task_kind: One of :data:`xautolm_hpc.task_kinds.TASK_KINDS`.
        model_id: Name of the model in the catalogue.
        model_revision: Commit of the hub repository, or ``None`` for a local or packaged model.
        method: ``full``, ``partial``, ``lora``, ``dora``, ``ia3``, ``bitfit`` or ``head``.
        params: Hyperparameter name -> value.
    """

    task_kind: str
    model_id: str
    model_revision: str | None
    method: str
    params: Mapping[str, Value]

    def canonical(self) -> str:
        """Encode the pipeline as canonical JSON: equal pipelines give equal text."""
        return canonical_json(to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attempt gave and what it cost; a failed one keeps the time and energy it burnt.

    Attributes:
        status: How it ended.
        metrics: Metric name -> value; every F1 in 0..1.
        load_s: Seconds to load model and data.
        train_s: Seconds of training, dev evaluations included, summed over restarts.
        eval_s: Seconds of the one evaluation on ``validation``.
        evaluation_time_s: ``train_s + eval_s``.
        retry_s: Seconds of tries inside the attempt that were thrown away.
        queue_s: Seconds between submission and start.
        time_scope: What ``evaluation_time_s`` covers, for instance :data:`TIME_SCOPE`; times of two scopes are never
            scaled together, and only those of :data:`TIME_SCOPE` measure how long a pipeline takes.
        gpu_energy_j: Energy of the allocated GPUs in the train window, joules.
        cpu_energy_j: Energy of the CPU packages in the train window, joules.
        energy_source: ``nvml-counter``, ``rapl``, ``nvml-counter+rapl`` or ``none``.
        energy_scope: ``whole-gpu``, ``node``, ``unattributed`` or ``none``.
        peak_gpu_memory_bytes: Highest GPU memory allocated by the trial.
        peak_rss_bytes: Highest resident memory of the trial's processes.
        n_steps: Optimiser steps done.
        n_samples: Training samples seen.
        truncated: Whether a success was evaluated before its training had ended, because its time was used up.
        epochs_done: Passes over the training data done, from 0; a part of one counts as such.
        epochs: Passes the pipeline asks for.
        schedule_share: Share of the planned optimiser steps done, 0..1.
        step: How a training step was computed, one of :data:`STEPS`; times and memory of two are never compared.
        step_reason: Why it was computed so, where another way was asked for.
        cpu_share: Share of its cores that the trial really got while it trained and was evaluated, 0..1.
        curve: Per epoch (epoch, train_loss, dev_loss, dev_f1, seconds so far); the seconds may be missing.
        kind: Failure kind, one of :class:`xautolm_hpc.failures.FailureKind`; ``None`` on success.
        origin: What the failure speaks about; ``None`` on success.
        message: Failure text, redacted; of a success what its first try ended with, if it needed two, and how long
            others delayed it, if that was long; else ``None``.
    """

    status: OutcomeStatus
    metrics: Mapping[str, float] = field(default_factory=dict)
    load_s: float | None = None
    train_s: float | None = None
    eval_s: float | None = None
    evaluation_time_s: float | None = None
    retry_s: float | None = None
    queue_s: float | None = None
    time_scope: str = TIME_SCOPE
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None
    energy_source: str = "none"
    energy_scope: str = "none"
    peak_gpu_memory_bytes: int | None = None
    peak_rss_bytes: int | None = None
    n_steps: int | None = None
    n_samples: int | None = None
    truncated: bool | None = None
    epochs_done: float | None = None
    epochs: int | None = None
    schedule_share: float | None = None
    step: str | None = None
    step_reason: str | None = None
    cpu_share: float | None = None
    curve: tuple[tuple[float, ...], ...] = ()
    kind: str | None = None
    origin: FailureOrigin | None = None
    message: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the attempt succeeded."""
        return self.status == OutcomeStatus.SUCCEEDED

    def objective(self, name: str) -> float | None:
        """Return the value of an objective; ``None`` when it is unknown or not finite.

        Raises:
            KeyError: There is no objective of that name.
        """
        if name not in typing.get_args(ObjectiveName):
            raise KeyError(name)
        value = self.metrics.get(name) if name in METRICS else getattr(self, name)
        return None if value is None or not math.isfinite(value) else float(value)

    @property
    def reason(self) -> str:
        """The line of the message that says why it failed; empty without one.

        What ended a worker from outside stands before its log, an error of its own at the log's end.
        """
        lines = [line for line in (self.message or "").splitlines() if line.strip()] or [""]
        is_first = self.kind in ENDED_FROM_OUTSIDE and not lines[0].startswith("Traceback")
        return lines[0 if is_first else -1].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where an experience comes from.

    Attributes:
        run_id: UUIDv4 of the run.
        trial: Number of the trial in the run, from 0.
        attempt: Number of the attempt of the trial, from 0.
        restart: Slurm's restart count when the attempt ended, from 0.
        generation: Generation of the search, from 0.
        seed: Training seed.
        site: Name of the site; forgetting reaches only experiences of one's own site.
        started_at: UTC time of the start, ISO 8601; ``None`` if it never started.
        ended_at: UTC time of the end, ISO 8601.
        prior_kind: Prior the pipeline was drawn from.
        package_version: Version of xautolm_hpc.
        image_digest: sha256 of the image, or ``None``.
        lock_hash: sha256 of the lock parts the worker's environment was installed from, or ``None``.
        node: Name of the node, or ``None``.
        suspect: Whether the trial belongs to a run of equal failures that stopped the search.
        job: Number of the job in its run, from 0: attempts with one number shared a job; ``None`` if unknown.
        job_position: Attempts that the job had begun before this one, from 0; ``None`` if unknown.
    """

    run_id: str
    trial: int
    attempt: int
    restart: int
    generation: int
    seed: int
    site: str
    started_at: str | None
    ended_at: str
    prior_kind: str
    package_version: str
    image_digest: str | None = None
    lock_hash: str | None = None
    node: str | None = None
    suspect: bool = False
    job: int | None = None
    job_position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """One attempt of one trial, with everything a later search may learn from it."""

    task: Task
    system: System
    pipeline: Pipeline
    outcome: Outcome
    provenance: Provenance

    @property
    def key(self) -> str:
        """Name the attempt: ``run/trial/attempt/restart``. Two ids under one key are a conflict."""
        p = self.provenance
        return f"{p.run_id}/{p.trial}/{p.attempt}/{p.restart}"

    @property
    def id(self) -> str:
        """Digest of key, pipeline, task fingerprint, status, kind and metrics (32 hex digits)."""
        o = self.outcome
        content = [self.key, to_json(self.pipeline), self.task.fingerprint, o.status, o.kind, dict(o.metrics)]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]


def canonical_json(value: Any) -> str:
    """Encode plain data as JSON with sorted keys and no spaces; NaN and infinities are refused.

    Raises:
        ValueError: A number is not finite.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def to_json(record: Any) -> Any:
    """Turn a record into plain data for :func:`json.dumps`; tuples become lists, members of an enum their values."""
    if type(record) in PLAIN:  # most of what records hold
        return record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: to_json(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, Mapping):
        return {key: to_json(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [to_json(value) for value in record]
    return record.value if isinstance(record, Enum) else record


def from_json(record_type: type[T], data: object, *, where: str) -> T:
    """Rebuild a record from plain data and check every field's type.

    Args:
        record_type: Dataclass of this module or another frozen record.
        data: What :func:`to_json` gave, after a trip through JSON.
        where: File or place the data comes from, for the message.

    Raises:
        InputError: A field is missing, unknown or of the wrong type.
    """
    return typing.cast("T", _decode(record_type, data, where=where))


def _decode(expected: Any, data: object, *, where: str) -> Any:
    """Rebuild a value of the expected type; only an int where a float is expected changes its type."""
    if expected is typing.Any or (expected in (int, bool, str) and type(data) is expected):
        return data
    if dataclasses.is_dataclass(expected):
        return _decode_record(expected, data, where=where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin in (types.UnionType, typing.Union):
        return _decode_union(arguments, data, where=where)
    if origin is tuple and isinstance(data, list):
        return tuple(_decode(arguments[0], item, where=where) for item in data)
    if origin is Mapping and isinstance(data, dict):
        return {key: _decode(arguments[1], item, where=f"{where}: {key:.80}") for key, item in data.items()}
    if expected is float and _fits_float(data):
        return float(data)
    if isinstance(expected, type) and issubclass(expected, Enum):
        return _decode_member(expected, data, where=where)
    name = getattr(expected, "__name__", str(expected))
    raise InputError(f"{where}: expected {name}, found {quoted(data)}")


def _fits_float(data: object) -> typing.TypeGuard[float]:
    """Check for a number that a float can hold; a bool is none, and a whole number may be too large."""
    return isinstance(data, float) or (type(data) is int and data.bit_length() < 1024)


def _decode_member(expected: type[Enum], data: object, *, where: str) -> Enum:
    try:
        return expected(data)
    except ValueError:
        valid = ", ".join(str(member.value) for member in expected)
        raise InputError(f"{where}: unknown word {quoted(data)}; valid: {valid}") from None


def _decode_union(choices: tuple[Any, ...], data: object, *, where: str) -> Any:
    if data is None and type(None) in choices:
        return None
    if type(data) in choices:  # keeps int, float and bool apart where all are allowed
        return data
    remaining = [choice for choice in choices if choice is not type(None)]
    if len(remaining) == 1:
        return _decode(remaining[0], data, where=where)
    names = ", ".join(choice.__name__ for choice in remaining)
    raise InputError(f"{where}: expected one of {names}, found {quoted(data)}")


@dataclass(frozen=True, slots=True)
class _Fields:
    """What a record may hold: the type of each field, and which have no default."""

    types: Mapping[str, Any]
    required: frozenset[str]


@functools.cache  # annotations are evaluated, which takes longer than all the rest of reading a record
def _fields(record_type: Any) -> _Fields:
    fields, hints = dataclasses.fields(record_type), typing.get_type_hints(record_type)
    required = (f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING)
    return _Fields({f.name: hints[f.name] for f in fields}, frozenset(required))


def _decode_record(record_type: Any, data: object, *, where: str) -> Any:
    """Rebuild a record; what has a default may be missing, nothing may be unknown."""
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected a {record_type.__name__} object, found {quoted(data)}")
    fields = _fields(record_type)
    unknown = sorted(set(data) - set(fields.types))
    if unknown:
        raise InputError(
            f"{where}: unknown key {quoted(unknown[0])} in {record_type.__name__}; valid: {', '.join(fields.types)}"
        )
    values = {name: _decode(fields.types[name], value, where=f"{where}: {name}") for name, value in data.items()}
    missing = sorted(fields.required - set(values))
    if missing:
        raise InputError(f"{where}: {record_type.__name__} lacks {missing[0]!r}")
    return record_type(**values)
