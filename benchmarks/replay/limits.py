"""The constraints of a search, applied to the pipelines of a replay: what the product would not try is left out."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.replay.trials import TaskTable
from xautolm_hpc.catalogue import FAMILIES
from xautolm_hpc.sample import MemoryBudget, TrialLimits, build_constraints, first_rejection, measure_time_calibration
from xautolm_hpc.sample.estimates import GIB
from xautolm_hpc.space import Space
from xautolm_hpc.table import build_table


@dataclass(frozen=True)
class ReplayLimits:
    """Time and memory of a trial in a replay.

    Attributes:
        time_s: Budget of training and evaluation, in seconds.
        memory_gib: Host memory, in GiB.
    """

    time_s: float = math.inf
    memory_gib: float = math.inf


def read_limits(search_file: Path) -> ReplayLimits:
    """Read the limits of a search from its file and its profile; a search without a file has none."""
    if not search_file.exists():
        return ReplayLimits()
    search = tomllib.loads(search_file.read_text(encoding="utf-8"))
    profile = tomllib.loads((search_file.parent / search["profile"]).read_text(encoding="utf-8"))
    return ReplayLimits(60.0 * search["trial"]["time_limit_min"], profile["job"]["memory_gb"])


def allowed(searched: TaskTable, past: Sequence[TaskTable], *, space: Space, limits: ReplayLimits) -> TaskTable:
    """Return the pipelines that the product's constraints do not reject, the same ones for every method.

    As in a search, the time calibration is measured on the past.
    """
    memory_bytes = int(min(limits.memory_gib, 2.0**20) * GIB)
    time_calibration = measure_time_calibration(
        build_table([e for table in past for group in table.experiences for e in group]), space, system=searched.system
    )
    constraints = build_constraints(
        searched.task,
        searched.system,
        limits=TrialLimits(
            time_limit_s=limits.time_s,
            memory_bytes=memory_bytes,
            memory_budget=MemoryBudget.of(searched.system, host_bytes=memory_bytes),
            time_calibration=time_calibration or 1.0,
        ),
        trainable_families=FAMILIES,
    )
    rejections = [first_rejection(constraints, pipeline, space=space) for pipeline in searched.pipelines]
    return searched.keep(np.flatnonzero([rejection is None for rejection in rejections]))
