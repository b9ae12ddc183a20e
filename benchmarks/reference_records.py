"""Ranks XAutoLM's real trials of each task by what a prior learns from the other three.

Nothing here is tuned on the task held out: every prior has one setting, its own default. ``--data`` names the folder
of the records, which do not belong to this repository.
"""

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, spearmanr
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import roc_auc_score

from benchmarks import reference_data
from benchmarks.goals import Goal, run
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.distribution import (
    BooleanMarginal,
    CategoricalMarginal,
    Distribution,
    NumericMarginal,
    scale_bounds,
    to_scale,
)
from xautolm_hpc.priors import PriorSettings, make_search_context, prior_content, ranking_from_json
from xautolm_hpc.priors.evidence.acquisition import acquisition_value
from xautolm_hpc.records import Experience, Pipeline
from xautolm_hpc.space import Categorical, Numeric, Space, build_space, contains
from xautolm_hpc.table import build_table, pipeline_digest

Floats = NDArray[np.float64]

DATA = Path("../shared/peer-records")
OBJECTIVES = ("f1", "evaluation_time_s")
N_BOOTSTRAP = 1000
ROUGH = {"AUC": 0.9275, "F1": 0.5325, "time": 0.6925}
"""Means that a first simple forest reached; goals of ``evidence``."""

LIST_EXPONENT = 0.5
"""Feasibility exponent for a list of which a fifth is tried at once, for its best; a search pays for every failure and
takes a larger one."""

ROUGH_PARAMS = ("batch_size", "max_length", "learning_rate", "epochs", "gradient_accumulation_steps")


@dataclass(frozen=True)
class Ranks:
    """A method's predictions for n held-out trials; higher is better, of ``cost`` higher is longer.

    Attributes:
        success: Predicted probability of success, or a rank of it, (n,).
        quality: Predicted F1, or a rank of it, (n,).
        cost: Predicted time, or a rank of it, (n,).
        whole: The value that the top fifth is taken by, (n,).
    """

    success: Floats
    quality: Floats
    cost: Floats
    whole: Floats


def rank_by_evidence(past: Sequence[Experience], trials: Sequence[Experience], *, space: Space) -> Ranks:
    """Rank by the forecasts of the prior ``evidence``."""
    task, system = trials[0].task, trials[0].system
    settings = PriorSettings(kind="evidence", objectives=OBJECTIVES)
    models = load_catalogue()
    content = prior_content(build_table(past), space, task=task, system=system, settings=settings, models=models)
    context = make_search_context(space, models=models, task=task, system=system, objectives=OBJECTIVES)
    ranking = ranking_from_json(content, context)
    assert ranking is not None
    x = context.encode([trial.pipeline for trial in trials])
    f1_alone = np.array([1.0, 0.0])
    return Ranks(
        success=ranking.past.p_feasible(x),
        quality=ranking.past.predicted_utility(x, "f1"),
        cost=-ranking.past.predicted_utility(x, "evaluation_time_s"),
        whole=acquisition_value(ranking.past, x, weights=f1_alone, exponent=LIST_EXPONENT),
    )


def rank_by_density(
    past: Sequence[Experience], trials: Sequence[Experience], *, space: Space, is_whole: bool = True, **changes: Any
) -> Ranks:
    """Rank by the density of a replayed prior: of the whole pipeline, or of model and method alone."""
    settings = PriorSettings(objectives=OBJECTIVES, **changes)
    task, system = trials[0].task, trials[0].system
    content = prior_content(build_table(past), space, task=task, system=system, settings=settings, models={})
    distribution = Distribution.from_json(content["distribution"], space)
    read = space if is_whole else replace(space, methods=tuple(replace(m, params={}) for m in space.methods))
    density = np.array([log_density(distribution, read, pipeline=trial.pipeline) for trial in trials])
    return Ranks(density, density, -density, density)


def rank_by_size(past: Sequence[Experience], trials: Sequence[Experience], *, space: Space) -> Ranks:
    """Rank by the size of the model alone, the smaller the better."""
    del past, space
    sizes = np.array([float(load_catalogue()[trial.pipeline.model_id].n_parameters) for trial in trials])
    return Ranks(-sizes, -sizes, sizes, -sizes)


