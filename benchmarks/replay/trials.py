"""Real trials of several tasks, as tables that searches are replayed on."""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from xautolm_hpc.catalogue import find_models, load_catalogue
from xautolm_hpc.failures import FailureKind, FailureOrigin, OutcomeStatus
from xautolm_hpc.priors.evidence.encoding import encode, layout, pipelines_of
from xautolm_hpc.records import Experience, Outcome, Pipeline, System, Task, Value
from xautolm_hpc.space import Categorical, Method, Numeric, Parameter, Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUMERIC = ("learning_rate", "epochs")
"""Parameters with a numeric range; the others have the values that were tried."""

RARE = 1 / 20
"""A pipeline with a value that fewer than this share have was drawn to fail; it does not widen numeric ranges."""


@dataclass(frozen=True)
class TaskTable:
    """The pipelines tried on one task, each once.

    Attributes:
        task: The task.
        system: The node they ran on.
        pipelines: The pipelines, in the order of their canonical text.
        f1: Mean over the seeds, NaN if none succeeded, (n,).
        cost_s: Mean seconds spent, failures included, (n,).
        experiences: All records of each pipeline.
        halves: Half 0 or 1 that each is in, (n,).
    """

    task: Task
    system: System
    pipelines: tuple[Pipeline, ...]
    f1: Floats
    cost_s: Floats
    experiences: tuple[tuple[Experience, ...], ...]
    halves: Ints

    def half(self, which: int) -> "TaskTable":
        """Return the pipelines of half 0 or 1; a pipeline is in the same half on every task."""
        return self.keep(np.flatnonzero(self.halves == which))

    def keep(self, rows: Ints) -> "TaskTable":
        """Return some of the pipelines."""
        return TaskTable(
            self.task,
            self.system,
            tuple(self.pipelines[i] for i in rows.tolist()),
            self.f1[rows],
            self.cost_s[rows],
            tuple(self.experiences[i] for i in rows.tolist()),
            self.halves[rows],
        )

    @property
    def best_f1(self) -> float:
        """The best known F1; 0 if nothing succeeded."""
        return float(np.nanmax(self.f1, initial=0.0, where=~np.isnan(self.f1)))

    def spread_sd(self) -> float:
        """Compute how many SDs between seeds the best F1 is above the median; infinite without repeats."""
        repeats = [[e.outcome.metrics["f1"] for e in g if e.outcome.succeeded] for g in self.experiences]
        variances = [float(np.var(values, ddof=1)) for values in repeats if len(values) > 1]
        noise = math.sqrt(float(np.mean(variances))) if variances else 0.0
        known = self.f1[~np.isnan(self.f1)]
        return (self.best_f1 - float(np.median(known))) / noise if noise and len(known) else math.inf

    def outcome(self, index: int) -> Outcome:
        """Return how a pipeline ended, as a search learns it."""
        if math.isnan(self.f1[index]):
            failed = next(e.outcome for e in self.experiences[index] if not e.outcome.succeeded)
            return failed
        return Outcome(
            status=OutcomeStatus.SUCCEEDED,
            metrics={"f1": float(self.f1[index])},
            evaluation_time_s=float(self.cost_s[index]),
            truncated=not any(e.outcome.succeeded and not e.outcome.truncated for e in self.experiences[index]),
        )


def evaluated_at_limit(table: TaskTable) -> TaskTable:
    """Return a table as if its trials had been evaluated when their time was used up.

    A time limit after an epoch becomes a truncated success. What its best state would have scored on ``validation`` is
    not known; its best F1 on ``dev`` stands in for it. A pipeline with whole successes keeps their mean.
    """
    groups = tuple(tuple(map(_evaluated, group)) for group in table.experiences)
    bounds = [[e.outcome.metrics["f1"] for e in group if e.outcome.truncated] for group in groups]
    f1 = [
        float(np.mean(bound)) if math.isnan(known) and bound else known
        for known, bound in zip(table.f1.tolist(), bounds, strict=True)
    ]
    return replace(table, f1=np.array(f1), experiences=groups)


