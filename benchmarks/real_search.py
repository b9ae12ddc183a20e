"""Real searches with and without past experiences: an illustration beside the replay, not a test.

``write`` puts a past into a folder, the seed store without the task's own trials, and six search files, for NSPE from
uniform and with ``evidence``, three seeds each. The product runs them; ``table`` shows how they ended.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.seed_design import MODELS, N_TRAIN, N_VALIDATION, RATES, TIME_LIMIT_MIN
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore

TASK_KIND = "text-classification"
KINDS, SEEDS = ("uniform", "evidence"), (1, 2, 3)
POPULATION, GENERATIONS = 6, 4
SHOWN = (6, 12, 24)
"""Numbers of trials after which the best so far is shown."""

SHARED: dict[str, list[Any]] = {
    "batch_size": [4, 8, 16, 32],
    "max_length": [16, 32, 64, 128],
    "lr_scheduler": ["linear", "cosine", "constant"],
    "warmup_ratio": [0.0, 0.06, 0.2],
    "weight_decay": [0.0, 0.01, 0.1],
    "early_stopping_patience": [2, 4],
    "gradient_accumulation_steps": [1],
    "optimizer": ["adamw"],
    "max_grad_norm": [1.0],
    "early_stopping_delta": [0.0],
    "class_weighted_loss": [False],
}
OF_LORA: dict[str, list[Any]] = {
    "lora_r": [2, 4, 8, 16, 32],
    "lora_alpha": [8, 16, 32],
    "lora_dropout": [0.0, 0.1],
    "lora_bias": ["none"],
    "lora_targets": ["attention"],
    "init_lora_weights": ["default"],
}
"""Values of the seed pipelines; a parameter that these leave to the worker has one value."""

DROPOUT: dict[str, list[Any]] = {"dropout_rate": [0.0, 0.1, 0.3]}
PARAMS: dict[str, dict[str, list[Any]]] = {
    "full": DROPOUT, "partial": DROPOUT, "head": DROPOUT, "lora": OF_LORA, "bitfit": {}
}  # fmt: skip
PROFILE = """site = "seed"
cluster = "seed"

[job]
n_cpus = 2
memory_gb = 1.5

[local]
n_slots = 2
"""


def search_file(task: str, data: Path, *, kind: str, seed: int) -> str:
    """Write a search file on the space of the seed pipelines."""
    spaces = []
    for method, own in PARAMS.items():
        low, high = RATES[method]
        values = {name: json.dumps(known) for name, known in {**SHARED, **own}.items()}
        values["learning_rate"] = f"{{ low = {low}, high = {high}, log = true }}"
        values["epochs"] = "{ low = 1, high = 8, integer = true }"
        if method == "partial":
            values["n_trainable_blocks"] = "{ low = 1, high = 6, integer = true }"
        lines = "\n".join(f"{name} = {value}" for name, value in values.items())
        spaces.append(f"[space.params.{method}]\n{lines}\n")
    return f"""name = "{kind}-{seed}"
profile = "profile.toml"

[task]
name = "{task}"
kind = "{TASK_KIND}"

[data]
path = {json.dumps(str(data.resolve()))}
train_rows = {N_TRAIN[TASK_KIND]}
validation_rows = {N_VALIDATION[TASK_KIND]}
test_rows = {N_VALIDATION[TASK_KIND]}

[space]
models = {json.dumps(list(MODELS))}
methods = {json.dumps(list(PARAMS))}

{chr(10).join(spaces)}
[search]
objectives = ["f1"]
population = {POPULATION}
seed = {seed}

[budget]
generations = {GENERATIONS}

[trial]
time_limit_min = {TIME_LIMIT_MIN}
max_attempts = 1

[prior]
kind = "{kind}"

[store]
path = "store-{kind}-{seed}"
also_read = ["past"]
"""


def write(store: Path, folder: Path, *, task: str, data: Path) -> str:
    """Write the past and the searches, and return how to run them."""
    folder.mkdir(parents=True)
    others = [e for e in ExperienceStore(store).read() if e.task.name != task]
    ExperienceStore(folder / "past").append(others)
    (folder / "profile.toml").write_text(PROFILE, encoding="utf-8")
    names = [f"{kind}-{seed}" for kind in KINDS for seed in SEEDS]
    for name in names:
        kind, _, seed = name.partition("-")
        text = search_file(task, data, kind=kind, seed=int(seed))
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    runs = "\n".join(f"xautolm-hpc run {folder}/{name}.toml --runs-dir {folder}/runs" for name in names)
    return f"{len(others)} experiences of other tasks. Each of these takes 4 cores:\n{runs}"


def table(folder: Path) -> str:
    """Write how the searches went: failures, best F1 so far, its mean over the trials, and when the target was reached.

    The target is 95 % of the best F1 that any of the six found.
    """
    runs = {
        f"{kind}-{seed}": sorted(
            ExperienceStore(folder / f"store-{kind}-{seed}").read(), key=lambda e: e.provenance.trial
        )
        for kind in KINDS
        for seed in SEEDS
    }
    so_far = {name: np.maximum.accumulate([f1_of(e) for e in trials]) for name, trials in runs.items()}
    target = 0.95 * max(best[-1] for best in so_far.values())
    heads = [*(f"best F1 of {n} trials" for n in SHOWN), "mean best so far", "trials to the target"]
    lines = ["| search | trials | failed | " + " | ".join(heads) + " | seconds in all |", "|---" * 9 + "|"]
    for name, trials in runs.items():
        best = so_far[name]
        n_failed = sum(not e.outcome.succeeded for e in trials)
        shown = [f"{best[min(n, len(best)) - 1]:.3f}" for n in SHOWN]
        reached = str(int(np.argmax(best >= target)) + 1) if best[-1] >= target else "missed"
        spent = f"{sum(seconds_of(e) for e in trials):.0f}"
        cells = [name, str(len(trials)), str(n_failed), *shown, f"{best.mean():.3f}", reached, spent]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def f1_of(experience: Experience) -> float:
    """Return a trial's F1, 0 for a failure."""
    return experience.outcome.metrics.get("f1", 0.0) if experience.outcome.succeeded else 0.0


def seconds_of(experience: Experience) -> float:
    """Compute the seconds a trial spent on training and evaluation, at least one."""
    outcome = experience.outcome
    return max(outcome.evaluation_time_s or 0.0, (outcome.train_s or 0.0) + (outcome.eval_s or 0.0), 1.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Write searches, or show how they ended."""
    parser = argparse.ArgumentParser(description="Search a task for real, with and without past experience.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    writing = verbs.add_parser("write", help="write a past and six search files")
    writing.add_argument("store", type=Path, help="the seed store")
    writing.add_argument("folder", type=Path, help="folder to make")
    writing.add_argument("--task", default="liar", help="the task that is held out")
    writing.add_argument("--data", type=Path, required=True, help="folder of the task's data")
    showing = verbs.add_parser("table", help="print how they ended")
    showing.add_argument("folder", type=Path)
    given = parser.parse_args(argv)
    if given.verb == "write":
        sys.stdout.write(write(given.store, given.folder, task=given.task, data=given.data) + "\n")
    else:
        sys.stdout.write(table(given.folder) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
