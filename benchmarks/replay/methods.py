"""The searches that are replayed: each proposes pipelines, ten at a time, and is told how they ended."""

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
class Setting:
    """One search to replay.

    Attributes:
        past: The other tasks' halves, which it may learn from.
        space: The search space.
        oracle: Tells how draws end.
        objectives: Objectives of the search.
        n_trials: Trials.
        seed: Seed of the search.
        acquisition: Acquisition settings of ``evidence``.
        priors: Priors computed for searches that differ in the seed alone, to be used again.
    """

    past: Sequence[TaskTable]
    space: Space
    oracle: Oracle
    objectives: tuple[str, ...]
    n_trials: int
    seed: int
    acquisition: AcquisitionSettings = field(default_factory=AcquisitionSettings)
    priors: dict[PriorSettings, dict[str, Any]] = field(default_factory=dict)


Trial = tuple[Pipeline, Outcome, float]
Search = Callable[[Setting], list[Trial]]


def in_order(setting: Setting, first: Sequence[Pipeline]) -> list[Trial]:
    """Try some pipelines first, then uniform draws."""
    rng = np.random.default_rng([setting.seed, 1])
    start = uniform(setting.space)
    drawn = (draw_pipeline(start, setting.space, rng=rng) for _ in range(setting.n_trials))
    return [setting.oracle.evaluate(p) for p in [*first, *drawn][: setting.n_trials]]


def search_random(setting: Setting) -> list[Trial]:
    """Draw uniformly."""
    return in_order(setting, [])


def search_default(setting: Setting) -> list[Trial]:
    """Try the usual configuration first: the largest model, fully fine-tuned, everything else in the middle."""
    space = setting.space
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
    return in_order(setting, [Pipeline(task_kind=space.task_kind, model_id=model.id, model_revision=model.revision,
                                       method=method.name, params=params)])  # fmt: skip


def search_portfolio(setting: Setting) -> list[Trial]:
    """Try what, one after the other, raised the best F1 of the other tasks most."""
    scores = _scores(setting.past)
    best, chosen = np.zeros(len(setting.past)), list[str]()
    while len(chosen) < min(setting.n_trials, len(scores)):
        left = [key for key in sorted(scores) if key not in chosen]
        key = max(left, key=lambda k: float(np.maximum(best, scores[k][1]).sum() + 1e-6 * scores[k][1].sum()))
        best = np.maximum(best, scores[key][1])
        chosen.append(key)
    return in_order(setting, [scores[key][0] for key in chosen])


def _scores(past: Sequence[TaskTable]) -> dict[str, tuple[Pipeline, Any]]:
    """Score every pipeline on every other task: F1 by the task's best, 0 for a failure or where it was not tried."""
    scores: dict[str, tuple[Pipeline, Any]] = {}
    for number, table in enumerate(past):
        for pipeline, f1 in zip(table.pipelines, table.f1, strict=True):
            entry = scores.setdefault(pipeline.canonical(), (pipeline, np.zeros(len(past))))
            entry[1][number] = 0.0 if math.isnan(f1) else f1 / max(table.best_f1, 1e-9)
    return scores


def search_nspe(setting: Setting, **prior: Any) -> list[Trial]:
    """Search by NSPE from a prior; the prior ``evidence`` also chooses among draws."""
    task, system = setting.oracle.table.task, setting.oracle.table.system
    settings = PriorSettings(objectives=setting.objectives, **prior)
    models = load_catalogue()
    if settings not in setting.priors:
        past = build_table([e for table in setting.past for group in table.experiences for e in group])
        setting.priors[settings] = prior_content(
            past, setting.space, task=task, system=system, settings=settings, models=models
        )
    content = setting.priors[settings]
    context = make_search_context(setting.space, models=models, task=task, system=system, objectives=setting.objectives)
    ranking = ranking_from_json(content, context)
    distribution = Distribution.from_json(content["distribution"], setting.space)
    evolution = Evolution(population=POPULATION, selection=0.2, learning_factor=0.05, objectives=setting.objectives)
    trials: list[Trial] = []
    while len(trials) < setting.n_trials:
        known = [(pipeline, outcome) for pipeline, outcome, _ in trials]
        present = None if ranking is None else replace(ranking.after(known), settings=setting.acquisition)
        select = None if present is None else _select_snapped(present, setting.oracle)
        proposal = Proposal(distribution=distribution, epsilon=0.1, select=select)
        numbers = range(len(trials), min(len(trials) + POPULATION, setting.n_trials))
        drawn = draw_generation(proposal, setting.space, trials=numbers, seed=setting.seed, constraints=())
        generation = [(number, setting.oracle.evaluate(pipeline)) for number, pipeline in drawn.pipelines]
        results = [(number, trial[0], _objectives(trial[1], setting.objectives)) for number, trial in generation]
        distribution = update(distribution, setting.space, results=results, evolution=evolution)
        trials += [trial for _, trial in generation]
    return trials


