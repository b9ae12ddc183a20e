"""What the product would not even try: the constraints of a search, on the pipelines of a replay."""

import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.replay.trials import TaskTable
from xautolm_hpc.catalogue import FAMILIES
from xautolm_hpc.sample import Allowance, Room, build_constraints, first_refusal, measured_slowness
from xautolm_hpc.sample.estimates import GIB
from xautolm_hpc.space import Space
from xautolm_hpc.table import build_table


@dataclass(frozen=True)
class Limits:
    """What a trial may use.

    Attributes:
        time_s: Seconds.
        memory_gib: Host memory, in GiB.
    """

    time_s: float = math.inf
    memory_gib: float = math.inf


def read_limits(search_file: Path) -> Limits:
    """Read the limits of a search from its file and its profile; none of a search that has no file."""
    if not search_file.exists():
        return Limits()
    search = tomllib.loads(search_file.read_text(encoding="utf-8"))
    profile = tomllib.loads((search_file.parent / search["profile"]).read_text(encoding="utf-8"))
    return Limits(60.0 * search["trial"]["time_limit_min"], profile["job"]["memory_gb"])


def allowed(searched: TaskTable, past: Sequence[TaskTable], *, space: Space, limits: Limits) -> TaskTable:
    """Leave out the pipelines that the product's constraints refuse, whatever the method of the search.

    As in a search, how much slower than estimated trials are is measured on the past.
    """
    memory_bytes = int(min(limits.memory_gib, 2.0**20) * GIB)
    slowness = measured_slowness(
        build_table([e for table in past for group in table.experiences for e in group]), space, system=searched.system
    )
    constraints = build_constraints(
        searched.task,
        searched.system,
        allowance=Allowance(
            time_limit_s=limits.time_s,
            memory_bytes=memory_bytes,
            room=Room.of(searched.system, host_bytes=memory_bytes),
            slowness=slowness or 1.0,
        ),
        trainable_families=FAMILIES,
    )
    refused = [first_refusal(constraints, pipeline, space=space) for pipeline in searched.pipelines]
    return searched.keep(np.flatnonzero([refusal is None for refusal in refused]))