def rank_by_rough_forest(past: Sequence[Experience], trials: Sequence[Experience], *, space: Space) -> Ranks:
    """Rank by a plain random forest on a dozen numbers, nothing tuned."""
    del space
    x, x_trials = _rough_numbers(past), _rough_numbers(trials)
    succeeded = np.array([e.outcome.succeeded for e in past])
    f1 = np.array([e.outcome.objective("f1") or math.nan for e in past])
    time_s = np.array([e.outcome.evaluation_time_s or math.nan for e in past])
    for name in {e.task.name for e in past}:
        of_task = succeeded & np.array([e.task.name == name for e in past])
        f1[of_task] = (f1[of_task] - f1[of_task].min()) / np.ptp(f1[of_task])

    def forecast(target: Floats, rows: NDArray[np.bool_]) -> Floats:
        forest = RandomForestRegressor(200, min_samples_leaf=2, max_features=1 / 3, random_state=0)
        return np.asarray(forest.fit(x[rows], target[rows]).predict(x_trials))

    success = forecast(succeeded.astype(float), np.ones(len(past), dtype=np.bool_))
    quality, cost = forecast(f1, succeeded), forecast(np.log(time_s), succeeded)
    return Ranks(success, quality, cost, success * quality)


def _rough_numbers(experiences: Sequence[Experience]) -> Floats:
    rows = []
    for e in experiences:
        params = e.pipeline.params
        numbers = [math.log(float(params[name])) for name in ROUGH_PARAMS]
        n_steps = math.exp(numbers[3] - numbers[0] - numbers[4]) * e.task.n_train
        optimizer = [float(params["optimizer"] == name) for name in ("adamw", "adam", "sgd", "adagrad")]
        method = [float(e.pipeline.method == name) for name in ("full", "partial", "lora")]
        size = load_catalogue()[e.pipeline.model_id].n_parameters
        rows.append([math.log(size), *numbers, math.log(n_steps), *optimizer, *method, math.log(e.task.n_train)])
    return np.array(rows)


def log_density(distribution: Distribution, space: Space, *, pipeline: Pipeline) -> float:
    """Compute the logarithm of a pipeline's density; values outside the space are left out."""
    probabilities = distribution.probabilities()
    total = math.log(probabilities["models"][pipeline.model_id]) + math.log(probabilities["methods"][pipeline.method])
    method = space.method(pipeline.method)
    for name, parameter in (method.params if method else {}).items():
        value, marginal = pipeline.params.get(name), distribution.params[pipeline.method][name]
        if value is None or not contains(parameter, value):
            continue
        if isinstance(marginal, CategoricalMarginal) and isinstance(parameter, Categorical):
            index = next(i for i, v in enumerate(parameter.values) if type(v) is type(value) and v == value)
            total += math.log(marginal.probabilities[index])
        elif isinstance(marginal, BooleanMarginal):
            total += math.log(marginal.p_true if value else 1.0 - marginal.p_true)
        elif isinstance(marginal, NumericMarginal) and isinstance(parameter, Numeric):
            total += _log_normal(marginal, parameter, value=float(value))
    return total


def _log_normal(marginal: NumericMarginal, parameter: Numeric, *, value: float) -> float:
    low, high = scale_bounds(parameter)
    if marginal.uniform:
        return -math.log(high - low)
    inside = norm.cdf(high, marginal.mean, marginal.dev) - norm.cdf(low, marginal.mean, marginal.dev)
    return float(norm.logpdf(to_scale(parameter, value), marginal.mean, marginal.dev) - math.log(inside))


METHODS: Mapping[str, Callable[..., Ranks]] = {
    "evidence": rank_by_evidence,
    "xautolm": partial(rank_by_density, kind="xautolm", deduplicate=False),
    "xautolm, model and method": partial(rank_by_density, is_whole=False, kind="xautolm", deduplicate=False),
    "knn 25": partial(rank_by_density, kind="knn", k=25, deduplicate=False),
    "rough forest": rank_by_rough_forest,
    "model size": rank_by_size,
}
FAITHFUL = "xautolm, model and method"
"""The faithful prior at its best: with the densities of the parameters it ranks these trials worse."""


@dataclass(frozen=True)
class HeldOut:
    """The trials of a task, and every method's predictions for them.

    Attributes:
        succeeded: Whether each succeeded, (n,).
        f1: NaN for failures, (n,); likewise ``time_s``.
        recurs: Whether another task has the same configuration, (n,).
        ranks: Method -> its predictions.
    """

    succeeded: NDArray[np.bool_]
    f1: Floats
    time_s: Floats
    recurs: NDArray[np.bool_]
    ranks: Mapping[str, Ranks]

    def measure(self, method: str, kept: NDArray[np.int64]) -> dict[str, float]:
        """Measure a method on some of the trials, each as often as it is named."""
        ranks, good = self.ranks[method], kept[self.succeeded[kept]]
        top = kept[np.argsort(-ranks.whole[kept], kind="stable")[: math.ceil(len(kept) / 5)]]
        best = kept[np.nanargmax(self.f1[kept])]
        return {
            "AUC": float(roc_auc_score(self.succeeded[kept], ranks.success[kept])),
            "F1": float(spearmanr(ranks.quality[good], self.f1[good]).statistic),
            "time": float(spearmanr(ranks.cost[good], self.time_s[good]).statistic),
            "top F1": float(np.nanmean(self.f1[top])) / float(np.nanmean(self.f1[kept])),
            "top time": float(np.nanmean(self.time_s[top])) / float(np.nanmean(self.time_s[kept])),
            "top success": float(self.succeeded[top].mean()),
            "best inside": float(best in top),
            "place of best": float((ranks.whole[kept] > ranks.whole[best]).sum() + 1) / len(kept),
        }


