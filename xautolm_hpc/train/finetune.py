"""The flow of one trial: load, train, evaluate.

Everything measured goes into the :class:`Progress` as it is measured, so that a failure halfway keeps it.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from safetensors.torch import save_file
from torch import nn

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import WEIGHTS, Command, TrialInput, TrialPlan
from xautolm_hpc.node import peak_rss_bytes
from xautolm_hpc.task_kinds import TASK_KINDS
from xautolm_hpc.train import collectives
from xautolm_hpc.train.anatomy import find_blocks
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.classification import build_classification
from xautolm_hpc.train.data import n_epoch_steps, read_rows, take_share
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.extraction import build_extraction
from xautolm_hpc.train.generation import build_generation
from xautolm_hpc.train.heartbeat import Pulse
from xautolm_hpc.train.loop import Bench, LoopState, evaluate, train, trainable
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.optim import build_optimizer, build_schedule
from xautolm_hpc.train.pretrained import find_source, load_config, load_model, load_tokenizer
from xautolm_hpc.train.process_group import ALONE, Seat
from xautolm_hpc.train.recipe import Recipe, parse_recipe
from xautolm_hpc.train.sharding import shard_model
from xautolm_hpc.train.stop import StopRequestedError
from xautolm_hpc.train.tasks import LearningTask, Setting
from xautolm_hpc.train.trial_budget import Progress, Watch

SPLITS = ("train", "dev", "validation")
"""All that a trial reads: ``test`` is for the final step alone."""

CHECKPOINT_DIR = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the driver put into the attempt folder.

    Attributes:
        attempt_dir: The attempt folder.
        command: Limits and threads.
        trial: Task and data.
        plan: Pipeline, model and seed.
        expects_gpu: Whether the node shows a GPU to this process.
        seat: The place of this process among those of the trial.
    """

    attempt_dir: Path
    command: Command
    trial: TrialInput
    plan: TrialPlan
    expects_gpu: bool
    seat: Seat = ALONE


def finetune(inputs: Inputs, progress: Progress, *, watch: Watch, pulse: Pulse, energy: EnergyReader) -> None:
    """Train one pipeline and measure it.

    Args:
        inputs: The trial.
        progress: Filled as things are measured; the metrics on success.
        watch: Ends the trial between steps.
        pulse: Told of each phase.
        energy: Counts from the first step to the end of the evaluation.

    Raises:
        StopRequestedError: A signal asked to stop, and a checkpoint was written.
        TrialError: The trial ended in a way that :mod:`failures` names.
    """
    refuse_unsupported(inputs.trial.task.kind, inputs.plan.model)
    recipe = parse_recipe(inputs.plan.pipeline.method, inputs.plan.pipeline.params)
    with progress.load:
        accelerator = start_torch(inputs, recipe)
        bench = set_up(inputs, recipe, accelerator=accelerator, progress=progress, watch=watch)
        load_checkpoint(inputs.attempt_dir / CHECKPOINT_DIR, bench)
        watch.agree = collectives.highest

    def save() -> None:
        measure_gpu_memory(progress)
        tell_costs(progress, energy)
        save_checkpoint(inputs.attempt_dir / CHECKPOINT_DIR, bench, energy=energy)

    try:
        energy.begin()
        pulse.enter("train")
        with progress.train:
            train(bench, save=save)
        pulse.enter("eval")
        with progress.eval:
            scores = evaluate(bench, "validation")
        save_weights(inputs.attempt_dir / WEIGHTS, bench)
    except StopRequestedError:
        save()
        raise
    finally:
        energy.end()
        measure_gpu_memory(progress)
    tell_costs(progress, energy)
    collectives.leave()
    progress.metrics |= scores.as_metrics()


