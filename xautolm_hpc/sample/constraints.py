"""Constraints: each rejects pipelines that cannot run, with a reason, before they are submitted."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.execution import AS_DRAWN, DeviceSpeed
from xautolm_hpc.hyperparameters import UNTRAINED
from xautolm_hpc.records import Outcome, Pipeline, System, Task
from xautolm_hpc.sample.duration import TimeKnowledge, recalibrate_time
from xautolm_hpc.sample.estimates import GIB, loading_bytes, n_learning_steps, n_optimiser_steps
from xautolm_hpc.sample.memory_plan import MemoryBudget, min_memory_bytes, plan_execution
from xautolm_hpc.sample.step_time import least_epochs
from xautolm_hpc.space import Space, is_supported

TIME_MARGIN = 0.7
"""Share of the foreseen time that a trial takes at least: the estimates are within a factor of 1.5."""


class Constraint(Protocol):
    """Rejects pipelines.

    Attributes:
        name: Name that its rejections are counted under.
    """

    name: ClassVar[str]

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return why a pipeline cannot run, or ``None`` if it may."""
        ...


@dataclass(frozen=True, slots=True)
class NotDrawnBefore:
    """Rejects pipelines that were drawn before.

    Attributes:
        canonical: Canonical JSON of the pipelines drawn so far.
    """

    name: ClassVar[str] = "duplicate"
    canonical: Set[str]

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return that the pipeline was drawn before."""
        known = pipeline.canonical() in self.canonical
        return f"{model.id} with {pipeline.method} was drawn before with the same parameters" if known else None


@dataclass(frozen=True, slots=True)
class Supported:
    """Rejects pipelines that the worker cannot train.

    Attributes:
        trainable_families: Families of models the worker trains for this kind of task.
        may_quantise: Whether the nodes have what ``quantization = nf4`` needs.
    """

    name: ClassVar[str] = "unsupported"
    trainable_families: frozenset[str]
    may_quantise: bool = True

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return what of the pipeline is not supported."""
        if model.family not in self.trainable_families:
            return (
                f"{model.id} is of the family {model.family}; trained are {', '.join(sorted(self.trainable_families))}"
            )
        if pipeline.task_kind in model.unsupported_tasks:
            return f"{model.id} has no head for {pipeline.task_kind}"
        if not is_supported(model, pipeline.method):
            return f"{model.id} does not support {pipeline.method}"
        for name, reasons in UNTRAINED.items():
            value = pipeline.params.get(name, "")
            if value in reasons:
                return f"{name} = {value} {reasons[value]}"
        if pipeline.params.get("quantization") == "nf4" and not self.may_quantise:
            return "quantization = nf4 needs a GPU, and bitsandbytes in the worker's environment"
        if pipeline.params.get("lora_bias") == "lora_only" and model.family != "encoder":
            return f"lora_bias = lora_only is for encoders, {model.id} is a {model.family}"
        return None


@dataclass(frozen=True, slots=True)
class ModelFits:
    """Rejects models whose files were found not to fit together while the search runs.

    Attributes:
        unfit: Ids of those models.
    """

    name: ClassVar[str] = "model_out"
    unfit: Set[str]

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return that the model is out."""
        del pipeline
        return f"the files of {model.id} do not fit together" if model.id in self.unfit else None


@dataclass(frozen=True, slots=True)
class ContextLength:
    """Rejects texts longer than the model reads."""

    name: ClassVar[str] = "context_length"

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return the length of the pipeline's texts and the model's."""
        max_length = int(pipeline.params.get("max_length", 0))
        if max_length <= model.context_length:
            return None
        return f"max_length {max_length} is more than the {model.context_length} tokens {model.id} reads"


@dataclass(frozen=True, slots=True)
class EnoughSteps:
    """Rejects trainings without an optimiser step, and those with too few after the warm-up.

    Attributes:
        task: The task.
        min_steps: Optimiser steps after the warm-up; 0 wants one after ``warmup_steps`` and looks at no ratio.
    """

    name: ClassVar[str] = "steps"
    task: Task
    min_steps: int = 0

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return that the training is too short."""
        n_steps, n_warmup = n_optimiser_steps(pipeline, self.task), int(pipeline.params.get("warmup_steps", 0))
        if n_steps == 0:
            return f"{self.task.n_train} rows give no optimiser step"
        if n_warmup >= n_steps:
            return f"{n_warmup} warm-up steps are not fewer than all {n_steps} steps"
        n_learning = n_learning_steps(pipeline, self.task)
        if n_learning < self.min_steps:
            return f"{n_learning} steps after the warm-up are fewer than constraints.min_steps = {self.min_steps}"
        return None


@dataclass(frozen=True, slots=True)
class FitsMemory:
    """Rejects pipelines that do not fit into memory even with the smallest micro-batches.

    Attributes:
        task: The task.
        memory_budget: Memory of a process.
        host_bytes: Host memory of the job.
    """

    name: ClassVar[str] = "memory"
    task: Task
    memory_budget: MemoryBudget
    host_bytes: int

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return how much memory the pipeline needs and how much there is."""
        loading = loading_bytes(pipeline, model, has_gpu=self.memory_budget.has_gpu)
        if loading > self.host_bytes:
            return f"loading {model.id} needs {loading / GIB:.1f} GiB, the job has {self.host_bytes / GIB:.1f} GiB"
        available = self.memory_budget.memory_bytes
        if (
            available is None
            or plan_execution(pipeline, model, task=self.task, memory_budget=self.memory_budget) is not None
        ):
            return None
        needed = min_memory_bytes(pipeline, model, task=self.task, memory_budget=self.memory_budget)
        where = "the GPU" if self.memory_budget.has_gpu else "the job"
        return (
            f"{pipeline.method} of {model.id} needs {needed / GIB:.1f} GiB with a sample at a time, "
            f"{where} has {available / GIB:.1f} GiB"
        )


