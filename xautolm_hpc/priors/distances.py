"""How far the tasks of a store are from one another, as a prior sees them."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.priors.similarity import experience_distances
from xautolm_hpc.records import Experience
from xautolm_hpc.table import build_table

Floats = NDArray[np.float64]


def task_distances(experiences: Iterable[Experience], *, metric: str = "euclidean") -> tuple[list[str], Floats]:
    """Measure how far every task is from every other, each by the experience of the smallest id.

    Args:
        experiences: Experiences of the tasks, in any order.
        metric: ``euclidean`` or ``cosine``.

    Returns:
        The tasks' names, sorted, with the first digits of the fingerprint where two have one name; and the distances,
        (n_tasks, n_tasks), of the column's task as seen from the row's; NaN between kinds of task.
    """
    first: dict[str, Experience] = {}
    for e in sorted(experiences, key=lambda e: e.id):
        first.setdefault(e.task.fingerprint, e)
    chosen = sorted(first.values(), key=lambda e: (e.task.name, e.task.fingerprint))
    plain = [e.task.name for e in chosen]
    names = [
        name if plain.count(name) == 1 else f"{name} {e.task.fingerprint[:6]}"
        for name, e in zip(plain, chosen, strict=True)
    ]
    distances = np.full((len(chosen), len(chosen)), np.nan)
    for i, e in enumerate(chosen):
        alike = [j for j, other in enumerate(chosen) if other.task.kind == e.task.kind]
        table = build_table([chosen[j] for j in alike])
        found = experience_distances(table, np.arange(len(table)), task=e.task, system=e.system, metric=metric)
        place = {table.tasks[number].fingerprint: float(d) for number, d in zip(table.task, found, strict=True)}
        distances[i, alike] = [place[chosen[j].task.fingerprint] for j in alike]
    return names, distances


def distance_table(names: list[str], distances: Floats) -> str:
    """Write distances as a Markdown table; between kinds of task there is none."""
    lines = ["| seen from | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, row in zip(names, distances, strict=True):
        lines.append(f"| {name} | " + " | ".join("" if np.isnan(d) else f"{d:.2f}" for d in row) + " |")
    return "\n".join(lines)
