"""Settings of a search that fit its data and the machine: what ``init`` writes into a search file."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from xautolm_hpc.catalogue import Model, can_learn, list_models, load_catalogue, missing_weights
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.records import Pipeline, System, Task, Value
from xautolm_hpc.sample import MemoryBudget, plan_execution, seconds_needed

EffortName = Literal["quick", "normal", "thorough"]
GIB = 2**30

LENGTHS = (32, 64, 128, 256, 512, 1024, 2048)
TOKENS_PER_WORD = 1.5
BATCHES = ((1_000, (8, 16)), (20_000, (16, 32)), (None, (16, 32, 64)))
"""Rows of train below which -> batch sizes."""

MAX_EPOCHS = 20
LEAST_EPOCHS = 2
USUAL_MIN_STEPS, FEW_ROWS_MIN_STEPS = 16, 50
SHARE_OF_LIMIT = 0.5
"""Share of a trial's time limit that its training is foreseen to take at most: estimates may be off by two."""

LEAST_ROWS = 500
MAX_ROWS_SCORED = 2_000
"""Rows of validation, and of test, that are used where rows of train are drawn because time is short."""

GPU_LISTS = ((20 * GIB, "small"), (60 * GIB, "medium"), (None, "large"))
"""Memory of a GPU below which -> list of the catalogue."""
LARGEST_ON_CPU = 150_000_000
"""Parameters of a model that is trained without a GPU."""
FOR_CPU = ("google/electra-small-discriminator", "distilbert-base-uncased")
"""What is fetched for a machine without a GPU that has no model at hand."""

TRIALS_A_MODEL, LEAST_MODELS = 3, 2
"""Trials that a model has on average at least; models that are searched all the same."""

WEIGHT_BYTES = {"decoder": 2, "seq2seq": 4, "encoder": 4}
"""Family -> bytes of a parameter as most of its models are published."""

N_CUTS = 2
"""Models cut from the same weights that are searched, the deepest ones."""

SMALL_MODEL_WIDTH = 384
"""Width of models that need higher learning rates than the preset's, which are those of base and large models."""

METHODS = ("full", "partial", "lora", "head")
LEARNING_RATES: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "full": ((5e-6, 5e-4), (2e-4, 2e-3)),
    "partial": ((1e-5, 1e-3), (3e-4, 3e-3)),
    "lora": ((5e-5, 5e-3), (1e-3, 1e-2)),
    "head": ((1e-4, 3e-2), (1e-3, 3e-2)),
}
"""Method -> range of learning rates for usual models, and for small ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much a search may cost.

    Attributes:
        minutes: Minutes that it takes at most on one machine.
        queued_minutes: The same on a cluster, where jobs wait.
        trials: Trials at most.
        population: Trials of a generation.
        steps: Optimiser steps that the longest training has, if time allows.
    """

    minutes: int
    queued_minutes: int
    trials: int
    population: int
    steps: int


