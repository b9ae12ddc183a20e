"""Drawing a generation: what the constraints refuse is drawn again."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.constraints import Constraint, NotDrawnBefore, first_refusal
from xautolm_hpc.sample.draw import choice_stream, draw_pipeline, draw_stream
from xautolm_hpc.space import Space

MAX_REFUSALS = 1_000
"""Consecutive refusals after which a generation is submitted short."""


N_CANDIDATES = 64
"""Draws that may run, of which a chooser takes one."""

Chooser = Callable[[Sequence[Pipeline], np.random.Generator], int]
"""Chooses one of several draws that may run, by its index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a generation is drawn from.

    Attributes:
        distribution: What the search believes.
        epsilon: Share of the generation, rounded up, that explores uniformly, in 0..1.
        choose: Takes one of several draws; ``None`` takes the first. Uniform draws are taken as they come.
    """

    distribution: Distribution
    epsilon: float
    choose: Chooser | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A generation.

    Attributes:
        pipelines: Trial numbers and their pipelines, in order; fewer than asked for if the generation is short.
        refusals: Constraint -> draws it refused.
        exhausted: Whether none could be drawn: the space is exhausted and the search ends.
    """

    pipelines: tuple[tuple[int, Pipeline], ...]
    refusals: Mapping[str, int]
    exhausted: bool


def draw_generation(
    proposal: Proposal, space: Space, *, trials: range, seed: int, constraints: Sequence[Constraint]
) -> Drawn:
    """Draw one pipeline for each trial; the first ones from the uniform distribution.

    Each draw has its own random stream, so a generation drawn again is the same. No pipeline is drawn twice in
    a generation; :func:`not_drawn_before` keeps those of earlier generations out.

    Args:
        proposal: What to draw from.
        space: The search space.
        trials: Numbers of the trials to draw for.
        seed: Seed of the search.
        constraints: What may refuse a pipeline.

    Raises:
        SpaceError: No model supports any method.
    """
    n_uniform = math.ceil(proposal.epsilon * len(trials) - 1e-9)  # .07 x 100 is a little more than 7
    explore = Proposal(distribution=uniform(space), epsilon=0.0)
    pipelines, refusals, canonical = dict[int, Pipeline](), Counter[str](), set[str]()
    asked = [NotDrawnBefore(canonical), *constraints]
    for index, trial in enumerate(trials):
        source = explore if index < n_uniform else proposal
        pipeline = _draw_one(source, space, stream=(seed, trial), asked=asked, refusals=refusals)
        if pipeline is None:
            break
        pipelines[trial] = pipeline
        canonical.add(pipeline.canonical())
    return Drawn(tuple(pipelines.items()), dict(sorted(refusals.items())), exhausted=not pipelines)


def _draw_one(
    source: Proposal,
    space: Space,
    *,
    stream: tuple[int, int],
    asked: Sequence[Constraint],
    refusals: Counter[str],
) -> Pipeline | None:
    """Draw a trial's pipeline; counts what is refused. ``None`` after too many refusals in a row with none drawn."""
    seed, trial = stream
    n_wanted = 1 if source.choose is None else N_CANDIDATES
    candidates: list[Pipeline] = []
    n_in_a_row = 0
    for draw in count():
        pipeline = draw_pipeline(source.distribution, space, rng=draw_stream(seed, trial, draw=draw))
        refusal = first_refusal(asked, pipeline, space=space)
        if refusal is None:
            candidates.append(pipeline)
            n_in_a_row = 0
        else:
            refusals[refusal[0]] += 1
            n_in_a_row += 1
        if len(candidates) == n_wanted or n_in_a_row == MAX_REFUSALS:
            break
    if source.choose is None or not candidates:
        return candidates[0] if candidates else None
    return candidates[source.choose(candidates, choice_stream(seed, trial))]


def not_drawn_before(pipelines: Iterable[Pipeline]) -> NotDrawnBefore:
    """Refuse pipelines that a search has drawn already."""
    return NotDrawnBefore(frozenset(pipeline.canonical() for pipeline in pipelines))
