"""Measures every prior over a table of a million made-up experiences: seconds, and memory beside the table.

Each prior is computed in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.goals import Goal, run
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.priors import PriorSettings, prior_content
from xautolm_hpc.records import System, Task
from xautolm_hpc.space import Boolean, Categorical, Numeric, Space, build_space
from xautolm_hpc.table import ABSENT, BOOL, FLOAT, INT, TEXT, ExperienceTable, ParamColumn

N = 1_000_000
LIMITS_S = {"xautolm": 3.0, "knn": 3.0, "evidence": 5.0}
LIMIT_MIB = 1024.0
GIB = 1024**3


def space() -> Space:
    """Build the default space of text classification."""
    return build_space(
        "default", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )


def tasks() -> tuple[Task, ...]:
    """Make thirty tasks; the first is the current one too."""
    rng = np.random.default_rng(1)
    return tuple(
        Task(
            name=f"task-{i}",
            kind="text-classification",
            dataset_id=f"{i:032x}",
            fingerprint=f"{i:064x}",
            metric="macro-f1",
            n_train=int(rng.integers(500, 100_000)),
            n_dev=100,
            n_validation=100,
            n_test=100,
            labels=tuple(map(str, range(int(rng.integers(2, 20))))),
            feature_schema="text-classification/1",
            features=tuple(float(x) for x in rng.random(10)),
            semantic=tuple(float(x) for x in rng.normal(size=384)),
            length_tokens=(20.0, float(rng.uniform(30, 400)), 500.0),
        )
        for i in range(30)
    )


def systems() -> tuple[System, ...]:
    """Make six nodes that differ in GPU."""
    return tuple(
        System(site=f"site-{i}", cluster="c", n_cpu_cores=8, ram_bytes=64 * GIB, n_gpus=1, gpu_name=f"gpu-{i}",
               gpu_memory_bytes=(i + 1) * 12 * GIB, gpu_capability=7.0 + i / 2)
        for i in range(6)
    )  # fmt: skip


def table(n: int) -> ExperienceTable:
    """Draw n experiences as columns; two of five failed."""
    rng, where = np.random.default_rng(0), space()
    texts = sorted(
        {v for m in where.methods for p in m.params.values() if isinstance(p, Categorical) for v in p.values
         if isinstance(v, str)}
    )  # fmt: skip
    method = rng.integers(len(where.methods), size=n).astype(np.int32)
    failed = rng.random(n) < 0.4
    digests = rng.integers(0, 256, size=(n, 16), dtype=np.uint8)
    hexadecimal = np.frombuffer(digests.tobytes().hex().encode(), dtype="S32")
    site = rng.integers(3, size=n).astype(np.int32)
    objectives = {name: np.where(failed, np.nan, rng.random(n) * 100 + 0.01) for name in OBJECTIVES}
    objectives["f1"] = objectives["f1"] / 101
    zeros = np.zeros(n, dtype=np.int32)
    return ExperienceTable(
        tasks=tasks(),
        systems=systems(),
        models=tuple((model.id, None) for model in where.models),
        methods=tuple(m.name for m in where.methods),
        runs=tuple(f"run-{i}" for i in range(5000)),
        sites=("a", "b", "c"),
        texts=(*texts, "train+eval"),
        id=np.sort(hexadecimal),
        task=rng.integers(30, size=n).astype(np.int32),
        system=rng.integers(6, size=n).astype(np.int32),
        model=rng.integers(len(where.models), size=n).astype(np.int32),
        method=method,
        run=(np.arange(n) // 200 % 5000).astype(np.int32),
        site=site,
        trial=(np.arange(n) % 200).astype(np.int32),
        attempt=zeros,
        restart=zeros,
        succeeded=~failed,
        stopped=np.zeros(n, dtype=np.bool_),
        truncated=np.zeros(n, dtype=np.bool_),
        kind=np.where(failed, rng.integers(6, size=n), -1).astype(np.int16),
        suspect=np.zeros(n, dtype=np.bool_),
        pipeline=np.frombuffer(rng.permutation(digests).tobytes().hex().encode(), dtype="S32"),
        objectives=objectives,
        time_scope=np.full(n, len(texts), dtype=np.int32),
        captured=np.zeros(n, dtype=np.bool_),
        epochs_done=np.full(n, np.nan),
        was_evaluated=np.ones(n, dtype=np.bool_),
        params=_params(where, method, texts=texts, rng=rng),
    )


def _params(where: Space, method: Any, *, texts: list[str], rng: np.random.Generator) -> dict[str, ParamColumn]:
    """Draw every method's parameters uniformly."""
    n, columns = len(method), {}
    for index, of_method in enumerate(where.methods):
        rows = np.flatnonzero(method == index)
        for name, parameter in of_method.params.items():
            if name not in columns:
                absent = np.full(n, ABSENT, dtype=np.uint8)
                columns[name] = ParamColumn(
                    type_code=absent, number=np.full(n, np.nan), text=np.full(n, -1, dtype=np.int32)
                )
            column = columns[name]
            if isinstance(parameter, Boolean):
                column.type_code[rows], column.number[rows] = BOOL, rng.integers(2, size=len(rows))
            elif isinstance(parameter, Numeric):
                column.type_code[rows] = INT if parameter.integer else FLOAT
                drawn = rng.uniform(parameter.low, parameter.high, size=len(rows))
                column.number[rows] = np.round(drawn) if parameter.integer else drawn
            elif isinstance(parameter.values[0], str):
                codes = np.array([texts.index(str(v)) for v in parameter.values])
                column.type_code[rows] = TEXT
                column.text[rows] = codes[rng.integers(len(codes), size=len(rows))]
            else:
                values = np.array([float(v) for v in parameter.values])
                column.type_code[rows] = INT if isinstance(parameter.values[0], int) else FLOAT
                column.number[rows] = values[rng.integers(len(values), size=len(rows))]
    return columns


def measure_one(kind: str, n: int) -> None:
    """Compute one prior and print seconds and MiB, as JSON."""
    experiences, where, task, system = table(n), space(), tasks()[0], systems()[0]
    settings = PriorSettings(kind=kind, objectives=("f1", "evaluation_time_s"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start_s = time.perf_counter()
    models = load_catalogue()
    content = prior_content(experiences, where, task=task, system=system, settings=settings, models=models)
    seconds = time.perf_counter() - start_s
    assert content["counts"]["records"] == n
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([seconds, (peak - before) / 1024, len(json.dumps(content)) / 2**20]))


def measure(n: int) -> list[Goal]:
    """Measure every prior in a process of its own."""
    goals = []

    for kind, limit_s in LIMITS_S.items():
        argv = [sys.executable, "-m", "benchmarks.priors", "--child", kind, "--n", str(n)]
        printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        seconds, mib, file_mib = json.loads(printed)
        goals += [
            Goal(f"{kind}, {n:,} experiences", seconds, limit_s, "s"),
            Goal(f"{kind}, memory beside the table", mib, LIMIT_MIB, "MiB"),
            Goal(f"{kind}, priors.json", file_mib, None, "MiB"),
        ]
    return goals


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--n", type=int, default=N, help="experiences")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.child:
        measure_one(given.child, given.n)
    else:
        sys.exit(run(lambda: measure(given.n), rest))
