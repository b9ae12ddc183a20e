"""Observations that a surrogate learns from: past experiences and a search's own trials."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FAILURE_KINDS
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.priors.eligible import EligibleExperiences, fingerprints, group_rows, scopes
from xautolm_hpc.priors.evidence.encoding import Configurations, encode
from xautolm_hpc.priors.evidence.surrogate import FAILURE_CLASSES, Observations
from xautolm_hpc.priors.xautolm.alpha import experience_weights
from xautolm_hpc.records import Outcome
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_OBSERVATIONS = 3000
"""Past experiences that a surrogate learns from; of more, each task and system has its share."""

MIN_WEIGHT = 0.05
"""Least weight of a past experience, however far its task; times the weight of its site."""

N_DIGITS, LARGEST_EXPONENT = 6, 300
"""Significant digits of the numbers in ``priors.json``, and the last decimal place that any of them has."""


def select_rows(
    table: ExperienceTable, eligible: EligibleExperiences, *, distance: Floats, limit: int = MAX_OBSERVATIONS
) -> Ints:
    """Select the experiences to learn from: all, or a share of each task and system, the larger the nearer it is.

    Ids are digests, so the first ones by id are a random sample, and the same one in whatever order a store is read.

    Args:
        table: All experiences.
        eligible: The eligible experiences, n of them.
        distance: Distance of each to the current task and system, (n,).
        limit: Most experiences selected, at least 0.

    Returns:
        Indices into ``eligible``, ascending.
    """
    n = len(eligible)
    if n <= limit:
        return np.arange(n)
    group, first = group_rows([fingerprints(table, eligible.row), table.system[eligible.row]])
    size = np.bincount(group)
    quota = _shares(size, experience_weights(distance[first], beta_scale=1.0), limit=limit)
    order = np.argsort(group, kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n) - np.repeat(np.cumsum(size) - size, size)
    return np.flatnonzero(place < quota[group])


def _shares(size: Ints, nearness: Floats, *, limit: int) -> Ints:
    """Divide a limit among groups in proportion to nearness; what a small group does not need goes to the others."""
    quota = np.zeros(len(size), dtype=np.int64)
    for _ in range(len(size)):
        is_open = quota < size
        left = limit - int(quota.sum())
        if left < max(1, int(is_open.sum())) or not is_open.any():
            break
        share = np.where(is_open, nearness, 0.0)
        quota = np.minimum(size, quota + np.floor(left * share / share.sum()).astype(np.int64))
    return quota


def targets_of(table: ExperienceTable, eligible: EligibleExperiences, *, objectives: Sequence[str]) -> Floats:
    """Scale the objectives so that values of different tasks can be compared.

    Returns:
        Targets, shape (n, n_objectives): a maximised objective scaled to 0..1 between the least and the greatest of
        its task; a minimised one as its logarithm minus the mean logarithm of its task, system and scope; NaN for
        failures, where the objective is unknown, and where it is a cost of a truncated success.
    """
    task = fingerprints(table, eligible.row)
    targets = np.full((len(eligible), len(objectives)), np.nan)
    for index, name in enumerate(objectives):
        values = table.objectives[name][eligible.row]
        is_whole = ~eligible.truncated | _holds_when_truncated(name)
        known = np.flatnonzero(eligible.positive & np.isfinite(values) & is_whole)
        keys: list[NDArray[Any]] = [task[known]]
        if not OBJECTIVES[name].is_maximised:
            keys += [table.system[eligible.row[known]], scopes(table, eligible.row[known], objectives=(name,))]
        if len(known):
            targets[known, index] = scale_target(
                values[known], group_rows(keys)[0], is_maximised=OBJECTIVES[name].is_maximised
            )
    return targets


def _holds_when_truncated(objective: str) -> bool:
    """Return whether a truncated success says something of an objective: a bound of F1, and the peak of memory."""
    return OBJECTIVES[objective].is_maximised or objective == "peak_gpu_memory_bytes"


def scale_target(values: Floats, group: Ints, *, is_maximised: bool) -> Floats:
    """Scale one objective's values within their groups, as :func:`targets_of` does; (n,)."""
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


def failure_classes_of(kinds: Sequence[str | None]) -> Ints:
    """Find the failure class of each failure kind, as an index; -1 for a success (``None``); shape (n,)."""
    codes: dict[str, int] = {kind: code for code, (names, _) in enumerate(FAILURE_CLASSES.values()) for kind in names}
    return np.array([-1 if kind is None else codes[kind] for kind in kinds], dtype=np.int64)


