"""Prepares a trial for training: device, data, task, model, method, optimiser.

Each kind of task of :data:`xautolm_hpc.task_kinds.TASK_KINDS` names the module of ``kinds/`` that trains it.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, AutocastKwargs, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.state import AcceleratorState
from torch import nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import Execution, StepMode
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import Command, TrialInput, TrialPlan
from xautolm_hpc.task_kinds import TASK_KINDS
from xautolm_hpc.train import collectives
from xautolm_hpc.train.anatomy import find_blocks
from xautolm_hpc.train.data import Tokens, n_epoch_steps, read_rows, take_share
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.fit.embeddings import (
    EmbeddingLimits,
    check_positions,
    drop_token_types,
    grow_embeddings,
    has_ids_from,
    measure_limits,
    train_new_rows,
)
from xautolm_hpc.train.frozen.nf4 import check_nf4
from xautolm_hpc.train.frozen.precision import freeze, loading_dtype, plan_frozen
from xautolm_hpc.train.kinds.tasks import LearningTask, TaskContext
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import LoopState, TrainState
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.optim import build_optimizer, build_schedule
from xautolm_hpc.train.pretrained import (
    Loading,
    Source,
    find_source,
    load_config,
    load_model,
    load_tokenizer,
    read_config,
)
from xautolm_hpc.train.process_group import ALONE, Rank
from xautolm_hpc.train.recipe import Recipe
from xautolm_hpc.train.sharding import shard_model
from xautolm_hpc.train.steps.architectures import make_capturable
from xautolm_hpc.train.steps.choose import build_runner, plan_steps

IN_SINGLE_ONLY = ("deberta",)
"""Architectures (``model_type``) that mask attention with a number which half precision lacks: DeBERTa v1."""

SPLITS = ("train", "dev", "validation")
"""Splits that a trial reads; ``test`` is for the final step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInputs:
    """The files that the driver wrote into the attempt folder, and what this process is.

    Attributes:
        attempt_dir: The attempt folder.
        command: Limits and threads.
        trial: Task and data.
        plan: Pipeline, model and seed.
        expects_gpu: Whether the node shows a GPU to this process.
        rank: This process among those of the trial.
        trained_as: How the frozen weights were kept where the pipeline is trained already; ``None`` before.
    """

    attempt_dir: Path
    command: Command
    trial: TrialInput
    plan: TrialPlan
    expects_gpu: bool
    rank: Rank = ALONE
    trained_as: str | None = None


def reject_unsupported(kind: str, model: Model) -> None:
    """Reject a kind of task that this model cannot learn.

    Raises:
        TrialError: The kind is not known, or the model's family cannot be trained for it; kind ``unsupported``.
    """
    if kind not in TASK_KINDS:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"tasks of kind {kind!r} are not known; valid: {', '.join(TASK_KINDS)}"
        )
    if model.family not in TASK_KINDS[kind].families:
        valid = ", ".join(TASK_KINDS[kind].families)
        raise TrialError(
            FailureKind.UNSUPPORTED,
            f"model {model.id} is of the family {model.family}; {kind} is trained with: {valid}",
        )


