"""Measures a store built by commits of 32 experiences, against a folder of one JSON file per record."""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.goals import Goal, run
from xautolm_hpc.failures import OutcomeStatus, origin_of
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task, Value, to_json
from xautolm_hpc.store import ExperienceStore, merge

COMMIT = 32
N_LAST_COMMITS = 200
"""The last commits before a size is reached are measured: those into a store of that size."""

TRIALS_PER_RUN = 200
LEAST_SPEEDUP = 20
SIZES = (10_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)
READ_LIMIT_S = {100_000: 0.3, 1_000_000: 2.0}
READ_TABLE = """
import resource, sys, time
from pathlib import Path
from xautolm_hpc.store import ExperienceStore
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
table = ExperienceStore(Path(sys.argv[1])).read_table()
seconds = time.perf_counter() - start
print(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def tasks(n: int, rng: np.random.Generator) -> list[Task]:
    """Make tasks with a semantic vector each, as profile does."""
    return [
        Task(
            name=f"task-{i}",
            kind="text-classification",
            dataset_id=uuid.UUID(int=i).hex,
            fingerprint=uuid.UUID(int=i + 1000).hex,
            metric="macro-f1",
            n_train=4000,
            n_dev=800,
            n_validation=1000,
            n_test=1000,
            labels=("negative", "positive"),
            feature_schema="text-classification/1",
            features=tuple(float(x) for x in rng.random(20)),
            semantic=tuple(float(np.float32(x)) for x in rng.normal(size=384)),
            length_tokens=(20.0, 60.0, 128.0),
        )
        for i in range(n)
    ]


def systems(n: int) -> list[System]:
    """Make systems that differ in site, node memory and GPU."""
    return [
        System(
            site=f"site-{i % 3}",
            cluster=f"cluster-{i}",
            n_cpu_cores=16,
            ram_bytes=(i + 1) * 64 * 1024**3,
            n_gpus=1,
            gpu_name="H100",
            gpu_memory_bytes=80 * 1024**3,
            gpu_capability=9.0,
            driver_version="550.54",
            cuda_version="12.8",
        )
        for i in range(n)
    ]


def params(rng: np.random.Generator, *, is_lora: bool) -> dict[str, Value]:
    """Draw the hyperparameters of one pipeline, as many as the default space has."""
    drawn: dict[str, Value] = {
        "learning_rate": float(10 ** rng.uniform(-6, -3)),
        "batch_size": int(rng.choice([8, 16, 32, 64])),
        "gradient_accumulation_steps": int(rng.choice([1, 2, 4])),
        "max_length": int(rng.choice([64, 128, 256, 512])),
        "epochs": int(rng.integers(1, 11)),
        "warmup_ratio": float(rng.uniform(0, 0.2)),
        "lr_scheduler": str(rng.choice(["linear", "cosine", "constant"])),
        "optimizer": str(rng.choice(["adamw", "adafactor"])),
        "weight_decay": float(rng.choice([0.0, 0.001, 0.01, 0.1])),
        "max_grad_norm": float(rng.choice([0.5, 1.0, 5.0])),
        "early_stopping_patience": int(rng.integers(1, 4)),
        "early_stopping_delta": float(rng.choice([0.0, 0.001, 0.005])),
        "class_weighted_loss": bool(rng.integers(2)),
    }
    if not is_lora:
        return drawn | {"dropout_rate": float(rng.uniform(0, 0.3))}
    return drawn | {
        "lora_r": int(rng.integers(1, 65)),
        "lora_alpha": int(rng.integers(4, 129)),
        "lora_dropout": float(rng.uniform(0, 0.3)),
        "lora_bias": str(rng.choice(["none", "lora_only"])),
        "lora_targets": str(rng.choice(["attention", "all-linear"])),
        "init_lora_weights": str(rng.choice(["default", "gaussian", "pissa"])),
    }


def outcome(rng: np.random.Generator) -> Outcome:
    """Draw an outcome: three of five succeed; every number has all its digits."""
    kind = None if rng.random() < 0.6 else str(rng.choice(["gpu_oom", "diverged", "time_limit", "preempted"]))
    train_s, eval_s = float(rng.gamma(2, 300)), float(rng.gamma(2, 10))
    return Outcome(
        status=OutcomeStatus.FAILED if kind else OutcomeStatus.SUCCEEDED,
        metrics={} if kind else {name: float(rng.random()) for name in ("f1", "accuracy", "dev_f1", "dev_loss")},
        load_s=float(rng.gamma(2, 5)),
        train_s=train_s,
        eval_s=None if kind else eval_s,
        evaluation_time_s=None if kind else train_s + eval_s,
        queue_s=float(rng.gamma(1, 100)),
        gpu_energy_j=float(rng.integers(10**5, 10**8)) / 1000,
        energy_source="nvml-counter",
        energy_scope="whole-gpu",
        peak_gpu_memory_bytes=int(rng.integers(2**22, 2**27)) * 512,
        peak_rss_bytes=int(rng.integers(2**18, 2**22)) * 4096,
        n_steps=int(rng.integers(10, 5000)),
        n_samples=int(rng.integers(100, 50000)),
        truncated=None if kind else bool(rng.random() < 0.1),
        epochs_done=float(rng.random() * 10),
        epochs=int(rng.integers(1, 11)),
        schedule_share=float(rng.random()),
        step="graph" if rng.random() < 0.8 else "eager",
        cpu_share=float(1 - rng.random() / 10),
        kind=kind,
        origin=origin_of(kind) if kind else None,
    )


def experiences(n: int, *, seed: int) -> Iterator[Experience]:
    """Draw ``n`` experiences of runs of 200 trials."""
    rng = np.random.default_rng(seed)
    known_tasks, known_systems = tasks(30, rng), systems(6)
    for i in range(n):
        if i % TRIALS_PER_RUN == 0:
            run_id = str(uuid.UUID(bytes=rng.bytes(16), version=4))
            task, system = known_tasks[int(rng.integers(30))], known_systems[int(rng.integers(6))]
        is_lora = bool(rng.integers(2))
        minute = i // 10
        yield Experience(
            task=task,
            system=system,
            pipeline=Pipeline(
                task_kind=task.kind,
                model_id=f"model-{rng.integers(20)}",
                model_revision=None,
                method="lora" if is_lora else "full",
                params=params(rng, is_lora=is_lora),
            ),
            outcome=outcome(rng),
            provenance=Provenance(
                run_id=run_id,
                trial=i % TRIALS_PER_RUN,
                attempt=0,
                restart=0,
                generation=i % TRIALS_PER_RUN // 20,
                seed=int(rng.integers(2**31)),
                site=system.site,
                started_at=_time(minute, rng),
                ended_at=_time(minute + 20, rng),
                prior_kind="evidence",
                package_version="0.1.0",
                image_digest="sha256:" + "0" * 64,
                lock_hash="1" * 64,
                node=f"node{rng.integers(16)}",
                job=i % TRIALS_PER_RUN // 4,
                job_position=i % 4,
            ),
        )


def _time(minute: int, rng: np.random.Generator) -> str:
    day, rest = divmod(minute, 1440)
    seconds, millis = rng.integers(60), rng.integers(1000)
    return f"{2026 + day // 336}-{day // 28 % 12 + 1:02d}-{day % 28 + 1:02d}T{rest // 60:02d}:{rest % 60:02d}:" + (
        f"{seconds:02d}.{millis:03d}+00:00"
    )


def build(store: ExperienceStore, n: int) -> Iterator[list[Experience]]:
    """Commit the missing ones of all but the last of ``n`` experiences; yield the rest as commits to make."""
    n_there, n_last = len(store.read_table()), N_LAST_COMMITS * COMMIT
    batch: list[Experience] = []
    for i, e in enumerate(experiences(n, seed=n)):
        batch.append(e)
        if len(batch) == COMMIT or i == n - 1:
            if i >= max(n - n_last, n_there):
                yield batch
            elif i >= n_there:
                store.append(batch)
            batch = []


def measure(folder: Path, n: int) -> list[Goal]:
    """Build a store of ``n`` experiences by commits, then read it in a process of its own."""
    store = ExperienceStore(folder / f"store-{n}")
    commits_s: list[float] = []
    for batch in build(store, n):
        start_s = time.perf_counter()
        store.append(batch)
        commits_s.append(time.perf_counter() - start_s)
    script = [sys.executable, "-c", READ_TABLE, str(store.path)]
    reads = [subprocess.run(script, check=True, capture_output=True, text=True).stdout.split() for _ in range(5)]
    info = store.info()
    store.compact()
    label = f"{n:,} experiences: "
    return [
        Goal(label + "read table", min(float(r[0]) for r in reads), READ_LIMIT_S.get(n), "s"),
        Goal(label + "memory of that", max(float(r[1]) for r in reads), None, "MB"),
        Goal(label + "commit, median", statistics.median(commits_s) * 1000, 50, "ms"),
        Goal(label + "commit, 99th percentile", float(np.percentile(commits_s, 99)) * 1000, None, "ms"),
        Goal(label + "commit, slowest", max(commits_s) * 1000, None, "ms"),
        Goal(label + "segments", info["n_segments"], 8 * math.log(n / COMMIT, 8), "files"),
        Goal(label + "on disk", info["bytes_each"], 250, "bytes each"),
        Goal(label + "on disk, compacted", store.info()["bytes_each"], 250, "bytes each"),
    ]


def measure_json(folder: Path, n: int, *, store_read_s: float) -> list[Goal]:
    """Measure the same with one JSON file per record, and compute how many times faster the store is read."""
    target = folder / "json"
    target.mkdir()
    start_s = time.perf_counter()
    for i, e in enumerate(experiences(n, seed=n)):
        (target / f"{i}.json").write_text(json.dumps(to_json(e)))
    write_s = time.perf_counter() - start_s
    reads_s = []
    for _ in range(2):
        start_s = time.perf_counter()
        records = [json.loads(path.read_bytes()) for path in sorted(target.iterdir())]
        reads_s.append(time.perf_counter() - start_s)
    n_bytes = sum(path.stat().st_size for path in target.iterdir())
    return [
        Goal(f"{n:,} JSON files: read", min(reads_s), None, "s"),
        Goal(f"{n:,} JSON files: write 32", write_s / n * COMMIT * 1000, None, "ms"),
        Goal(f"{n:,} JSON files: on disk", n_bytes / len(records), None, "bytes each"),
        Goal(f"{n:,}: store read faster by", min(reads_s) / store_read_s, LEAST_SPEEDUP, "times", at_most=False),
    ]


def measure_merge(folder: Path, n: int) -> list[Goal]:
    """Merge three stores of ``n`` experiences: this site's own, and the same as if they came from elsewhere."""
    stores = [folder / f"site-{i}" for i in range(3)]
    for seed, path in enumerate(stores):
        ExperienceStore(path).append(list(experiences(n, seed=seed)))
    found = []
    for label, is_own in (("own", True), ("foreign, checked first", False)):
        if not is_own:
            for path in stores:
                (path / ".checked").unlink()
        start_s = time.perf_counter()
        merge(stores, folder / f"merged-{is_own}")
        limit = 5 if n == 100_000 and is_own else None
        found.append(Goal(f"merge of 3 x {n:,}, {label}", time.perf_counter() - start_s, limit, "s"))
    return found


def main(argv: list[str]) -> int:
    """Measure at the sizes the arguments ask for."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--full", action="store_true", help="also with 1,000,000 experiences")
    parser.add_argument("--small", action="store_true", help="only with 10,000 experiences")
    parser.add_argument("--build", type=Path, help="only build the stores in this folder; called again, it goes on")
    parser.add_argument("--built", type=Path, help="measure in a folder that --build filled; once")
    arguments, rest = parser.parse_known_args(argv)
    sizes = FULL_SIZES if arguments.full else SIZES[:1] if arguments.small else SIZES

    if arguments.build:
        for n in sizes:
            next(build(ExperienceStore(arguments.build / f"store-{n}"), n))
        return 0

    def goals() -> list[Goal]:
        with tempfile.TemporaryDirectory() as name:
            folder = arguments.built or Path(name)
            found = [goal for n in sizes for goal in measure(folder, n)]
            largest = min(sizes[-1], 100_000)
            read_s = next(goal.value for goal in found if goal.name == f"{largest:,} experiences: read table")
            found += measure_json(Path(name), largest, store_read_s=read_s) + measure_merge(Path(name), largest)
        peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        return [*found, Goal("peak memory of all this", peak_gb, None, "GB")]

    return run(goals, rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
