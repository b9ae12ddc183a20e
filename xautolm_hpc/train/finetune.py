"""The flow of one trial: load, train, evaluate.

Everything is recorded in the :class:`Progress` as soon as it is measured, so that a trial that fails keeps it.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from xautolm_hpc.jobdir import WEIGHTS
from xautolm_hpc.node import peak_rss_bytes
from xautolm_hpc.predictions import PREDICTION_FILES, write_predictions
from xautolm_hpc.train import collectives
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.frozen.precision import FROZEN, describe_frozen
from xautolm_hpc.train.heartbeat import HeartbeatWriter
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState, evaluate, train, trainable
from xautolm_hpc.train.prepare import AttemptInputs, build_train_state, reject_unsupported, start_kernels, start_torch
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.stop import StopRequestedError

CHECKPOINT_DIR = "checkpoint"


def finetune(
    inputs: AttemptInputs,
    progress: Progress,
    *,
    budget: TrialBudget,
    heartbeat_writer: HeartbeatWriter,
    energy: EnergyReader,
) -> None:
    """Train one pipeline and measure it.

    Args:
        inputs: Files of the attempt folder, and this process's rank.
        progress: Filled while the trial runs; the metrics on success.
        budget: Ends the trial between two steps.
        heartbeat_writer: Writes the phases.
        energy: Counts from the first step to the end of the evaluation.

    Raises:
        StopRequestedError: A signal asked to stop, and a checkpoint was written.
        TrialError: The pipeline failed in a foreseen way.
    """
    reject_unsupported(inputs.trial.task.kind, inputs.plan.model)
    recipe = parse_recipe(inputs.plan.pipeline.method, inputs.plan.pipeline.params)
    with progress.load:
        with progress.loading("device"):
            accelerator = start_torch(inputs, recipe)
        with progress.loading("first kernels"):
            start_kernels(accelerator.device)
        train_state = build_train_state(inputs, recipe, accelerator=accelerator, progress=progress, budget=budget)
        with progress.loading("checkpoint"):
            load_checkpoint(inputs.attempt_dir / CHECKPOINT_DIR, train_state)
        budget.agree = collectives.highest
    sys.stderr.write(progress.load_summary())

    def save() -> None:
        measure_gpu_memory(progress)
        exchange_costs(progress, energy)
        save_checkpoint(inputs.attempt_dir / CHECKPOINT_DIR, train_state, energy=energy)

    try:
        energy.begin()
        budget.begin()
        heartbeat_writer.enter("train")
        with progress.train:
            train(train_state, save=save)
        heartbeat_writer.enter("eval")
        with progress.eval:
            scores = evaluate(train_state, "validation")
        save_weights(inputs.attempt_dir / WEIGHTS, train_state)
        if train_state.rank.is_first:
            write_predictions(inputs.attempt_dir / PREDICTION_FILES["validation"], scores.predictions)
    except StopRequestedError:
        save()
        raise
    finally:
        energy.end()
        measure_gpu_memory(progress)
        note_steps(progress, train_state)
    exchange_costs(progress, energy)
    collectives.leave()
    progress.metrics |= scores.as_metrics()


def save_weights(path: Path, train_state: TrainState) -> None:
    """Write the trained parameters, for the final step and for export; the others are those of the base model.

    Raises:
        OSError: The file could not be written.
    """
    weights = trainable(train_state.model)  # on every rank: each may hold a shard
    if train_state.rank.is_first:
        aside = path.with_name(f".{path.name}.tmp")
        save_file(weights, aside, metadata={FROZEN: describe_frozen(train_state.model)})
        aside.replace(path)


def note_steps(progress: Progress, train_state: TrainState) -> None:
    """Record how steps were computed and where the time went, and tell a person why not as was asked for."""
    sys.stderr.write(progress.train_summary())
    runner = train_state.runner
    progress.step_mode, progress.step_reason = runner.mode, runner.reason
    if runner.reason is not None:
        progress.notes.append(f"steps were not captured: {runner.reason}")


def measure_gpu_memory(progress: Progress) -> None:
    """Record the highest memory on all GPUs together; without a GPU it stays unknown."""
    if torch.cuda.is_available():
        here_bytes = sum(peak_bytes(torch.cuda.memory_stats(number)) for number in range(torch.cuda.device_count()))
        progress.peak_gpu_memory_bytes = max(here_bytes, progress.peak_gpu_memory_bytes or 0)


def peak_bytes(statistics: Mapping[str, int]) -> int:
    """Return the peak memory of a trial on one GPU: the most bytes that tensors held at a time.

    The definition is the same for a step computed eagerly and for one captured in a graph. The tensors of a graph lie
    in its private pool, which the allocator counts while the graph is captured, so their peak is in this number, too;
    replaying allocates nothing. What the allocator reserves beyond that is left out: it depends on the card's size and
    on fragmentation, and a pool keeps its whole reservation: it would set the two apart. So is the CUDA context.

    Args:
        statistics: ``torch.cuda.memory_stats`` of the GPU; empty before anything was allocated there.
    """
    return int(statistics.get("allocated_bytes.all.peak", 0))


def exchange_costs(progress: Progress, energy: EnergyReader) -> None:
    """Exchange energy and memory between the ranks, so that rank 0 can record those of all."""
    if not collectives.is_shared():
        return
    energy.sample()
    measured_j = [energy.here_j("gpu"), energy.here_j("cpu")]
    own_j = [0.0 if not energy.reads else math.nan if joules is None else joules for joules in measured_j]
    rss_bytes, gpu_bytes = peak_rss_bytes(), progress.peak_gpu_memory_bytes or 0
    *all_j, all_rss_bytes, all_gpu_bytes = collectives.total([*own_j, float(rss_bytes), float(gpu_bytes)])
    for device, here_j, everywhere_j in zip(("gpu", "cpu"), own_j, all_j, strict=True):
        energy.elsewhere_j[device] = None if math.isnan(everywhere_j) else everywhere_j - here_j
    progress.rss_elsewhere_bytes = int(all_rss_bytes) - rss_bytes
    progress.gpu_memory_elsewhere_bytes = int(all_gpu_bytes) - gpu_bytes
