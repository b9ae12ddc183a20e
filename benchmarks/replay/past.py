"""Pasts of a replayed search: the real experiences of other tasks, or misleading ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.replay.trials import TaskTable
from xautolm_hpc.priors.similarity import experience_distances
from xautolm_hpc.records import Task
from xautolm_hpc.table import build_table


def _real(past: Sequence[TaskTable], *, task: TaskTable, seed: int) -> list[TaskTable]:
    """Return the past unchanged."""
    del task, seed
    return list(past)


def _permuted(past: Sequence[TaskTable], *, task: TaskTable, seed: int) -> list[TaskTable]:
    """Permute the outcomes of every other task among its pipelines: the past carries no information."""
    del task
    permuted = []
    for number, table in enumerate(past):
        order = np.random.default_rng([seed, number]).permutation(len(table.pipelines)).tolist()
        groups = [
            tuple(replace(e, outcome=table.experiences[source][0].outcome) for e in table.experiences[place])
            for place, source in enumerate(order)
        ]
        permuted.append(replace(table, f1=table.f1[order], cost_s=table.cost_s[order], experiences=tuple(groups)))
    return permuted


def _unlike(past: Sequence[TaskTable], *, task: TaskTable, seed: int) -> list[TaskTable]:
    """Return only the task that is farthest."""
    del seed
    table = build_table([t.experiences[0][0] for t in past])
    distances = experience_distances(
        table, np.arange(len(table)), task=task.task, system=task.system, metric="euclidean"
    )
    farthest = table.tasks[table.task[int(np.argmax(distances))]].name
    return [t for t in past if t.task.name == farthest]


_MAKERS: Mapping[str, Callable[..., list[TaskTable]]] = {
    "real": _real,
    "permuted": _permuted,
    "unlike": _unlike,
}
PASTS = tuple(_MAKERS)

MOST_SHARED = 0.01
"""Share of common rows above which a replay lets no task learn from another: it would know the answers."""


def is_usable_past(other: Task, task: Task, *, shared: Mapping[str, Mapping[str, float]]) -> bool:
    """Return whether a task may learn from another: of the same kind, of other data, almost without common rows.

    Args:
        other: The task with past experiences.
        task: The task that is searched.
        shared: Task -> other task -> share of the rows of one that the other has; one not named is unknown.

    Raises:
        KeyError: The shared rows of the two are unknown.
    """
    if other.kind != task.kind or other.dataset_id == task.dataset_id:
        return False
    return shared[other.name][task.name] <= MOST_SHARED


def make_past(kind: str, past: Sequence[TaskTable], *, task: TaskTable, seed: int) -> list[TaskTable]:
    """Build a past of a kind of :data:`PASTS`.

    Args:
        kind: ``real``, ``permuted`` (outcomes permuted) or ``unlike`` (the farthest task only).
        past: The other tasks.
        task: The task that is searched.
        seed: Seed of the search, and of its permutation.
    """
    return _MAKERS[kind](past, task=task, seed=seed) if past else []
