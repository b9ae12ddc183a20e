"""Real trials at their limit, by a clock that moves whenever it is read: whatever else runs on this machine."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train.attempts import command, read_end, write_attempt
from tests.train.test_worker import _job, _stop_first
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import PIPELINE, WEIGHTS
from xautolm_hpc.records import Outcome
from xautolm_hpc.train import finetune, loop
from xautolm_hpc.train.limit import trial_budget
from xautolm_hpc.train.loop import evaluate
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import run_trial

ENDLESS: Mapping[str, Any] = {"epochs": 100_000, "early_stopping_patience": 100_000}
LIMIT_S, TICK_S = 4.0, 0.02


@pytest.fixture(autouse=True)
def _ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    for module in (loop, trial_budget):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: TICK_S * next(ticks)))


def _write(folder: Path) -> Path:
    """Write an attempt that is to be evaluated when its budget is used up, as it will be."""
    attempt_dir = write_attempt(folder, params=ENDLESS, limits=command(time_limit_s=LIMIT_S))
    write_json(attempt_dir / PIPELINE, {**read_json(attempt_dir / PIPELINE), "at_limit": "evaluate"})
    return attempt_dir


def _assert_truncated(outcome: Outcome) -> None:
    assert (outcome.status, outcome.kind, outcome.truncated) == ("succeeded", None, True), outcome.message
    assert outcome.message is not None
    assert outcome.message.splitlines()[-1].startswith("truncated: ")
    assert {"f1", "dev_f1", "validation_loss"} <= set(outcome.metrics)
    assert outcome.metrics["dev_f1"] == max(row[3] for row in outcome.curve)
    assert outcome.n_steps is not None
    assert outcome.epochs_done == outcome.n_steps / 4
    assert outcome.schedule_share == outcome.n_steps / 400_000
    assert outcome.train_s is not None
    assert outcome.evaluation_time_s is not None
    assert outcome.train_s < LIMIT_S


def test_a_trial_that_uses_up_its_budget_is_evaluated(tmp_path: Path) -> None:
    attempt_dir = _write(tmp_path)

    assert run_trial(_job(attempt_dir), StopFlag()) == 0

    _assert_truncated(read_end(attempt_dir).outcome)
    assert (attempt_dir / WEIGHTS).exists()


def test_a_truncated_trial_that_was_stopped_in_its_evaluation_is_evaluated_after_all(tmp_path: Path) -> None:
    attempt_dir = _write(tmp_path)
    stop = StopFlag()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "evaluate", _stop_first(stop, evaluate))
        first = run_trial(_job(attempt_dir), stop)
    second = run_trial(_job(attempt_dir, restart=1), StopFlag())

    assert (first, second) == (85, 0)
    _assert_truncated(read_end(attempt_dir).outcome)