def past_observations(
    table: ExperienceTable, selected: EligibleExperiences, *, rows: Configurations, columns: Sequence[str],
    targets: Floats, distance: Floats,
) -> Observations:  # fmt: skip
    """Turn selected experiences into observations; numbers are rounded as they are written to a file.

    Args:
        table: All experiences.
        selected: The experiences selected, n of them.
        rows: Their pipelines.
        columns: Columns of :func:`xautolm_hpc.priors.evidence.encoding.layout`.
        targets: Their targets, (n, n_objectives).
        distance: Their distance to the current task and system, (n,).
    """
    kinds = [None if code < 0 else FAILURE_KINDS[code] for code in table.kind[selected.row].tolist()]
    nearness = experience_weights(distance, beta_scale=1.0) * selected.site_weight
    return Observations(
        x=_rounded(encode(rows, columns)),
        failure_class=failure_classes_of(kinds),
        targets=_rounded(targets),
        weight=_rounded(np.maximum(nearness, MIN_WEIGHT * selected.site_weight)),
        is_bound=selected.truncated,
    )


def own_observations(
    rows: Configurations, outcomes: Sequence[Outcome], *, columns: Sequence[str], objectives: Sequence[str],
    weight: float,
) -> Observations:  # fmt: skip
    """Turn a search's own trials into observations.

    Args:
        rows: The trials' pipelines, (n,).
        outcomes: How they ended: successes, and failures of the pipeline's own making.
        columns: Columns of :func:`xautolm_hpc.priors.evidence.encoding.layout`.
        objectives: Objectives of the targets.
        weight: Weight of each beside a past experience of the very same task.
    """
    targets = np.full((len(outcomes), len(objectives)), np.nan)
    for index, name in enumerate(objectives):
        values = np.array([_or_nan(outcome.objective(name)) for outcome in outcomes])
        says = [o.succeeded and (not o.truncated or _holds_when_truncated(name)) for o in outcomes]
        known = np.flatnonzero(np.isfinite(values) & np.array(says))
        if len(known):
            group = np.zeros(len(known), dtype=np.int64)
            scaled = scale_target(values[known], group, is_maximised=OBJECTIVES[name].is_maximised)
            targets[known, index] = _shrink_to_expected(scaled) if OBJECTIVES[name].is_maximised else scaled
    kinds = [None if outcome.succeeded else outcome.kind for outcome in outcomes]
    return Observations(
        x=encode(rows, columns),
        failure_class=failure_classes_of(kinds),
        targets=targets,
        weight=np.full(len(outcomes), weight),
        is_bound=np.array([o.truncated is True for o in outcomes], dtype=np.bool_),
    )


def _shrink_to_expected(scaled: Floats) -> Floats:
    """Map 0..1 to 1/(n+1)..n/(n+1), where the least and the greatest of n uniform draws are expected to lie."""
    n = len(scaled)
    return (1.0 + (n - 1) * scaled) / (n + 1)


def observations_to_json(observations: Observations) -> dict[str, Any]:
    """Turn observations into plain data, NaN as ``None``; :func:`observations_from_json` reads them back."""
    return {
        "x": [_or_none(row) for row in observations.x.tolist()],
        "cause": observations.failure_class.tolist(),
        "goals": [_or_none(row) for row in observations.targets.tolist()],
        "weight": observations.weight.tolist(),
        **({"bound": observations.is_bound.tolist()} if observations.is_bound.any() else {}),
    }


def observations_from_json(data: Any, *, n_columns: int, n_objectives: int, where: str) -> Observations:
    """Read observations from plain data.

    Raises:
        InputError: The data is malformed or has another number of columns or objectives.
    """
    try:
        n = len(data["cause"])
        return Observations(
            x=np.array(data["x"], dtype=np.float64).reshape(n, n_columns),
            failure_class=np.array(data["cause"], dtype=np.int64),
            targets=np.array(data["goals"], dtype=np.float64).reshape(n, n_objectives),
            weight=np.array(data["weight"], dtype=np.float64).reshape(n),
            is_bound=np.array(data.get("bound", [False] * n), dtype=np.bool_).reshape(n),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{where}: holds no observations of this search space: {error!r}; start a new run") from error


def _rounded(values: Floats) -> Floats:
    """Round to :data:`N_DIGITS` significant digits: a file is small and reads back as the same numbers."""
    known = np.isfinite(values) & (values != 0)
    exponent = np.zeros_like(values)
    exponent[known] = np.minimum(N_DIGITS - 1 - np.floor(np.log10(np.abs(values[known]))), LARGEST_EXPONENT)
    scale = 10.0**exponent
    return np.asarray(np.where(known, np.round(values * scale) / scale, values), dtype=np.float64)


def _or_none(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
