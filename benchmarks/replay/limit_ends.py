"""Replays searches whose trials fail at their limit, and searches whose trials are evaluated there.

Both sides are alike: the same draws of the same pipelines, whose time limits are failures on one side and truncated
successes on the other. So the table also shows what the other definition of a failure does alone: the rows of uniform.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay.__main__ import DEVELOPMENT_SEEDS, FINAL_SEEDS, read_world
from benchmarks.replay.measures import N_BOOTSTRAP, compare
from benchmarks.replay.search_methods import SHIPPED, UNFILTERED, UNIFORM
from benchmarks.replay.world import ReplayPlan, World, replay

AT_LIMIT = ("fail", "evaluate")
SEARCHES = (UNIFORM, UNFILTERED, SHIPPED)
QUICK_SEEDS = 2

Row = Mapping[str, Any]


def replay_both(world: World, *, seeds: Sequence[int], n_jobs: int) -> dict[str, list[dict[str, Any]]]:
    """Replay all searches with both ends at the limit.

    Args:
        world: Tasks to replay on.
        seeds: Seeds of the searches.
        n_jobs: Processes.

    Returns:
        What trials do at their limit -> a row for each search.
    """
    plans = [ReplayPlan(SEARCHES, seeds, at_limit=at_limit) for at_limit in AT_LIMIT]
    return dict(zip(AT_LIMIT, replay(world, plans, n_jobs=n_jobs), strict=True))


def pooled_mean(rows: Sequence[Row], key: str, *, method: str, seed: int = 0) -> tuple[float, float, float]:
    """Average a measure of a method over the tasks; the bootstrap resamples tasks, then searches.

    Args:
        rows: One a search.
        key: The measure.
        method: The method.
        seed: Of the bootstrap.

    Returns:
        Mean, and the bounds of its 95 % interval.
    """
    tasks = sorted({row["task"] for row in rows})
    values = [np.array([r[key] for r in rows if r["task"] == t and r["method"] == method]) for t in tasks]
    rng = np.random.default_rng(seed)
    means = np.array([v[rng.integers(len(v), size=(N_BOOTSTRAP, len(tasks), len(v)))].mean(axis=2) for v in values])
    drawn = rng.integers(len(tasks), size=(N_BOOTSTRAP, len(tasks)))
    resampled = means[drawn, np.arange(N_BOOTSTRAP)[:, None], np.arange(len(tasks))].mean(axis=1)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(np.mean([v.mean() for v in values])), float(low), float(high)


def write_table(found: Mapping[str, Sequence[Row]]) -> str:
    """Write the table: what seconds and trials end with no F1, and failures beside uniform's with the same end.

    Args:
        found: Result of :func:`replay_both`.
    """
    head = ("search", "`at_limit`", "seconds that end with no F1", "trials that fail", "failures to uniform's",
            "area under the best F1 to uniform's")  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for at_limit, rows in found.items():
        ratios = {key: compare(rows, key=key, against=UNIFORM) for key in ("failure_rate", "area")}
        for method in SEARCHES:
            shares = [_with_interval(pooled_mean(rows, key, method=method)) for key in ("lost_share", "failure_rate")]
            beside = [
                _with_interval([ratios[key][method][name] for name in ("ratio", "low", "high")]) for key in ratios
            ]
            lines.append(f"| {method} | {at_limit} | {' | '.join([*shares, *beside])} |")
    return "\n".join(lines)


def _with_interval(numbers: Sequence[float]) -> str:
    value, low, high = numbers
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, write ``at-limit.json`` and print the table."""
    parser = argparse.ArgumentParser(description="Compare ends at the limit, on the trials of a store.")
    parser.add_argument("store", type=Path, help="experience store with trials of several tasks")
    parser.add_argument("folder", type=Path, help="folder to write at-limit.json to")
    parser.add_argument("--final", action="store_true", help="seeds 300 to 319, run once; else 0 to 9")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_SEEDS} seeds alone")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes; default: all cores")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    seeds = list(FINAL_SEEDS if given.final else DEVELOPMENT_SEEDS)[: QUICK_SEEDS if given.quick else None]
    found = replay_both(read_world(given.store), seeds=seeds, n_jobs=given.jobs)
    (given.folder / "at-limit.json").write_text(json.dumps(found) + "\n")
    print(write_table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
