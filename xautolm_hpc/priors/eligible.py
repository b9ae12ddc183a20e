"""Which experiences are evidence for the current search, each configuration once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.priors.settings import PriorSettings
from xautolm_hpc.records import PIPELINE_KINDS, Task
from xautolm_hpc.table import ExperienceTable

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIX = 0x2545F4914F6CDD1D
"""An odd number with no pattern, so that multiplying by it loses nothing and spreads every bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The n configurations a prior is made of, in ascending order of their id.

    Attributes:
        row: Row of the experience table that stands for the configuration, (n,) ascending.
        positive: Whether it is a success, (n,) bool.
        objectives: Mean of the objectives over its successes, NaN for a failure, (n, n_objectives).
        site_weight: Highest weight of the sites it comes from, (n,).
        n_records: Records of the configuration that count as this one, (n,).
        skipped: Why records are no evidence -> how many; every record is counted at most once.
    """

    row: Ints
    positive: Bools
    objectives: Floats
    site_weight: Floats
    n_records: Ints
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        """Count the configurations."""
        return len(self.row)


def find_evidence(table: ExperienceTable, *, task: Task, settings: PriorSettings) -> Evidence:
    """Find the successes and failures that say something about the current task.

    A success with every objective is positive, a failure of the pipeline's own making negative. Of a trial only
    the last attempt counts: what a retry put right is no evidence. Infrastructure failures never are.

    Args:
        table: All experiences.
        task: The current task.
        settings: Objectives, sites, and whether the records of one configuration count once.
    """
    objectives = np.column_stack([table.objectives[name] for name in settings.objectives])
    site_weight = _site_weights(table, settings.sites)
    kept, skipped = _sift(
        len(table),
        {
            "other_task_kind": _of_task(table, [t.kind != task.kind for t in table.tasks]),
            "other_feature_schema": _of_task(table, [not _has_features_of(t, task) for t in table.tasks]),
            "not_last_attempt": ~_last_attempts(table),
            "suspect": table.suspect,
            "other_site": site_weight <= 0,
            "infrastructure": ~table.succeeded & ~((table.kind >= 0) & (table.kind < len(PIPELINE_KINDS))),
            "objective_missing": table.succeeded & ~np.isfinite(objectives).all(axis=1),
        },
    )
    evidence = Evidence(
        row=kept,
        positive=table.succeeded[kept],
        objectives=np.where(table.succeeded[kept, None], objectives[kept], np.nan),
        site_weight=site_weight[kept],
        n_records=np.ones(len(kept), dtype=np.int64),
        skipped=skipped,
    )
    return _deduplicate(table, evidence, objectives=settings.objectives) if settings.deduplicate else evidence


def scopes(table: ExperienceTable, rows: Ints, *, objectives: Sequence[str]) -> Ints:
    """Number what times of the rows cover; rows of two numbers are never compared by time.

    Returns:
        The scope's number, shape (n,); 0 everywhere when time is no objective.
    """
    by_time = "evaluation_time_s" in objectives
    return table.time_scope[rows].astype(np.int64) if by_time else np.zeros(len(rows), dtype=np.int64)


def fingerprints(table: ExperienceTable, rows: Ints) -> Ints:
    """Number the rows' tasks, one number for all that share a fingerprint; shape (n,)."""
    return _codes([t.fingerprint for t in table.tasks])[table.task[rows]]


def _sift(n: int, refused: Mapping[str, Bools]) -> tuple[Ints, dict[str, int]]:
    """Keep the rows nothing refuses; a row refused twice is counted under the first reason."""
    kept = np.ones(n, dtype=np.bool_)
    skipped = {}
    for reason, mask in refused.items():
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


def _deduplicate(table: ExperienceTable, evidence: Evidence, *, objectives: Sequence[str]) -> Evidence:
    """Count a configuration once: by the mean of its successes, or if it has none as one failure.

    Successes whose times cover different things are no one configuration when time is an objective.
    """
    configuration = _configurations(table, evidence.row)
    has_success = np.bincount(configuration, weights=evidence.positive) > 0
    counts = np.flatnonzero(evidence.positive | ~has_success[configuration])
    scope = scopes(table, evidence.row[counts], objectives=objectives)
    group, first = group_rows([configuration[counts], np.where(evidence.positive[counts], scope, -1)])
    n_records = np.bincount(group, minlength=len(first))
    means = [np.bincount(group, weights=c[counts], minlength=len(first)) for c in evidence.objectives.T]
    site_weight = np.zeros(len(first))
    np.maximum.at(site_weight, group, evidence.site_weight[counts])
    order = np.argsort(first)
    return Evidence(
        row=evidence.row[counts[first[order]]],
        positive=evidence.positive[counts[first[order]]],
        objectives=np.column_stack([(total / n_records)[order] for total in means]),
        site_weight=site_weight[order],
        n_records=n_records[order],
        skipped={**evidence.skipped, "same_configuration": len(evidence) - len(first)},
    )


def _configurations(table: ExperienceTable, rows: Ints) -> Ints:
    """Number the configurations (task, GPU, pipeline) of the rows, shape (n,)."""
    gpu = _codes([system.gpu_name for system in table.systems])[table.system[rows]]
    words = np.ascontiguousarray(table.pipeline[rows]).view(np.uint64).reshape(len(rows), 4)
    return group_rows([*words.T, gpu, fingerprints(table, rows)])[0]


def group_rows(keys: Sequence[NDArray[Any]]) -> tuple[Ints, Ints]:
    """Group rows with equal keys.

    Rows are sorted by one number mixed from their keys, which takes a fraction of a sort by all of them; should
    rows of different keys get the same number, they are sorted by the keys themselves.

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
    """Tell where a new group starts in an order of the rows."""
    starts = np.zeros(len(order), dtype=np.bool_)
    starts[:1] = True
    for key in keys:
        ordered = key[order]
        starts[1:] |= ordered[1:] != ordered[:-1]
    return starts


def _codes(values: Sequence[str | None]) -> Ints:
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=np.int64)
