"""F1 of trials whose steps are captured in CUDA graphs beside that of eager ones, over many seeds.

MiniLM on SST-2 and on SQuAD, both ways with the same seeds, several trainings at a time on one GPU. A seed sets head,
order and dropout. Each training is written to ``--json`` as soon as it is done, and those that are there already are
kept, so that the seeds can be measured in sittings. Without a GPU it says so and measures nothing.
"""

import argparse
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

from benchmarks.training import SHARED, find_model
from benchmarks.training_kinds import Labels, Spans, TrainedTask, read_rows
from benchmarks.training_ways import TrainingCase, train_ours
from xautolm_hpc.durable import write_json
from xautolm_hpc.execution import StepMode

TASKS = ("sst2", "squad")
N_TRAIN, N_DEV, N_VALIDATION = 1000, 125, 500
LENGTHS = {"sst2": 64, "squad": 384}
EPOCHS = {"sst2": 2, "squad": 3}
BATCH_SIZE = 16
MOST_HALF_WIDTH = 0.03
"""Half-width of the interval of the difference that is allowed at most."""

Z_95 = 1.96


def build_case(task: str, seed: int) -> TrainingCase:
    """Describe one training.

    Args:
        task: Name of a folder of the data.
        seed: Seed of head, order and dropout.
    """
    model, files = find_model("minilm-l6", Path())
    read = {name: read_rows(SHARED / "datasets" / task / f"{name}.jsonl.gz") for name in ("train", "validation")}
    rows = {
        "train": read["train"][:N_TRAIN],
        "dev": read["train"][N_TRAIN : N_TRAIN + N_DEV],
        "validation": read["validation"][:N_VALIDATION],
    }
    labels = tuple(sorted({row["label"] for row in rows["train"]})) if task == "sst2" else ()
    kind: TrainedTask = Labels(labels) if task == "sst2" else Spans()
    return TrainingCase(
        model, files, kind, rows, max_length=LENGTHS[task], batch_size=BATCH_SIZE, epochs=EPOCHS[task], seed=seed,
        threads=1,
    )  # fmt: skip


def train_one(one: tuple[str, str, int]) -> dict[str, Any]:
    """Train a task in a step mode with a seed, and return the three with F1 and seconds."""
    task, step, seed = one
    cost = train_ours(build_case(task, seed), step=StepMode(step))
    return {"task": task, "step": step, "seed": seed, "f1": cost.f1, "seconds": cost.seconds}


def measure(missing: Sequence[tuple[str, str, int]], *, n_processes: int, seconds: float) -> Iterator[dict[str, Any]]:
    """Train what is missing and yield each result.

    Args:
        missing: Task, step mode and seed of each training.
        n_processes: Trainings at a time.
        seconds: Seconds after which none begins.
    """
    deadline, waiting = time.monotonic() + seconds, iter(missing)
    with ProcessPoolExecutor(n_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(train_one, one) for one, _ in zip(waiting, range(n_processes), strict=False)}
        while running:
            done = next(as_completed(running))
            running.remove(done)
            yield done.result()
            following = next(waiting, None)
            if following is not None and time.monotonic() < deadline:
                running.add(pool.submit(train_one, following))


def compare(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare both ways on each task: means, difference, and half-width of its 95 % interval (paired by seed)."""
    compared = []
    for task in TASKS:
        f1 = {(row["step"], row["seed"]): row["f1"] for row in rows if row["task"] == task}
        seeds = sorted(seed for step, seed in f1 if step == "graph" and ("eager", seed) in f1)
        if len(seeds) < 2:
            continue
        sides = {step: [f1[step, seed] for seed in seeds] for step in ("eager", "graph")}
        errors = [statistics.stdev(values) / math.sqrt(len(seeds)) for values in sides.values()]
        compared.append({
            "task": task,
            "n_seeds": len(seeds),
            **{f"f1_{step}": statistics.mean(values) for step, values in sides.items()},
            **{f"sd_{step}": statistics.stdev(values) for step, values in sides.items()},
            "difference": statistics.mean(sides["graph"]) - statistics.mean(sides["eager"]),
            "half_width": Z_95 * math.hypot(*errors),
        })  # fmt: skip
    return compared


def is_met(row: dict[str, Any]) -> bool:
    """Check whether the interval of the difference contains 0 and is narrow enough."""
    return bool(abs(row["difference"]) <= row["half_width"] <= MOST_HALF_WIDTH)


def main() -> int:
    """Train what ``--json`` lacks and compare; 1 with ``--check`` if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write trainings to FILE; those there are kept")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is missed")
    arguments = parser.parse_args()
    rows = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.exists() else []
    if torch.cuda.is_available():
        there = {(row["task"], row["step"], row["seed"]) for row in rows}
        wanted = [
            (task, step, seed) for seed in range(arguments.seeds) for task in TASKS for step in ("eager", "graph")
        ]
        missing = [one for one in wanted if one not in there]
        for row in measure(missing, n_processes=arguments.processes, seconds=arguments.seconds):
            rows.append(row)
            if arguments.json:
                write_json(arguments.json, rows)
    else:
        print("step_f1: this machine has no GPU that torch can use; nothing was measured")
    compared = compare(rows)
    for row in compared:
        print(
            f"{row['task']}: {row['n_seeds']} seeds, F1 eager {row['f1_eager']:.4f} (SD {row['sd_eager']:.4f}), graph "
            f"{row['f1_graph']:.4f} (SD {row['sd_graph']:.4f}), difference {row['difference']:+.4f} "
            f"+- {row['half_width']:.4f}: {'met' if is_met(row) else 'MISSED'}"
        )
    return int(arguments.check and not all(map(is_met, compared)))


if __name__ == "__main__":
    sys.exit(main())
