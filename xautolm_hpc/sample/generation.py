"""Drawing a generation: what the constraints refuse is drawn again."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.constraints import Constraint, NotDrawnBefore, first_refusal
from xautolm_hpc.sample.draw import draw_pipeline, draw_stream
from xautolm_hpc.space import Space

MAX_REFUSALS = 1_000
"""Consecutive refusals after which a generation is submitted short."""


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
    distribution: Distribution,
    space: Space,
    *,
    trials: range,
    seed: int,
    epsilon: float,
    constraints: Sequence[Constraint],
) -> Drawn:
    """Draw one pipeline for each trial; the first ones from the uniform distribution.

    Each draw has its own random stream, so a generation drawn again is the same. No pipeline is drawn twice in
    a generation; :func:`not_drawn_before` keeps those of earlier generations out.

    Args:
        distribution: What the search believes.
        space: The search space.
        trials: Numbers of the trials to draw for.
        seed: Seed of the search.
        epsilon: Share of the generation, rounded up, that explores uniformly, in 0..1.
        constraints: What may refuse a pipeline.

    Raises:
        SpaceError: No model supports any method.
    """
    n_uniform = math.ceil(epsilon * len(trials) - 1e-9)  # .07 x 100 is a little more than 7
    start, pipelines, refusals = uniform(space), dict[int, Pipeline](), Counter[str]()
    canonical: set[str] = set()
    asked = [NotDrawnBefore(canonical), *constraints]
    for index, trial in enumerate(trials):
        source = start if index < n_uniform else distribution
        for draw in range(MAX_REFUSALS):
            pipeline = draw_pipeline(source, space, rng=draw_stream(seed, trial, draw=draw))
            refusal = first_refusal(asked, pipeline, space=space)
            if refusal is None:
                pipelines[trial] = pipeline
                canonical.add(pipeline.canonical())
                break
            refusals[refusal[0]] += 1
        if trial not in pipelines:
            break
    return Drawn(tuple(pipelines.items()), dict(sorted(refusals.items())), exhausted=not pipelines)


def not_drawn_before(pipelines: Iterable[Pipeline]) -> NotDrawnBefore:
    """Refuse pipelines that a search has drawn already."""
    return NotDrawnBefore(frozenset(pipeline.canonical() for pipeline in pipelines))
