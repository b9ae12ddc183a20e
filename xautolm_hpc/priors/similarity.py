"""Distances of experiences to the current task and system, and of the tasks of a store to one another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.records import Experience, System, Task
from xautolm_hpc.table import ExperienceTable, build_table

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SYSTEM_FEATURES = ("n_cpu_cores", "ram_gib", "n_gpus", "gpu_memory_gib", "gpu_capability")
LEAST_DEVIATION = 1e-30
"""Standard deviation of a feature below which its values count as equal: dividing by it could give infinity."""

TASK_WEIGHT, SYSTEM_WEIGHT, SEMANTIC_WEIGHT = 0.4, 0.3, 0.3


@dataclass(frozen=True, slots=True)
class Term:
    """One term of the distance.

    Attributes:
        weight: Weight beside the other terms, above 0.
        distance: Distance of each experience in this term, NaN where the experience lacks it, (n,).
    """

    weight: float
    distance: Floats


def experience_distances(table: ExperienceTable, rows: Ints, *, task: Task, system: System, metric: str) -> Floats:
    """Compute the distance of each experience to the current task and system.

    Args:
        table: All experiences.
        rows: Rows of the experiences used, (n,) ascending.
        task: The current task.
        system: The current system.
        metric: ``euclidean`` or ``cosine``, between standardised features.

    Returns:
        Distances, shape (n,), at least 0.
    """
    task_features = [_floats(t.features, like=task.features) for t in table.tasks]
    here = system_features(system)
    system_rows = [_floats(system_features(s), like=here) for s in table.systems]
    semantic = [_floats(t.semantic or (), like=task.semantic or ()) for t in table.tasks]
    of_task, of_system = table.task[rows], table.system[rows]
    terms = [
        _feature_term(task_features, of_task, current=_floats(task.features), weight=TASK_WEIGHT, metric=metric),
        _feature_term(system_rows, of_system, current=_floats(here), weight=SYSTEM_WEIGHT, metric=metric),
        _semantic_term(semantic, of_task, current=_floats(task.semantic or ())),
    ]
    return combine_terms([term for term in terms if term is not None], len(rows))


def system_features(system: System) -> tuple[float | None, ...]:
    """List the numbers systems are compared by, in the order of :data:`SYSTEM_FEATURES`.

    A node known to have no GPU has GPU memory and capability 0; an unknown value is ``None``.
    """
    gib = 1024**3
    no_gpu = 0.0 if system.n_gpus == 0 else None
    return (
        None if system.n_cpu_cores is None else float(system.n_cpu_cores),
        None if system.ram_bytes is None else system.ram_bytes / gib,
        None if system.n_gpus is None else float(system.n_gpus),
        no_gpu if system.gpu_memory_bytes is None else system.gpu_memory_bytes / gib,
        no_gpu if system.gpu_capability is None else system.gpu_capability,
    )


def combine_terms(terms: Sequence[Term], n: int) -> Floats:
    """Add the terms, their weights rescaled to sum to 1.

    An experience that lacks a term gets the largest distance of the others in it. A term that all experiences lack
    is dropped.

    Args:
        terms: Terms that the current task and system have.
        n: Number of experiences.

    Returns:
        Distances, shape (n,); 0 when no term is left.
    """
    known = [term for term in terms if np.isfinite(term.distance).any()]
    total_weight = sum(term.weight for term in known)
    distance = np.zeros(n)
    for term in known:
        filled = np.where(np.isnan(term.distance), np.nanmax(term.distance), term.distance)
        distance += term.weight / total_weight * filled
    return distance


def standardise(features: Floats, used: Ints, *, current: Floats) -> tuple[Floats, Floats]:
    """Standardise features over the experiences used and the current one: z = (x - mean) / std.

    The deviation is the population's (ddof 0); where it is next to 0 it is taken as 1. A missing value becomes 0.

    Args:
        features: Features of the distinct tasks or systems, NaN where missing, (n_distinct, n_features).
        used: Which of them each experience has, (n,).
        current: Features of the current one, (n_features,).

    Returns:
        Standardised features of the distinct ones (n_distinct, n_features) and of the current one (n_features,).
    """
    z, z_current = np.empty_like(features), np.empty_like(current)
    for j in range(len(current)):
        column = np.append(features[used, j], current[j])  # (n + 1,)
        mean, scale = _mean_and_scale(column[~np.isnan(column)])
        z[:, j] = np.nan_to_num((features[:, j] - mean) / scale)
        z_current[j] = np.nan_to_num((current[j] - mean) / scale)
    return z, z_current


def _mean_and_scale(known: Floats) -> tuple[float, float]:
    if len(known) == 0 or known.min() == known.max():  # the deviation of equal numbers may round to above 0
        return (float(known[0]) if len(known) else 0.0), 1.0
    scale = float(known.std())
    return float(known.mean()), scale if scale > LEAST_DEVIATION else 1.0


def euclidean_distances(points: Floats, current: Floats) -> Floats:
    """Compute the Euclidean distance of points (n, d) to one point (d,); shape (n,)."""
    squares: Floats = ((points - current) ** 2).sum(axis=1)
    return np.sqrt(squares)


def cosine_distances(points: Floats, current: Floats) -> Floats:
    """Compute 1 - cos of the angle between points (n, d) and one point (d,); shape (n,), in 0..2.

    It is 0 if both vectors are zero, 1 if one of them is.
    """
    lengths, length = np.sqrt((points**2).sum(axis=1)), np.sqrt((current**2).sum())
    products: Floats = (points * current).sum(axis=1)
    cosines = np.divide(products, lengths * length, out=np.zeros_like(products), where=lengths * length > 0)
    both_zero = (lengths == 0) & (length == 0)
    return np.where(both_zero, 0.0, 1.0 - np.clip(cosines, -1.0, 1.0))


def _feature_term(
    distinct: list[Floats], used: NDArray[np.int32], *, current: Floats, weight: float, metric: str
) -> Term | None:
    """Compute the term of task or system features; ``None`` if the current one has no known feature."""
    if np.isnan(current).all():
        return None
    features = np.array(distinct).reshape(len(distinct), len(current))
    z, z_current = standardise(features, used.astype(np.int64), current=current)
    distance = (euclidean_distances if metric == "euclidean" else cosine_distances)(z, z_current)
    absent = np.isnan(features).all(axis=1)
    return Term(weight, np.where(absent, np.nan, distance)[used])


def _semantic_term(distinct: list[Floats], used: NDArray[np.int32], *, current: Floats) -> Term | None:
    """Compute the term of the semantic vectors; ``None`` if the current task has none."""
    if len(current) == 0:
        return None
    vectors = np.array(distinct).reshape(len(distinct), len(current))
    absent = np.isnan(vectors).any(axis=1)
    distance = cosine_distances(np.nan_to_num(vectors), current)
    return Term(SEMANTIC_WEIGHT, np.where(absent, np.nan, distance)[used])


def _floats(values: Sequence[float | None], like: Sequence[float | None] | None = None) -> Floats:
    """Turn features into an array, NaN where unknown; all unknown if they are not as many as ``like``."""
    if like is not None and len(values) != len(like):
        return np.full(len(like), np.nan)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def task_distances(experiences: Iterable[Experience], *, metric: str = "euclidean") -> tuple[list[str], Floats]:
    """Compute the distance of every task to every other, from the experience of each with the smallest id.

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
