"""Draws the pipelines of a generation and learns from their results.

draw          one pipeline from a distribution, and where its randomness comes from
generation    a generation; what a constraint refuses is drawn again
constraints   what cannot run is never submitted
estimates     memory and steps a trial needs
duration      how long it takes
fitting       smaller micro-batches where memory is short
feasibility   whether enough of a space can run
update        the fittest trials draw the distribution to themselves
"""

from xautolm_hpc.sample.constraints import Allowance, Constraint, build_constraints, first_refusal
from xautolm_hpc.sample.draw import draw_pipeline, training_seed
from xautolm_hpc.sample.duration import measured_slowness
from xautolm_hpc.sample.estimates import checkpoint_bytes
from xautolm_hpc.sample.feasibility import FeasibilityReport, check_feasible, infeasible_message
from xautolm_hpc.sample.fitting import Room, fit_execution
from xautolm_hpc.sample.population import Drawn, Proposal, draw_generation, not_drawn_before
from xautolm_hpc.sample.update import Evolution, update

__all__ = [
    "Allowance",
    "Constraint",
    "Drawn",
    "Evolution",
    "FeasibilityReport",
    "Proposal",
    "Room",
    "build_constraints",
    "check_feasible",
    "checkpoint_bytes",
    "draw_generation",
    "draw_pipeline",
    "first_refusal",
    "fit_execution",
    "infeasible_message",
    "measured_slowness",
    "not_drawn_before",
    "training_seed",
    "update",
]