def start_torch(inputs: Inputs, recipe: Recipe) -> Accelerator:
    """Seed every generator and take the device, in the best precision it has.

    Args:
        inputs: Seed, threads, determinism, and whether there is a GPU to take.
        recipe: Says whether half precision is wanted; a CPU always computes in single precision.

    Raises:
        TrialError: The node has a GPU that torch cannot use; kind ``environment``.
    """
    has_gpu = torch.cuda.is_available()
    if inputs.expects_gpu and not has_gpu:
        raise TrialError(
            "environment",
            f"this node shows a GPU, but torch {torch.__version__} cannot use it; install a torch built for its "
            "driver, pass the GPU into the container (--nv), or set CUDA_VISIBLE_DEVICES to nothing",
        )
    torch.set_num_threads(max(1, inputs.command.n_threads // inputs.seat.n_local))
    torch.use_deterministic_algorithms(inputs.command.deterministic)
    # cuDNN's attention compiles itself for each new shape of a batch, a third of a second; the other kernels do not.
    torch.backends.cuda.enable_cudnn_sdp(False)
    random.seed(inputs.plan.seed)
    np.random.seed(inputs.plan.seed % 2**32)
    torch.manual_seed(inputs.plan.seed)
    patience = InitProcessGroupKwargs(backend="nccl" if has_gpu else "gloo", timeout=collectives.COLLECTIVE_TIMEOUT)
    # Parameters a task does not use, a pooler for instance, get no gradient; buffers are the same from the start.
    gradients = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    handlers = [] if inputs.seat.n_ranks == 1 else [patience, gradients]
    return Accelerator(mixed_precision=_precision(recipe, has_gpu=has_gpu), cpu=not has_gpu, kwargs_handlers=handlers)


def save_weights(path: Path, bench: Bench) -> None:
    """Write the trained parameters, for the final step and for export; the rest are the base model's own.

    Raises:
        OSError: The file system refused.
    """
    weights = trainable(bench.model)  # together: each process may hold a part
    if bench.seat.is_first:
        aside = path.with_name(f".{path.name}.tmp")
        save_file(weights, aside)
        aside.replace(path)


def measure_gpu_memory(progress: Progress) -> None:
    """Note the highest memory allocated on all GPUs together; without a GPU it stays unknown."""
    if torch.cuda.is_available():
        here_bytes = sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))
        progress.peak_gpu_memory_bytes = max(here_bytes, progress.peak_gpu_memory_bytes or 0)


def tell_costs(progress: Progress, energy: EnergyReader) -> None:
    """Let the processes tell one another what they used, so that the first one knows what all did."""
    if not collectives.is_shared():
        return
    energy.sample()
    own = [energy.here_j("gpu"), energy.here_j("cpu")]
    told = [0.0 if not energy.reads else math.nan if joules is None else joules for joules in own]
    rss, gpu_memory = peak_rss_bytes(), progress.peak_gpu_memory_bytes or 0
    *joules, all_rss, all_gpu_memory = collectives.total([*told, float(rss), float(gpu_memory)])
    for device, here, everywhere in zip(("gpu", "cpu"), told, joules, strict=True):
        energy.elsewhere_j[device] = None if math.isnan(everywhere) else everywhere - here
    progress.rss_elsewhere_bytes = int(all_rss) - rss
    progress.gpu_memory_elsewhere_bytes = int(all_gpu_memory) - gpu_memory


