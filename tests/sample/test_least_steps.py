"""The default least numbers of steps, against the real trials of the seed store."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.records import Experience
from xautolm_hpc.sample.constraints import EnoughSteps
from xautolm_hpc.sample.estimates import n_learning_steps
from xautolm_hpc.space import build_space
from xautolm_hpc.store import ExperienceStore

SEED_STORE = Path(__file__).parents[2] / "store" / "seed" / "store"
N_NEAR_BEST = {"ag_news": 14, "drop": 1, "liar": 4, "meld": 1, "squad": 1, "sst2": 3}
DEFAULT = build_space(
    "default", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
)


@pytest.fixture(scope="module")
def near_best() -> list[Experience]:
    """List the trials within 95 % of the best F1 of their task."""
    trials = [e for e in ExperienceStore(SEED_STORE).read() if e.outcome.succeeded]
    best = {name: max(e.outcome.metrics["f1"] for e in trials if e.task.name == name) for name in N_NEAR_BEST}
    return [e for e in trials if e.outcome.metrics["f1"] >= 0.95 * best[e.task.name]]


def _rejected(trials: Sequence[Experience], min_steps: int) -> list[Experience]:
    models = load_catalogue()
    return [
        e
        for e in trials
        if EnoughSteps(e.task, min_steps=min_steps).reject(e.pipeline, models[e.pipeline.model_id]) is not None
    ]


def _stopped_after(trial: Experience, min_steps: int) -> int:
    """Count the epochs that a trial runs where one epoch without a gain of .005 ends it, by its recorded curve."""
    epochs, n_steps = len(trial.outcome.curve), trial.outcome.n_steps or 0
    n_warmup = (
        float(trial.pipeline.params.get("warmup_ratio", 0.0)) * n_steps / epochs * int(trial.pipeline.params["epochs"])
    )
    f1, loss = -1.0, float("inf")
    for epoch, _, dev_loss, dev_f1 in trial.outcome.curve:
        if dev_f1 > f1 + 0.005 or dev_loss < loss - 0.005:
            f1, loss = max(f1, dev_f1), min(loss, dev_loss)
        elif min_steps == 0 or n_steps / epochs * epoch - n_warmup >= min_steps:
            return int(epoch)
    return epochs


def _kept_share(trial: Experience, min_steps: int) -> float:
    """Compute the best F1 on ``dev`` that such a trial reaches, as a share of the best in its recorded curve."""
    scores = [row[3] for row in trial.outcome.curve]
    return max(scores[: _stopped_after(trial, min_steps)]) / max(scores)


def test_the_default_rejects_no_trial_near_the_best_of_its_task(near_best: list[Experience]) -> None:
    counts = {name: sum(e.task.name == name for e in near_best) for name in N_NEAR_BEST}

    assert counts == N_NEAR_BEST
    assert DEFAULT.min_steps == 16
    assert _rejected(near_best, DEFAULT.min_steps) == []


def test_no_greater_default_than_seventeen_would_spare_them_all(near_best: list[Experience]) -> None:
    assert min(n_learning_steps(e.pipeline, e.task) for e in near_best) == 17
    assert [e.task.name for e in _rejected(near_best, 18)] == ["ag_news"]
    liar = [e for e in near_best if e.task.name == "liar"]
    assert len(_rejected(liar, 30)) == 2


def test_the_default_patience_lets_no_trial_near_the_best_end_below_it(near_best: list[Experience]) -> None:
    def lost(min_steps: int) -> int:
        return sum(_kept_share(e, min_steps) < 0.95 for e in near_best)

    assert DEFAULT.early_stopping_min_steps == 100
    assert [lost(min_steps) for min_steps in (0, 50, 75, 100)] == [5, 2, 1, 0]


def test_the_published_preset_keeps_the_old_rules() -> None:
    space = build_space(
        "xautolm", task_kind="text-classification", models=None, methods=None, overrides={}, own_models={}
    )

    assert (space.min_steps, space.early_stopping_min_steps) == (0, 0)
