"""Sampling: draws the pipelines of a generation and learns from their results.

draw          one pipeline from a distribution, and the random streams
population    a generation; a pipeline that a constraint rejects is drawn again
constraints   pipelines that cannot run are rejected and never submitted
cost_search   what a step of a pipeline costs, among the ways to train its model that were measured
memory_need   memory of a trial on a GPU, by that
estimates     memory by a general formula, where nothing was measured; optimiser steps
step_time     time of a step on a GPU of measured speed
duration      time of a trial, and its calibration by past trials
memory_plan   execution within the memory there is: micro-batches, checkpointing, sharding
memory_learning  the correction of the memory plan by past trials
foresight     all that is foreseen of one trial, for a person
feasibility   whether enough of a space can run
update        the update of the distribution towards the fittest trials
"""

from xautolm_hpc.sample.constraints import (
    Constraint,
    EnoughSteps,
    ModelFits,
    TrialLimits,
    build_constraints,
    first_rejection,
    recalibrate,
)
from xautolm_hpc.sample.draw import draw_pipeline, training_seed
from xautolm_hpc.sample.duration import TimeKnowledge, measure_time_calibration, seconds_needed
from xautolm_hpc.sample.estimates import checkpoint_bytes
from xautolm_hpc.sample.feasibility import MIN_FEASIBLE_SHARE, FeasibilityReport, check_feasible, infeasible_message
from xautolm_hpc.sample.foresight import Foresight, foresee
from xautolm_hpc.sample.memory_learning import measure_memory_corrections
from xautolm_hpc.sample.memory_need import StepFacts
from xautolm_hpc.sample.memory_plan import MemoryBudget, plan_execution
from xautolm_hpc.sample.population import Drawn, Proposal, draw_generation, not_drawn_before
from xautolm_hpc.sample.update import Evolution, update

__all__ = [
    "MIN_FEASIBLE_SHARE",
    "Constraint",
    "Drawn",
    "EnoughSteps",
    "Evolution",
    "FeasibilityReport",
    "Foresight",
    "MemoryBudget",
    "ModelFits",
    "Proposal",
    "StepFacts",
    "TimeKnowledge",
    "TrialLimits",
    "build_constraints",
    "check_feasible",
    "checkpoint_bytes",
    "draw_generation",
    "draw_pipeline",
    "first_rejection",
    "foresee",
    "infeasible_message",
    "measure_memory_corrections",
    "measure_time_calibration",
    "not_drawn_before",
    "plan_execution",
    "recalibrate",
    "seconds_needed",
    "training_seed",
    "update",
]
