"""The prior ``evidence`` at work: of several draws it takes the most promising, as far as it is trusted.

The trust is the probability that the prior is right rather than that it says nothing, given how it foretold the trials
of this search; with the rest of the probability the first draw is taken as it comes. All of it follows from
``priors.json`` and the outcomes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import InputError
from xautolm_hpc.priors.evidence.encoding import encode, layout, pipelines_of
from xautolm_hpc.priors.evidence.observations import lessons_from_json, own_lessons
from xautolm_hpc.priors.evidence.surrogate import Surrogate, fit_surrogate
from xautolm_hpc.records import OBJECTIVES, Outcome, Pipeline, System, Task
from xautolm_hpc.space import Space

Floats = NDArray[np.float64]

FIRST_TRUST, LEAST_TRUST, MOST_TRUST = 0.9, 0.05, 0.98
"""Trust before the first outcome, and its bounds: some draws are always left to the search."""

MOST_PER_OUTCOME = 0.7
"""Most that one outcome moves the logarithm of the odds."""

LEAST_CHANCE = 0.05
RATE_TRIALS = 2.0
"""Trials that the past's rate of success counts for in the rate that a prior is compared with."""

ORDER_SCALE = 0.2
"""Difference of forecast merits at which an order is as good as foretold."""

OWN_WEIGHT = 2.0

CAUTION_TRIALS, MAX_CAUTION_FACTOR = 15, 5.0
"""Trials in which caution grows by what it was at first, and how many times that it becomes at most.

What is found early serves the whole search, so that in the beginning a risk is worth more.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taste:
    """What a ranking prefers.

    Attributes:
        caution: Power of the probability to succeed in a score, at first; 1 rates by the merit expected, less seeks
            the best at some risk, more shuns risks.
        thrift: Weight of a short evaluation time where time is no objective, in 0..1.
    """

    caution: float = 2.0
    thrift: float = 0.05

    def caution_after(self, n_trials: int) -> float:
        """Give the caution after some trials of a search."""
        return self.caution * min(1.0 + n_trials / CAUTION_TRIALS, MAX_CAUTION_FACTOR)


TASTE = Taste()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a search is about.

    Attributes:
        columns: Columns of a pipeline as numbers.
        models: Known models by id.
        task: The current task.
        system: The node trials run on.
        objectives: Objectives of the search, then ``evaluation_time_s`` if it is none of them.
        n_objectives: Objectives of the search.
    """

    columns: tuple[str, ...]
    models: Mapping[str, Model]
    task: Task
    system: System
    objectives: tuple[str, ...]
    n_objectives: int

    def shares(self, of_objectives: Floats, *, thrift: float = TASTE.thrift) -> Floats:
        """Give every goal's share of a score, from those of the search's objectives; a preference for short trials."""
        if len(self.objectives) == self.n_objectives:
            return of_objectives
        return np.append((1.0 - thrift) * of_objectives, thrift)

    def encode(self, pipelines: Sequence[Pipeline]) -> Floats:
        """Turn pipelines into numbers, (n, n_columns)."""
        configurations = pipelines_of(pipelines, models=self.models, task=self.task, system=self.system)
        return encode(configurations, self.columns)


