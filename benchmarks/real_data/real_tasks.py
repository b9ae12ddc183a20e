"""Fine-tunes MiniLM on real tasks, full and with LoRA, and compares each with a baseline that ignores the text.

Every number comes from the product itself: the profile step splits the data, the worker trains and evaluates.
The data lies beside the repository (XAUTOLM_SHARED, or ../shared) and is no part of it.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.goals import Goal, run
from tests.conftest import shared_path
from tests.profile.profile_samples import NODE, make_request
from tests.train.attempts import write_attempt
from tests.train.families import run_attempt, write_model
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import TASK, ProfileResult, TrialInput
from xautolm_hpc.profile.task import profile_task
from xautolm_hpc.records import Outcome, to_json

N_CLASSIFIED, N_ASKED, N_VALIDATION = 600, 400, 200
COMMON: Mapping[str, Any] = {"batch_size": 16, "warmup_ratio": 0.1, "lr_scheduler": "linear"}
CLASSIFY: Mapping[str, Mapping[str, Any]] = {
    "full": {**COMMON, "learning_rate": 2e-4, "epochs": 3, "max_length": 96, "class_weighted_loss": True},
    "lora": {
        **COMMON, "learning_rate": 3e-3, "epochs": 4, "max_length": 96, "lora_targets": "all-linear", "lora_r": 16,
        "class_weighted_loss": True,
    },
}  # fmt: skip
ANSWER: Mapping[str, Mapping[str, Any]] = {
    "full": {**COMMON, "batch_size": 8, "learning_rate": 3e-4, "epochs": 4, "max_length": 192},
    "lora": {
        **COMMON, "batch_size": 8, "learning_rate": 3e-3, "epochs": 4, "max_length": 192, "lora_targets": "all-linear",
        "lora_r": 16,
    },
}  # fmt: skip
MARGINS = {"sst2": 0.3, "ag_news": 0.5, "liar": 0.05, "meld": 0.1, "squad": 0.1}
"""Task -> by how much its F1 must be above that of a baseline that ignores the text."""


def profile(folder: Path, name: str, *, kind: str, n_train: int, metric: str | None = None) -> ProfileResult:
    """Split a data set and compute its features."""
    data_path = shared_path() / "datasets" / name
    request = make_request(data_path, folder, train=n_train, validation=N_VALIDATION, test=N_VALIDATION)
    asked = dataclasses.replace(request, task_name=name, task_kind=kind, metric=metric)
    return profile_task(asked, system=NODE)


def train(folder: Path, profiled: ProfileResult, *, method: str, params: Mapping[str, Any], model: str) -> Outcome:
    """Train one pipeline on a profiled task, in this process."""
    chosen = write_model(folder / "model", model) if model == "t5" else load_catalogue()[model]
    attempt_dir = write_attempt(folder / method, method, params=params, model=chosen)
    trial = TrialInput(task=profiled.task, data_dir=str(folder / "data"), sha256=profiled.sha256)
    write_json(attempt_dir / TASK, to_json(trial))
    outcome = run_attempt(attempt_dir)
    if not outcome.succeeded:
        raise RuntimeError(f"{profiled.task.name} with {method}: {outcome.kind}: {outcome.message}")
    return outcome


def measure(names: tuple[str, ...] = tuple(MARGINS)) -> list[Goal]:
    """Train every task with both methods; prints a line of each as it ends."""
    goals = []
    for name in names:
        is_asked = name == "squad"
        kind, recipes = ("question-answering", ANSWER) if is_asked else ("text-classification", CLASSIFY)
        with TemporaryDirectory() as folder:
            profiled = profile(Path(folder), name, kind=kind, n_train=N_ASKED if is_asked else N_CLASSIFIED)
            for method, params in recipes.items():
                outcome = train(Path(folder), profiled, method=method, params=params, model="minilm-l6")
                baseline = profiled.majority_f1 or 0.0
                f1 = outcome.metrics["f1"]
                line = {"task": name, "method": method, "f1": f1, "baseline": baseline, "train_s": outcome.train_s}
                print(json.dumps({**line, "metrics": dict(outcome.metrics)}), flush=True)
                text = f"{name} {method}: F1 {f1:.3f} above {baseline:.3f}"
                goals.append(Goal(text, f1 - baseline, MARGINS[name], "F1", at_most=False))
    return [*goals, write_answers()]


def write_answers() -> Goal:
    """Write answers to DROP's questions with a tiny model: it must run to its end, not answer well."""
    with TemporaryDirectory() as folder:
        profiled = profile(Path(folder), "drop", kind="text-generation", n_train=60, metric="drop-f1")
        params = {**COMMON, "batch_size": 8, "learning_rate": 1e-3, "epochs": 2, "max_length": 38}
        outcome = train(Path(folder), profiled, method="full", params=params, model="t5")
    return Goal("drop, written by a tiny model of random weights", outcome.metrics["f1"], None, "F1")


if __name__ == "__main__":
    run(measure)