def _evaluated(experience: Experience) -> Experience:
    outcome = experience.outcome
    if outcome.kind != FailureKind.TIME_LIMIT or not outcome.curve:
        return experience
    best = max(point[3] for point in outcome.curve)
    truncated = replace(
        outcome, status=OutcomeStatus.SUCCEEDED, kind=None, origin=None, metrics={"f1": best}, truncated=True
    )
    return replace(experience, outcome=truncated)


def digest_of(pipeline: Pipeline) -> str:
    """Compute a pipeline's digest, without its maximum length, which depends on the task."""
    params = {name: value for name, value in pipeline.params.items() if name != "max_length"}
    text = f"{pipeline.model_id} {pipeline.method} {sorted(params.items())}"
    return hashlib.sha256(text.encode()).hexdigest()


def build_tables(experiences: Sequence[Experience]) -> dict[str, TaskTable]:
    """Sort experiences into one table a task, by name; failures of the cluster are left out.

    All pipelines, in the order of their digests, are cut in two halves of the same size.
    """
    by_task: dict[str, dict[str, list[Experience]]] = {}
    for e in experiences:
        if e.outcome.succeeded or e.outcome.origin is FailureOrigin.PIPELINE:
            by_task.setdefault(e.task.name, {}).setdefault(e.pipeline.canonical(), []).append(e)
    digests = sorted({digest_of(group[0].pipeline) for groups in by_task.values() for group in groups.values()})
    halves = {digest: int(place >= len(digests) / 2) for place, digest in enumerate(digests)}
    return {name: _build_table(groups, halves) for name, groups in sorted(by_task.items())}


def _build_table(groups: Mapping[str, list[Experience]], halves: Mapping[str, int]) -> TaskTable:
    rows = [sorted(group, key=lambda e: e.id) for _, group in sorted(groups.items())]
    f1 = [[e.outcome.metrics["f1"] for e in group if e.outcome.succeeded] for group in rows]
    return TaskTable(
        task=rows[0][0].task,
        system=rows[0][0].system,
        pipelines=tuple(group[0].pipeline for group in rows),
        f1=np.array([float(np.mean(values)) if values else math.nan for values in f1]),
        cost_s=np.array([float(np.mean([_cost_s(e.outcome) for e in group])) for group in rows]),
        experiences=tuple(map(tuple, rows)),
        halves=np.array([halves[digest_of(group[0].pipeline)] for group in rows], dtype=np.int64),
    )


def _cost_s(outcome: Outcome) -> float:
    """Compute the seconds a trial spent, at least one: it may have failed while loading."""
    spent = (outcome.train_s or 0.0) + (outcome.eval_s or 0.0)
    return max(outcome.evaluation_time_s or 0.0, spent, 1.0)


def build_space(tables: Sequence[TaskTable]) -> Space:
    """Build the space of all that was tried on some tasks."""
    pipelines = [pipeline for table in tables for pipeline in table.pipelines]
    counts = Counter((name, value) for p in pipelines for name, value in p.params.items())
    named = Counter(name for p in pipelines for name in p.params)
    usual = [
        p
        for p in pipelines
        if all(name in NUMERIC or counts[name, v] >= RARE * named[name] for name, v in p.params.items())
    ]
    methods = sorted({pipeline.method for pipeline in usual})
    return Space(
        task_kind=pipelines[0].task_kind,
        models=find_models(sorted({pipeline.model_id for pipeline in pipelines}), {}),
        methods=tuple(
            Method(
                name, _params([p for p in pipelines if p.method == name], usual=[p for p in usual if p.method == name])
            )
            for name in methods
        ),
    )


def _params(pipelines: Sequence[Pipeline], *, usual: Sequence[Pipeline]) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for name in sorted({name for pipeline in pipelines for name in pipeline.params}):
        values = {pipeline.params[name] for pipeline in pipelines if name in pipeline.params}
        numbers = {float(p.params[name]) for p in usual if name in p.params and name in NUMERIC}
        if len(numbers) > 1:
            is_integer = name == "epochs"
            found[name] = Numeric(min(numbers), max(numbers), log=name == "learning_rate", integer=is_integer)
        else:
            found[name] = Categorical(tuple(sorted(values, key=_sort_key)))
    return found


