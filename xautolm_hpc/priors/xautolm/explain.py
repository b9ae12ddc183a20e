"""Explanation of a prior: the experiences that moved it, and the content of ``priors.json``."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.distribution import BooleanMarginal, CategoricalMarginal
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FAILURE_KINDS, OutcomeStatus
from xautolm_hpc.priors.xautolm.prior import Prior
from xautolm_hpc.priors.xautolm.replay import CategoricalReplay
from xautolm_hpc.priors.xautolm.steps import Steps, replay_parameter
from xautolm_hpc.records import Value, to_json
from xautolm_hpc.space import Categorical, Method, contains
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]

N_TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationTarget:
    """The quantity to explain.

    For a model it is p(model), for a method p(method); for a parameter of a method p(value) of a categorical one,
    p(true) of a boolean, the mean of a number on its scale.

    Attributes:
        model: Model id, and nothing else.
        method: Method.
        param: Parameter of the method, or ``None``.
        value: Value of a categorical parameter, else ``None``.
    """

    model: str | None = None
    method: str | None = None
    param: str | None = None
    value: Value | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """Contribution of one experience to a quantity of the prior.

    Attributes:
        id: Id of the experience.
        contribution: Change of the quantity in its step of the replay.
        alpha: Its learning rate.
        weight: Its weight by distance and site, in 0..1.
        distance: Its distance to the current task and system.
        task: Name of its task.
        task_fingerprint: Fingerprint of its task; a name alone may be that of another site's task.
        model: Its model.
        method: Its method.
        status: Whether it succeeded or failed.
        kind: Failure kind, or ``truncated``; ``None`` for any other success.
        f1: Its F1, in 0..1; ``None`` where it is not known.
    """

    id: str
    contribution: float
    alpha: float
    weight: float
    distance: float
    task: str
    task_fingerprint: str
    model: str
    method: str
    status: OutcomeStatus
    kind: str | None
    f1: float | None


def explain(prior: Prior, target: ExplanationTarget, *, limit: int = N_TOP) -> list[Contribution]:
    """List the experiences that moved a probability most, either way; ties by id.

    Args:
        prior: The prior.
        target: The quantity to explain.
        limit: Most experiences listed, at least 1.

    Raises:
        InputError: The target names something the space does not hold.
    """
    steps, moved = contributions(prior, target)
    size = np.abs(moved)
    least = np.partition(size, -limit)[-limit] if len(size) > limit else 0.0
    candidates = np.flatnonzero((size >= least) & (size > 0))
    largest = candidates[np.lexsort((steps.row[candidates], -size[candidates]))][:limit]
    return [_contribution(prior, steps, index=i, moved=float(moved[i])) for i in largest.tolist()]


def contributions(prior: Prior, target: ExplanationTarget) -> tuple[Steps, Floats]:
    """Compute the contribution of every experience to a probability; they add up to prior - start.

    Args:
        prior: The prior.
        target: The quantity to explain.

    Returns:
        The steps that can have moved it, in the order of their replay, and their contributions, (n,).

    Raises:
        InputError: The target names something the space does not hold.
    """
    _check_target(prior, target)
    steps, start = prior.steps, prior.start
    if target.model is not None:
        index = list(start.models).index(target.model)
        return steps, prior.models.contributions(index, start.models[target.model])
    method_index = [m.name for m in prior.space.methods].index(target.method or "")
    if target.param is None:
        return steps, prior.methods.contributions(method_index, list(start.methods.values()))
    return _of_parameter(prior, target, steps=steps.only(steps.method == method_index))


def prior_to_json(prior: Prior) -> dict[str, Any]:
    """Turn a prior into the content of ``priors.json``.

    It holds the counts of experiences, p(model) and p(method) before and after, the whole distribution, which a
    resumed search reads, and the experiences that moved every model and method most.
    """
    before, after = prior.start.probabilities(), prior.distribution.probabilities()
    models = [ExplanationTarget(model=name) for name in before["models"]]
    methods = [ExplanationTarget(method=name) for name in before["methods"]]
    return {
        "kind": prior.kind,
        "counts": _counts(prior),
        **{
            group: {name: {"uniform": p, "prior": after[group][name]} for name, p in before[group].items()}
            for group in ("models", "methods")
        },
        "distribution": prior.distribution.to_json(prior.space),
        "top": {
            "models": {t.model: to_json(explain(prior, t)) for t in models},
            "methods": {t.method: to_json(explain(prior, t)) for t in methods},
        },
    }


def _counts(prior: Prior) -> dict[str, Any]:
    """Count all records, the eligible experiences and those weighed."""
    eligible, weighed = prior.eligible, prior.weighed
    return {
        "records": len(prior.table),
        "skipped": dict(eligible.skipped),
        "positives": int(np.count_nonzero(eligible.positive)),
        "negatives": int(np.count_nonzero(~eligible.positive)),
        "selected_positives": int(np.count_nonzero(weighed.positive)),
        "selected_negatives": int(np.count_nonzero(~weighed.positive)),
        "outside_space": len(weighed) - len(prior.steps.row),
    }


def _of_parameter(prior: Prior, target: ExplanationTarget, *, steps: Steps) -> tuple[Steps, Floats]:
    """Compute the contributions to a parameter by replaying the steps of its method once more."""
    method, name = str(target.method), str(target.param)
    parameter, start = _method(prior, method).params[name], prior.start.params[method][name]
    steps, outcome = replay_parameter(prior.table, steps, name=name, parameter=parameter, start=start)
    if isinstance(start, CategoricalMarginal) and isinstance(outcome, CategoricalReplay):
        values = parameter.values if isinstance(parameter, Categorical) else ()
        index = next(i for i, v in enumerate(values) if type(v) is type(target.value) and v == target.value)
        return steps, outcome.contributions(index, start.probabilities[index])
    if isinstance(start, CategoricalMarginal) or isinstance(outcome, CategoricalReplay):
        raise TypeError(f"{type(outcome).__name__} is no replay of a {type(start).__name__}")
    return steps, outcome.contributions(start.p_true if isinstance(start, BooleanMarginal) else start.mean)


def _contribution(prior: Prior, steps: Steps, *, index: int, moved: float) -> Contribution:
    """Describe one step and by how much it moved the target."""
    table, row, selected = prior.table, steps.row[index], steps.index[index]
    kind = int(table.kind[row])
    return Contribution(
        id=bytes(table.id[row]).decode(),
        contribution=moved,
        alpha=float(prior.weighed.alpha[selected]),
        weight=float(prior.weighed.weight[selected]),
        distance=float(prior.weighed.distance[selected]),
        task=table.tasks[table.task[row]].name,
        task_fingerprint=table.tasks[table.task[row]].fingerprint,
        model=table.models[table.model[row]][0],
        method=table.methods[table.method[row]],
        status=OutcomeStatus.SUCCEEDED if table.succeeded[row] else OutcomeStatus.FAILED,
        kind=None if kind < 0 else FAILURE_KINDS[kind],
        f1=known_f1(table, row),
    )


def known_f1(table: ExperienceTable, row: int) -> float | None:
    """Return the F1 of an experience, in 0..1; ``None`` where it is not known.

    Args:
        table: All experiences.
        row: Which of them.
    """
    value = float(table.objectives["f1"][row])
    return value if math.isfinite(value) else None


def _method(prior: Prior, name: str | None) -> Method:
    method = prior.space.method(name or "")
    if method is None:
        valid = ", ".join(m.name for m in prior.space.methods)
        raise InputError(f"the search space has no method {name!r}; valid: {valid}")
    return method


def _check_target(prior: Prior, target: ExplanationTarget) -> None:
    """Check that the space holds a target."""
    if target.model is not None:
        if target.model not in prior.start.models:
            valid = ", ".join(prior.start.models)
            raise InputError(f"the search space has no model {target.model!r}; valid: {valid}")
        return
    params = _method(prior, target.method).params
    if target.param is None:
        return
    if target.param not in params:
        valid = ", ".join(params)
        raise InputError(f"method {target.method!r} has no parameter {target.param!r}; valid: {valid}")
    parameter = params[target.param]
    if isinstance(parameter, Categorical) and (target.value is None or not contains(parameter, target.value)):
        valid = ", ".join(map(repr, parameter.values))
        raise InputError(f"{target.param!r} of {target.method!r} has no value {target.value!r}; valid: {valid}")