def start_torch(inputs: AttemptInputs, recipe: Recipe) -> Accelerator:
    """Seed every generator and open the device, in half precision where it can and the recipe says so.

    Args:
        inputs: Seed, threads, determinism, and whether there is a GPU.
        recipe: Says whether half precision is wanted; a CPU always computes in single precision.

    Raises:
        TrialError: The node has a GPU that torch cannot use; kind ``environment``.
    """
    has_gpu = torch.cuda.is_available()
    if inputs.expects_gpu and not has_gpu:
        raise TrialError(
            FailureKind.ENVIRONMENT,
            f"this node shows a GPU, but torch {torch.__version__} cannot use it; install a torch built for its "
            "driver, pass the GPU into the container (--nv), or set CUDA_VISIBLE_DEVICES to nothing",
        )
    torch.set_num_threads(max(1, inputs.command.n_threads // inputs.rank.n_local))
    torch.use_deterministic_algorithms(inputs.command.deterministic)
    # cuDNN's attention is compiled for each new shape of a batch, a third of a second each; other kernels are not.
    torch.backends.cuda.enable_cudnn_sdp(False)
    random.seed(inputs.plan.seed)
    np.random.seed(inputs.plan.seed % 2**32)
    torch.manual_seed(inputs.plan.seed)
    timeout = InitProcessGroupKwargs(backend="nccl" if has_gpu else "gloo", timeout=collectives.COLLECTIVE_TIMEOUT)
    # Parameters that a task does not use (a pooler) get no gradient; buffers are equal on all ranks from the start.
    gradients = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    handlers = [] if inputs.rank.n_ranks == 1 else [timeout, gradients]
    if StepMode(inputs.plan.step) is StepMode.GRAPH:
        handlers.append(AutocastKwargs(cache_enabled=False))  # a cached copy would belong to one graph's memory
    AcceleratorState._reset_state()  # a final step tests pipelines of different precisions in one process
    precision = _precision(recipe, has_gpu=has_gpu)
    if precision != "no" and is_in_single_only(inputs.plan):
        precision = "no"
    return Accelerator(mixed_precision=precision, cpu=not has_gpu, kwargs_handlers=handlers)


def start_kernels(device: torch.device) -> None:
    """Create a GPU's context and load its first kernels, which the first step would else wait for."""
    if device.type == "cuda":
        square = torch.ones((16, 16), device=device)
        (square @ square).sum().item()  # the host waits, so that the time belongs to this part


def build_train_state(
    inputs: AttemptInputs,
    recipe: Recipe,
    *,
    accelerator: Accelerator,
    progress: Progress,
    budget: TrialBudget,
    splits: Sequence[str] = SPLITS,
) -> TrainState:
    """Load data and model, and build all that training needs, on the device.

    Args:
        inputs: The trial.
        recipe: Its hyperparameters.
        accelerator: Device and precision.
        progress: Gets the number of planned steps.
        budget: Ends the trial between two steps.
        splits: Splits to read; ``train`` is one of them.

    Raises:
        TrialError: The pipeline is not supported, or something that it needs is missing.
    """
    plan = inputs.plan
    if accelerator.device.type == "cuda" and recipe.use_mixed_precision and accelerator.mixed_precision == "no":
        progress.notes.append(f"model {plan.model.id} was computed in single precision: half precision breaks it")
    step_plan = plan_steps(
        StepMode(plan.step),
        has_gpu=accelerator.device.type == "cuda",
        n_ranks=inputs.rank.n_ranks,
        gradient_checkpointing=plan.execution.gradient_checkpointing,
        optimizer=recipe.optimizer,
    )
    with progress.loading("data"):
        tokenised = _tokenise_task(inputs, recipe, progress=progress, splits=splits)
    task, tokens = tokenised.task, tokenised.tokens
    with progress.loading("model"):
        model = _load_with_method(inputs, recipe, tokenised=tokenised, progress=progress, accelerator=accelerator)
    if step_plan.mode is StepMode.GRAPH:
        make_capturable(model)
    n_steps = recipe.epochs * n_epoch_steps(
        len(tokens["train"]), batch_size=recipe.batch_size, accumulation=recipe.gradient_accumulation_steps
    )
    progress.n_steps, progress.epochs = n_steps, recipe.epochs
    with progress.loading("model to device"):
        trained = _place_on_devices(model, plan.execution, accelerator=accelerator)
    optimizer = build_optimizer(model, recipe, step_mode=step_plan.mode)
    scheduler = build_schedule(optimizer, recipe, n_steps=n_steps)
    if inputs.rank.index:
        torch.manual_seed(plan.seed + inputs.rank.index)  # ranks drop out different units
    train_state = TrainState(
        recipe=recipe,
        seed=plan.seed,
        accelerator=accelerator,
        model=model,
        trained=trained,
        optimizer=accelerator.prepare_optimizer(optimizer),
        scheduler=scheduler,
        task=task,
        tokens=tokens,
        loop=LoopState(),
        progress=progress,
        budget=budget,
        rank=inputs.rank,
        execution=plan.execution,
        early_stopping_min_steps=plan.early_stopping_min_steps,
    )
    train_state.runner = build_runner(train_state, step_plan)
    return train_state


@dataclass(frozen=True, slots=True, kw_only=True)
class _TokenisedTask:
    """What is learnt, as the model reads it.

    Attributes:
        source: Where the model's files lie.
        config: Its configuration, the labels set.
        tokenizer: Its tokeniser.
        task: What is learnt.
        tokens: Split name -> its tokens.
    """

    source: Source
    config: PretrainedConfig
    tokenizer: Any
    task: LearningTask
    tokens: Mapping[str, Tokens]


def _tokenise_task(
    inputs: AttemptInputs, recipe: Recipe, *, progress: Progress, splits: Sequence[str]
) -> _TokenisedTask:
    """Read the data with the model's tokeniser."""
    model = inputs.plan.model
    source = find_source(model, inputs.plan.hf_home)
    tokenizer = load_tokenizer(source, model)
    config = load_config(source, model, dropout_rate=recipe.dropout_rate, tokenizer=tokenizer)
    limits = fit_tokenizer(tokenizer, config, model_id=model.id)
    rows = {name: _read(inputs.trial, name) for name in splits}
    rows["train"] = take_share(rows["train"], recipe.train_share)
    task = build_task(
        TaskContext(
            task=inputs.trial.task,
            recipe=recipe,
            tokenizer=tokenizer,
            config=config,
            family=model.family,
            max_length=_text_length(recipe, model, tokenizer=tokenizer, limits=limits, progress=progress),
            train_rows=rows["train"],
            n_positions=limits.n_positions,
        )
    )
    tokens = {name: task.tokenise(rows[name]) for name in splits}
    return _TokenisedTask(source=source, config=config, tokenizer=tokenizer, task=task, tokens=tokens)


def _load_with_method(
    inputs: AttemptInputs, recipe: Recipe, *, tokenised: _TokenisedTask, progress: Progress, accelerator: Accelerator
) -> nn.Module:
    """Load the model, on the CPU, and freeze or wrap what the method does not train."""
    plan, task, method = inputs.plan, tokenised.task, inputs.plan.pipeline.method
    frozen = plan_frozen(method, recipe, precision=accelerator.mixed_precision, trained_as=inputs.trained_as)
    if frozen.is_nf4:
        check_nf4(accelerator.device, execution=plan.execution, is_rounded_only=frozen.is_rounded_only)
    loaded, notes = load_model(
        tokenised.source,
        plan.model,
        auto_class=task.auto_class,
        config=tokenised.config,
        has_new_head=task.has_new_head,
        loading=Loading(dtype=loading_dtype(method, recipe, frozen=frozen), deterministic=inputs.command.deterministic),
    )
    progress.notes += notes
    n_rows = grow_embeddings(loaded, tokenised.tokenizer, model_id=plan.model.id)
    set_own_decoding(loaded, task, tokenizer=tokenised.tokenizer, family=plan.model.family)
    if plan.execution.gradient_checkpointing:
        checkpoint_activations(loaded)
    if method == "partial":
        _note_blocks(len(find_blocks(loaded)), recipe.n_trainable_blocks, progress=progress)
    model = apply_method(loaded, method, recipe=recipe, has_new_head=task.has_new_head)
    if n_rows is not None and any(has_ids_from(split, n_rows) for split in tokenised.tokens.values()):
        train_new_rows(loaded, n_rows)
    freeze(model, frozen, device=accelerator.device)
    return model


def _note_blocks(n_blocks: int, n_wanted: int, *, progress: Progress) -> None:
    """Note that all blocks are trained where a pipeline asks for more than there are."""
    if n_blocks < n_wanted:
        progress.notes.append(
            f"n_trainable_blocks = {n_wanted}, but the model has {n_blocks}: all of them were trained"
        )


def build_task(task_context: TaskContext) -> LearningTask:
    """Build the task that is learnt.

    Raises:
        TrialError: The task cannot be learnt with this pipeline, or its data does not agree with it.
    """
    module = import_module(f"xautolm_hpc.train.kinds.{TASK_KINDS[task_context.task.kind].trained_by}")
    build: Callable[[TaskContext], LearningTask] = module.build
    return build(task_context)


def is_in_single_only(plan: TrialPlan) -> bool:
    """Check whether the architecture of a model cannot be computed in half precision.

    Raises:
        UnfitModelError: Its configuration cannot be read.
        TrialError: Files are missing; kind ``data_unavailable``.
    """
    return read_config(find_source(plan.model, plan.hf_home), plan.model).model_type in IN_SINGLE_ONLY


def _precision(recipe: Recipe, *, has_gpu: bool) -> str:
    if not (recipe.use_mixed_precision and has_gpu):
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _place_on_devices(model: nn.Module, execution: Execution, *, accelerator: Accelerator) -> nn.Module:
    """Move a model, or its shards, to the device; return the wrapper that training calls."""
    if execution.sharded and collectives.is_shared():
        shard_model(model, find_blocks(model), device=accelerator.device)
        return accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
    return accelerator.prepare_model(model.to(accelerator.device))


def checkpoint_activations(model: nn.Module) -> None:
    """Turn gradient checkpointing on where the architecture supports it: activations are recomputed, not kept."""
    if getattr(model, "supports_gradient_checkpointing", False):
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})  # type: ignore[operator]


