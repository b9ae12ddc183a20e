"""Draws the pipelines of a generation and learns from their results.

draw          one pipeline from a distribution, and where its randomness comes from
generation    a generation; what a constraint refuses is drawn again
constraints   what cannot run is never submitted
estimates     memory, steps and arithmetic a trial needs at least
feasibility   whether enough of a space can run
update        the fittest trials draw the distribution to themselves
"""

from xautolm_hpc.sample.constraints import Constraint, build_constraints, first_refusal
from xautolm_hpc.sample.draw import draw_pipeline, training_seed
from xautolm_hpc.sample.feasibility import FeasibilityReport, check_feasible, infeasible_message
from xautolm_hpc.sample.generation import Drawn, draw_generation, not_drawn_before
from xautolm_hpc.sample.update import Evolution, update

__all__ = [
    "Constraint",
    "Drawn",
    "Evolution",
    "FeasibilityReport",
    "build_constraints",
    "check_feasible",
    "draw_generation",
    "draw_pipeline",
    "first_refusal",
    "infeasible_message",
    "not_drawn_before",
    "training_seed",
    "update",
]
