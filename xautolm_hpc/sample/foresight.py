"""What is foreseen of one planned trial, for a person: memory of what there is, how steps are computed, seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from xautolm_hpc.catalogue import Model
from xautolm_hpc.execution import Execution, StepMode
from xautolm_hpc.records import Pipeline
from xautolm_hpc.sample.constraints import Constraint, FitsMemory, FitsTime
from xautolm_hpc.sample.estimates import micro_batch_samples
from xautolm_hpc.sample.memory_plan import needed_bytes
from xautolm_hpc.sample.step_time import least_epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What is foreseen of a trial.

    Attributes:
        memory_bytes: Memory of a GPU that training takes, or of the host for a process without one.
        available_bytes: What there is of it; ``None`` when unknown.
        micro_batch: Samples of a forward pass on one process.
        gradient_checkpointing: Whether activations are computed again.
        step: How its steps are computed, as far as is known before it starts.
        seconds: Seconds of training all its epochs, and of its evaluations; 0 where the hardware is unknown.
        least_s: The same if it stops as early as it may.
    """

    memory_bytes: float
    available_bytes: int | None
    micro_batch: int
    gradient_checkpointing: bool
    step: str
    seconds: float
    least_s: float


def foresee(pipeline: Pipeline, model: Model, *, execution: Execution, constraints: Sequence[Constraint]) -> Foresight:
    """Collect what is foreseen of a trial.

    Args:
        pipeline: Its pipeline.
        model: Its model.
        execution: How its steps are computed.
        constraints: Those of the search, which know its task and its nodes.
    """
    memory = next(one for one in constraints if isinstance(one, FitsMemory))
    time = next(one for one in constraints if isinstance(one, FitsTime))
    budget = memory.memory_budget
    is_captured = budget.measured.step is StepMode.GRAPH and not execution.gradient_checkpointing
    return Foresight(
        memory_bytes=needed_bytes(pipeline, model, task=memory.task, budget=budget, execution=execution),
        available_bytes=budget.memory_bytes,
        micro_batch=micro_batch_samples(pipeline, execution, n_processes=budget.n_processes),
        gradient_checkpointing=execution.gradient_checkpointing,
        step=(StepMode.GRAPH if is_captured else StepMode.EAGER).value,
        seconds=time.foreseen_s(pipeline, model, epochs=int(pipeline.params.get("epochs", 1))),
        least_s=time.foreseen_s(pipeline, model, epochs=least_epochs(pipeline)),
    )
