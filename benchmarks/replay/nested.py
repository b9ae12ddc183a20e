"""Nested selection: the acquisition settings for a held-out task are selected by replays on the other tasks alone."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.replay.measures import MEASURES, compare
from benchmarks.replay.search_methods import EVIDENCE, UNIFORM
from benchmarks.replay.world import ReplayPlan, World, replay
from xautolm_hpc.priors import AcquisitionSettings

ACQUISITION_CHOICES = tuple(
    AcquisitionSettings(feasibility_exponent=exponent, time_weight=weight)
    for exponent in (2.0, 1.0, 4.0)
    for weight in (0.05, 0.0, 0.2)
)
"""Settings to select from; of equal ones the first is taken."""


def select_settings(
    world: World,
    *,
    objectives: tuple[str, ...],
    n_seeds: int,
    choices: Sequence[AcquisitionSettings] = ACQUISITION_CHOICES,
    n_jobs: int = 1,
) -> dict[str, AcquisitionSettings]:
    """Select for every task the settings that did best on the others, by all measures together, against NSPE uniform.

    Args:
        world: Tasks to replay on.
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

    A task's regrets depend neither on its trials nor on what other tasks learn from them.

    Returns:
        Task -> the regret of each of the choices on the other tasks; less is better.
    """
    names = list(world.tables)
    tried = [(UNIFORM, AcquisitionSettings()), *((EVIDENCE, settings) for settings in choices)]
    searches = {name: _searches(world, name) for name in names}
    everything = sorted({search for found in searches.values() for search in found}, key=str)
    plans = [
        ReplayPlan(
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
    """List the searches that settings for a task are selected by, as pairs of a task and a task it may not learn from.

    A task that does not learn from the held-out one needs no exception; its search is shared.
    """
    found: list[tuple[str, str | None]] = []
    for task in world.pooled():
        past_tasks, kept = world.past_tasks(task), world.past_tasks(task, without=held_out)
        if task != held_out and kept:
            found.append((task, held_out if len(kept) < len(past_tasks) else None))
    return found


def _regret(rows: Sequence[dict[str, Any]]) -> float:
    """Sum the log ratios of ``evidence`` to NSPE uniform over all measures; less is better, 0 without rows."""
    if not rows:
        return 0.0
    found = {key: compare(rows, key=key, against=UNIFORM)[EVIDENCE]["ratio"] for key in MEASURES}
    return sum(-sign * math.log(found[key]) for key, sign in MEASURES.items())
