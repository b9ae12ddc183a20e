"""Selection of the experiences that a prior may learn from; each configuration counts once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.failures import FAILURE_KINDS, PIPELINE_KINDS, FailureKind
from xautolm_hpc.priors.refused import refused_by_rules
from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.records import Task
from xautolm_hpc.table import ExperienceTable

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIX = 0x2545F4914F6CDD1D
"""An odd number with irregular bits: multiplying by it modulo 2**64 is reversible and changes most bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EligibleExperiences:
    """The n configurations that a prior may learn from, in ascending order of their id.

    Attributes:
        row: Row of the experience table that represents the configuration, (n,) ascending.
        positive: Whether it is a success, (n,) bool.
        truncated: Whether it is a truncated success: its F1 is a lower bound, its duration unknown, (n,) bool.
        objectives: Mean of the objectives over its successes, NaN for a failure, (n, n_objectives).
        site_weight: Highest weight of the sites it comes from, (n,).
        n_records: Records of the configuration that count as this one, (n,).
        skipped: Reason why records are not eligible -> how many; every record is counted at most once.
    """

    row: Ints
    positive: Bools
    truncated: Bools
    objectives: Floats
    site_weight: Floats
    n_records: Ints
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        """Count the configurations."""
        return len(self.row)


def find_eligible(
    table: ExperienceTable, *, task: Task, settings: PriorSettings, with_truncated: bool = False
) -> EligibleExperiences:
    """Find the successes and failures that are evidence about the current task.

    A success with every objective is positive, a failure caused by the pipeline negative. Of a trial only the last
    attempt counts: a failure that a retry overcame is no evidence. Infrastructure failures never count, and neither do
    trials that the worker refused for their hyperparameters: they were never trained. A trial that was stopped is
    neither. What a truncated success says depends on the prior: see :func:`truncated_as_failures`.

    Args:
        table: All experiences.
        task: The current task.
        settings: Objectives, sites, and whether the records of one configuration count once.
        with_truncated: Whether truncated successes count as such, as a search needs it whose trials are evaluated at
            their limit. A trial that failed there although it could have been evaluated is neither, then.
    """
    objectives = np.column_stack([table.objectives[name] for name in settings.objectives])
    site_weight = _site_weights(table, settings.sites)
    at_limit = table.kind == FAILURE_KINDS.index(FailureKind.TIME_LIMIT)
    kept, skipped = _filter(
        len(table),
        {
            "other_task_kind": _of_task(table, [t.kind != task.kind for t in table.tasks]),
            "other_feature_schema": _of_task(table, [not _has_features_of(t, task) for t in table.tasks]),
            "not_last_attempt": ~_last_attempts(table),
            "suspect": table.suspect,
            "other_site": site_weight <= 0,
            "stopped": table.stopped,
            "truncated": table.truncated & table.succeeded & (not with_truncated),
            **({"censored": at_limit & table.was_evaluated} if with_truncated else {}),
            "infrastructure": ~table.succeeded & ~((table.kind >= 0) & (table.kind < len(PIPELINE_KINDS))),
            "refused_hyperparameters": refused_by_rules(table),
            "objective_missing": table.succeeded & ~np.isfinite(objectives).all(axis=1),
        },
    )
    eligible = EligibleExperiences(
        row=kept,
        positive=table.succeeded[kept],
        truncated=(table.truncated & table.succeeded)[kept],
        objectives=np.where(table.succeeded[kept, None], objectives[kept], np.nan),
        site_weight=site_weight[kept],
        n_records=np.ones(len(kept), dtype=np.int64),
        skipped=skipped,
    )
    return _deduplicate(table, eligible, objectives=settings.objectives) if settings.deduplicate else eligible


def truncated_as_failures(table: ExperienceTable) -> ExperienceTable:
    """Read every truncated success as the time limit that it would have met before ends at the limit were evaluated."""
    if not table.truncated.any():
        return table
    kind = np.where(table.truncated, np.int16(FAILURE_KINDS.index(FailureKind.TIME_LIMIT)), table.kind)
    return replace(table, succeeded=table.succeeded & ~table.truncated, kind=kind)


def scopes(table: ExperienceTable, rows: Ints, *, objectives: Sequence[str]) -> Ints:
    """Number the time scopes of the rows: what their times cover. Times of two scopes are never compared.

    Returns:
        The scope's number, shape (n,); 0 everywhere when time is no objective.
    """
    by_time = "evaluation_time_s" in objectives
    return table.time_scope[rows].astype(np.int64) if by_time else np.zeros(len(rows), dtype=np.int64)


def fingerprints(table: ExperienceTable, rows: Ints) -> Ints:
    """Number the rows' tasks: equal numbers for equal fingerprints; shape (n,)."""
    return _codes([t.fingerprint for t in table.tasks])[table.task[rows]]


