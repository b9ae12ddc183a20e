"""The acquisition function of the prior ``evidence``: selects the most promising of several candidates.

The prior weight is the probability that the prior is informative, given how well it predicted the trials of this
search. With that probability the candidate of the highest acquisition value is selected, otherwise the first one.
Everything is computed from ``priors.json`` and the outcomes, so a resumed search selects the same candidates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FailureOrigin
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.priors.evidence.encoding import encode, layout, pipelines_of
from xautolm_hpc.priors.evidence.observations import observations_from_json, own_observations
from xautolm_hpc.priors.evidence.surrogate import Surrogate, fit_surrogate
from xautolm_hpc.records import Outcome, Pipeline, System, Task
from xautolm_hpc.space import Space

Floats = NDArray[np.float64]

INITIAL_PRIOR_WEIGHT, MIN_PRIOR_WEIGHT, MAX_PRIOR_WEIGHT = 0.9, 0.05, 0.98
"""Prior weight before the first outcome, and its bounds: the search's own distribution always keeps a part."""

MAX_LOG_ODDS_STEP = 0.7
"""Largest change of the log odds by one outcome."""

MIN_PROBABILITY = 0.05
"""Predicted probabilities are clipped to this and 1 minus this, so that one surprise does not decide."""

MOST_REJECTED = 0.9
"""Highest probability that a uniform draw is rejected for its foretold risk: every pipeline keeps a chance."""

RATE_TRIALS = 2.0
"""Trials that the success rate of the past counts for in the success rate that a prior is compared with."""

ORDER_SCALE = 0.2
"""Scale of the logistic function that turns a difference of predicted utilities into the probability of an order."""

OWN_TRIAL_WEIGHT = 2.0
"""Weight of a trial of this search; a past experience of the very same task and system has 1."""

EXPONENT_TRIALS, MAX_EXPONENT_FACTOR = 15, 5.0
"""Trials in which the feasibility exponent grows by its initial value, and the largest multiple of that value.

Early in a search a good pipeline is of use in all generations that follow, so a failure is worth risking; late in it
a failure only costs time.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcquisitionSettings:
    """Settings of the acquisition value.

    Attributes:
        feasibility_exponent: Exponent of p_feasible at the start of a search, at least 0. 1 gives the expected
            utility; less accepts more risk, more avoids it.
        time_weight: Weight of a short evaluation time where time is no objective, in 0..1.
    """

    feasibility_exponent: float = 2.0
    time_weight: float = 0.05

    def exponent_after(self, n_trials: int) -> float:
        """Compute the feasibility exponent after some trials of a search."""
        return self.feasibility_exponent * min(1.0 + n_trials / EXPONENT_TRIALS, MAX_EXPONENT_FACTOR)


DEFAULT_ACQUISITION = AcquisitionSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchContext:
    """What a search knows of its pipelines: task, system, models, objectives and their encoding.

    Attributes:
        columns: Names of the columns of an encoded pipeline.
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

    def weigh(self, weights: Floats, *, time_weight: float = DEFAULT_ACQUISITION.time_weight) -> Floats:
        """Compute the weight of every one of ``objectives`` from those of the search's own.

        Args:
            weights: Weights of the search's objectives, sum 1, shape (n_objectives,).
            time_weight: Weight of a short evaluation time where time is no objective, in 0..1.
        """
        if len(self.objectives) == self.n_objectives:
            return weights
        return np.append((1.0 - time_weight) * weights, time_weight)

    def encode(self, pipelines: Sequence[Pipeline]) -> Floats:
        """Encode pipelines as numbers, (n, n_columns)."""
        configurations = pipelines_of(pipelines, models=self.models, task=self.task, system=self.system)
        return encode(configurations, self.columns)


