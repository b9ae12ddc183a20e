"""From experiences, and from a search's own trials, to what a surrogate learns from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError
from xautolm_hpc.priors.eligible import Evidence, fingerprints, group_rows, scopes
from xautolm_hpc.priors.evidence.encoding import Configurations, encode
from xautolm_hpc.priors.evidence.surrogate import CAUSES, Lessons
from xautolm_hpc.priors.xautolm.alpha import experience_weights
from xautolm_hpc.records import FAILURE_KINDS, OBJECTIVES, Outcome
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_LESSONS = 3000
"""Experiences a surrogate learns from; of more, each task and system gives its share."""

LEAST_WEIGHT = 0.05
N_DIGITS = 6


def select_rows(table: ExperienceTable, evidence: Evidence, *, distance: Floats, limit: int = MAX_LESSONS) -> Ints:
    """Select the experiences to learn from: all, or of each task and system a share that grows with its nearness.

    Ids are digests, so those that come first by id are a random sample, the same whatever the order of the store.

    Args:
        table: All experiences.
        evidence: The configurations that are evidence.
        distance: Distance of each to the current task and system, (n,).
        limit: Most experiences selected.

    Returns:
        Indices into the evidence, ascending.
    """
    n = len(evidence)
    if n <= limit:
        return np.arange(n)
    group, first = group_rows([fingerprints(table, evidence.row), table.system[evidence.row]])
    size = np.bincount(group)
    quota = _shares(size, experience_weights(distance[first], beta_scale=1.0), limit=limit)
    order = np.argsort(group, kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
    return np.flatnonzero(place < quota[group])


def _shares(size: Ints, nearness: Floats, *, limit: int) -> Ints:
    """Share a limit out in proportion to nearness; what a small group leaves goes to the others."""
    quota = np.zeros(len(size), dtype=np.int64)
    for _ in range(len(size)):
        is_open = quota < size
        left = limit - int(quota.sum())
        if left < max(1, int(is_open.sum())) or not is_open.any():
            break
        share = np.where(is_open, nearness, 0.0)
        quota = np.minimum(size, quota + np.floor(left * share / share.sum()).astype(np.int64))
    return quota


def goals_of(table: ExperienceTable, evidence: Evidence, *, objectives: Sequence[str]) -> Floats:
    """Put the objectives on a scale that carries over from task to task.

    Returns:
        Of a maximised objective its place between the least and the greatest of its task, of a minimised one its
        logarithm less the mean of its task, system and scope; NaN for failures and objectives unknown,
        (n, n_objectives).
    """
    task = fingerprints(table, evidence.row)
    goals = np.full((len(evidence), len(objectives)), np.nan)
    for index, name in enumerate(objectives):
        values = table.objectives[name][evidence.row]
        known = np.flatnonzero(evidence.positive & np.isfinite(values))
        keys: list[NDArray[Any]] = [task[known]]
        if not OBJECTIVES[name]:
            keys += [table.system[evidence.row[known]], scopes(table, evidence.row[known], objectives=(name,))]
        if len(known):
            goals[known, index] = scale_goal(values[known], group_rows(keys)[0], is_maximised=OBJECTIVES[name])
    return goals


def scale_goal(values: Floats, group: Ints, *, is_maximised: bool) -> Floats:
    """Scale one objective's values within their groups, as :func:`goals_of` does; (n,)."""
    n_groups = int(group.max()) + 1
    if is_maximised:
        least, greatest = np.full(n_groups, np.inf), np.full(n_groups, -np.inf)
        np.minimum.at(least, group, values)
        np.maximum.at(greatest, group, values)
        spread = (greatest - least)[group]
        scaled = np.full(len(values), 0.5)
        np.divide(values - least[group], spread, out=scaled, where=spread > 0)
        return scaled
    logarithm = np.log(np.maximum(values, 1e-9))
    mean = np.bincount(group, weights=logarithm, minlength=n_groups) / np.bincount(group, minlength=n_groups)
    return np.asarray(logarithm - mean[group], dtype=np.float64)


def causes_of(kinds: Sequence[str | None]) -> Ints:
    """Number failures by cause, -1 for a success (``None``), (n,)."""
    codes = {kind: code for code, (names, _) in enumerate(CAUSES.values()) for kind in names}
    return np.array([-1 if kind is None else codes[kind] for kind in kinds], dtype=np.int64)


