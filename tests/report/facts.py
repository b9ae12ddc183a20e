"""Hand-built results of a run, for the tests of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from xautolm_hpc.failures import origin_of
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task, Value
from xautolm_hpc.view import Finish, FinishKind, RunFacts, Spent

RUN_ID = "6f1e0a52-3b7c-4d19-8a40-0c2f5d9b7e13"
TASK = Task(
    name="tickets",
    kind="text-classification",
    dataset_id="d" * 32,
    fingerprint="f" * 32,
    metric="macro-f1",
    n_train=1600,
    n_dev=400,
    n_validation=500,
    n_test=500,
    labels=("billing", "login", "other"),
    feature_schema="text-classification/1",
    features=(1.0, None),
)
SYSTEM = System(site="here", cluster="alpha", n_gpus=1, gpu_name="NVIDIA H200")
PARAMS: Mapping[str, Value] = {"learning_rate": 2e-5, "epochs": 3, "class_weighted_loss": True}


def success(trial: int, **fields: Any) -> Experience:
    """Build a trial that succeeded; ``f1`` and fields of outcome, pipeline and provenance may be given."""
    metrics = {"f1": fields.pop("f1", 0.5), **fields.pop("metrics", {})}
    return _experience(trial, {"status": "succeeded", "metrics": metrics, "evaluation_time_s": 100.0}, fields)


def failure(trial: int, kind: str, **fields: Any) -> Experience:
    """Build a trial that failed; fields of outcome, pipeline and provenance may be given."""
    return _experience(trial, {"status": "failed", "kind": kind, "origin": origin_of(kind)}, fields)


def facts(experiences: Sequence[Experience], **fields: Any) -> RunFacts:
    """Build the results of a run of these attempts; fields of the results may be given."""
    given: dict[str, Any] = {
        "name": "tickets-1",
        "run_id": RUN_ID,
        "objectives": ("f1", "evaluation_time_s"),
        "task": TASK,
        "majority_f1": 0.2,
        "experiences": tuple(experiences),
        "rejections": {},
        "prior": {"kind": "uniform"},
        "spent": Spent(n_generations=1, n_trials=len(experiences)),
        "finish": Finish(FinishKind.BUDGET_USED, "budget used: trials 8 of 8"),
    }
    return RunFacts(**{**given, **fields})


def _experience(trial: int, outcome: dict[str, Any], fields: dict[str, Any]) -> Experience:
    provenance: dict[str, Any] = {
        "run_id": RUN_ID,
        "trial": trial,
        "attempt": 0,
        "restart": 0,
        "generation": 0,
        "seed": 1000 + trial,
        "site": "here",
        "started_at": "2026-01-05T10:00:00.000+00:00",
        "ended_at": "2026-01-05T10:02:00.000+00:00",
        "prior_kind": "xautolm",
        "package_version": "0.1.0",
        "node": None,
        "suspect": False,
    }
    pipeline: dict[str, Any] = {
        "task_kind": TASK.kind,
        "model_id": "distilbert-base-uncased",
        "model_revision": None,
        "method": "full",
        "params": PARAMS,
    }
    for record in (provenance, pipeline):
        record.update({name: fields.pop(name) for name in list(fields) if name in record})
    return Experience(
        task=TASK,
        system=SYSTEM,
        pipeline=Pipeline(**pipeline),
        outcome=Outcome(**{**outcome, **fields}),
        provenance=Provenance(**provenance),
    )
