"""The report as plain data: ``report.json``, from which every other form of the report is made."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from xautolm_hpc.failures import FailureKind, FailureOrigin
from xautolm_hpc.pareto import OBJECTIVES, front_indices, oriented, preference
from xautolm_hpc.records import Experience, Task
from xautolm_hpc.report.certainty import describe_certainty
from xautolm_hpc.report.quantities import COSTS
from xautolm_hpc.report.shortfall import epochs_run, find_shortfall, learning_steps
from xautolm_hpc.view import J_PER_KWH, RunFacts, Spent

MEASURES = (
    *("load_s", "train_s", "eval_s", "queue_s", "retry_s"),
    *("cpu_energy_j", "peak_rss_bytes", "n_steps"),
    *COSTS,
)
"""Fields of an outcome that the summary holds for every trial."""


def summarise(facts: RunFacts) -> dict[str, Any]:
    """Summarise a run as plain data for JSON; unknown values are ``None``.

    Returns:
        ``run``, ``task``, ``objectives``, ``counts``, ``best`` (by the first objective), ``majority_f1`` and
        ``margin`` of the best above it, ``shortfall`` (why no trial is above it), the trials as ``front``,
        ``dominated``, ``unranked`` (succeeded without all objectives) and ``failed``, then ``failures``, ``refusals``
        and ``refusal_reasons``, ``spent``, ``prior``. ``certainty`` of F1
        (:func:`~xautolm_hpc.report.certainty.describe_certainty`), ``ended_s`` (trial -> seconds from the run's
        first attempt to its end) and ``importance``; ``settings`` that the report names, dotted key -> value.
    """
    last = facts.last_attempts()
    n_attempts = Counter(e.provenance.trial for e in facts.experiences)
    front, dominated = split_front(last, facts.objectives)
    succeeded = [e for e in last if e.outcome.succeeded]
    groups = {
        "front": front,
        "dominated": dominated,
        "unranked": [e for e in succeeded if not has_objectives(e, facts.objectives)],
        "failed": [e for e in last if not e.outcome.succeeded],
    }
    best = _best(succeeded, facts.objectives)
    return {
        "run": {
            "name": facts.name,
            "run_id": facts.run_id,
            "finish": facts.finish.text,
            "finish_kind": facts.finish.kind,
        },
        "task": _task(facts.task),
        "objectives": [{"name": name, "better": OBJECTIVES[name].better} for name in facts.objectives],
        "counts": _counts(last, facts.experiences),
        "best": None if best is None else _trial(best, n_attempts),
        "majority_f1": _finite(facts.majority_f1),
        "margin": _margin(best, facts.majority_f1),
        "shortfall": find_shortfall(
            succeeded,
            _finite(facts.majority_f1),
            failed=[e for e in facts.experiences if e.outcome.kind not in (None, FailureKind.CANCELLED)],
        ),
        **{name: [_trial(e, n_attempts) for e in members] for name, members in groups.items()},
        "failures": _failures(facts.experiences, last),
        "refusals": dict(sorted(facts.rejections.items(), key=lambda item: (-item[1], item[0]))),
        "refusal_reasons": dict(sorted(facts.reasons.items())),
        "spent": _spent(facts.spent, facts.experiences) | dict(facts.charges),
        "prior": summarise_prior(facts.prior),
        "settings": dict(facts.settings),
        "left_out": list(facts.left_out),
        "tests": {str(trial): dict(metrics) for trial, metrics in sorted(facts.tests.items())},
        "certainty": describe_certainty(facts, best=best, front=front, succeeded=succeeded),
        "ended_s": _ended_s(facts.experiences, last),
        "importance": None if facts.importance is None else dict(facts.importance),
    }


def has_objectives(experience: Experience, objectives: Sequence[str]) -> bool:
    """Return whether an attempt succeeded and all its objectives are known and finite."""
    known = (experience.outcome.objective(name) is not None for name in objectives)
    return experience.outcome.succeeded and all(known)


def split_front(
    experiences: Sequence[Experience], objectives: Sequence[str]
) -> tuple[list[Experience], list[Experience]]:
    """Split trials into the Pareto set and those that another trial dominates.

    A trial dominates another if it is no worse in any objective and better in one; equal trials are both kept.

    Args:
        experiences: Last attempts; those without all objectives are left out.
        objectives: One to three names of :data:`xautolm_hpc.pareto.OBJECTIVES`.

    Returns:
        The Pareto set and the dominated trials, both best first by the first objective, then by the others, then by
        trial.
    """
    complete = [e for e in experiences if has_objectives(e, objectives)]
    values = [[e.outcome.objective(name) for name in objectives] for e in complete]
    points = oriented(np.array(values, dtype=np.float64).reshape(len(complete), len(objectives)), objectives)
    keys = [(*point, e.provenance.trial) for point, e in zip(points.tolist(), complete, strict=True)]
    order = sorted(range(len(complete)), key=keys.__getitem__)
    fronts = front_indices(points)
    front = [complete[i] for i in order if fronts[i] == 0]
    dominated = [complete[i] for i in order if fronts[i] > 0]
    return front, dominated


def _task(task: Task) -> dict[str, Any]:
    rows = {split: getattr(task, f"n_{split}") for split in ("train", "dev", "validation", "test")}
    return {
        "name": task.name,
        "fingerprint": task.fingerprint,
        "kind": task.kind,
        "metric": task.metric,
        "labels": list(task.labels),
        "rows": rows,
    }


def _counts(last: Sequence[Experience], attempts: Sequence[Experience]) -> dict[str, int]:
    """Count trials by result, and attempts."""
    failed = [e.outcome for e in last if not e.outcome.succeeded]
    origins = Counter(outcome.origin for outcome in failed if outcome.kind != FailureKind.CANCELLED)
    return {
        "trials": len(last),
        "succeeded": len(last) - len(failed),
        "truncated": sum(e.outcome.truncated is True for e in last),
        "cancelled": len(failed) - origins.total(),
        "failed": origins.total(),
        "failed_pipeline": origins[FailureOrigin.PIPELINE],
        "failed_infrastructure": origins[FailureOrigin.INFRASTRUCTURE],
        "attempts": len(attempts),
        "retries": len(attempts) - len(last),
        "restarts": sum(e.provenance.restart for e in attempts),
        "suspect": sum(e.provenance.suspect for e in last),
    }


def _best(succeeded: Iterable[Experience], objectives: Sequence[str]) -> Experience | None:
    """Find the best success: see :func:`xautolm_hpc.pareto.preference`."""
    keys = [(preference(e.outcome, e.provenance.trial, objectives=objectives), e) for e in succeeded]
    known = [(key, e) for key, e in keys if key is not None]
    return min(known, key=lambda pair: pair[0])[1] if known else None


def _margin(best: Experience | None, majority_f1: float | None) -> float | None:
    f1 = None if best is None else best.outcome.objective("f1")
    return None if f1 is None or majority_f1 is None else _finite(f1 - majority_f1)


def _trial(experience: Experience, n_attempts: Mapping[int, int]) -> dict[str, Any]:
    """Describe one trial by its last attempt."""
    pipeline, outcome, provenance = experience.pipeline, experience.outcome, experience.provenance
    return {
        "trial": provenance.trial,
        "generation": provenance.generation,
        "attempt": provenance.attempt,
        "n_attempts": n_attempts[provenance.trial],
        "experience": experience.id,
        "model": pipeline.model_id,
        "method": pipeline.method,
        "params": dict(pipeline.params),
        "status": outcome.status,
        "truncated": outcome.truncated,
        "epochs_done": _finite(outcome.epochs_done),
        "kind": outcome.kind,
        "origin": outcome.origin,
        "metrics": {name: _finite(value) for name, value in outcome.metrics.items()},
        **{name: _finite(getattr(outcome, name)) for name in MEASURES},
        "epochs_run": epochs_run(experience),
        "curve": [[_finite(value) for value in point] for point in outcome.curve],
        "learning_steps": learning_steps(experience),
        "energy_source": outcome.energy_source,
        "energy_scope": outcome.energy_scope,
        "gpu": experience.system.gpu_name,
        "node": provenance.node,
        "started_at": provenance.started_at,
        "ended_at": provenance.ended_at,
        "suspect": provenance.suspect,
    }


def _failures(attempts: Sequence[Experience], last: Sequence[Experience]) -> list[dict[str, Any]]:
    """Count failures by origin and kind, the most frequent first, each with its latest message."""
    failed = [e for e in attempts if not e.outcome.succeeded]
    key = {id(e): (e.outcome.origin, e.outcome.kind) for e in failed}
    n_attempts = Counter(key.values())
    n_trials = Counter(key[id(e)] for e in last if id(e) in key)
    latest = {key[id(e)]: e.outcome for e in failed if e.outcome.message}
    order = sorted(n_attempts, key=lambda k: (-n_trials[k], -n_attempts[k], str(k)))
    return [
        {
            "origin": origin,
            "kind": kind,
            "trials": n_trials[origin, kind],
            "attempts": n_attempts[origin, kind],
            "message": latest[origin, kind].message if (origin, kind) in latest else None,
            "reason": latest[origin, kind].reason if (origin, kind) in latest else None,
        }
        for origin, kind in order
    ]


def _spent(spent: Spent, attempts: Sequence[Experience]) -> dict[str, Any]:
    """Return the cost in hours and kilowatt hours, whether no attempt had a GPU, and how many have a known energy."""
    measured = [e.outcome for e in attempts if e.outcome.gpu_energy_j is not None or e.outcome.cpu_energy_j is not None]
    return {
        "generations": spent.n_generations,
        "trials": spent.n_trials,
        "wall_s": spent.wall_s,
        "trial_s": spent.trial_s,
        "failed_s": sum(_duration_s(e) for e in attempts if e.outcome.kind is not None),
        "gpu_h": spent.gpu_s / 3600,
        "without_gpu": all(e.system.n_gpus == 0 for e in attempts),
        "energy_kwh": None if spent.energy_j is None else spent.energy_j / J_PER_KWH,
        "attempts_with_energy": len(measured),
        "energy_sources": sorted({outcome.energy_source for outcome in measured}),
        "energy_scopes": sorted({outcome.energy_scope for outcome in measured}),
    }


def _duration_s(attempt: Experience) -> float:
    """Return the seconds from an attempt's start to its end; 0 where it never started."""
    began, ended = attempt.provenance.started_at, attempt.provenance.ended_at
    return 0.0 if began is None else (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def _ended_s(attempts: Sequence[Experience], last: Sequence[Experience]) -> dict[str, float]:
    """Return when each trial ended, in seconds since the first attempt of the run began."""
    begins = [datetime.fromisoformat(at) for e in attempts if (at := e.provenance.started_at) is not None]
    if not begins:
        return {}
    ends = {e.provenance.trial: datetime.fromisoformat(e.provenance.ended_at) for e in last}
    return {str(trial): (at - min(begins)).total_seconds() for trial, at in ends.items()}


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def summarise_prior(prior: Mapping[str, Any]) -> dict[str, Any]:
    """Summarise the content of ``priors.json``.

    Args:
        prior: Content of ``priors.json``; missing parts are empty in the summary.

    Returns:
        ``kind``, ``counts`` of evidence, and ``models`` and ``methods``: lists of name, ``prior`` and ``uniform``
        probability and, as ``moved_by``, the experiences that changed it most; most probable first. ``forecast``:
        of models and methods, name -> forecast quantity -> 0..1. ``additions``: dotted key of a search file -> value,
        of what the search adds to XAutoLM as it was published; ``None`` if that was not recorded.
    """
    return {
        "kind": str(prior.get("kind", "unknown")),
        "additions": prior.get("additions"),
        "counts": dict(prior.get("counts", {})),
        "models": _probabilities(prior, "models"),
        "methods": _probabilities(prior, "methods"),
        "forecast": dict(prior.get("forecast", {})),
    }


def _probabilities(prior: Mapping[str, Any], group: str) -> list[dict[str, Any]]:
    """List one group's members, most probable first; ties in the order of the search space."""
    moved_by = prior.get("top", {}).get(group, {})
    members = [
        {"name": name, "prior": p["prior"], "uniform": p["uniform"], "moved_by": moved_by.get(name, [])}
        for name, p in prior.get(group, {}).items()
    ]
    return sorted(members, key=lambda member: -member["prior"])