def past_lessons(
    table: ExperienceTable, evidence: Evidence, *, rows: Configurations, columns: Sequence[str], goals: Floats,
    distance: Floats,
) -> Lessons:  # fmt: skip
    """Turn selected experiences into lessons; numbers are rounded as they are written to a file.

    Args:
        table: All experiences.
        evidence: The experiences selected, n of them.
        rows: Their pipelines.
        columns: Columns of :func:`xautolm_hpc.priors.evidence.encoding.layout`.
        goals: Their goals, (n, n_objectives).
        distance: Their distance to the current task and system, (n,).
    """
    kinds = [None if code < 0 else FAILURE_KINDS[code] for code in table.kind[evidence.row].tolist()]
    nearness = experience_weights(distance, beta_scale=1.0) * evidence.site_weight
    return Lessons(
        x=_rounded(encode(rows, columns)),
        cause=causes_of(kinds),
        goals=_rounded(goals),
        weight=_rounded(np.maximum(nearness, LEAST_WEIGHT * evidence.site_weight)),
    )


def own_lessons(
    rows: Configurations, outcomes: Sequence[Outcome], *, columns: Sequence[str], objectives: Sequence[str],
    weight: float,
) -> Lessons:  # fmt: skip
    """Turn a search's own trials into lessons.

    Args:
        rows: The trials' pipelines, (n,).
        outcomes: How they ended: successes, and failures of the pipeline's own making.
        columns: Columns of :func:`xautolm_hpc.priors.evidence.encoding.layout`.
        objectives: Objectives of the goals.
        weight: Weight of each beside a past experience of the very same task.
    """
    goals = np.full((len(outcomes), len(objectives)), np.nan)
    for index, name in enumerate(objectives):
        values = np.array([_or_nan(outcome.objective(name)) for outcome in outcomes])
        known = np.flatnonzero(np.isfinite(values) & np.array([o.status == "succeeded" for o in outcomes]))
        if len(known):
            group = np.zeros(len(known), dtype=np.int64)
            scaled = scale_goal(values[known], group, is_maximised=OBJECTIVES[name])
            goals[known, index] = _of_few(scaled) if OBJECTIVES[name] else scaled
    return Lessons(
        x=encode(rows, columns),
        cause=causes_of([None if outcome.status == "succeeded" else outcome.kind for outcome in outcomes]),
        goals=goals,
        weight=np.full(len(outcomes), weight),
    )


def _of_few(scaled: Floats) -> Floats:
    """Draw places between the least and the greatest of n together: of n draws in 0..1 these lie 1 / (n + 1) inside."""
    n = len(scaled)
    return (1.0 + (n - 1) * scaled) / (n + 1)


def lessons_to_json(lessons: Lessons) -> dict[str, Any]:
    """Turn lessons into plain data, NaN as ``None``; :func:`lessons_from_json` gives equal ones back."""
    return {
        "x": [_or_none(row) for row in lessons.x.tolist()],
        "cause": lessons.cause.tolist(),
        "goals": [_or_none(row) for row in lessons.goals.tolist()],
        "weight": lessons.weight.tolist(),
    }


def lessons_from_json(data: Any, *, n_columns: int, n_objectives: int, where: str) -> Lessons:
    """Rebuild lessons.

    Raises:
        InputError: The data is malformed or has another number of columns or objectives.
    """
    try:
        n = len(data["cause"])
        return Lessons(
            x=np.array(data["x"], dtype=np.float64).reshape(n, n_columns),
            cause=np.array(data["cause"], dtype=np.int64),
            goals=np.array(data["goals"], dtype=np.float64).reshape(n, n_objectives),
            weight=np.array(data["weight"], dtype=np.float64).reshape(n),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: holds no lessons of this search space: {error!r}; start a new run") from error


def _rounded(values: Floats) -> Floats:
    """Round to :data:`N_DIGITS` significant digits, so that a file is small and gives the same numbers back."""
    known = np.isfinite(values) & (values != 0)
    exponent = np.zeros_like(values)
    exponent[known] = N_DIGITS - 1 - np.floor(np.log10(np.abs(values[known])))
    scale = 10.0**exponent
    return np.asarray(np.where(known, np.round(values * scale) / scale, values), dtype=np.float64)


def _or_none(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
