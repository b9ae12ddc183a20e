"""Chooses the settings of ``evidence`` for a task that is held out, by replays on the other tasks alone."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.replay.measures import MEASURES, compare
from benchmarks.replay.methods import EVIDENCE, UNIFORM
from benchmarks.replay.world import Plan, World, replay
from xautolm_hpc.priors import AcquisitionSettings

ACQUISITION_CHOICES = tuple(
    AcquisitionSettings(feasibility_exponent=exponent, time_weight=weight)
    for exponent in (2.0, 1.0, 4.0)
    for weight in (0.05, 0.0, 0.2)
)
"""What is chosen among; of equals the first is taken."""


def select_settings(
    world: World,
    *,
    objectives: tuple[str, ...],
    n_seeds: int,
    choices: Sequence[AcquisitionSettings] = ACQUISITION_CHOICES,
    n_jobs: int = 1,
) -> dict[str, AcquisitionSettings]:
    """Choose for every task what did best on the others, by all measures together, to NSPE uniform.

    Args:
        world: What there is to replay on.
        objectives: Objectives of the searches.
        n_seeds: Development seeds, from 0, whatever the seeds of the replay that follows.
        choices: Settings to select from.
        n_jobs: Processes.

    Returns:
        Task -> the settings to search it with.
    """
    rated = rate_settings(world, objectives=objectives, n_seeds=n_seeds, choices=choices, n_jobs=n_jobs)
    return {name: choices[regrets.index(min(regrets))] for name, regrets in rated.items()}


def rate_settings(
    world: World,
    *,
    objectives: tuple[str, ...],
    n_seeds: int,
    choices: Sequence[AcquisitionSettings] = ACQUISITION_CHOICES,
    n_jobs: int = 1,
) -> dict[str, list[float]]:
    """Compute the regret of each of the choices.

    Neither a task's trials nor what they teach other tasks have a part in its ratings.

    Returns:
        Task -> the regret of each of the choices on the other tasks; less is better.
    """
    names = list(world.tables)
    tried = [(UNIFORM, AcquisitionSettings()), *((EVIDENCE, settings) for settings in choices)]
    searches = {name: _searches(world, name) for name in names}
    everything = sorted({search for found in searches.values() for search in found}, key=str)
    plans = [
        Plan(
            (method,),
            range(n_seeds),
            objectives=objectives,
            acquisition=dict.fromkeys(names, settings),
            tasks=(task,),
            without=without,
        )
        for task, without in everything
        for method, settings in tried
    ]
    done = iter(replay(world, plans, n_jobs=n_jobs))
    found = {search: [next(done) for _ in tried] for search in everything}
    rated = {}
    for name in names:
        plain, *by_settings = ([row for s in searches[name] for row in found[s][n]] for n in range(len(tried)))
        rated[name] = [_regret([*plain, *rows]) for rows in by_settings]
    return rated


def _searches(world: World, held_out: str) -> list[tuple[str, str | None]]:
    """List the searches that settings for a task are chosen by, as pairs of a task and whom it may not learn from.

    Where a task would not learn from the one held out anyhow, nobody is left out, and other choices share the search.
    """
    found: list[tuple[str, str | None]] = []
    for task in world.pooled():
        teachers, kept = world.teachers(task), world.teachers(task, without=held_out)
        if task != held_out and kept:
            found.append((task, held_out if len(kept) < len(teachers) else None))
    return found


def _regret(rows: Sequence[dict[str, Any]]) -> float:
    """Sum up the logarithms of all measures, ``evidence`` to NSPE uniform; less is better, 0 where nothing is known."""
    if not rows:
        return 0.0
    found = {key: compare(rows, key=key, against=UNIFORM)[EVIDENCE]["ratio"] for key in MEASURES}
    return sum(-sign * math.log(found[key]) for key, sign in MEASURES.items())
