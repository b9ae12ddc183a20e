"""Replays searches on real trials: what past experience of other tasks is worth on a task that is held out.

A store's pipelines are split in two halves by a digest. A search of a task sees the other tasks' one half as its past
and looks for its own task's best in the other half; then the halves are swapped. ``docs/evidence.md`` says more.
"""

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from replay_methods import EVIDENCE, METHODS, UNIFORM, Setting, Trial
from replay_past import PASTS, make_past
from replay_table import Oracle, TaskTable, build_space, build_tables
from xautolm_hpc.store import ExperienceStore

Floats = NDArray[np.float64]

MOST_TRIALS, TARGET_SHARE = 60, 0.95
SEARCHED_SHARE, HYPERVOLUME_SHARE = 0.5, 2 / 3
"""Share of a half's pipelines that a search tries, and of those trials after which the hypervolume is taken."""

LEAST_SPREAD_SD = 3.0
"""A task whose best F1 is fewer standard deviations above the median has no part in what is said of all tasks."""

DEVELOPMENT_SEEDS, FINAL_SEEDS = range(10), range(100, 120)
OBJECTIVES = {"one": ("f1",), "two": ("f1", "evaluation_time_s")}
ORACLES = ("table", "forest", "gaussian")
N_BOOTSTRAP = 2000


@dataclass(frozen=True)
class Plan:
    """What is replayed on every task.

    Attributes:
        methods: Names in :data:`replay_methods.METHODS`.
        seeds: Seeds of the searches.
        oracle: One of :data:`ORACLES`.
        objectives: Objectives of the searches.
        past: One of :data:`replay_past.PASTS`: what stands in the store.
    """

    methods: Sequence[str]
    seeds: Sequence[int]
    oracle: str = "table"
    objectives: tuple[str, ...] = OBJECTIVES["one"]
    past: str = "real"


def replay(tables: Mapping[str, TaskTable], plan: Plan) -> list[dict[str, Any]]:
    """Replay every search on every task, half and seed, two tasks at a time.

    Returns:
        One row a search: ``task``, ``half``, ``seed``, ``method`` and what :func:`measure_search` measures.
    """
    with ProcessPoolExecutor(2) as pool:
        parts = pool.map(partial(_replay_task, tables, plan=plan), tables)
        return [row for part in parts for row in part]


def _replay_task(tables: Mapping[str, TaskTable], name: str, *, plan: Plan) -> list[dict[str, Any]]:
    """Replay the searches of one task."""
    rows, whole = [], tables[name]
    others = [t for other, t in tables.items() if other != name and _is_comparable(t, whole)]
    space = build_space([whole, *others])
    for half in (0, 1):
        searched = whole.half(half)
        past = make_past(plan.past, [table.half(1 - half) for table in others], task=whole)
        n = min(MOST_TRIALS, round(SEARCHED_SHARE * len(searched.pipelines)))
        for method in plan.methods:
            for seed in plan.seeds:
                oracle = Oracle(searched, space, kind=plan.oracle)
                trials = METHODS[method](Setting(past, space, oracle, plan.objectives, n, seed))
                rows.append(
                    {"task": name, "half": half, "seed": seed, "method": method, **measure_search(trials, searched)}
                )
    return rows


def _is_comparable(other: TaskTable, task: TaskTable) -> bool:
    """Tell whether another task may teach: of the same kind, and of other data."""
    return other.task.kind == task.task.kind and other.task.dataset_id != task.task.dataset_id


def measure_search(trials: Sequence[Trial], searched: TaskTable) -> dict[str, Any]:
    """Measure one search.

    Returns:
        ``time_to_target_s`` until 95 % of the best known F1 (the whole cost if missed), ``reached``, the
        ``failure_rate`` (half a failure and half a success added), ``hypervolume`` after two thirds of the trials,
        ``area`` under the best F1 so far over the trials (as a share of the best known), the ``curve`` of best so
        far, and the ``incumbent`` (canonical text).
    """
    n_first = math.ceil(HYPERVOLUME_SHARE * len(trials))
    f1 = np.array([o.metrics.get("f1", 0.0) if o.status == "succeeded" else 0.0 for _, o, _ in trials])
    cost_s = np.array([cost for _, _, cost in trials])
    best = np.maximum.accumulate(f1)
    hits = np.flatnonzero(best >= TARGET_SHARE * searched.best_f1)
    spent_s = np.cumsum(cost_s)
    return {
        "time_to_target_s": float(spent_s[hits[0]] if len(hits) else spent_s[-1]),
        "reached": bool(len(hits)),
        "failure_rate": (sum(o.status == "failed" for _, o, _ in trials) + 0.5) / (len(trials) + 1),
        "hypervolume": hypervolume(f1[:n_first], cost_s[:n_first], worst_s=float(np.percentile(searched.cost_s, 99))),
        "area": float(best.mean() / max(searched.best_f1, 1e-9)),
        "curve": [round(float(value), 5) for value in best],
        "incumbent": trials[int(f1.argmax())][0].canonical(),
    }