def hold_out(experiences: Sequence[Experience], name: str, *, methods: Sequence[str], space: Space) -> HeldOut:
    """Fit every method on the other tasks, and rank the trials of one by it."""
    trials = [e for e in experiences if e.task.name == name]
    past = [e for e in experiences if e.task.name != name]
    elsewhere = {pipeline_digest(e.pipeline) for e in past}
    return HeldOut(
        succeeded=np.array([e.outcome.succeeded for e in trials]),
        f1=np.array([math.nan if (v := e.outcome.objective("f1")) is None else v for e in trials]),
        time_s=np.array([math.nan if (v := e.outcome.evaluation_time_s) is None else v for e in trials]),
        recurs=np.array([pipeline_digest(e.pipeline) in elsewhere for e in trials]),
        ranks={method: METHODS[method](past, trials, space=space) for method in methods},
    )


def bootstrap(tasks: Mapping[str, HeldOut], *, seed: int = 0, n: int = N_BOOTSTRAP) -> Floats:
    """Resample the trials of every task: mean AUC(evidence) - AUC(faithful) over the tasks, (n,)."""
    rng, differences = np.random.default_rng(seed), np.zeros(n)
    for held_out in tasks.values():
        for draw in range(n):
            kept = rng.integers(len(held_out.succeeded), size=len(held_out.succeeded))
            while len(set(held_out.succeeded[kept].tolist())) < 2:
                kept = rng.integers(len(held_out.succeeded), size=len(held_out.succeeded))
            auc = [roc_auc_score(held_out.succeeded[kept], held_out.ranks[m].success[kept])
                   for m in ("evidence", FAITHFUL)]  # fmt: skip
            differences[draw] += (auc[0] - auc[1]) / len(tasks)
    return differences


def measure(data_dir: Path, *, n_bootstrap: int = N_BOOTSTRAP) -> list[Goal]:
    """Measure every method on every task."""
    experiences = [
        reference_data.experience(t, i) for i, t in enumerate(reference_data.read_trials(data_dir / "trials.jsonl"))
    ]
    space = build_space("xautolm", task_kind="text-classification", models=None, methods=None, overrides={},
                        own_models={})  # fmt: skip
    tasks = {name: hold_out(experiences, name, methods=list(METHODS), space=space) for name in reference_data.TASKS}
    goals = []
    for label, only_new in (("", False), (", new configurations", True)):
        for method in METHODS:
            found = {
                name: held.measure(method, np.flatnonzero(~held.recurs) if only_new else np.arange(len(held.recurs)))
                for name, held in tasks.items()
            }
            goals += _rows(method, found, label=label)
    differences = bootstrap(tasks, n=n_bootstrap)
    low, high = np.percentile(differences, [2.5, 97.5])
    goals.append(Goal(f"AUC evidence - ({FAITHFUL}), lower 95 % bound", float(low), 1e-9, "", at_most=False))
    goals.append(Goal(f"AUC evidence - ({FAITHFUL}), upper 95 % bound", float(high), None, ""))
    return goals


def _rows(method: str, found: Mapping[str, Mapping[str, float]], *, label: str) -> list[Goal]:
    """Write a method's means, each task's values, and the goals where it has some."""
    has_goals = method == "evidence" and not label
    rows = []
    for name in next(iter(found.values())):
        values = [measured[name] for measured in found.values()]
        limit = ROUGH.get(name) if has_goals else None
        rows.append(Goal(f"{method}: {name}{label}", float(np.mean(values)), limit, "mean", at_most=False))
        if name in ("AUC", "F1", "time", "best inside"):
            inside = 1.0 if has_goals and name == "best inside" else None
            rows += [Goal(f"  {task}", value, inside, "", at_most=False)
                     for task, value in zip(found, values, strict=True)]  # fmt: skip
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the records")
    given, rest = parser.parse_known_args()
    sys.exit(run(lambda: measure(given.data), rest))
