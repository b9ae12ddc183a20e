"""A generation drawn from a distribution: a pipeline that a constraint rejects is drawn again."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.constraints import Constraint, NotDrawnBefore, first_rejection
from xautolm_hpc.sample.draw import draw_pipeline, draw_stream, exploration_stream, selection_stream
from xautolm_hpc.space import Space

MAX_REJECTIONS = 1_000
"""Consecutive rejections after which a generation is submitted short."""


MAX_REASONS = 5
"""Reasons that are kept of each constraint."""

N_CANDIDATES = 64
"""Draws that no constraint rejects, of which a selector takes one."""

RISK = "risk"
"""Name that uniform draws are counted under which were not accepted."""

Selector = Callable[[Sequence[Pipeline], np.random.Generator], int]
"""Returns the index of the candidate it selects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What a generation is drawn from.

    Attributes:
        distribution: The distribution of the search.
        epsilon: Share of the generation, rounded up, that is drawn uniformly, in 0..1; with ``p_accept`` the
            probability of each trial to be drawn so.
        select: Selects one of several candidates; ``None`` takes the first. Uniform draws have one candidate.
        p_accept: Probability above 0 that a uniform draw is accepted; ``None`` accepts all.
    """

    distribution: Distribution
    epsilon: float
    select: Selector | None = None
    p_accept: Callable[[Pipeline], float] | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """A generation that was drawn.

    Attributes:
        pipelines: Trial numbers and their pipelines, in order; fewer than wanted if the generation is short.
        rejections: Constraint -> draws it rejected.
        reasons: Constraint -> some of its reasons, those of different pipelines first to last.
        exhausted: Whether none could be drawn: the space is exhausted and the search ends.
    """

    pipelines: tuple[tuple[int, Pipeline], ...]
    rejections: Mapping[str, int]
    exhausted: bool
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(slots=True)
class Rejections:
    """Counts rejected draws, and keeps some reasons.

    Attributes:
        counts: Constraint -> draws it rejected.
        reasons: Constraint -> different reasons, at most :data:`MAX_REASONS`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        """Count a draw."""
        self.counts[name] += 1
        kept = self.reasons.setdefault(name, [])
        if len(kept) < MAX_REASONS and reason not in kept:
            kept.append(reason)


def draw_generation(
    proposal: Proposal, space: Space, *, trials: range, seed: int, constraints: Sequence[Constraint]
) -> Drawn:
    """Draw one pipeline for each trial; some of them from the uniform distribution.

    Each draw has its own random stream, so a generation drawn again is the same. No pipeline is drawn twice in a
    generation; :func:`not_drawn_before` rejects those of earlier generations.

    Args:
        proposal: What to draw from.
        space: The search space.
        trials: Numbers of the trials to draw for.
        seed: Seed of the search.
        constraints: What may reject a pipeline.

    Raises:
        SpaceError: No model supports any method.
    """
    explore = Proposal(distribution=uniform(space), epsilon=0.0, p_accept=proposal.p_accept)
    learnt, explored = replace(proposal, p_accept=None), _explored(proposal, trials, seed=seed)
    pipelines, rejections, canonical = dict[int, Pipeline](), Rejections(), set[str]()
    all_constraints = [NotDrawnBefore(canonical), *constraints]
    for trial in trials:
        pipeline = _draw_one(
            explore if trial in explored else learnt,
            space,
            stream=(seed, trial),
            all_constraints=all_constraints,
            rejections=rejections,
        )
        if pipeline is None:
            break
        pipelines[trial] = pipeline
        canonical.add(pipeline.canonical())
    counts = dict(sorted(rejections.counts.items()))
    reasons = {name: tuple(rejections.reasons[name]) for name in counts}
    return Drawn(tuple(pipelines.items()), counts, exhausted=not pipelines, reasons=reasons)


def _explored(proposal: Proposal, trials: range, *, seed: int) -> Collection[int]:
    """Return the trials that are drawn uniformly: the first ones, or, with ``p_accept``, each with a probability."""
    if proposal.p_accept is not None:
        return {trial for trial in trials if exploration_stream(seed, trial).random() < proposal.epsilon}
    return trials[: math.ceil(proposal.epsilon * len(trials) - 1e-9)]  # .07 x 100 is a little more than 7


def _draw_one(
    source: Proposal,
    space: Space,
    *,
    stream: tuple[int, int],
    all_constraints: Sequence[Constraint],
    rejections: "Rejections",
) -> Pipeline | None:
    """Draw a trial's pipeline and count rejections; ``None`` after too many of them in a row without a candidate."""
    seed, trial = stream
    n_wanted = 1 if source.select is None else N_CANDIDATES
    candidates: list[Pipeline] = []
    n_in_a_row = 0
    reject_risk = _risk_filter(source.p_accept, exploration_stream(seed, trial))
    for draw in count():
        pipeline = draw_pipeline(source.distribution, space, rng=draw_stream(seed, trial, draw=draw))
        rejection = first_rejection(all_constraints, pipeline, space=space) or reject_risk(pipeline)
        if rejection is None:
            candidates.append(pipeline)
            n_in_a_row = 0
        else:
            rejections.add(*rejection)
            n_in_a_row += 1
        if len(candidates) == n_wanted or n_in_a_row == MAX_REJECTIONS:
            break
    if source.select is None or not candidates:
        return candidates[0] if candidates else None
    return candidates[source.select(candidates, selection_stream(seed, trial))]


def _risk_filter(
    p_accept: Callable[[Pipeline], float] | None, rng: np.random.Generator
) -> Callable[[Pipeline], tuple[str, str] | None]:
    """Return what rejects some draws at random, as :func:`first_rejection` does."""
    rng.random()  # has decided that the trial is drawn uniformly

    def reject(pipeline: Pipeline) -> tuple[str, str] | None:
        p = 1.0 if p_accept is None else p_accept(pipeline)
        if rng.random() < p:
            return None
        return RISK, f"{pipeline.method} of {pipeline.model_id} was accepted with probability {p:.2f} alone"

    return reject


def not_drawn_before(pipelines: Iterable[Pipeline]) -> NotDrawnBefore:
    """Build the constraint that rejects pipelines a search has drawn already."""
    return NotDrawnBefore(frozenset(pipeline.canonical() for pipeline in pipelines))