def hypervolume(f1: Floats, cost_s: Floats, *, worst_s: float) -> float:
    """Compute the share of the unit square that trials dominate, F1 against log time, reference (0, worst time)."""
    top = math.log(max(worst_s, 1.0 + 1e-9))
    saved = np.clip(1.0 - np.log(np.maximum(cost_s, 1.0)) / top, 0.0, 1.0)
    area, height = 0.0, 0.0
    for index in np.argsort(-saved, kind="stable"):
        if f1[index] > height and saved[index] > 0:
            area += float((f1[index] - height) * saved[index])
            height = float(f1[index])
    return area


def compare(rows: Sequence[Mapping[str, Any]], *, key: str, against: str, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Compare every method with one, by the geometric mean over the tasks of the ratio of means.

    Args:
        rows: Of :func:`replay`.
        key: What is compared, above 0.
        against: The method compared with.
        seed: Of the bootstrap, which resamples tasks, then seeds.

    Returns:
        Method -> ``ratio`` (method / against), ``low`` and ``high`` of the 95 % interval, ``p`` two-sided.
    """
    tasks = sorted({row["task"] for row in rows})
    values: dict[tuple[str, str], Floats] = {}
    for row in sorted(rows, key=lambda r: (r["task"], r["method"], r["half"], r["seed"])):
        where = (row["task"], row["method"])
        values[where] = np.append(values.get(where, np.zeros(0)), row[key])
    rng = np.random.default_rng(seed)
    draws = [rng.choice(len(tasks), len(tasks)) for _ in range(N_BOOTSTRAP)]
    found = {}
    for method in sorted({row["method"] for row in rows}):
        pairs = [(values[task, method], values[task, against]) for task in tasks]
        logs = np.array([_log_ratio(a, b) for a, b in pairs])
        resampled = np.array([np.mean([_log_ratio(*_resampled(pairs[i], rng)) for i in draw]) for draw in draws])
        share = min(float(np.mean(resampled <= 0)), float(np.mean(resampled >= 0)))
        low, high = np.exp(np.percentile(resampled, [2.5, 97.5]))
        found[method] = {"ratio": float(np.exp(logs.mean())), "low": float(low), "high": float(high), "p": 2 * share}
    return found


def _log_ratio(a: Floats, b: Floats) -> float:
    return math.log(max(float(a.mean()), 1e-9) / max(float(b.mean()), 1e-9))


def _resampled(pair: tuple[Floats, Floats], rng: np.random.Generator) -> tuple[Floats, Floats]:
    index = rng.integers(len(pair[0]), size=len(pair[0]))
    return pair[0][index], pair[1][index]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjust p-values for their number, by Holm's step-down method."""
    adjusted, largest = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, p * (len(p_values) - place)))
        adjusted[name] = largest
    return adjusted


def known_methods() -> list[str]:
    """List the methods that can run here: Optuna's need the package."""
    return [name for name in METHODS if "optuna" not in name or find_spec("optuna")]