def fit_tokenizer(tokenizer: Any, config: PretrainedConfig, *, model_id: str) -> EmbeddingLimits:
    """Make a tokeniser return only what a model can index beside its vocabulary, and return the model's limits.

    Raises:
        TrialError: The model has next to no positions; kind ``unsupported``.
    """
    limits = measure_limits(config)
    check_positions(limits.n_positions, model_id=model_id)
    if not limits.takes_token_types:
        drop_token_types(tokenizer)
    return limits


def set_own_decoding(model: PreTrainedModel, task: LearningTask, *, tokenizer: Any, family: str) -> None:
    """Replace what the model's last task left of padding and decoding: unset values would be taken from there."""
    if family == "decoder" or model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id  # by which a decoder finds the last token of a text
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # a loss needs no keys of earlier tokens; generate() keeps them all the same
    if getattr(model, "generation_config", None) is not None:
        decoding = getattr(task, "decoding", GenerationConfig)
        model.generation_config = decoding()


def _text_length(recipe: Recipe, model: Model, *, tokenizer: Any, limits: EmbeddingLimits, progress: Progress) -> int:
    """Compute the tokens of a text at most: a longer one would index positions that the model does not have."""
    length = min(recipe.max_length, model.context_length, tokenizer.model_max_length)
    if limits.n_positions is None or length <= limits.n_positions:
        return length
    progress.notes.append(
        f"max_length = {length}: texts are cut to the {limits.n_positions} positions that model {model.id} has"
    )
    return limits.n_positions


def _read(trial: TrialInput, name: str) -> list[dict[str, Any]]:
    return read_rows(Path(trial.data_dir), name, sha256=trial.sha256.get(name))
