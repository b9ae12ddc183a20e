"""The one source of small valid records for tests; every builder takes the fields that a test cares about."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.failures import OutcomeStatus, origin_of
from xautolm_hpc.jobdir import Claim, End, TrialPlan
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task, Value
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import Attempt, Trial

GIB = 1024**3
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
    labels=("billing", "login"),
    feature_schema="text-classification/1",
    features=(1.0, None),
)
SYSTEM = System(site="here", cluster="alpha", n_cpu_cores=4, ram_bytes=16 * GIB, n_gpus=0)

OWN_MODEL = """
[[model]]
id = "mine"
family = "seq2seq"
n_parameters = 1000
n_layers = 2
hidden_size = 8
vocab_size = 100
context_length = 64
licence = "MIT"
path = "weights/mine"
unsupported_methods = ["bitfit", "head"]
"""
"""A model of the user's own, as a search file adds it."""


def task(**fields: Any) -> Task:
    """Build a task; what is not given is that of :data:`TASK`."""
    return dataclasses.replace(TASK, **fields)


def system(*, site: str = "here", cluster: str = "alpha", **fields: Any) -> System:
    """Build a system; what is not given is unknown."""
    return System(site=site, cluster=cluster, **fields)


def pipeline(
    *,
    model_id: str = "minilm-l2",
    method: str = "full",
    task_kind: str = TASK.kind,
    model_revision: str | None = None,
    params: Mapping[str, Value] | None = None,
    **more_params: Value,
) -> Pipeline:
    """Build a pipeline; its hyperparameters are given together or by name."""
    every = {**(params or {}), **more_params}
    return Pipeline(task_kind=task_kind, model_id=model_id, model_revision=model_revision, method=method, params=every)


def succeeded(f1: float | None = 0.5, **fields: Any) -> Outcome:
    """Build an outcome of a trial that succeeded; without an F1 nothing was measured."""
    metrics = {} if f1 is None else {"f1": f1}
    return Outcome(status=OutcomeStatus.SUCCEEDED, **{"metrics": metrics, **fields})


def failed(kind: str, message: str | None = None, **fields: Any) -> Outcome:
    """Build an outcome of a trial that failed."""
    return Outcome(status=OutcomeStatus.FAILED, kind=kind, origin=origin_of(kind), message=message, **fields)


def stopped(**fields: Any) -> Outcome:
    """Build an outcome of a trial that was left before its end because others were ahead."""
    return Outcome(status=OutcomeStatus.STOPPED, **fields)


def end(outcome: Outcome, **fields: Any) -> End:
    """Build the end of an attempt that ran from second 1000 to second 1060 on node-1."""
    given: dict[str, Any] = {
        "system": SYSTEM,
        "restart": 0,
        "started_at": 1000.0,
        "ended_at": 1060.0,
        "node": "node-1",
        "lock_hash": None,
        "image_digest": None,
        "package_version": "0.1.0",
    }
    return End(outcome=outcome, **{**given, **fields})


def claim(**fields: Any) -> Claim:
    """Build the claim of job 7_0 on node n1; what is not given is that of a first start."""
    given: dict[str, Any] = {
        "job_id": "7_0",
        "node": "n1",
        "restart": 0,
        "pid": 1,
        "pid_started": 1,
        "boot_id": "b",
        "claimed_at": 0.0,
    }
    return Claim(**{**given, **fields})


def plan(given: Pipeline | None = None, *, seed: int = 7) -> TrialPlan:
    """Build what a trial trains."""
    chosen = given or pipeline(epochs=3)
    return TrialPlan(pipeline=chosen, model=load_catalogue()[chosen.model_id], seed=seed)


def trial(folder: Path, *outcomes: Outcome | None, number: int = 0, given: Pipeline | None = None) -> Trial:
    """Build a trial whose attempts ended so, one after another; ``None`` has not ended."""
    run_dir = RunDir(folder)
    attempts = [
        Attempt(i, run_dir.attempt_dir(0, number, attempt=i), end=None if outcome is None else end(outcome))
        for i, outcome in enumerate(outcomes)
    ]
    return Trial(number, 0, plan(given), attempts)


def provenance(**fields: Any) -> Provenance:
    """Build where an experience comes from: the first attempt of the first trial of a run."""
    given: dict[str, Any] = {
        "run_id": "6f1e0a52-3b7c-4d19-8a40-0c2f5d9b7e13",
        "trial": 0,
        "attempt": 0,
        "restart": 0,
        "generation": 0,
        "seed": 1,
        "site": "here",
        "started_at": None,
        "ended_at": "2026-01-05T10:02:00.000+00:00",
        "prior_kind": "uniform",
        "package_version": "0.1.0",
    }
    return Provenance(**{**given, **fields})


def experience(
    outcome: Outcome | None = None,
    *,
    given: Pipeline | None = None,
    task: Task = TASK,
    system: System = SYSTEM,
    **fields: Any,
) -> Experience:
    """Build an experience; fields of its provenance may be given."""
    return Experience(
        task=task,
        system=system,
        pipeline=given or pipeline(epochs=3),
        outcome=outcome or succeeded(),
        provenance=provenance(**fields),
    )
