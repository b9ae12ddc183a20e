"""Measures what the host does in captured training and its evaluations: graphs and models cost nothing here.

A GPU waits for whatever this takes beyond its own steps. The calls of CUDA are not in it, because they need one. It is
CPU time, with MiniLM's tokens, 4,096 rows for training and 512 of ``dev``, three epochs; the last two are measured.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.goals import Goal, run
from benchmarks.training import SHARED, find_model
from benchmarks.training_kinds import Labels, Spans, read_rows
from benchmarks.training_ways import TrainingCase, trial_inputs
from xautolm_hpc.execution import StepMode
from xautolm_hpc.train.costs.parts import Part, PartTimer
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState, epoch_steps, train
from xautolm_hpc.train.prepare import build_train_state, start_torch
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.steps.captured import CapturedRunner
from xautolm_hpc.train.steps.lead import Marker, ReachedMarker
from xautolm_hpc.train.steps.recorder import Work
from xautolm_hpc.train.stop import StopFlag

N_ROWS, N_DEV, EPOCHS = 4096, 512, 3
LIMIT_MS = 1.0
"""Milliseconds of a step: a replay of BERT base with 16 rows takes 3.6 on an H200."""

CASES = [("sst2", 64, 16), ("sst2", 64, 32), ("squad", 384, 16), ("squad", 384, 32)]
"""Task, length and batch."""


class IdleRecorder:
    """Records nothing and replays nothing.

    Attributes:
        is_pinned: Never: there is no device.
    """

    is_pinned = False

    def record(self, work: Work, *, warm_up: Work | None = None) -> Work:
        """Return what does nothing."""
        del work, warm_up
        return lambda: None

    def seed(self, seed: int) -> None:
        """Ignore it."""

    def mark(self) -> Marker:
        """Return a point that is reached."""
        return ReachedMarker()

    def recover(self) -> None:
        """Ignore it."""


class IdleModel:
    """Is called like a model and answers with numbers made before."""

    def __init__(self, n_classes: int) -> None:
        """Make the numbers."""
        generator = torch.Generator().manual_seed(0)
        self._classes = torch.randn((256, max(n_classes, 1)), generator=generator)
        self._starts, self._ends = torch.randn((2, 256, 512), generator=generator)

    def __call__(self, **inputs: Tensor) -> Any:
        """Return logits."""
        n_rows, length = inputs["input_ids"].shape
        return SimpleNamespace(
            logits=self._classes[:n_rows],
            start_logits=self._starts[:n_rows, :length],
            end_logits=self._ends[:n_rows, :length],
        )


class IdleRunner(CapturedRunner):
    """Runs steps and evaluations that cost nothing."""

    def evaluator(self) -> Any:
        """Return a model that answers at once."""
        return IdleModel(len(getattr(self._train_state.task, "labels", ())))


def prepare(folder: Path, task: str, *, max_length: int, batch_size: int) -> TrainState:
    """Build a trial of MiniLM as a worker does.

    Args:
        folder: Folder for its data.
        task: ``sst2`` or ``squad``.
        max_length: Tokens of a text at most.
        batch_size: Rows of a batch.
    """
    model, files = find_model("minilm-l6", folder)
    rows = read_rows(SHARED / "datasets" / task / "train.jsonl.gz")[: N_ROWS + 2 * N_DEV]
    splits = {"train": rows[:N_ROWS], "dev": rows[N_ROWS:-N_DEV], "validation": rows[-N_DEV:]}
    kind = Labels(tuple(sorted({row["label"] for row in rows}))) if task == "sst2" else Spans()
    case = TrainingCase(
        model, files, kind, splits, max_length=max_length, batch_size=batch_size, epochs=EPOCHS, seed=0, threads=1
    )
    inputs = trial_inputs(case, folder, half=True, step=StepMode.EAGER)
    recipe = parse_recipe("full", inputs.plan.pipeline.params)
    progress = Progress(parts=PartTimer(clock=time.process_time))
    budget = TrialBudget(progress, StopFlag(), time_limit_s=3600.0)
    accelerator = start_torch(inputs, recipe)
    train_state = build_train_state(inputs, recipe, accelerator=accelerator, progress=progress, budget=budget)
    train_state.runner = IdleRunner(train_state, IdleRecorder())
    return train_state


def measure(task: str, *, max_length: int, batch_size: int) -> list[Goal]:
    """Measure one task, length and batch."""
    with tempfile.TemporaryDirectory() as folder:
        train_state = prepare(Path(folder), task, max_length=max_length, batch_size=batch_size)
    train(train_state, save=lambda: None)
    epochs = train_state.progress.epoch_parts_s[1:]
    step_s = _median_s(epochs, Part.STEPS, Part.WAITS) / len(epoch_steps(train_state, 0))
    name = f"{task}, {max_length}, batch {batch_size}"
    return [
        Goal(f"{name}: a step", 1000 * step_s, LIMIT_MS, "ms"),
        Goal(
            f"{name}: an evaluation of {N_DEV}: batches and answers",
            1000 * _median_s(epochs, Part.EVALUATION),
            None,
            "ms",
        ),
        Goal(f"{name}: an evaluation of {N_DEV}: scores", 1000 * _median_s(epochs, Part.SCORES), None, "ms"),
    ]


def _median_s(epochs: Sequence[Mapping[Part, float]], *parts: Part) -> float:
    return statistics.median(sum(epoch.get(part, 0.0) for part in parts) for epoch in epochs)


if __name__ == "__main__":
    sys.exit(run(lambda: [goal for task, n, batch in CASES for goal in measure(task, max_length=n, batch_size=batch)]))
