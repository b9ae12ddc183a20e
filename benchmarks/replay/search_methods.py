"""The search methods that are replayed: each proposes pipelines, ten at a time, and learns how they ended."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.replay.trials import Oracle, TaskTable
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.distribution import Distribution, uniform
from xautolm_hpc.priors import (
    AcquisitionSettings,
    PriorSettings,
    Ranking,
    make_search_context,
    prior_content,
    ranking_from_json,
)
from xautolm_hpc.records import Outcome, Pipeline, Value
from xautolm_hpc.sample import Evolution, Proposal, draw_generation, draw_pipeline, update
from xautolm_hpc.space import Categorical, Numeric, Space
from xautolm_hpc.table import build_table

POPULATION = 10


@dataclass(frozen=True)
class ReplayedSearch:
    """A search to replay.

    Attributes:
        past: The other tasks' halves, which it may learn from.
        space: The search space.
        oracle: Evaluates draws.
        objectives: Objectives of the search.
        n_trials: Trials.
        seed: Seed of the search.
        acquisition: Acquisition settings of ``evidence``.
        priors: Cache of priors, shared by searches that differ in the seed alone.
        at_limit: What trials do at their limit.
    """

    past: Sequence[TaskTable]
    space: Space
    oracle: Oracle
    objectives: tuple[str, ...]
    n_trials: int
    seed: int
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    priors: dict[PriorSettings, dict[str, Any]] = field(default_factory=dict)
    at_limit: str = "fail"


ReplayedTrial = tuple[Pipeline, Outcome, float]
SearchMethod = Callable[[ReplayedSearch], list[ReplayedTrial]]


def in_order(search: ReplayedSearch, first: Sequence[Pipeline]) -> list[ReplayedTrial]:
    """Try some pipelines first, then uniform draws."""
    rng = np.random.default_rng([search.seed, 1])
    start = uniform(search.space)
    drawn = (draw_pipeline(start, search.space, rng=rng) for _ in range(search.n_trials))
    return [search.oracle.evaluate(p) for p in [*first, *drawn][: search.n_trials]]


def search_random(search: ReplayedSearch) -> list[ReplayedTrial]:
    """Draw uniformly."""
    return in_order(search, [])


def search_default(search: ReplayedSearch) -> list[ReplayedTrial]:
    """Try the usual configuration first: the largest model, fully fine-tuned, everything else in the middle."""
    space = search.space
    method = space.method("full") or space.methods[0]
    model = max(space.models, key=lambda m: m.n_parameters)
    params: dict[str, Value] = {}
    for name, parameter in method.params.items():
        if isinstance(parameter, Numeric):
            middle = (
                math.sqrt(parameter.low * parameter.high) if parameter.log else (parameter.low + parameter.high) / 2
            )
            params[name] = round(middle) if parameter.integer else middle
        elif isinstance(parameter, Categorical):
            params[name] = parameter.values[len(parameter.values) // 2]
    return in_order(search, [Pipeline(task_kind=space.task_kind, model_id=model.id, model_revision=model.revision,
                                       method=method.name, params=params)])  # fmt: skip


def search_portfolio(search: ReplayedSearch) -> list[ReplayedTrial]:
    """Try the greedy portfolio: next is always the pipeline that raises the best F1 of the other tasks most."""
    utilities = _relative_f1(search.past)
    best, chosen = np.zeros(len(search.past)), list[str]()
    while len(chosen) < min(search.n_trials, len(utilities)):
        left = [key for key in sorted(utilities) if key not in chosen]
        key = max(left, key=lambda k: float(np.maximum(best, utilities[k][1]).sum() + 1e-6 * utilities[k][1].sum()))
        best = np.maximum(best, utilities[key][1])
        chosen.append(key)
    return in_order(search, [utilities[key][0] for key in chosen])


def _relative_f1(past: Sequence[TaskTable]) -> dict[str, tuple[Pipeline, Any]]:
    """Compute each pipeline's F1 on every other task, relative to the task's best; 0 for a failure or untried."""
    utilities: dict[str, tuple[Pipeline, Any]] = {}
    for number, table in enumerate(past):
        for pipeline, f1 in zip(table.pipelines, table.f1, strict=True):
            entry = utilities.setdefault(pipeline.canonical(), (pipeline, np.zeros(len(past))))
            entry[1][number] = 0.0 if math.isnan(f1) else f1 / max(table.best_f1, 1e-9)
    return utilities


def search_nspe(search: ReplayedSearch, *, is_filtered: bool = True, **prior: Any) -> list[ReplayedTrial]:
    """Search by NSPE from a prior; ``evidence`` also selects among candidates, and filters what is drawn uniformly.

    Args:
        search: The search.
        is_filtered: Whether it does filter; else the first tenth of each generation is uniform, as it once was.
        prior: Settings of the prior.
    """
    task, system = search.oracle.table.task, search.oracle.table.system
    settings = PriorSettings(objectives=search.objectives, at_limit=search.at_limit, **prior)
    models = load_catalogue()
    if settings not in search.priors:
        past = build_table([e for table in search.past for group in table.experiences for e in group])
        search.priors[settings] = prior_content(
            past, search.space, task=task, system=system, settings=settings, models=models
        )
    content = search.priors[settings]
    context = make_search_context(search.space, models=models, task=task, system=system, objectives=search.objectives)
    ranking = ranking_from_json(content, context)
    distribution = Distribution.from_json(content["distribution"], search.space)
    evolution = Evolution(population=POPULATION, selection=0.2, learning_factor=0.05, objectives=search.objectives)
    trials: list[ReplayedTrial] = []
    while len(trials) < search.n_trials:
        known = [(pipeline, outcome) for pipeline, outcome, _ in trials]
        present = None if ranking is None else replace(ranking.after(known), settings=search.acquisition)
        select = None if present is None else _select_snapped(present, search.oracle)
        p_accept = None if present is None or not is_filtered else _accept_snapped(present, search.oracle)
        proposal = Proposal(distribution=distribution, epsilon=0.1, select=select, p_accept=p_accept)
        numbers = range(len(trials), min(len(trials) + POPULATION, search.n_trials))
        drawn = draw_generation(proposal, search.space, trials=numbers, seed=search.seed, constraints=())
        generation = [(number, search.oracle.evaluate(pipeline)) for number, pipeline in drawn.pipelines]
        results = [(number, trial[0], _objectives(trial[1], search.objectives)) for number, trial in generation]
        distribution = update(distribution, search.space, results=results, evolution=evolution)
        trials += [trial for _, trial in generation]
    return trials


def search_shipped(search: ReplayedSearch) -> list[ReplayedTrial]:
    """Search with the prior ``evidence`` and the product's default acquisition settings."""
    return search_nspe(replace(search, acquisition=AcquisitionSettings()), kind="evidence")


