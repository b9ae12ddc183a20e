"""Hand-built results of a run, for the tests of the report."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tests import nouns
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, Value
from xautolm_hpc.view import Finish, FinishKind, RunFacts, Spent

RUN_ID = "6f1e0a52-3b7c-4d19-8a40-0c2f5d9b7e13"
TASK = nouns.task(labels=("billing", "login", "other"))
CPU_NODE = nouns.system(site="here", cluster="alpha", n_gpus=0)
SYSTEM = nouns.system(site="here", cluster="alpha", n_gpus=1, gpu_name="NVIDIA H200")
PROVENANCE_FIELDS = {field.name for field in dataclasses.fields(Provenance)}
PIPELINE_FIELDS = {field.name for field in dataclasses.fields(Pipeline)}
PARAMS: Mapping[str, Value] = {"learning_rate": 2e-5, "epochs": 3, "class_weighted_loss": True}


def success(trial: int, **fields: Any) -> Experience:
    """Build a trial that succeeded; ``f1``, ``system`` and fields of outcome, pipeline and provenance may be given."""
    metrics = {"f1": fields.pop("f1", 0.5), **fields.pop("metrics", {})}
    outcome = nouns.succeeded(metrics=metrics, evaluation_time_s=100.0)
    return _experience(trial, outcome, fields)


def failure(trial: int, kind: str, **fields: Any) -> Experience:
    """Build a trial that failed; ``system`` and fields of outcome, pipeline and provenance may be given."""
    return _experience(trial, nouns.failed(kind), fields)


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


def _experience(trial: int, outcome: Outcome, fields: dict[str, Any]) -> Experience:
    provenance: dict[str, Any] = {
        "run_id": RUN_ID,
        "seed": 1000 + trial,
        "started_at": "2026-01-05T10:00:00.000+00:00",
        "prior_kind": "xautolm",
    }
    system = fields.pop("system", SYSTEM)
    pipeline: dict[str, Any] = {"model_id": "distilbert-base-uncased", "params": PARAMS}
    for record, names in ((provenance, PROVENANCE_FIELDS), (pipeline, PIPELINE_FIELDS)):
        record.update({name: fields.pop(name) for name in list(fields) if name in names})
    return nouns.experience(
        dataclasses.replace(outcome, **fields),
        given=dataclasses.replace(nouns.pipeline(), **pipeline),
        task=TASK,
        system=system,
        trial=trial,
        **provenance,
    )
