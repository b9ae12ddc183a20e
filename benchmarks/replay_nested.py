"""Chooses the settings of ``evidence`` for a task that is held out, by replays on the other tasks alone."""

import math
from collections.abc import Sequence
from typing import Any

from replay_measures import MEASURES, compare
from replay_methods import EVIDENCE, UNIFORM
from replay_world import Plan, World, replay
from xautolm_hpc.priors import Taste

TASTES = (*(Taste(caution=caution) for caution in (2.0, 1.0, 4.0)), Taste(caution=2.0, thrift=0.4))
"""What is chosen among; of equals the first is taken."""


def choose_tastes(
    world: World, *, objectives: tuple[str, ...], n_seeds: int, tastes: Sequence[Taste] = TASTES, n_jobs: int = 1
) -> dict[str, Taste]:
    """Choose for every task what did best on the others, by all measures together, to NSPE uniform.

    Neither the task's trials nor what they teach other tasks have a part in its choice.

    Args:
        world: What there is to replay on.
        objectives: Objectives of the searches.
        n_seeds: Development seeds, from 0, whatever the seeds of the replay that follows.
        tastes: What to choose among.
        n_jobs: Processes.

    Returns:
        Task -> the settings to search it with.
    """
    names = list(world.tables)
    plans = [
        Plan((method,), range(n_seeds), objectives=objectives, without=name, tastes=dict.fromkeys(names, taste))
        for name in names
        for method, tried in ((UNIFORM, (Taste(),)), (EVIDENCE, tastes))
        for taste in tried
    ]
    rows = iter(replay(world, plans, n_jobs=n_jobs))
    chosen = {}
    for name in names:
        teachable = [n for n in world.pooled() if n != name and world.teachers(n, without=name)]
        plain = next(rows)
        scored = [(_regret([*plain, *next(rows)], teachable), number) for number in range(len(tastes))]
        chosen[name] = tastes[min(scored)[1]]
    return chosen


def _regret(rows: Sequence[dict[str, Any]], tasks: Sequence[str]) -> float:
    """Sum up the logarithms of all measures, ``evidence`` to NSPE uniform; less is better, 0 where nothing is known."""
    known = [row for row in rows if row["task"] in tasks]
    if not known:
        return 0.0
    found = {key: compare(known, key=key, against=UNIFORM)[EVIDENCE]["ratio"] for key in MEASURES}
    return sum(-sign * math.log(found[key]) for key, sign in MEASURES.items())
