"""Draws the pipelines of the seed store, once, and writes what is needed to run them on six tasks.

The same pipelines run on every task, so tasks can be compared trial by trial. One in eight is drawn to fail: a learning
rate that diverges, too long a training, too large a batch for the memory limit, steps too small to end in time. The
limits are low, so some of the others fail too; which ones depends on the task.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SEED, N_PIPELINES, N_REPEATED, N_SEEDS = 20261127, 160, 20, 3
MODELS = ("minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6")
N_LAYERS = {"minilm-l1": 1, "minilm-l2": 2, "minilm-l3": 3, "minilm-l6": 6}
RATES = {"full": (2e-5, 2e-3), "partial": (5e-5, 3e-3), "lora": (2e-4, 2e-2), "head": (3e-4, 1e-1),
         "bitfit": (2e-4, 2e-2)}  # fmt: skip
"""Method -> lowest and highest learning rate, log-uniform."""

ONE_FAILS_IN = 8
QA_LENGTH = 192
TASKS = {
    "liar": "text-classification",
    "sst2": "text-classification",
    "meld": "text-classification",
    "ag_news": "text-classification",
    "squad": "question-answering",
    "drop": "question-answering",
}
N_TRAIN = {"text-classification": 256, "question-answering": 512}
N_VALIDATION = {"text-classification": 600, "question-answering": 200}
TIME_LIMIT_MIN = 0.75
SECONDS_A_TRIAL = {"text-classification": 19.0, "question-answering": 13.5}
"""Mean in the seed store, on two cores and on a GPU with ten trials at once."""


def draw_pipelines(n: int = N_PIPELINES, *, seed: int = SEED) -> list[dict[str, Any]]:
    """Draw the pipelines; the same for the same seed."""
    rng = np.random.default_rng(seed)
    drawn: list[dict[str, Any]] = []
    while len(drawn) < n:
        line = _draw(rng)
        if len(drawn) % ONE_FAILS_IN == ONE_FAILS_IN - 1:
            _make_fail(line["params"], way=len(drawn) // ONE_FAILS_IN % 4)
        if line not in drawn:
            drawn.append(line)
    return drawn


def _draw(rng: np.random.Generator) -> dict[str, Any]:
    model, method = str(rng.choice(MODELS)), str(rng.choice(list(RATES)))
    low, high = RATES[method]
    params: dict[str, Any] = {
        "learning_rate": float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.3g}"),
        "batch_size": int(rng.choice([4, 8, 16, 32])),
        "max_length": int(rng.choice([16, 32, 64, 128])),
        "epochs": int(rng.integers(1, 9)),
        "lr_scheduler": str(rng.choice(["linear", "cosine", "constant"])),
        "warmup_ratio": float(rng.choice([0.0, 0.06, 0.2])),
        "weight_decay": float(rng.choice([0.0, 0.01, 0.1])),
        "dropout_rate": float(rng.choice([0.0, 0.1, 0.3])),
        "early_stopping_patience": int(rng.choice([2, 4])),
    }
    if method == "partial":
        params["n_trainable_blocks"] = int(rng.integers(1, N_LAYERS[model] + 1))
    if method == "lora":
        del params["dropout_rate"]
        params |= {"lora_r": int(rng.choice([2, 4, 8, 16, 32])), "lora_alpha": int(rng.choice([8, 16, 32]))}
        params["lora_dropout"] = float(rng.choice([0.0, 0.1]))
    return {"model": model, "method": method, "params": params}


def _make_fail(params: dict[str, Any], *, way: int) -> None:
    """Change parameters so that a trial is likely to fail, in one of four ways."""
    changes: Sequence[dict[str, Any]] = (
        # Decay multiplies weights by 1 - rate x decay in each step: here by -29, until they overflow.
        {"learning_rate": 300.0, "weight_decay": 0.1, "warmup_ratio": 0.0, "lr_scheduler": "constant",
         "batch_size": 8, "epochs": 8, "early_stopping_patience": 8},
        {"epochs": 400, "batch_size": 4, "early_stopping_patience": 400},
        {"batch_size": 256, "max_length": 512},
        {"epochs": 30, "batch_size": 1, "early_stopping_patience": 30},
    )  # fmt: skip
    params |= changes[way]


def with_seeds(pipelines: Sequence[dict[str, Any]], *, max_length: int | None = None) -> list[dict[str, Any]]:
    """List the trials: every pipeline with seed 1, the first ones with further seeds.

    Args:
        pipelines: The pipelines.
        max_length: Length that replaces every usual one, or ``None``.
    """
    trials = [{**line, "seed": 1} for line in pipelines]
    trials += [{**line, "seed": seed} for seed in range(2, N_SEEDS + 1) for line in pipelines[:N_REPEATED]]
    if max_length is None:
        return trials
    return [
        {**line, "params": {**line["params"], "max_length": max_length}}
        if line["params"]["max_length"] <= 128
        else line
        for line in trials
    ]


def search_file(task: str, kind: str) -> str:
    """Write the search file of a task."""
    profile = "profile-qa.toml" if kind == "question-answering" else "profile.toml"
    return f'''# Trials of the seed store on {task}; --set data.path=FOLDER says where the data lies.
name = "seed-{task}"
profile = "{profile}"

[task]
name = "{task}"
kind = "{kind}"

[data]
path = "data/{task}"
train_rows = {N_TRAIN[kind]}
validation_rows = {N_VALIDATION[kind]}
test_rows = {N_VALIDATION[kind]}

[space]
models = {json.dumps(list(MODELS))}

[search]
objectives = ["f1"]

[budget]
generations = 1000

[trial]
time_limit_min = {TIME_LIMIT_MIN}
max_attempts = 1

[store]
path = "../seed-store"
'''


PROFILES = {
    "profile.toml": """# One trial at a time with two threads and little memory: time is an objective, memory a limit.
site = "seed"
cluster = "seed"

[job]
n_cpus = 2
memory_gb = 1.5

[local]
n_slots = 1
""",
    "profile-qa.toml": """# One trial at a time on a GPU.
site = "seed"
cluster = "seed"

[job]
n_cpus = 1
n_gpus = 1
memory_gb = 12.0

[local]
n_slots = 1
""",
}


def write_design(folder: Path) -> None:
    """Write lists, search files and the cluster profile."""
    folder.mkdir(parents=True, exist_ok=True)
    pipelines = draw_pipelines()
    lists = {
        "pipelines.jsonl": with_seeds(pipelines),
        "pipelines-qa.jsonl": with_seeds(pipelines, max_length=QA_LENGTH),
    }
    for name, trials in lists.items():
        (folder / name).write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    for task, kind in TASKS.items():
        (folder / f"{task}.toml").write_text(search_file(task, kind))
    for name, text in PROFILES.items():
        (folder / name).write_text(text)


def plan() -> str:
    """Estimate how long the trials take, by task."""
    n = N_PIPELINES + (N_SEEDS - 1) * N_REPEATED
    hours = {task: n * SECONDS_A_TRIAL[kind] / 3600 for task, kind in TASKS.items()}
    lines = [f"{task:8} {n} trials  {spent:4.1f} h" for task, spent in hours.items()]
    return "\n".join([*lines, f"{'all':8} {n * len(TASKS)} trials  {sum(hours.values()):4.1f} h"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the design of the seed store.")
    parser.add_argument("folder", type=Path, help="folder to write to, for instance store/seed")
    write_design(parser.parse_args().folder)
    sys.stdout.write(plan() + "\n")
