"""XAutoLM's published trials as experiences: its names of models, methods, tasks and failures become ours."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.failures import OutcomeStatus, origin_of
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task
from xautolm_hpc.table import pipeline_digest

GIB = 1024**3
TASKS = ("liar", "sst2", "meld", "ag_news")
"""The tasks with enough trials to rank."""

FEATURES: Mapping[str, tuple[float, ...]] = {
    "liar": (11524, 6, 2.53531547, 0.08287053, 0.20496355, 0.40431838, 106.895783, 58.412516, 0.54644360, 0.22448727),
    "sst2": (68221, 2, 0.99053751, 0.44279621, 0.55720379, 0.79467551, 54.174550, 43.866078, 0.80971743, 0.63043642),
    "meld": (11098, 7, 2.23086585, 0.02640115, 0.46675077, 0.05656371, 40.495945, 31.847623, 0.78643979, 0.49053896),
    "ag_news": (120000, 4, 2.0, 0.25, 0.25, 1.0, 236.477525, 66.509464, 0.28125068, 0.74699167),
}
"""Published meta-features."""

KINDS = (
    (r"CUDA out of memory", "gpu_oom"),
    (r"alloc_cpu|Unable to load weights", "host_oom"),
    (r"Exceeded allowed time", "time_limit"),
    (r"shapes cannot be multiplied|Unrecognized configuration|no attribute", "unsupported"),
)
"""Pattern of an error text -> kind. Weights that could not be loaded ran into XAutoLM's limit of host memory."""

SYSTEM = System(
    site="reference",
    cluster="reference",
    n_cpu_cores=8,
    ram_bytes=int(125.7 * GIB),
    n_gpus=1,
    gpu_name="24 GB",
    gpu_memory_bytes=int(23.64 * GIB),
)
IGNORED = ("use_early_stopping", "verbose")


def read_trials(path: Path) -> list[dict[str, Any]]:
    """Read the classification trials of ``trials.jsonl``, in its order."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["task"] in TASKS]


def experience(trial: Mapping[str, Any], number: int) -> Experience:
    """Turn one published trial into an experience."""
    return Experience(
        task=task(trial["task"]),
        system=SYSTEM,
        pipeline=pipeline(trial),
        outcome=_outcome(trial),
        provenance=Provenance(
            run_id=trial["task"],
            trial=number,
            attempt=0,
            restart=0,
            generation=0,
            seed=42,
            site="reference",
            started_at=None,
            ended_at=trial["timestamp"],
            prior_kind="uniform",
            package_version="reference",
        ),
    )


def task(name: str) -> Task:
    """Describe one of XAutoLM's tasks; 70 % of its rows were trained on."""
    n_rows, n_classes = int(FEATURES[name][0]), int(FEATURES[name][1])
    n_train = int(0.7 * n_rows)
    return Task(
        name=name,
        kind="text-classification",
        dataset_id=name,
        fingerprint=name,
        metric="macro-f1",
        n_train=n_train,
        n_dev=0,
        n_validation=n_rows - n_train,
        n_test=0,
        labels=tuple(map(str, range(n_classes))),
        feature_schema="text-classification/1",
        features=tuple(map(float, FEATURES[name])),
    )


def pipeline(trial: Mapping[str, Any]) -> Pipeline:
    """Build the pipeline of a trial, with our names of model, method and parameters."""
    method = re.match(r"FineTune|Partial|Lora", trial["method"])
    names = {"FineTune": "full", "Partial": "partial", "Lora": "lora"}
    params = {key: value for key, value in trial["hp"].items() if value is not None and key not in IGNORED}
    params["weight_decay"] = float(params["weight_decay"])
    if method is None:
        raise ValueError(f"unknown method {trial['method']!r}")
    if method[0] == "Lora":
        params.setdefault("init_lora_weights", "none")
    return Pipeline(
        task_kind="text-classification",
        model_id=_model_id(trial["model"]),
        model_revision=None,
        method=names[method[0]],
        params=params,
    )


def configuration(trial: Mapping[str, Any]) -> str:
    """Compute the digest of a trial's pipeline, equal for equal configurations."""
    return pipeline_digest(pipeline(trial))


def failure_kind(error: str | None) -> str:
    """Find a failure's kind from its text; ``error`` where the text is unknown or missing."""
    return next((kind for pattern, kind in KINDS if re.search(pattern, error or "")), "error")


def _model_id(key: str) -> str:
    known = {re.sub(r"[\W_]", "", name.lower()): name for name in load_catalogue()}
    wanted = re.sub(r"^TEXT_GEN_|^WORD_EMB_", "", key).replace("_", "").lower()
    return known.get(wanted, known.get(wanted.removeprefix("google"), key))


def _outcome(trial: Mapping[str, Any]) -> Outcome:
    if trial["f1"] is None:
        kind = failure_kind(trial["error"])
        return Outcome(status=OutcomeStatus.FAILED, kind=kind, origin=origin_of(kind), message=trial["error"])
    return Outcome(
        status=OutcomeStatus.SUCCEEDED,
        metrics={"f1": trial["f1"], "accuracy": trial["accuracy"]},
        evaluation_time_s=trial["evaluation_time_s"],
    )