def make_scene(
    space: Space, *, models: Mapping[str, Model], task: Task, system: System, objectives: tuple[str, ...]
) -> Scene:
    """Describe a search; where time is no objective, short trials are preferred a little all the same."""
    known = {**models, **{model.id: model for model in space.models}}
    by_time = "evaluation_time_s" in objectives
    goals = objectives if by_time else (*objectives, "evaluation_time_s")
    return Scene(
        columns=layout(space),
        models=known,
        task=task,
        system=system,
        objectives=goals,
        n_objectives=len(objectives),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Chooses among draws.

    Attributes:
        scene: What the search is about.
        past: What past experiences forecast.
        present: What they and the search's own trials forecast.
        trust: Probability with which the most promising draw is taken, 0..1.
        taste: What it prefers.
        n_trials: Trials of the search that it learnt from.
    """

    scene: Scene
    past: Surrogate
    present: Surrogate
    trust: float
    taste: Taste = TASTE
    n_trials: int = 0

    def choose(self, pipelines: Sequence[Pipeline], rng: np.random.Generator) -> int:
        """Choose one of several draws.

        Args:
            pipelines: Draws that may run, at least one.
            rng: Source of randomness.

        Returns:
            Its index.
        """
        if len(pipelines) == 1 or rng.random() >= self.trust:
            return 0
        shares = self.scene.shares(rng.dirichlet(np.ones(self.scene.n_objectives)), thrift=self.taste.thrift)
        caution = self.taste.caution_after(self.n_trials)
        rated = score(self.present, self.scene.encode(pipelines), shares=shares, caution=caution)
        return int(np.argmax(rated))

    def after(self, results: Sequence[tuple[Pipeline, Outcome]]) -> "Ranking":
        """Learn from all trials of the search so far.

        Args:
            results: Pipelines and how they ended, in the order of the trials; failures of the cluster are left out.
        """
        kept = [(p, o) for p, o in results if o.status == "succeeded" or o.origin == "pipeline"]
        if not kept:
            return self
        scene, outcomes = self.scene, [outcome for _, outcome in kept]
        own = own_lessons(
            pipelines_of([p for p, _ in kept], models=scene.models, task=scene.task, system=scene.system),
            outcomes,
            columns=scene.columns,
            objectives=scene.objectives,
            weight=OWN_WEIGHT,
        )
        return replace(
            self,
            present=fit_surrogate(self.past.lessons.plus(own), scene.columns, objectives=scene.objectives),
            trust=trust_after(self.past, own.x, outcomes=outcomes),
            n_trials=len(kept),
        )


def score(surrogate: Surrogate, x: Floats, *, shares: Floats, caution: float = TASTE.caution) -> Floats:
    """Rate pipelines by the probability to succeed, to a power, times the merit expected then; (n,) in 0..1.

    At random shares of the objectives the best rated lie on all parts of the Pareto front.
    """
    merits = [surrogate.merit(x, name) for name in surrogate.objectives]
    return np.asarray(surrogate.survival(x) ** caution * (np.column_stack(merits) @ shares))


def trust_after(past: Surrogate, x: Floats, *, outcomes: Sequence[Outcome]) -> float:
    """Say how far the prior is to be trusted: the posterior probability that it is right and not idle.

    Each trial's success or failure is foretold by the prior, and by the rate of success of the past and of the
    trials before; each success's order among those before it by the prior, and by a coin.

    Args:
        past: What the prior forecasts, without the trials.
        x: Pipelines of the trials, (n, n_columns), in order.
        outcomes: How they ended.

    Returns:
        Probability in :data:`LEAST_TRUST`..:data:`MOST_TRUST`.
    """
    odds = math.log(FIRST_TRUST / (1.0 - FIRST_TRUST))
    survival = np.clip(past.survival(x), LEAST_CHANCE, 1.0 - LEAST_CHANCE)
    succeeded = np.array([outcome.status == "succeeded" for outcome in outcomes])
    before = np.concatenate([[0], np.cumsum(succeeded)[:-1]])
    known = (past.lessons.cause == -1).mean()
    rate = (before + RATE_TRIALS * known) / (np.arange(len(outcomes)) + RATE_TRIALS)
    rate = np.clip(rate, LEAST_CHANCE, 1.0 - LEAST_CHANCE)
    gains = np.where(succeeded, np.log(survival / rate), np.log((1.0 - survival) / (1.0 - rate)))
    gains += _order_gains(past, x, outcomes=outcomes)
    odds += float(np.clip(gains, -MOST_PER_OUTCOME, MOST_PER_OUTCOME).sum())
    odds = min(max(odds, -30.0), 30.0)
    return min(max(1.0 / (1.0 + math.exp(-odds)), LEAST_TRUST), MOST_TRUST)


def _order_gains(past: Surrogate, x: Floats, *, outcomes: Sequence[Outcome]) -> Floats:
    """Compare each success with those before it: mean logarithm of the chance given to the order, against a coin's."""
    gains = np.zeros(len(outcomes))
    for name in past.objectives:
        merit = past.merit(x, name)
        value = np.array([math.nan if (v := o.objective(name)) is None else v for o in outcomes])
        value = value if OBJECTIVES[name] else -value
        known = [i for i in range(len(outcomes)) if outcomes[i].status == "succeeded" and np.isfinite(value[i])]
        for place, i in enumerate(known[1:], start=1):
            earlier = known[:place]
            sign = np.sign(value[i] - value[earlier])
            chance = 1.0 / (1.0 + np.exp(-sign * (merit[i] - merit[earlier]) / ORDER_SCALE))
            gains[i] += float(np.log(2.0 * chance).mean()) / len(past.objectives)
    return gains


def ranking_from_json(content: Mapping[str, Any], scene: Scene, *, where: str = "priors.json") -> Ranking | None:
    """Rebuild the ranking of a prior; ``None`` if the prior has none or no experience to learn from.

    Raises:
        InputError: The content is malformed or belongs to another space.
    """
    data = content.get("lessons")
    if data is None:
        return None
    if tuple(data.get("columns", ())) != scene.columns or tuple(data.get("objectives", ())) != scene.objectives:
        raise InputError(f"{where}: its lessons belong to another search space; start a new run for it")
    lessons = lessons_from_json(
        data, n_columns=len(scene.columns), n_objectives=len(scene.objectives), where=where
    )  # fmt: skip
    if not len(lessons):
        return None
    past = fit_surrogate(lessons, scene.columns, objectives=scene.objectives)
    return Ranking(scene=scene, past=past, present=past, trust=FIRST_TRUST)
