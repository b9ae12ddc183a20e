"""A made-up run of many trials, as large runs look: several models and methods, failures, answers on every row."""

from typing import Any

import numpy as np

from tests.report.facts import facts, failure, success
from tests.report.whole_run import PRIOR
from xautolm_hpc.predictions import Predictions
from xautolm_hpc.priors import hyperparameter_importance
from xautolm_hpc.records import Experience
from xautolm_hpc.view import RunFacts, Spent, charges

MODELS = ("distilbert-base-uncased", "google/bert_uncased_L-2", "microsoft/deberta-v3-base", "roberta-base")
METHODS = ("full", "lora", "bitfit", "head")
KINDS = ("gpu_oom", "time_limit", "diverged", "node_failure")
N_ROWS, N_CLASSES = 500, 3


def large_run(n_trials: int, **fields: Any) -> RunFacts:
    """Build a run whose F1 follows from the learning rate; every fourth trial fails.

    Args:
        n_trials: Trials, at least 2.
        fields: Fields of the results.
    """
    rng = np.random.default_rng(17)
    trials = [_trial(number, rng) for number in range(n_trials)]
    succeeded = [e for e in trials if e.outcome.succeeded]
    best = max(succeeded, key=lambda e: e.outcome.metrics["f1"]).provenance.trial
    spent = Spent(
        n_generations=n_trials // 20 + 1, n_trials=n_trials, wall_s=9e4, gpu_s=3.1e5, trial_s=3.2e5, energy_j=4.4e7
    )
    rates = {"co2_g_per_kwh": 380.0, "price_per_gpu_h": 2.5, "currency": "EUR"}
    given: dict[str, Any] = {
        "rejections": {"memory": 1312, "context_length": 44},
        "prior": PRIOR,
        "spent": spent,
        "answers": answers,
        "importance": hyperparameter_importance(succeeded),
        "charges": charges(rates, spent),
        "tests": {best: {"f1": 0.71, "accuracy": 0.73, "loss": 0.6}},
    }
    return facts(trials, **{**given, **fields})


def answers(experience: Experience, split: str) -> Predictions:
    """Build answers that are right on a share of the rows that is near the trial's F1."""
    truth = np.random.default_rng(5).integers(0, N_CLASSES, size=N_ROWS)
    luck = np.random.default_rng([experience.provenance.trial, len(split)])
    is_right = luck.uniform(size=N_ROWS) < experience.outcome.metrics.get("f1", 0.0)
    wrong = (truth + luck.integers(1, N_CLASSES, size=N_ROWS)) % N_CLASSES
    return Predictions(truth=truth, predicted=np.where(is_right, truth, wrong), n_classes=N_CLASSES)


def _trial(number: int, rng: np.random.Generator) -> Experience:
    """Build one trial."""
    rate = float(10 ** rng.uniform(-6, -3))
    method, model = str(rng.choice(METHODS)), str(rng.choice(MODELS))
    params: dict[str, Any] = {
        "learning_rate": rate,
        "batch_size": int(rng.choice([8, 16, 32])),
        "epochs": int(rng.integers(1, 11)),
        "weight_decay": float(rng.uniform(0, 0.1)),
        "warmup_ratio": float(rng.uniform(0, 0.2)),
        "class_weighted_loss": bool(rng.integers(2)),
        "optimizer": str(rng.choice(["adamw", "adafactor", "sgd"])),
        "max_length": int(rng.choice([64, 128, 256])),
        **(
            {"lora_r": int(rng.choice([4, 8, 16])), "lora_dropout": float(rng.uniform(0, 0.3))}
            if method == "lora"
            else {}
        ),
    }
    f1 = float(np.clip(0.75 - 0.12 * abs(np.log10(rate) + 4.5) + 0.03 * rng.normal(), 0.05, 0.98))
    seconds, hour = float(rng.uniform(20, 900)), number // 4
    n_epochs = params["epochs"]
    curve = tuple(
        (float(n), 1.0 / n, 1.1 / n, f1 * (1 - 0.6**n), seconds * n / n_epochs) for n in range(1, n_epochs + 1)
    )
    fields: dict[str, Any] = {
        "method": method, "model_id": model, "params": params, "generation": number // 20, "curve": curve,
        "gpu_energy_j": seconds * 250.0, "energy_source": "nvml-counter", "energy_scope": "whole-gpu",
        "started_at": f"2026-01-{5 + hour // 24:02d}T{hour % 24:02d}:00:00.000+00:00",
        "ended_at": f"2026-01-{5 + hour // 24:02d}T{hour % 24:02d}:{number % 4 * 14 + 1:02d}:30.000+00:00",
    }  # fmt: skip
    if number % 4 == 3:
        return failure(
            number, KINDS[number // 4 % len(KINDS)], train_s=seconds, message="RuntimeError: it failed", **fields
        )
    return success(
        number, f1=f1, evaluation_time_s=seconds, peak_gpu_memory_bytes=int(rng.uniform(1, 20) * 1e9), **fields
    )