@dataclass(frozen=True, slots=True)
class FitsTime:
    """Rejects pipelines that cannot end in time, by the estimate and its calibration.

    Attributes:
        task: The task.
        time_limit_s: Budget of a trial, in seconds.
        knowledge: What is known of the time where trials run.
        time_calibration: Factor on the estimated time, above 0.
        memory_budget: Memory of a process, which decides how steps are computed.
    """

    name: ClassVar[str] = "time"
    task: Task
    time_limit_s: float
    knowledge: TimeKnowledge
    time_calibration: float = 1.0
    memory_budget: MemoryBudget | None = None

    def reject(self, pipeline: Pipeline, model: Model) -> str | None:
        """Return how long the pipeline takes at least and how long it may take."""
        least_s = TIME_MARGIN * self.foreseen_s(pipeline, model, epochs=least_epochs(pipeline))
        if least_s <= self.time_limit_s:
            return None
        return f"{pipeline.method} of {model.id} takes {least_s:.0f} s at least, a trial has {self.time_limit_s:.0f} s"

    def foreseen_s(self, pipeline: Pipeline, model: Model, *, epochs: float) -> float:
        """Estimate the seconds of training so many epochs, and of all evaluations."""
        execution = None
        if self.memory_budget is not None and self.knowledge.speed is not None:
            execution = plan_execution(pipeline, model, task=self.task, memory_budget=self.memory_budget)
        return self.time_calibration * self.knowledge.seconds(
            pipeline, model, task=self.task, epochs=epochs, execution=execution or AS_DRAWN
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLimits:
    """Time and memory that a trial may use, and the steps it must take.

    Attributes:
        time_limit_s: Budget of training and evaluation, in seconds.
        memory_bytes: Host memory of the job on each node.
        memory_budget: Memory of each process.
        time_calibration: Factor on the estimated time, measured on such nodes, above 0.
        speed: Speed of the nodes' GPU, or ``None``.
        min_steps: Optimiser steps after the warm-up that a trial takes at least.
        may_quantise: Whether the nodes have what ``quantization = nf4`` needs.
    """

    time_limit_s: float
    memory_bytes: int
    memory_budget: MemoryBudget
    time_calibration: float = 1.0
    speed: DeviceSpeed | None = None
    min_steps: int = 0
    may_quantise: bool = True


def build_constraints(
    task: Task, system: System, *, limits: TrialLimits, trainable_families: Collection[str]
) -> list[Constraint]:
    """Build the constraints of a search, in the order in which they are checked.

    Args:
        task: The task.
        system: The node trials run on, with the GPUs of the whole job.
        limits: Time, memory and least steps of a trial.
        trainable_families: Families of models the worker trains for this kind of task.
    """
    return [
        Supported(frozenset(trainable_families), may_quantise=limits.may_quantise),
        ContextLength(),
        EnoughSteps(task, min_steps=limits.min_steps),
        FitsMemory(task, memory_budget=limits.memory_budget, host_bytes=limits.memory_bytes),
        FitsTime(
            task,
            time_limit_s=limits.time_limit_s,
            knowledge=TimeKnowledge(system=system, speed=limits.speed, measured=limits.memory_budget.measured),
            time_calibration=limits.time_calibration,
            memory_budget=limits.memory_budget,
        ),
    ]


def recalibrate(
    constraints: Sequence[Constraint], results: Sequence[tuple[Pipeline, Outcome]], *, space: Space
) -> list[Constraint]:
    """Return the constraints of a search, their forecast of time corrected by its own trials.

    Args:
        constraints: Those that it began with.
        results: Pipelines and outcomes of its trials.
        space: The search space.
    """

    def corrected(one: FitsTime) -> FitsTime:
        known, begun = one.knowledge, one.time_calibration
        factor = recalibrate_time(begun, results, space=space, task=one.task, knowledge=known)
        return replace(one, time_calibration=factor)

    return [corrected(one) if isinstance(one, FitsTime) else one for one in constraints]


def first_rejection(constraints: Sequence[Constraint], pipeline: Pipeline, *, space: Space) -> tuple[str, str] | None:
    """Check constraints in order: return name and reason of the first that rejects, or ``None``.

    Raises:
        SpaceError: The pipeline's model is not in the space.
    """
    model = space.model(pipeline.model_id)
    if model is None:
        raise SpaceError(f"pipeline: model {pipeline.model_id!r} is not in the search space")
    for constraint in constraints:
        reason = constraint.reject(pipeline, model)
        if reason is not None:
            return constraint.name, reason
    return None