MEASURES = {"time_to_target_s": -1, "failure_rate": -1, "hypervolume": 1, "area": 1}
"""What is compared -> 1 where more is better, else -1."""


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Compare all methods with NSPE uniform, and ``evidence`` with the best other method: the primary comparisons.

    Returns:
        Measure -> method -> comparison with NSPE uniform, the p-values of all but the primary one Holm-adjusted;
        under ``best other``, the comparison of ``evidence`` with the best of the other methods, and its name.
    """
    summary: dict[str, Any] = {}
    for key, sign in MEASURES.items():
        found = compare(rows, key=key, against=UNIFORM)
        others = {name: value["p"] for name, value in found.items() if name not in (UNIFORM, EVIDENCE)}
        for name, p in holm(others).items():
            found[name]["p_holm"] = p
        if EVIDENCE in found and others:
            rest = [name for name in found if name != EVIDENCE]
            best = max(rest, key=lambda name: sign * found[name]["ratio"])
            against = compare([r for r in rows if r["method"] in (EVIDENCE, best)], key=key, against=best)
            found["best other"] = {**against[EVIDENCE], "name": best}
        summary[key] = found
    return summary


def _table(summary: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Write a summary as a Markdown table of ratios to NSPE uniform; a star is p < .05, Holm-adjusted."""
    keys = list(summary)
    lines = ["| method | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
    for method in next(iter(summary.values())):
        cells = [summary[key][method] for key in keys]
        shown = [
            f"{cell['ratio']:.2f} ({cell['low']:.2f}–{cell['high']:.2f})"
            + ("\\*" if cell.get("p_holm", cell["p"]) < 0.05 and method != UNIFORM else "")
            + (f", {cell['name']}" if "name" in cell else "")
            for cell in cells
        ]
        lines.append(f"| {'evidence to the best other' if method == 'best other' else method} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _by_task(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write, for every task, the area under the best F1 so far of each method as a ratio to NSPE uniform."""
    tasks, methods = sorted({r["task"] for r in rows}), sorted({r["method"] for r in rows})
    mean = {
        (t, m): float(np.mean([r["area"] for r in rows if r["task"] == t and r["method"] == m]))
        for t in tasks
        for m in methods
    }
    lines = ["| area, by task | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    lines += [f"| {m} | " + " | ".join(f"{mean[t, m] / mean[t, UNIFORM]:.3f}" for t in tasks) + " |" for m in methods]
    return "\n".join(lines)


def on_test(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Write the mean F1 on ``test`` of what searches ended with, by task and method, and of how many it is known.

    Args:
        rows: Of :func:`replay`.
        path: JSON lines of ``task``, ``pipeline`` (canonical text) and ``test_f1``.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    known = {(line["task"], line["pipeline"]): line["test_f1"] for line in lines}
    tasks = sorted({line["task"] for line in lines})
    table = ["| F1 on test (share known) | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for method in sorted({r["method"] for r in rows}):
        cells = []
        for task in tasks:
            ended = [(task, r["incumbent"]) for r in rows if r["task"] == task and r["method"] == method]
            found = [known[end] for end in ended if end in known]
            cells.append(f"{np.mean(found):.3f} ({len(found) / len(ended):.0%})" if found else "")
        table.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, write rows and summary as JSON, and print the table."""
    parser = argparse.ArgumentParser(description="Replay searches on the trials of a store.")
    parser.add_argument("store", type=Path, help="experience store with trials of several tasks")
    parser.add_argument("--final", action="store_true", help="seeds 100 to 119, run once; else 0 to 9")
    parser.add_argument("--seeds", type=int, help="take only so many of the seeds")
    parser.add_argument("--methods", nargs="+", choices=known_methods(), default=known_methods(), metavar="METHOD")
    parser.add_argument("--objectives", choices=list(OBJECTIVES), default="one")
    parser.add_argument("--oracle", choices=ORACLES, default="table")
    parser.add_argument("--past", choices=PASTS, default="real", help="what the store holds of the other tasks")
    parser.add_argument("--tests", type=Path, metavar="FILE", help="what pipelines scored on test, as JSON lines")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and summary to FILE")
    given = parser.parse_args(argv)
    seeds = list(FINAL_SEEDS if given.final else DEVELOPMENT_SEEDS)[: given.seeds]
    methods = list(dict.fromkeys([UNIFORM, *given.methods]))
    tables = build_tables(list(ExperienceStore(given.store).read()))
    plan = Plan(methods, seeds, given.oracle, OBJECTIVES[given.objectives], given.past)
    rows = replay(tables, plan)
    pooled = [name for name, table in tables.items() if table.spread_sd() >= LEAST_SPREAD_SD]
    summary = summarise([row for row in rows if row["task"] in pooled])
    print(f"Pooled over {', '.join(pooled)}; {len(seeds)} seeds, {given.past} past.\n\n{_table(summary)}\n")
    print(_by_task(rows))
    if given.tests:
        print(f"\n{on_test(rows, given.tests)}")
    if given.json:
        given.json.write_text(json.dumps({"rows": rows, "summary": summary}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