def _sort_key(value: Value) -> tuple[str, float, str]:
    return (type(value).__name__, 0.0 if isinstance(value, str) else float(value), str(value))


class Oracle:
    """Evaluates draws of a search: by the table itself, or by surrogates fitted on it.

    Args:
        table: The half of a task's pipelines that is searched.
        space: The search space.
        kind: ``table`` maps a draw to its nearest unused member; ``forest`` and ``gaussian`` predict it.
    """

    def __init__(self, table: TaskTable, space: Space, *, kind: str = "table") -> None:
        self.table, self.columns, self.kind = table, layout(space), kind
        raw = self._encode(table.pipelines)
        filled = np.nan_to_num(raw)
        self._mean, self._scale = filled.mean(axis=0), np.where(filled.std(axis=0) > 0, filled.std(axis=0), 1.0)
        self._x = (filled - self._mean) / self._scale
        self._unused = np.ones(len(table.pipelines), dtype=np.bool_)
        self._reserved: dict[str, int] = {}
        if kind != "table":
            succeeded = ~np.isnan(table.f1)
            self._success = _fit(kind, self._x, target=succeeded.astype(float))
            self._f1 = _fit(kind, self._x[succeeded], target=table.f1[succeeded])
            self._cost = _fit(kind, self._x, target=np.log(table.cost_s))

    def evaluate(self, pipeline: Pipeline) -> tuple[Pipeline, Outcome, float]:
        """Evaluate one draw.

        Returns:
            What was really tried, how it ended, and the seconds it spent.
        """
        x = self._scaled([pipeline])
        if self.kind == "table":
            index = self._reserved.pop(pipeline.canonical(), None)
            index = self._nearest(x[0]) if index is None else index
            self._unused[index] = False
            return self.table.pipelines[index], self.table.outcome(index), float(self.table.cost_s[index])
        cost_s = float(np.exp(self._cost.predict(x)[0]))
        if self._success.predict(x)[0] < 0.5:
            return pipeline, Outcome(status=OutcomeStatus.FAILED, kind="error", origin=FailureOrigin.PIPELINE), cost_s
        f1 = float(np.clip(self._f1.predict(x)[0], 0.0, 1.0))
        return pipeline, Outcome(status=OutcomeStatus.SUCCEEDED, metrics={"f1": f1}, evaluation_time_s=cost_s), cost_s

    def snap(self, pipelines: Sequence[Pipeline]) -> list[Pipeline]:
        """Return what draws would be mapped to; with a surrogate, the draws themselves."""
        if self.kind != "table":
            return list(pipelines)
        return [self.table.pipelines[self._nearest(x)] for x in self._scaled(pipelines)]

    def reserve(self, pipeline: Pipeline) -> None:
        """Reserve the member that a draw would be mapped to, so that no other draw of its generation gets it."""
        if self.kind == "table":
            index = self._nearest(self._scaled([pipeline])[0])
            self._reserved[pipeline.canonical()] = index
            self._unused[index] = False

    def _scaled(self, pipelines: Sequence[Pipeline]) -> Floats:
        scaled: Floats = (np.nan_to_num(self._encode(pipelines)) - self._mean) / self._scale
        return scaled

    def _nearest(self, x: Floats) -> int:
        """Find the nearest member that is not used yet."""
        return int(np.argmin(np.where(self._unused, ((self._x - x) ** 2).sum(axis=1), np.inf)))

    def _encode(self, pipelines: Sequence[Pipeline]) -> Floats:
        table = self.table
        return encode(
            pipelines_of(pipelines, models=load_catalogue(), task=table.task, system=table.system), self.columns
        )


def _fit(kind: str, x: Floats, *, target: Floats) -> ExtraTreesRegressor | GaussianProcessRegressor:
    if kind == "forest":
        return ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0).fit(x, target)
    kernel = ConstantKernel() * RBF(5.0) + WhiteKernel(0.1)
    return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(x, target)
