"""What is never submitted because it cannot run: a constraint refuses a pipeline and says why."""

from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from typing import ClassVar, Protocol

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import Pipeline, System, Task
from xautolm_hpc.sample.duration import seconds_needed
from xautolm_hpc.sample.estimates import GIB, OVERHEAD_BYTES, n_optimiser_steps
from xautolm_hpc.sample.fitting import Room, fit_execution, least_bytes
from xautolm_hpc.space import Space, is_supported


class Constraint(Protocol):
    """Refuses pipelines.

    Attributes:
        name: What refusals are counted under.
    """

    name: ClassVar[str]

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say why a pipeline cannot run, or ``None`` if it may."""
        ...


@dataclass(frozen=True, slots=True)
class NotDrawnBefore:
    """Refuses what was drawn already.

    Attributes:
        canonical: Canonical JSON of the pipelines drawn so far.
    """

    name: ClassVar[str] = "duplicate"
    canonical: Set[str]

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say that the pipeline was drawn before."""
        known = pipeline.canonical() in self.canonical
        return f"{model.id} with {pipeline.method} was drawn before with the same parameters" if known else None


@dataclass(frozen=True, slots=True)
class Supported:
    """Refuses what the worker cannot train.

    Attributes:
        trainable_families: Families of models the worker trains for this kind of task.
    """

    name: ClassVar[str] = "unsupported"
    trainable_families: frozenset[str]

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say what of the pipeline is not supported."""
        if model.family not in self.trainable_families:
            return (
                f"{model.id} is of the family {model.family}; trained are {', '.join(sorted(self.trainable_families))}"
            )
        if pipeline.task_kind in model.unsupported_tasks:
            return f"{model.id} has no head for {pipeline.task_kind}"
        if not is_supported(model, pipeline.method):
            return f"{model.id} does not support {pipeline.method}"
        if pipeline.params.get("init_lora_weights") == "loftq":
            return "init_lora_weights = loftq needs a quantised model"
        if pipeline.params.get("lora_bias") == "lora_only" and model.family != "encoder":
            return f"lora_bias = lora_only is for encoders, {model.id} is a {model.family}"
        return None


@dataclass(frozen=True, slots=True)
class ContextLength:
    """Refuses texts longer than the model reads."""

    name: ClassVar[str] = "context_length"

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say by how much the pipeline's texts are too long."""
        max_length = int(pipeline.params.get("max_length", 0))
        if max_length <= model.context_length:
            return None
        return f"max_length {max_length} is more than the {model.context_length} tokens {model.id} reads"


@dataclass(frozen=True, slots=True)
class EnoughSteps:
    """Refuses trainings without an optimiser step, or that end before the warm-up does."""

    name: ClassVar[str] = "steps"
    task: Task

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say that the training is too short."""
        n_steps, n_warmup = n_optimiser_steps(pipeline, self.task), int(pipeline.params.get("warmup_steps", 0))
        if n_steps == 0:
            return f"{self.task.n_train} rows give no optimiser step"
        if n_warmup >= n_steps:
            return f"{n_warmup} warm-up steps are not fewer than all {n_steps} steps"
        return None


@dataclass(frozen=True, slots=True)
class FitsMemory:
    """Refuses what does not fit into memory even with the smallest micro-batches.

    Attributes:
        task: The task.
        room: Memory of a process.
        host_bytes: Host memory of the job.
    """

    name: ClassVar[str] = "memory"
    task: Task
    room: Room
    host_bytes: int

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say how much memory the pipeline needs and how much there is."""
        loading = 4 * model.n_parameters + OVERHEAD_BYTES
        if loading > self.host_bytes:
            return f"loading {model.id} needs {loading / GIB:.1f} GiB, the job has {self.host_bytes / GIB:.1f} GiB"
        available = self.room.memory_bytes
        if available is None or fit_execution(pipeline, model, task=self.task, room=self.room) is not None:
            return None
        needed = least_bytes(pipeline, model, task=self.task, room=self.room)
        where = "the GPU" if self.room.has_gpu else "the job"
        return (
            f"{pipeline.method} of {model.id} needs {needed / GIB:.1f} GiB with a sample at a time, "
            f"{where} has {available / GIB:.1f} GiB"
        )


@dataclass(frozen=True, slots=True)
class FitsTime:
    """Refuses what does not end in time, as far as the hardware and past trials tell.

    Attributes:
        task: The task.
        time_limit_s: Budget of a trial, in seconds.
        system: The node trials run on.
        slowness: How much longer than estimated trials take; 1 takes the hardware at its best.
    """

    name: ClassVar[str] = "time"
    task: Task
    time_limit_s: float
    system: System
    slowness: float = 1.0

    def refuse(self, pipeline: Pipeline, model: Model) -> str | None:
        """Say how long the pipeline takes at least and how long it may."""
        needed_s = self.slowness * seconds_needed(pipeline, model, task=self.task, system=self.system)
        if needed_s <= self.time_limit_s:
            return None
        return f"{pipeline.method} of {model.id} takes {needed_s:.0f} s at least, a trial has {self.time_limit_s:.0f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What a trial may use.

    Attributes:
        time_limit_s: Budget of training and evaluation, in seconds.
        memory_bytes: Host memory of the job on each node.
        room: Memory of each process.
        slowness: How much longer than estimated trials take on such nodes.
    """

    time_limit_s: float
    memory_bytes: int
    room: Room
    slowness: float = 1.0


def build_constraints(
    task: Task, system: System, *, allowance: Allowance, trainable_families: Collection[str]
) -> list[Constraint]:
    """Put together what refuses pipelines of a search, in the order in which they are asked.

    Args:
        task: The task.
        system: The node trials run on, with the GPUs of the whole job.
        allowance: Time and memory of a trial.
        trainable_families: Families of models the worker trains for this kind of task.
    """
    return [
        Supported(frozenset(trainable_families)),
        ContextLength(),
        EnoughSteps(task),
        FitsMemory(task, room=allowance.room, host_bytes=allowance.memory_bytes),
        FitsTime(task, time_limit_s=allowance.time_limit_s, system=system, slowness=allowance.slowness),
    ]


def first_refusal(constraints: Sequence[Constraint], pipeline: Pipeline, *, space: Space) -> tuple[str, str] | None:
    """Ask constraints in order: name and reason of the first that refuses, or ``None``.

    Raises:
        SpaceError: The pipeline's model is not in the space.
    """
    model = space.model(pipeline.model_id)
    if model is None:
        raise SpaceError(f"pipeline: model {pipeline.model_id!r} is not in the search space")
    for constraint in constraints:
        reason = constraint.refuse(pipeline, model)
        if reason is not None:
            return constraint.name, reason
    return None