def search_shipped(setting: Setting) -> list[Trial]:
    """Search with the prior ``evidence`` and the product's default acquisition settings."""
    return search_nspe(replace(setting, acquisition=AcquisitionSettings()), kind="evidence")


def _select_snapped(ranking: Ranking, oracle: Oracle) -> Callable[[Sequence[Pipeline], np.random.Generator], int]:
    """Select among what the candidates would be mapped to: nothing else can be tried in a replay."""

    def select(pipelines: Sequence[Pipeline], rng: np.random.Generator) -> int:
        index = ranking.select(oracle.snap(pipelines), rng)
        oracle.reserve(pipelines[index])
        return index

    return select


def _objectives(outcome: Outcome, names: Sequence[str]) -> dict[str, float] | None:
    values = {name: outcome.objective(name) for name in names}
    known = {name: value for name, value in values.items() if value is not None}
    return known if outcome.status == "succeeded" and len(known) == len(values) else None


def search_optuna(setting: Setting, *, is_warm: bool) -> list[Trial]:
    """Search by Optuna's TPE; warm, the best configurations of the other tasks are enqueued first."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    signs: Any = ["maximize" if name == "f1" else "minimize" for name in setting.objectives]
    study = optuna.create_study(directions=signs, sampler=optuna.samplers.TPESampler(seed=setting.seed))
    for table in setting.past if is_warm else ():
        order = np.argsort(-np.nan_to_num(table.f1))[:2]
        for index in order.tolist():
            with warnings.catch_warnings():  # a value that lies a little outside is tried all the same
                warnings.simplefilter("ignore")
                study.enqueue_trial(_flatten(table.pipelines[index]), skip_if_exists=True)
    worst = [0.0 if name == "f1" else 1e6 for name in setting.objectives]
    trials: list[Trial] = []
    for _ in range(setting.n_trials):
        asked = study.ask()
        trial = setting.oracle.evaluate(_suggest(asked, setting.space))
        found = _objectives(trial[1], setting.objectives)
        study.tell(asked, worst if found is None else [found[name] for name in setting.objectives])
        trials.append(trial)
    return trials


def _flatten(pipeline: Pipeline) -> dict[str, Value]:
    params = {f"{pipeline.method}.{name}": value for name, value in pipeline.params.items()}
    return {"model": pipeline.model_id, "method": pipeline.method, **params}


def _suggest(asked: Any, space: Space) -> Pipeline:
    model_id = asked.suggest_categorical("model", [model.id for model in space.models])
    name = asked.suggest_categorical("method", [method.name for method in space.methods])
    method, model = space.method(name), space.model(model_id)
    assert method is not None
    assert model is not None
    params: dict[str, Value] = {}
    for key, parameter in method.params.items():
        full = f"{name}.{key}"
        if isinstance(parameter, Categorical):
            params[key] = asked.suggest_categorical(full, list(parameter.values))
        elif isinstance(parameter, Numeric) and parameter.integer:
            params[key] = asked.suggest_int(full, int(parameter.low), int(parameter.high), log=parameter.log)
        elif isinstance(parameter, Numeric):
            params[key] = asked.suggest_float(full, parameter.low, parameter.high, log=parameter.log)
    return Pipeline(
        task_kind=space.task_kind, model_id=model.id, model_revision=model.revision, method=name, params=params
    )


def _xautolm(**changes: Any) -> dict[str, Search]:
    """Give the three levels of bias of the faithful prior, each without and with distance weighting."""
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
METHODS: Mapping[str, Search] = {
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
}
