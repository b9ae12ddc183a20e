"""Which way a trial computes its steps."""

from dataclasses import dataclass

from xautolm_hpc.execution import StepMode
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.steps.captured import CapturedRunner
from xautolm_hpc.train.steps.eager import EagerRunner
from xautolm_hpc.train.steps.optimizers import CAPTURABLE
from xautolm_hpc.train.steps.recorder import CudaRecorder
from xautolm_hpc.train.steps.runner import StepRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """How the steps of a trial are to be computed.

    Attributes:
        mode: Captured or eager.
        reason: Why a GPU does not replay captured steps although that was asked for, or ``None``.
    """

    mode: StepMode
    reason: str | None = None


def plan_steps(
    asked: StepMode, *, has_gpu: bool, n_ranks: int, gradient_checkpointing: bool, optimizer: str
) -> StepPlan:
    """Decide, before anything is built, whether steps can be captured.

    Args:
        asked: What the search file says.
        has_gpu: Whether the trial trains on a GPU.
        n_ranks: Processes of the trial.
        gradient_checkpointing: Whether activations are computed again.
        optimizer: Name of the optimiser.
    """
    if asked is StepMode.EAGER or not has_gpu:
        return StepPlan(mode=StepMode.EAGER)
    reasons = {
        f"{n_ranks} processes": n_ranks > 1,
        "activations are computed again, with the random numbers of the first time": gradient_checkpointing,
        CAPTURABLE[optimizer].reason or "": CAPTURABLE[optimizer].build is None,
    }
    reason = next((text for text, holds in reasons.items() if holds), None)
    return StepPlan(mode=StepMode.GRAPH if reason is None else StepMode.EAGER, reason=reason)


def build_runner(train_state: TrainState, plan: StepPlan) -> StepRunner:
    """Build what computes the steps of a trial.

    Args:
        train_state: The model and all it is trained with; with a plan to capture, its optimiser can be captured.
        plan: How steps are computed.
    """
    if plan.mode is StepMode.GRAPH:
        return CapturedRunner(train_state, CudaRecorder(train_state.accelerator.device))
    return EagerRunner(train_state, reason=plan.reason)