def make_search_context(
    space: Space, *, models: Mapping[str, Model], task: Task, system: System, objectives: tuple[str, ...]
) -> SearchContext:
    """Build the context of a search; where time is no objective, it is predicted all the same, for its small weight."""
    known = {**models, **{model.id: model for model in space.models}}
    by_time = "evaluation_time_s" in objectives
    predicted = objectives if by_time else (*objectives, "evaluation_time_s")
    return SearchContext(
        columns=layout(space),
        models=known,
        task=task,
        system=system,
        objectives=predicted,
        n_objectives=len(objectives),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Selects one of several candidates.

    Attributes:
        context: What the search knows of its pipelines.
        past: Surrogate fitted on past experiences.
        present: Surrogate fitted on them and on the search's own trials.
        prior_weight: Probability with which the candidate of the highest acquisition value is selected, 0..1.
        settings: Settings of the acquisition value.
        n_trials: Own trials that ``present`` is fitted on.
    """

    context: SearchContext
    past: Surrogate
    present: Surrogate
    prior_weight: float
    settings: AcquisitionSettings = DEFAULT_ACQUISITION
    n_trials: int = 0

    def select(self, pipelines: Sequence[Pipeline], rng: np.random.Generator) -> int:
        """Select one of several candidates.

        Args:
            pipelines: Candidates that no constraint rejects, at least one.
            rng: Source of randomness.

        Returns:
            Its index.
        """
        if len(pipelines) == 1 or rng.random() >= self.prior_weight:
            return 0
        weights = rng.dirichlet(np.ones(self.context.n_objectives))
        values = acquisition_value(
            self.present,
            self.context.encode(pipelines),
            weights=self.context.weigh(weights, time_weight=self.settings.time_weight),
            exponent=self.settings.exponent_after(self.n_trials),
        )
        return int(np.argmax(values))

    def p_accept(self, pipeline: Pipeline) -> float:
        """Compute the probability to accept a uniform draw: p_feasible ** exponent, as far as the prior is trusted.

        Args:
            pipeline: The draw.

        Returns:
            Probability in 1 - :data:`MOST_REJECTED`..1.
        """
        p_feasible = float(self.present.p_feasible(self.context.encode([pipeline]))[0])
        accepted = max(p_feasible, 0.0) ** self.settings.exponent_after(self.n_trials)
        return 1.0 - self.prior_weight * float(min(1.0 - accepted, MOST_REJECTED))

    def after(self, results: Sequence[tuple[Pipeline, Outcome]]) -> "Ranking":
        """Learn from all trials of the search so far.

        Args:
            results: Pipelines and how they ended, in the order of the trials; failures of the cluster are left out.
        """
        kept = [(p, o) for p, o in results if o.succeeded or o.origin is FailureOrigin.PIPELINE]
        if not kept:
            return self
        context, outcomes = self.context, [outcome for _, outcome in kept]
        own = own_observations(
            pipelines_of([p for p, _ in kept], models=context.models, task=context.task, system=context.system),
            outcomes,
            columns=context.columns,
            objectives=context.objectives,
            weight=OWN_TRIAL_WEIGHT,
        )
        observations = self.past.observations.plus(own)
        return replace(
            self,
            present=fit_surrogate(observations, context.columns, objectives=context.objectives),
            prior_weight=prior_weight_after(self.past, own.x, outcomes=outcomes),
            n_trials=len(kept),
        )


def acquisition_value(
    surrogate: Surrogate, x: Floats, *, weights: Floats, exponent: float = DEFAULT_ACQUISITION.feasibility_exponent
) -> Floats:
    """Compute p_feasible ** exponent times the weighted sum of predicted utilities.

    With random weights the candidates of the highest value lie on all parts of the Pareto front.

    Args:
        surrogate: What predicts.
        x: Encoded pipelines, (n, n_columns).
        weights: Weight of each of the surrogate's objectives, sum 1, (n_objectives,).
        exponent: Feasibility exponent, at least 0.

    Returns:
        Values in 0..1, shape (n,).
    """
    utilities = [surrogate.predicted_utility(x, name) for name in surrogate.objectives]
    return np.asarray(surrogate.p_feasible(x) ** exponent * (np.column_stack(utilities) @ weights))


def prior_weight_after(past: Surrogate, x: Floats, *, outcomes: Sequence[Outcome]) -> float:
    """Compute the posterior probability that the prior is informative, given the trials of the search.

    The success of each trial is predicted by the prior and, for comparison, by the success rate of the past and of
    the trials before. The order of each success among those before it is predicted by the prior and, for comparison,
    by a fair coin.

    Args:
        past: Surrogate of the prior, fitted without the trials.
        x: Encoded pipelines of the trials, (n, n_columns), in order.
        outcomes: How they ended.

    Returns:
        Probability in :data:`MIN_PRIOR_WEIGHT`..:data:`MAX_PRIOR_WEIGHT`.
    """
    log_odds = math.log(INITIAL_PRIOR_WEIGHT / (1.0 - INITIAL_PRIOR_WEIGHT))
    p_feasible = np.clip(past.p_feasible(x), MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    succeeded = np.array([outcome.succeeded for outcome in outcomes])
    before = np.concatenate([[0], np.cumsum(succeeded)[:-1]])
    past_rate = (past.observations.failure_class == -1).mean()
    rate = (before + RATE_TRIALS * past_rate) / (np.arange(len(outcomes)) + RATE_TRIALS)
    rate = np.clip(rate, MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
    gains = np.where(succeeded, np.log(p_feasible / rate), np.log((1.0 - p_feasible) / (1.0 - rate)))
    gains += _order_gains(past, x, outcomes=outcomes)
    log_odds += float(np.clip(gains, -MAX_LOG_ODDS_STEP, MAX_LOG_ODDS_STEP).sum())
    log_odds = min(max(log_odds, -30.0), 30.0)
    return min(max(1.0 / (1.0 + math.exp(-log_odds)), MIN_PRIOR_WEIGHT), MAX_PRIOR_WEIGHT)


def _order_gains(past: Surrogate, x: Floats, *, outcomes: Sequence[Outcome]) -> Floats:
    """Compare each success with those before it: mean log ratio of the predicted probability of the order to 1/2."""
    gains = np.zeros(len(outcomes))
    for name in past.objectives:
        utility = past.predicted_utility(x, name)
        value = np.array([math.nan if (v := o.objective(name)) is None else v for o in outcomes])
        value = value if OBJECTIVES[name].is_maximised else -value
        whole = [o.succeeded and not o.truncated for o in outcomes]
        known = [i for i in range(len(outcomes)) if whole[i] and np.isfinite(value[i])]
        for place, i in enumerate(known[1:], start=1):
            earlier = known[:place]
            sign = np.sign(value[i] - value[earlier])
            probability = 1.0 / (1.0 + np.exp(-sign * (utility[i] - utility[earlier]) / ORDER_SCALE))
            gains[i] += float(np.log(2.0 * probability).mean()) / len(past.objectives)
    return gains


def ranking_from_json(
    content: Mapping[str, Any], context: SearchContext, *, where: str = "priors.json"
) -> Ranking | None:
    """Rebuild the ranking of a prior; ``None`` if the prior has none or no observation to learn from.

    Raises:
        InputError: The content is malformed or belongs to another space.
    """
    data = content.get("lessons")
    if data is None:
        return None
    is_same = tuple(data.get("columns", ())) == context.columns
    if not is_same or tuple(data.get("objectives", ())) != context.objectives:
        raise InputError(f"{where}: its observations belong to another search space; start a new run for it")
    observations = observations_from_json(
        data, n_columns=len(context.columns), n_objectives=len(context.objectives), where=where
    )
    if not len(observations):
        return None
    past = fit_surrogate(observations, context.columns, objectives=context.objectives)
    return Ranking(context=context, past=past, present=past, prior_weight=INITIAL_PRIOR_WEIGHT)