def _filter(n: int, excluded: Mapping[str, Bools]) -> tuple[Ints, dict[str, int]]:
    """Keep the rows that nothing excludes; a row excluded twice is counted under the first reason."""
    kept = np.ones(n, dtype=np.bool_)
    skipped = {}
    for reason, mask in excluded.items():
        skipped[reason] = int(np.count_nonzero(kept & mask))
        kept &= ~mask
    return np.flatnonzero(kept), skipped


def _of_task(table: ExperienceTable, values: list[bool]) -> Bools:
    return np.array(values, dtype=np.bool_)[table.task]


def _has_features_of(task: Task, current: Task) -> bool:
    same_length = len(task.features) == len(current.features)
    return task.feature_schema == current.feature_schema and same_length


def _site_weights(table: ExperienceTable, sites: Mapping[str, float] | None) -> Floats:
    weights = [1.0 if sites is None else sites.get(site, 0.0) for site in table.sites]
    return np.array(weights, dtype=np.float64)[table.site]


def _last_attempts(table: ExperienceTable) -> Bools:
    trial = table.run.astype(np.int64) << 32 | table.trial
    attempt = table.attempt.astype(np.int64) << 32 | table.restart
    order = np.lexsort((attempt, trial))  # stable: of two records of one attempt the greater id is last
    is_last = np.ones(len(table), dtype=np.bool_)
    is_last[order[:-1]] = trial[order[1:]] != trial[order[:-1]]
    return is_last


def _deduplicate(
    table: ExperienceTable, eligible: EligibleExperiences, *, objectives: Sequence[str]
) -> EligibleExperiences:
    """Count a configuration once: as the mean of its successes, or as one failure if it has none.

    When time is an objective, successes of two time scopes are two configurations. Truncated successes count where
    there is no other, and are averaged within a run alone, which has one budget.
    """
    configuration, truncated = _configurations(table, eligible.row), eligible.truncated
    has_success = np.bincount(configuration, weights=eligible.positive) > 0
    has_whole = np.bincount(configuration, weights=eligible.positive & ~truncated) > 0
    counts = np.flatnonzero(
        np.where(truncated, ~has_whole[configuration], eligible.positive | ~has_success[configuration])
    )
    scope = scopes(table, eligible.row[counts], objectives=objectives)
    run = np.where(truncated[counts], table.run[eligible.row[counts]].astype(np.int64), -1)
    group, first = group_rows([configuration[counts], np.where(eligible.positive[counts], scope, -1), run])
    n_records = np.bincount(group, minlength=len(first))
    means = [np.bincount(group, weights=c[counts], minlength=len(first)) for c in eligible.objectives.T]
    site_weight = np.zeros(len(first))
    np.maximum.at(site_weight, group, eligible.site_weight[counts])
    order = np.argsort(first)
    return EligibleExperiences(
        row=eligible.row[counts[first[order]]],
        positive=eligible.positive[counts[first[order]]],
        truncated=truncated[counts[first[order]]],
        objectives=np.column_stack([(total / n_records)[order] for total in means]),
        site_weight=site_weight[order],
        n_records=n_records[order],
        skipped={**eligible.skipped, "same_configuration": len(eligible) - len(first)},
    )


def _configurations(table: ExperienceTable, rows: Ints) -> Ints:
    """Number the configurations (task, GPU, pipeline) of the rows, shape (n,)."""
    gpu = _codes([system.gpu_name for system in table.systems])[table.system[rows]]
    words = np.ascontiguousarray(table.pipeline[rows]).view(np.uint64).reshape(len(rows), 4)
    return group_rows([*words.T, gpu, fingerprints(table, rows)])[0]


def group_rows(keys: Sequence[NDArray[Any]]) -> tuple[Ints, Ints]:
    """Group rows with equal keys.

    Rows are sorted by one hash of their keys, which takes a fraction of the time of a sort by all keys. If the hashes
    of different keys collide, rows are sorted by the keys themselves.

    Args:
        keys: Whole numbers, each (n,).

    Returns:
        The group of each row (n,), and the first row of each group (n_groups,).
    """
    number = np.zeros(len(keys[0]), dtype=np.uint64)
    for key in keys:
        number = (number ^ key.astype(np.uint64)) * np.uint64(MIX)
    order = np.argsort(number, kind="stable")
    starts = _starts(keys, order)
    if np.any(starts[1:] & (number[order[1:]] == number[order[:-1]])):
        order = np.lexsort(keys)
        starts = _starts(keys, order)
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(starts) - 1
    return group, order[starts]


def _starts(keys: Sequence[NDArray[Any]], order: Ints) -> Bools:
    """Find where a new group starts in an order of the rows; (n,) bool."""
    starts = np.zeros(len(order), dtype=np.bool_)
    starts[:1] = True
    for key in keys:
        ordered = key[order]
        starts[1:] |= ordered[1:] != ordered[:-1]
    return starts


def _codes(values: Sequence[str | None]) -> Ints:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=np.int64)