def _select_snapped(ranking: Ranking, oracle: Oracle) -> Callable[[Sequence[Pipeline], np.random.Generator], int]:
    """Select among what the candidates would be mapped to: nothing else can be tried in a replay."""

    def select(pipelines: Sequence[Pipeline], rng: np.random.Generator) -> int:
        index = ranking.select(oracle.snap(pipelines), rng)
        oracle.reserve(pipelines[index])
        return index

    return select


def _accept_snapped(ranking: Ranking, oracle: Oracle) -> Callable[[Pipeline], float]:
    """Accept uniform draws by what they would be mapped to."""
    return lambda pipeline: ranking.p_accept(oracle.snap([pipeline])[0])


def _objectives(outcome: Outcome, names: Sequence[str]) -> dict[str, float] | None:
    values = {name: outcome.objective(name) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    return known if outcome.succeeded and len(known) == len(values) else None


def search_optuna(search: ReplayedSearch, *, is_warm: bool) -> list[ReplayedTrial]:
    """Search by Optuna's TPE; warm, the best configurations of the other tasks are enqueued first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    signs: Any = ["maximize" if name == "f1" else "minimize" for name in search.objectives]
    study = optuna.create_study(directions=signs, sampler=optuna.samplers.TPESampler(seed=search.seed))
    for table in search.past if is_warm else ():
        order = np.argsort(-np.nan_to_num(table.f1))[:2]
        for index in order.tolist():
            with warnings.catch_warnings():  # a value slightly outside the space is tried all the same
                warnings.simplefilter("ignore")
                study.enqueue_trial(_flatten(table.pipelines[index]), skip_if_exists=True)
    worst = [0.0 if name == "f1" else 1e6 for name in search.objectives]
    trials: list[ReplayedTrial] = []
    for _ in range(search.n_trials):
        optuna_trial = study.ask()
        trial = search.oracle.evaluate(_suggest(optuna_trial, search.space))
        found = _objectives(trial[1], search.objectives)
        study.tell(optuna_trial, worst if found is None else [found[name] for name in search.objectives])
        trials.append(trial)
    return trials


def _flatten(pipeline: Pipeline) -> dict[str, Value]:
    params = {f"{pipeline.method}.{name}": value for name, value in pipeline.params.items()}
    return {"model": pipeline.model_id, "method": pipeline.method, **params}


def _suggest(optuna_trial: Any, space: Space) -> Pipeline:
    model_id = optuna_trial.suggest_categorical("model", [model.id for model in space.models])
    name = optuna_trial.suggest_categorical("method", [method.name for method in space.methods])
    method, model = space.method(name), space.model(model_id)
    assert method is not None
    assert model is not None
    params: dict[str, Value] = {}
    for key, parameter in method.params.items():
        full = f"{name}.{key}"
        if isinstance(parameter, Categorical):
            params[key] = optuna_trial.suggest_categorical(full, list(parameter.values))
        elif isinstance(parameter, Numeric) and parameter.integer:
            params[key] = optuna_trial.suggest_int(full, int(parameter.low), int(parameter.high), log=parameter.log)
        elif isinstance(parameter, Numeric):
            params[key] = optuna_trial.suggest_float(full, parameter.low, parameter.high, log=parameter.log)
    return Pipeline(
        task_kind=space.task_kind, model_id=model.id, model_revision=model.revision, method=name, params=params
    )


def _xautolm(**changes: Any) -> dict[str, SearchMethod]:
    """List the three levels of bias of the faithful prior, each without and with distance weighting."""
    levels: Mapping[str, Mapping[str, Any]] = {
        "low": {"k_pos": 0, "adaptive_negative_limit": -1.0},
        "moderate": {"adaptive_negative_limit": -1.0},
        "high": {},
    }
    return {
        f"xautolm {level}, beta {beta:g}": partial(search_nspe, kind="xautolm", beta_scale=beta, **settings, **changes)
        for level, settings in levels.items()
        for beta in (0.0, 0.5)
    }


UNIFORM, EVIDENCE, SHIPPED = "nspe uniform", "nspe evidence", "evidence as shipped"
UNFILTERED = "evidence unfiltered"
METHODS: Mapping[str, SearchMethod] = {
    "random": search_random,
    UNIFORM: partial(search_nspe, kind="uniform"),
    **_xautolm(),
    "nspe knn 25": partial(search_nspe, kind="knn", k=25),
    "nspe knn 50": partial(search_nspe, kind="knn", k=50),
    "optuna tpe cold": partial(search_optuna, is_warm=False),
    "optuna tpe warm": partial(search_optuna, is_warm=True),
    "portfolio": search_portfolio,
    "default first": search_default,
    EVIDENCE: partial(search_nspe, kind="evidence"),
    SHIPPED: search_shipped,
    UNFILTERED: partial(search_nspe, kind="evidence", is_filtered=False),
}
