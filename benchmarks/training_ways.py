"""The three ways of the training benchmark: as a trial trains, by XAutoLM's recipe, and with the Trainer."""

import gzip
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.training_kinds import Rows, TrainedTask, load
from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import AS_DRAWN, StepMode
from xautolm_hpc.jobdir import Command, TrialInput, TrialPlan
from xautolm_hpc.records import Pipeline, Task
from xautolm_hpc.sample.memory_plan import MemoryBudget, plan_execution
from xautolm_hpc.train.costs.parts import Part
from xautolm_hpc.train.energy import EnergyReader, open_energy_reader
from xautolm_hpc.train.finetune import finetune
from xautolm_hpc.train.heartbeat import HeartbeatWriter
from xautolm_hpc.train.limit.trial_budget import Progress, Stopwatch, TrialBudget
from xautolm_hpc.train.prepare import AttemptInputs
from xautolm_hpc.train.stop import StopFlag

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LEARNING_RATE = 2e-4


@dataclass(frozen=True)
class TrainingCase:
    """What all ways train: model, rows and settings.

    Attributes:
        model: The model, as in the catalogue.
        folder: Its files.
        kind: The task that is learnt.
        rows: Split name -> rows.
        max_length: Tokens of a text at most.
        batch_size: Rows of a batch.
        epochs: Epochs.
        seed: Seed of head, order and dropout.
        threads: Threads of torch.
    """

    model: Model
    folder: str
    kind: TrainedTask
    rows: Mapping[str, Rows]
    max_length: int
    batch_size: int
    epochs: int
    seed: int
    threads: int

    @property
    def n_samples(self) -> int:
        """Samples trained on in all epochs."""
        return self.epochs * len(self.rows["train"])


@dataclass(frozen=True)
class TrainingCost:
    """Time, energy and F1 of one way.

    Attributes:
        seconds: Time of training.
        cpu_s: Time of all threads of this process in it: what does not depend on who else uses the machine.
        f1: F1 on ``validation`` after it.
        gpu_energy_j: Energy of the GPUs, joules, or ``None``.
        start_s: Time to load data and model before it; imports are not in it.
        epochs_s: For each epoch, part -> its seconds; steps alone are synchronised at both ends.
    """

    seconds: float
    cpu_s: float
    f1: float
    gpu_energy_j: float | None = None
    start_s: float = math.nan
    epochs_s: Sequence[Mapping[Part, float]] = ()

    @property
    def replaying_s(self) -> float | None:
        """Time of the steps of the last of several epochs, captures, evaluation and copies left out, or ``None``."""
        if len(self.epochs_s) < 2:
            return None
        return sum(self.epochs_s[-1].get(part, 0.0) for part in (Part.STEPS, Part.WAITS))


def train_ours(case: TrainingCase, *, half: bool = True, step: StepMode = StepMode.EAGER) -> TrainingCost:
    """Train as a trial does, its steps computed eagerly or captured."""
    AcceleratorState._reset_state(reset_partial_state=True)  # of the run before: a trial has a process of its own
    cpu = CpuStopwatch()
    progress = Progress(train=cpu)
    with tempfile.TemporaryDirectory() as folder:
        inputs = trial_inputs(case, Path(folder), half=half, step=step)
        with open_energy_reader(os.environ.get("CUDA_VISIBLE_DEVICES"), shared=False) as energy:
            budget = TrialBudget(progress, StopFlag(), time_limit_s=math.inf)
            heartbeat_writer = HeartbeatWriter(None, progress, energy=energy, interval_s=3600)
            finetune(inputs, progress, budget=budget, heartbeat_writer=heartbeat_writer, energy=energy)
            joules = energy.energy_j("gpu")
    if progress.step_mode is not step:
        sys.stderr.write(f"steps were not captured: {progress.step_reason}\n")
    return TrainingCost(
        progress.train.here_s, cpu.seconds, progress.metrics["f1"], joules, start_s=progress.load.here_s,
        epochs_s=progress.epoch_parts_s,
    )  # fmt: skip


class CpuStopwatch(Stopwatch):
    """Also counts the time of all threads.

    Attributes:
        seconds: Seconds of CPU time inside ``with`` blocks.
    """

    seconds = 0.0

    def __enter__(self) -> None:
        super().__enter__()
        self.seconds -= time.process_time()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.seconds += time.process_time()


def train_like_reference(case: TrainingCase) -> TrainingCost:
    """Train with static padding, tokenising each text when it is drawn, in single precision."""
    model, tokenizer = _load(case)
    order = torch.Generator().manual_seed(case.seed)

    def collate(rows: Rows) -> dict[str, Tensor]:
        encoded = [
            sample
            for row in rows
            for sample in case.kind.encode(tokenizer, [row], max_length=case.max_length, padding="max_length")
        ]
        return {name: torch.tensor([one[name] for one in encoded]) for name in encoded[0]}

    rows: Any = case.rows["train"]  # a list does for a Dataset
    loader: Any = DataLoader(
        rows,
        batch_size=case.batch_size,
        shuffle=True,
        collate_fn=collate,
        generator=order,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    n_steps = case.epochs * len(loader)
    schedule = transformers.get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=n_steps)
    model.train()
    with Measured() as cost:
        for _ in range(case.epochs):
            for inputs in loader:
                model(**{name: values.to(DEVICE) for name, values in inputs.items()}).loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
    return replace(cost(), f1=validation_f1(case, model, tokenizer=tokenizer))