def _precision(recipe: Recipe, *, has_gpu: bool) -> str:
    if not (recipe.use_mixed_precision and has_gpu):
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def set_up(
    inputs: Inputs,
    recipe: Recipe,
    *,
    accelerator: Accelerator,
    progress: Progress,
    watch: Watch,
    splits: Sequence[str] = SPLITS,
) -> Bench:
    """Load data and model and put all that training needs on the device.

    Args:
        inputs: The trial.
        recipe: Its hyperparameters.
        accelerator: Device and precision.
        progress: Told of the steps to come.
        watch: Ends the trial between steps.
        splits: Splits to read; ``train`` is one of them.

    Raises:
        TrialError: The trial cannot run so, or something it needs is not there.
    """
    plan = inputs.plan
    source = find_source(plan.model, plan.hf_home)
    tokenizer = load_tokenizer(source, plan.model)
    config = load_config(source, plan.model, dropout_rate=recipe.dropout_rate, tokenizer=tokenizer)
    rows = {name: _read(inputs.trial, name) for name in splits}
    rows["train"] = take_share(rows["train"], recipe.train_share)
    task = build_task(
        Setting(
            task=inputs.trial.task,
            recipe=recipe,
            tokenizer=tokenizer,
            config=config,
            family=plan.model.family,
            # A length above the model's context would index positions that it does not have.
            max_length=min(recipe.max_length, plan.model.context_length, tokenizer.model_max_length),
            train_rows=rows["train"],
        )
    )
    tokens = {name: task.tokenise(rows[name]) for name in splits}
    deterministic = inputs.command.deterministic
    loaded = load_model(source, plan.model, auto_class=task.auto_class, config=config, deterministic=deterministic)
    if plan.execution.gradient_checkpointing:
        checkpoint_activations(loaded)
    model = apply_method(loaded, plan.pipeline.method, recipe=recipe, has_new_head=task.has_new_head)
    n_steps = recipe.epochs * n_epoch_steps(
        len(tokens["train"]), batch_size=recipe.batch_size, accumulation=recipe.gradient_accumulation_steps
    )
    progress.n_steps = n_steps
    trained = _spread(model, plan.execution, accelerator=accelerator)
    optimizer = build_optimizer(model, recipe)
    scheduler = build_schedule(optimizer, recipe, n_steps=n_steps)
    if inputs.seat.rank:
        torch.manual_seed(plan.seed + inputs.seat.rank)  # processes drop out different units
    return Bench(
        recipe=recipe,
        seed=plan.seed,
        accelerator=accelerator,
        model=model,
        trained=trained,
        optimizer=accelerator.prepare_optimizer(optimizer),
        scheduler=scheduler,
        task=task,
        tokens=tokens,
        state=LoopState(),
        progress=progress,
        watch=watch,
        seat=inputs.seat,
        execution=plan.execution,
    )


def _spread(model: nn.Module, execution: Execution, *, accelerator: Accelerator) -> nn.Module:
    """Put a model on the device, or its shards; gives what passes of training go through."""
    if execution.sharded and collectives.is_shared():
        shard_model(model, find_blocks(model), device=accelerator.device)
        return accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    return accelerator.prepare_model(model.to(accelerator.device))


def checkpoint_activations(model: nn.Module) -> None:
    """Compute activations again in the backward pass instead of keeping them, where the architecture can."""
    if getattr(model, "supports_gradient_checkpointing", False):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]


def _read(trial: TrialInput, name: str) -> list[dict[str, Any]]:
    return read_rows(Path(trial.data_dir), name, sha256=trial.sha256.get(name))


BUILDERS: Mapping[str, Callable[[Setting], LearningTask]] = {
    "text-classification": build_classification,
    "question-answering": build_extraction,
    "text-generation": build_generation,
}


def build_task(setting: Setting) -> LearningTask:
    """Prepare a task for training.

    Raises:
        TrialError: The task cannot be learnt so, or its data is not what it says.
    """
    return BUILDERS[setting.task.kind](setting)


def refuse_unsupported(kind: str, model: Model) -> None:
    """Refuse a kind of task that this model does not learn.

    Raises:
        TrialError: It is so; kind ``unsupported``.
    """
    if kind not in BUILDERS:
        raise TrialError("unsupported", f"tasks of kind {kind!r} are not known; valid: {', '.join(BUILDERS)}")
    if model.family not in TASK_KINDS[kind].families:
        valid = ", ".join(TASK_KINDS[kind].families)
        raise TrialError(
            "unsupported", f"model {model.id} is of the family {model.family}; {kind} is trained with: {valid}"
        )
