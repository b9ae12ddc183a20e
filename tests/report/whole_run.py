"""One run with everything a report can show, for the tests of its forms."""

from typing import Any

from tests.report.facts import facts, failure, success
from xautolm_hpc.view import RunFacts, Spent

HOSTILE = (
    "\x1b[2J[red]gone[/red] | `x` <script>alert(1)</script>\u202e\nOSError: [link=http://evil]no[/link] | \x07disk"
)

REASONS = [
    {
        "id": "0123456789abcdef" * 2,
        "contribution": 0.0312,
        "alpha": 0.04,
        "weight": 0.81,
        "distance": 0.3,
        "task": "liar",
        "model": "bert-tiny",
        "method": "lora",
        "status": "succeeded",
        "kind": None,
        "f1": 0.2571,
    },
    {
        "id": "fedcba9876543210" * 2,
        "contribution": -0.0105,
        "alpha": -0.02,
        "weight": 0.62,
        "distance": 0.5,
        "task": "sst2",
        "model": "distilbert-base-uncased",
        "method": "full",
        "status": "failed",
        "kind": "gpu_oom",
        "f1": None,
    },
]

PRIOR: dict[str, Any] = {
    "kind": "xautolm",
    "counts": {
        "records": 1210,
        "skipped": {"infrastructure": 70, "no objective": 5},
        "positives": 400,
        "negatives": 1,
        "selected_positives": 400,
        "selected_negatives": 1,
        "outside_space": 12,
    },
    "models": {
        "distilbert-base-uncased": {"uniform": 0.5, "prior": 0.4793},
        "google/bert_uncased_L-2": {"uniform": 0.5, "prior": 0.5207},
    },
    "methods": {"full": {"uniform": 0.5, "prior": 0.5}, "lora": {"uniform": 0.5, "prior": 0.5}},
    "top": {"models": {"google/bert_uncased_L-2": REASONS}, "methods": {}},
}


def whole_run(**fields: Any) -> RunFacts:
    """Build a run with successes, retries, failures of both origins, rejections, costs and a prior."""
    measured = {"energy_source": "nvml-counter", "energy_scope": "whole-gpu"}
    attempts = [
        success(0, f1=0.8123, evaluation_time_s=312.5, gpu_energy_j=81250.0, **measured),
        failure(1, "node_failure", message="slurmd does not answer", node="gpu07"),
        success(1, attempt=1, f1=0.6, evaluation_time_s=40.25, gpu_energy_j=9000.0, **measured),
        success(2, f1=0.65, evaluation_time_s=95.0, method="lora", model_id="evil/a|<b>$x$</b>[red]"),
        failure(3, "gpu_oom", message="RuntimeError: CUDA out of memory", train_s=12.0),
        failure(4, "gpu_oom", message="RuntimeError: CUDA out of memory", train_s=9.0),
        failure(5, "storage", message=HOSTILE),
        success(6, f1=0.5, evaluation_time_s=99.0),
        success(7, f1=0.7, evaluation_time_s=None, metrics={"accuracy": 0.75}),
    ]
    given: dict[str, Any] = {
        "rejections": {"context_length": 44, "memory": 1312},
        "reasons": {"memory": "full of <b>own</b>|[link=x]model needs 19.5 GiB; a job has 16.0 GiB"},
        "prior": PRIOR,
        "spent": Spent(n_generations=2, n_trials=8, wall_s=4000.0, gpu_s=2700.0, trial_s=2712.5, energy_j=90250.0),
    }
    return facts(attempts, **{**given, **fields})