EFFORTS: Mapping[EffortName, Effort] = {
    "quick": Effort(minutes=5, queued_minutes=60, trials=12, population=4, steps=250),
    "normal": Effort(minutes=60, queued_minutes=480, trials=60, population=10, steps=600),
    "thorough": Effort(minutes=480, queued_minutes=2880, trials=300, population=20, steps=1200),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """What a search file says beside its data.

    Attributes:
        models: Ids of models, at least one.
        is_to_fetch: Whether they are still to be fetched.
        fetch_gb: About how many GB of weights are then fetched.
        larger: List of the catalogue that this GPU could train, if none of its models is at hand.
        max_lengths: Lengths in tokens, ascending.
        batch_sizes: Batch sizes.
        epochs: Fewest and most epochs.
        learning_rates: Method -> lowest and highest learning rate.
        min_steps: Optimiser steps after the warm-up that a pipeline must have.
        rows: Split -> rows to draw, where not all are used.
        minutes: Minutes that the search takes at most.
        time_limit_min: Minutes that a trial takes at most.
        trials: Trials at most.
        population: Trials of a generation.
    """

    models: tuple[str, ...]
    is_to_fetch: bool
    fetch_gb: float
    larger: str | None
    max_lengths: tuple[int, ...]
    batch_sizes: tuple[int, ...]
    epochs: tuple[int, int]
    learning_rates: Mapping[str, tuple[float, float]]
    min_steps: int
    rows: Mapping[str, int]
    minutes: int
    time_limit_min: float
    trials: int
    population: int


def choose_settings(
    task: Task, effort: EffortName, *, profile: ClusterProfile, system: System, hf_home: Path
) -> SearchSettings:
    """Choose the settings of a search.

    Args:
        task: The task, profiled.
        effort: How much the search may cost.
        profile: Where trials run.
        system: The node they run on.
        hf_home: Offline cache of hub models.
    """
    cost = EFFORTS[effort]
    is_queued = profile.launcher == "slurm"
    minutes = cost.queued_minutes if is_queued else cost.minutes
    n_parallel = 4 if is_queued else profile.local.n_slots
    limit_min = _round_minutes(min(2 * minutes * n_parallel / cost.trials, minutes / 4))
    models, is_to_fetch, larger = _choose_models(task, profile=profile, system=system, hf_home=hf_home)
    models = models[: max(LEAST_MODELS, cost.trials // TRIALS_A_MODEL)]
    lengths = _max_lengths(task, models)
    batches = next(sizes for below, sizes in BATCHES if below is None or task.n_train < below)
    trained = _Trained(task=task, system=_of_a_trial(system, profile), max_length=lengths[-1], batch_size=batches[-1])
    rows = _rows_in_time(models, trained, limit_s=limit_min * 60)
    n_train = min(task.n_train, rows.get("train", task.n_train))
    epochs = _epochs(models, trained, limit_s=limit_min * 60, n_train=n_train, n_steps=cost.steps)
    n_least = epochs[0] * n_train // batches[-1]
    return SearchSettings(
        models=tuple(model.id for model in models),
        is_to_fetch=is_to_fetch,
        fetch_gb=sum(model.n_parameters * WEIGHT_BYTES[model.family] for model in models) / 1e9 if is_to_fetch else 0.0,
        larger=larger,
        max_lengths=lengths,
        batch_sizes=batches,
        epochs=epochs,
        learning_rates=_learning_rates(models),
        min_steps=FEW_ROWS_MIN_STEPS if n_least >= FEW_ROWS_MIN_STEPS else min(USUAL_MIN_STEPS, n_least),
        rows=rows,
        minutes=minutes,
        time_limit_min=limit_min,
        trials=cost.trials,
        population=cost.population,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """What a training is estimated for, beside its model."""

    task: Task
    system: System
    max_length: int
    batch_size: int

    def epoch_s(self, model: Model) -> float:
        """Estimate the seconds of an epoch of full fine-tuning, and of its evaluation; 0 where unknown."""
        params: dict[str, Value] = {
            "batch_size": self.batch_size,
            "max_length": self.max_length,
            "epochs": 1,
            "optimizer": "adamw",
        }
        pipeline = Pipeline(
            task_kind=self.task.kind, model_id=model.id, model_revision=None, method="full", params=params
        )
        return seconds_needed(pipeline, model, task=self.task, system=self.system, may_stop=False)


def _choose_models(
    task: Task, *, profile: ClusterProfile, system: System, hf_home: Path
) -> tuple[tuple[Model, ...], bool, str | None]:
    """Choose models that the machine can train: those at hand, else a list of the catalogue that is to be fetched."""
    is_at_hand = _at_hand(profile, hf_home)
    catalogue = load_catalogue()
    able = [model for model in catalogue.values() if can_learn(model, task.kind)]
    at_hand = [model for model in able if is_at_hand(model)]
    if system.n_gpus == 0:
        small = [model for model in at_hand if model.n_parameters <= LARGEST_ON_CPU]
        if small:
            return _deepest(small), False, None
        wanted = [catalogue[name] for name in FOR_CPU if can_learn(catalogue[name], task.kind)]
        smallest = sorted(able, key=lambda model: model.n_parameters)[:1]
        return tuple(wanted or smallest), True, None
    memory = system.gpu_memory_bytes or 0
    name = next(name for below, name in GPU_LISTS if below is None or memory < below)
    wanted = [catalogue[model_id] for model_id in list_models(name, task.kind)]
    listed = [model for model in wanted if is_at_hand(model)]
    if listed:
        return tuple(listed), False, None
    budget = MemoryBudget.of(system, host_bytes=int(profile.job.memory_gb * GIB))
    fitting = [model for model in at_hand if _fits(model, task, budget=budget)]
    return (tuple(fitting), False, name) if fitting else (tuple(wanted), True, None)


def _deepest(models: Sequence[Model]) -> tuple[Model, ...]:
    """Leave out models that are cut from weights of which two deeper cuts are there: they learn less."""
    cuts: dict[object, list[Model]] = {}
    for model in models:
        weights = (model.package, model.path) if model.keep_layers else model.id
        cuts.setdefault(weights, []).append(model)
    kept = {id(model) for group in cuts.values() for model in sorted(group, key=lambda m: m.n_layers)[-N_CUTS:]}
    return tuple(model for model in models if id(model) in kept)


def _at_hand(profile: ClusterProfile, hf_home: Path) -> Callable[[Model], bool]:
    """Return the check whether a model's weights are where trials would look for them."""
    sees_packages = profile.worker_python in (None, sys.executable)  # an image gets them from here

    def is_at_hand(model: Model) -> bool:
        return (sees_packages or not model.package) and not missing_weights([model], hf_home, has_package=find_spec)

    return is_at_hand


def _fits(model: Model, task: Task, *, budget: MemoryBudget) -> bool:
    """Check whether a model can be trained with LoRA, which needs least."""
    params: dict[str, Value] = {
        "batch_size": 8,
        "max_length": 128,
        "optimizer": "adamw",
        "lora_r": 8,
        "lora_targets": "attention",
    }
    pipeline = Pipeline(task_kind=task.kind, model_id=model.id, model_revision=None, method="lora", params=params)
    return plan_execution(pipeline, model, task=task, memory_budget=budget) is not None


def _max_lengths(task: Task, models: Sequence[Model]) -> tuple[int, ...]:
    """Choose the length that holds 19 of 20 texts, and the one below it."""
    _, words, _ = task.length_tokens or (0.0, float(LENGTHS[-1]), 0.0)
    longest = max(model.context_length for model in models)
    usable = [length for length in LENGTHS if length <= longest]
    enough = next((place for place, length in enumerate(usable) if length >= words * TOKENS_PER_WORD), len(usable) - 1)
    return tuple(usable[max(0, enough - 1) : enough + 1])


def _rows_in_time(models: Sequence[Model], trained: _Trained, *, limit_s: float) -> Mapping[str, int]:
    """Count the rows to draw where even the fastest model could not be trained with all of them."""
    fastest_s = min(trained.epoch_s(model) for model in models)
    share = SHARE_OF_LIMIT * limit_s / (LEAST_EPOCHS * fastest_s) if fastest_s > 0 else 1.0
    if share >= 1:
        return {}
    task = trained.task
    n_rows = max(LEAST_ROWS, int((task.n_train + task.n_dev) * share) // 100 * 100)
    scored = {"validation": task.n_validation, "test": task.n_test}
    return {
        "train": min(n_rows, task.n_train + task.n_dev),
        **{name: MAX_ROWS_SCORED for name, n_there in scored.items() if n_there > MAX_ROWS_SCORED},
    }


def _epochs(
    models: Sequence[Model], trained: _Trained, *, limit_s: float, n_train: int, n_steps: int
) -> tuple[int, int]:
    """Choose fewest and most epochs: enough steps to learn, and no more than a model of middling size has time for."""
    middle_s = sorted(trained.epoch_s(model) for model in models)[len(models) // 2] * n_train / trained.task.n_train
    in_time = int(SHARE_OF_LIMIT * limit_s / middle_s) if middle_s > 0 else MAX_EPOCHS
    for_steps = -(-n_steps * trained.batch_size // n_train)
    most = max(LEAST_EPOCHS, min(MAX_EPOCHS, in_time, for_steps))
    return max(1, most // 3), most


def _learning_rates(models: Sequence[Model]) -> Mapping[str, tuple[float, float]]:
    """Choose the ranges of learning rates: those of usual models, of small ones, or both where there are both."""
    is_small = [model.hidden_size <= SMALL_MODEL_WIDTH for model in models]
    return {
        method: ((small if all(is_small) else usual)[0], (small if any(is_small) else usual)[1])
        for method, (usual, small) in LEARNING_RATES.items()
    }


def _of_a_trial(system: System, profile: ClusterProfile) -> System:
    """Return the share of a node that a trial has, for estimates."""
    return replace(system, n_cpu_cores=profile.job.n_cpus) if system.n_gpus == 0 else replace(system, n_gpus=1)


def _round_minutes(minutes: float) -> float:
    return max(1.0, round(minutes)) if minutes >= 1 else round(minutes, 1)
