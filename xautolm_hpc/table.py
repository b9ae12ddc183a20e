"""Experiences as columns: what priors are computed from, without a Python object per experience.

Repeated things (tasks, systems, models, texts) stand once and are referred to by their index. Rows are in ascending
order of the experience id, so that equal sets of experiences are equal tables whatever store they come from.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.failures import FAILURE_KINDS, FailureKind, OutcomeStatus
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import Experience, Outcome, Pipeline, System, Task, Value

ABSENT, BOOL, INT, FLOAT, TEXT = range(5)
"""Type codes of a parameter's value."""

REFERENCE_SCOPE = "xautolm: "
"""Beginning of the time scope of records that the reference implementation made, whose trials follow its own rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamColumn:
    """One hyperparameter of all experiences.

    Attributes:
        type_code: :data:`ABSENT` where the pipeline lacks the parameter, else the type of its value, (n,) uint8.
        number: Value of booleans (0 or 1) and numbers, NaN elsewhere, (n,) float64.
        text: Index into :attr:`ExperienceTable.texts`, -1 where the value is no text, (n,) int32.
    """

    type_code: NDArray[np.uint8]
    number: NDArray[np.float64]
    text: NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperienceTable:
    """A set of n experiences.

    Attributes:
        tasks: Distinct tasks; likewise ``systems``, ``models`` (id, revision), ``methods``, ``runs`` (run ids),
            ``sites`` and ``texts`` (text values of parameters).
        id: Experience ids, 32 hex digits, ascending, (n,) S32.
        task: Index into ``tasks``, (n,) int32; likewise ``system``, ``model``, ``method``, ``run``, ``site``.
        trial: Trial number in its run, (n,) int32; likewise ``attempt``, ``restart``.
        succeeded: Whether the attempt succeeded, (n,) bool.
        kind: Index into :data:`xautolm_hpc.failures.FAILURE_KINDS`, -1 for what is no failure, (n,) int16.
        stopped: Whether it was left before its end because others were ahead, (n,) bool.
        truncated: Whether it is a success that is known to be truncated, (n,) bool.
        suspect: Whether the trial is no evidence until a person accepts it, (n,) bool.
        pipeline: Digest of the canonical pipeline, 32 hex digits, (n,) S32.
        objectives: Name of each of :data:`xautolm_hpc.pareto.OBJECTIVES` -> values, NaN where unknown, (n,) float64.
        time_scope: Index into ``texts`` of what the evaluation time covers, (n,) int32.
        captured: Whether its steps are known to have been captured in graphs, (n,) bool.
        epochs_done: Passes over the training data that were done, NaN where unknown, (n,) float64.
        was_evaluated: Whether it is known to have been evaluated on dev, or that its last evaluation began, (n,) bool.
        params: Parameter name -> column.
    """

    tasks: tuple[Task, ...]
    systems: tuple[System, ...]
    models: tuple[tuple[str, str | None], ...]
    methods: tuple[str, ...]
    runs: tuple[str, ...]
    sites: tuple[str, ...]
    texts: tuple[str, ...]
    id: NDArray[np.bytes_]
    task: NDArray[np.int32]
    system: NDArray[np.int32]
    model: NDArray[np.int32]
    method: NDArray[np.int32]
    run: NDArray[np.int32]
    site: NDArray[np.int32]
    trial: NDArray[np.int32]
    attempt: NDArray[np.int32]
    restart: NDArray[np.int32]
    succeeded: NDArray[np.bool_]
    kind: NDArray[np.int16]
    stopped: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    suspect: NDArray[np.bool_]
    pipeline: NDArray[np.bytes_]
    objectives: Mapping[str, NDArray[np.float64]]
    time_scope: NDArray[np.int32]
    captured: NDArray[np.bool_]
    epochs_done: NDArray[np.float64]
    was_evaluated: NDArray[np.bool_]
    params: Mapping[str, ParamColumn]

    def __len__(self) -> int:
        """Count the experiences."""
        return len(self.id)


def was_evaluated(outcome: Outcome) -> bool:
    """Check whether a trial is known to have been evaluated on dev, or to have begun its last evaluation."""
    return outcome.eval_s is not None or "dev_f1" in outcome.metrics


def is_censored(outcome: Outcome) -> bool:
    """Check whether a trial ended at its limit although it was evaluated: where ends are results it is no failure."""
    return outcome.kind == FailureKind.TIME_LIMIT and was_evaluated(outcome)


def pipeline_digest(pipeline: Pipeline) -> str:
    """Digest a pipeline: equal for equal configurations, 32 hex digits."""
    return hashlib.sha256(pipeline.canonical().encode()).hexdigest()[:32]


def build_table(experiences: Sequence[Experience]) -> ExperienceTable:
    """Turn experiences into a table; records of one id are taken once."""
    rows = [e for _, e in sorted({e.id: e for e in experiences}.items())]
    codes: dict[str, dict[Any, int]] = {}

    def code(name: str, values: list[Any]) -> NDArray[np.int32]:
        known = codes.setdefault(name, {})
        return np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int32)

    columns: dict[str, Any] = {
        "task": code("tasks", [e.task for e in rows]),
        "system": code("systems", [e.system for e in rows]),
        "model": code("models", [(e.pipeline.model_id, e.pipeline.model_revision) for e in rows]),
        "method": code("methods", [e.pipeline.method for e in rows]),
        "run": code("runs", [e.provenance.run_id for e in rows]),
        "site": code("sites", [e.provenance.site for e in rows]),
        "time_scope": code("texts", [e.outcome.time_scope for e in rows]),
    }
    names = sorted({name for e in rows for name in e.pipeline.params})
    params = {name: _param_column([e.pipeline.params.get(name) for e in rows], codes) for name in names}
    kinds = [-1 if e.outcome.kind is None else FAILURE_KINDS.index(e.outcome.kind) for e in rows]
    groups = ("tasks", "systems", "models", "methods", "runs", "sites", "texts")
    distinct: dict[str, Any] = {name: tuple(codes.get(name, {})) for name in groups}
    return ExperienceTable(
        **distinct,
        **columns,
        id=np.array([e.id.encode() for e in rows], dtype="S32"),
        trial=np.array([e.provenance.trial for e in rows], dtype=np.int32),
        attempt=np.array([e.provenance.attempt for e in rows], dtype=np.int32),
        restart=np.array([e.provenance.restart for e in rows], dtype=np.int32),
        succeeded=np.array([e.outcome.succeeded for e in rows], dtype=np.bool_),
        kind=np.array(kinds, dtype=np.int16),
        stopped=np.array([e.outcome.status == OutcomeStatus.STOPPED for e in rows], dtype=np.bool_),
        truncated=np.array([e.outcome.truncated is True for e in rows], dtype=np.bool_),
        suspect=np.array([e.provenance.suspect for e in rows], dtype=np.bool_),
        pipeline=np.array([pipeline_digest(e.pipeline).encode() for e in rows], dtype="S32"),
        objectives={name: _objective_column(rows, name) for name in OBJECTIVES},
        captured=np.array([e.outcome.step == "graph" for e in rows], dtype=np.bool_),
        was_evaluated=np.array([was_evaluated(e.outcome) for e in rows], dtype=np.bool_),
        epochs_done=np.array(
            [np.nan if e.outcome.epochs_done is None else e.outcome.epochs_done for e in rows], dtype=np.float64
        ),
        params=params,
    )


def _objective_column(rows: Sequence[Experience], name: str) -> NDArray[np.float64]:
    values = (e.outcome.objective(name) for e in rows)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _param_column(values: Sequence[Value | None], codes: dict[str, dict[Any, int]]) -> ParamColumn:
    texts = codes.setdefault("texts", {})
    type_of = {type(None): ABSENT, bool: BOOL, int: INT, float: FLOAT, str: TEXT}
    return ParamColumn(
        type_code=np.array([type_of[type(v)] for v in values], dtype=np.uint8),
        number=np.array([np.nan if v is None or isinstance(v, str) else float(v) for v in values], dtype=np.float64),
        text=np.array([texts.setdefault(v, len(texts)) if isinstance(v, str) else -1 for v in values], dtype=np.int32),
    )
