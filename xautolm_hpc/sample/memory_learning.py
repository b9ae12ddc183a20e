"""Corrects the memory plan by the peaks that past trials reached on GPUs like this one."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from xautolm_hpc.execution import AS_DRAWN, StepMode
from xautolm_hpc.records import System
from xautolm_hpc.sample.duration import MAX_RATIOS, is_alike, is_trainable, pipeline_of
from xautolm_hpc.sample.memory_need import EVERYTHING_ELSE, StepFacts, memory_need
from xautolm_hpc.sample.memory_plan import MemoryBudget, plan_execution
from xautolm_hpc.space import Space
from xautolm_hpc.table import ExperienceTable

FIRST_WEIGHT = {True: 2.0, False: 0.5}
"""Past trials that an estimate counts for when others correct it: one from the architecture, one by the formula."""

LEAST_FACTOR, MOST_FACTOR = 0.6, 3.0
"""Bounds of a correction: what is beyond them says that a record is of something else."""


def measure_memory_corrections(
    table: ExperienceTable, space: Space, *, system: System, measured: StepFacts
) -> Mapping[str, float]:
    """Compute by which factor the memory of past trials differed from what is planned for them.

    Args:
        table: Past experiences.
        space: The search space; experiences with other models are left out.
        system: The node of this search; its GPU must be that of an experience, and be one alone.
        measured: What the plans are made of; trials whose steps were computed in another way are left out.

    Returns:
        ``MODEL METHOD`` -> factor on the memory of its tensors; that of ``*`` is for all others.
    """
    if system.n_gpus != 1:
        return {}
    alike = np.array([is_alike(system, other) for other in table.systems], dtype=np.bool_)
    peak_bytes = table.objectives["peak_gpu_memory_bytes"]
    is_usable = table.succeeded & np.isfinite(peak_bytes) & (peak_bytes > 0) & alike[table.system]
    is_usable &= table.captured == (measured.step is StepMode.GRAPH)
    plain, logs = replace(measured, corrections={}), defaultdict[str, list[float]](list)
    is_measured = {}
    for row in np.flatnonzero(is_usable)[:MAX_RATIOS].tolist():
        model, pipeline = space.model(table.models[table.model[row]][0]), pipeline_of(table, row)
        if model is None or not is_trainable(pipeline):
            continue
        task, node = table.tasks[table.task[row]], table.systems[table.system[row]]
        budget = MemoryBudget(memory_bytes=node.gpu_memory_bytes, has_gpu=True, measured=plain)
        execution = plan_execution(pipeline, model, task=task, memory_budget=budget) or AS_DRAWN
        need = memory_need(pipeline, model, task=task, execution=execution, measured=plain)
        name = f"{model.id} {pipeline.method}"
        is_measured[name] = need.is_measured
        logs[name].append(float(np.log(peak_bytes[row] / need.allocated_bytes)))
    factors = {name: _factor(own, is_measured=is_measured[name]) for name, own in logs.items()}
    if len(factors) > 1:
        factors[EVERYTHING_ELSE] = _factor([float(np.median(own)) for own in logs.values()], is_measured=True)
    return factors


def _factor(logs: list[float], *, is_measured: bool) -> float:
    """Average logarithms of ratios, with some that are 0 beforehand."""
    mean = sum(logs) / (len(logs) + FIRST_WEIGHT[is_measured])
    return float(np.clip(np.exp(mean), LEAST_FACTOR, MOST_FACTOR))