def train_with_trainer(case: TrainingCase) -> TrainingCost:
    """Train with transformers' Trainer and dynamic padding."""
    model, tokenizer = _load(case)
    has_bf16 = DEVICE.type == "cuda" and torch.cuda.is_bf16_supported()
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder, num_train_epochs=case.epochs, per_device_train_batch_size=case.batch_size,
            learning_rate=LEARNING_RATE, seed=case.seed, save_strategy="no", logging_strategy="no", report_to=[],
            disable_tqdm=True, use_cpu=DEVICE.type == "cpu", bf16=has_bf16,
        )  # fmt: skip
        with Measured() as cost:
            samples: Any = case.kind.encode(tokenizer, case.rows["train"], max_length=case.max_length, padding=False)
            pad = transformers.DataCollatorWithPadding(tokenizer)
            trainer = transformers.Trainer(model=model, args=arguments, train_dataset=samples, data_collator=pad)
            trainer.train()
    return replace(cost(), f1=validation_f1(case, model, tokenizer=tokenizer))


class Measured:
    """Measures the time and energy of a ``with`` block; the target of ``as`` returns them afterwards."""

    def __enter__(self) -> Callable[[], TrainingCost]:
        self._opened = open_energy_reader(os.environ.get("CUDA_VISIBLE_DEVICES"), shared=False)
        self._energy: EnergyReader = self._opened.__enter__()
        self._energy.begin()
        self._began = time.perf_counter()
        self._seconds, self._cpu_s = 0.0, -time.process_time()
        return lambda: TrainingCost(self._seconds, self._cpu_s, math.nan, self._energy.energy_j("gpu"))

    def __exit__(self, *error: object) -> None:
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        self._seconds, self._cpu_s = time.perf_counter() - self._began, self._cpu_s + time.process_time()
        self._energy.end()
        self._opened.__exit__(None, None, None)


def validation_f1(case: TrainingCase, model: Any, *, tokenizer: Any) -> float:
    """Compute the F1 of a model on ``validation``."""
    model.eval()
    with torch.no_grad():
        return case.kind.f1(model, tokenizer, rows=case.rows["validation"], max_length=case.max_length)


def _load(case: TrainingCase) -> tuple[Any, Any]:
    torch.set_num_threads(case.threads)
    model, tokenizer = load(case.kind, case.folder, layers=case.model.keep_layers, seed=case.seed)
    return model.to(DEVICE), tokenizer


def trial_inputs(case: TrainingCase, folder: Path, *, half: bool, step: StepMode) -> AttemptInputs:
    """Write the data of a trial and describe it."""
    digests = {}
    for name, rows in case.rows.items():
        packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
        (folder / f"{name}.jsonl.gz").write_bytes(packed)
        digests[name] = sha256(packed).hexdigest()
    counts = {name: len(rows) for name, rows in case.rows.items()}
    task = Task(
        name="benchmark", kind=case.kind.name, dataset_id="", fingerprint="", metric=case.kind.metric,
        n_train=counts["train"], n_dev=counts["dev"], n_validation=counts["validation"], n_test=0,
        labels=case.kind.labels, feature_schema="", features=(),
    )  # fmt: skip
    params = {
        "learning_rate": LEARNING_RATE, "batch_size": case.batch_size, "max_length": case.max_length,
        "epochs": case.epochs, "early_stopping_patience": case.epochs, "use_mixed_precision": half,
    }  # fmt: skip
    pipeline = Pipeline(task_kind=task.kind, model_id=case.model.id, model_revision=None, method="full", params=params)
    command = Command(
        argv=(), time_limit_s=math.inf, wall_limit_s=math.inf, memory_bytes=0, n_threads=case.threads,
        heartbeat_s=3600, deterministic=False, enforce_limits=False, environment={}, site="", cluster="",
    )  # fmt: skip
    memory_budget = MemoryBudget(memory_bytes=None, has_gpu=DEVICE.type == "cuda")
    execution = plan_execution(pipeline, case.model, task=task, memory_budget=memory_budget) or AS_DRAWN
    return AttemptInputs(
        attempt_dir=folder,
        command=command,
        trial=TrialInput(task=task, data_dir=str(folder), sha256=digests),
        plan=TrialPlan(pipeline=pipeline, model=case.model, seed=case.seed, execution=execution, step=step.value),
        expects_gpu=DEVICE.type == "cuda",
    )
