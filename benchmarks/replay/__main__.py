"""Replays searches on real trials, to measure what experiences of other tasks are worth on a held-out task.

A store's pipelines are split in two halves by a digest. A search of a task sees the other tasks' one half as its past
and looks for its own task's best in the other half; then the halves are swapped. ``docs/evidence.md`` says more.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.replay.limits import read_limits
from benchmarks.replay.measures import summarise
from benchmarks.replay.nested import select_settings
from benchmarks.replay.search_methods import EVIDENCE, METHODS, SHIPPED, UNIFORM
from benchmarks.replay.text import show
from benchmarks.replay.trials import build_tables
from benchmarks.replay.world import ReplayPlan, World, replay
from xautolm_hpc.store import ExperienceStore

DEVELOPMENT_SEEDS, FINAL_SEEDS = range(10), range(300, 320)
OBJECTIVES = {"one": ("f1",), "two": ("f1", "evaluation_time_s")}
ORACLES = ("table", "forest", "gaussian")

PARTS: Mapping[str, Mapping[str, str]] = {
    "one": {},
    "two": {"objectives": "two"},
    "permuted": {"past": "permuted"},
    "unlike": {"past": "unlike"},
    "forest": {"oracle": "forest"},
    "gaussian": {"oracle": "gaussian"},
}
"""Part of the whole set -> how it differs from a replay with one objective, on the table itself, with the real past."""

IN_EVERY_PART = (UNIFORM, EVIDENCE, SHIPPED, "optuna tpe warm", "portfolio")


def known_methods() -> list[str]:
    """List the methods that can run here: Optuna's need the package."""
    return [name for name in METHODS if "optuna" not in name or find_spec("optuna")]


def read_world(store: Path) -> World:
    """Read a store and, beside it, the shared rows of its tasks and the limits of their searches.

    Raises:
        FileNotFoundError: The file of shared rows is missing.
    """
    tables = build_tables(list(ExperienceStore(store).read()))
    shared = json.loads((store.parent / "shared-rows.json").read_text(encoding="utf-8"))
    return World(tables, shared, {name: read_limits(store.parent / f"{name}.toml") for name in tables})


def replay_parts(
    world: World, parts: Iterable[str], *, plan: ReplayPlan, n_choice_seeds: int, n_jobs: int
) -> dict[str, dict[str, Any]]:
    """Replay parts of the whole set.

    Args:
        world: Tasks to replay on.
        parts: Names in :data:`PARTS`.
        plan: Methods and seeds of all; but for the first two parts, of the methods only :data:`IN_EVERY_PART`.
        n_choice_seeds: Seeds to select the acquisition settings of ``evidence`` by; 0 takes the default ones.
        n_jobs: Processes.

    Returns:
        Part -> ``rows``, ``pooled`` tasks, ``summary``, ``acquisition`` settings selected and ``seeds``.
    """
    given = {part: PARTS[part] for part in parts}
    acquisition = {
        name: select_settings(world, objectives=OBJECTIVES[name], n_seeds=n_choice_seeds, n_jobs=n_jobs)
        if EVIDENCE in plan.methods and n_choice_seeds
        else {}
        for name in sorted({differs.get("objectives", "one") for differs in given.values()})
    }
    plans = []
    for differs in given.values():
        objectives = differs.get("objectives", "one")
        is_main = not differs or "objectives" in differs
        plans.append(
            ReplayPlan(
                plan.methods if is_main else [m for m in plan.methods if m in IN_EVERY_PART],
                plan.seeds,
                oracle=differs.get("oracle", "table"),
                objectives=OBJECTIVES[objectives],
                past=differs.get("past", "real"),
                acquisition=acquisition[objectives],
            )
        )
    found = {}
    for part, done, rows in zip(given, plans, replay(world, plans, n_jobs=n_jobs), strict=True):
        pooled = world.pooled()
        summary = summarise([row for row in rows if row["task"] in pooled])
        chosen = {name: asdict(acquisition) for name, acquisition in done.acquisition.items()}
        found[part] = {
            "rows": rows,
            "pooled": pooled,
            "summary": summary,
            "acquisition": chosen,
            "seeds": list(done.seeds),
        }
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Replay, write a JSON file a part, and print the tables."""
    parser = argparse.ArgumentParser(description="Replay searches on the trials of a store.")
    parser.add_argument("store", type=Path, help="experience store with trials of several tasks")
    parser.add_argument("folder", type=Path, help="folder to write PART.json to")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--final", action="store_true", help="seeds 300 to 319, run once; else 0 to 9")
    parser.add_argument("--seeds", type=int, help="take only so many of the seeds")
    parser.add_argument("--methods", nargs="+", choices=known_methods(), default=known_methods(), metavar="METHOD")
    parser.add_argument(
        "--choose", type=int, default=4, metavar="N", help="seeds to choose settings of evidence by, on the other tasks"
    )
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes; default: all cores")
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    plan = ReplayPlan(
        list(dict.fromkeys([UNIFORM, *given.methods])),
        list(FINAL_SEEDS if given.final else DEVELOPMENT_SEEDS)[: given.seeds],
    )
    world = read_world(given.store)
    found = replay_parts(world, given.parts, plan=plan, n_choice_seeds=given.choose, n_jobs=given.jobs)
    for part, content in found.items():
        (given.folder / f"{part}.json").write_text(json.dumps(content) + "\n")
        print(f"{show(part, content)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
