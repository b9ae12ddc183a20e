"""A second try with smaller passes, after a GPU ran out of memory: once an attempt, in fresh processes.

The file that asks for it is the record of the first try. Whoever started the processes starts them again; a process
alone replaces itself. Nothing of the first try is left in the GPU's memory that way.
"""

from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import PIPELINE, TrialPlan
from xautolm_hpc.records import from_json, to_json

RETRY = "retry.json"
RETRY_EXIT_STATUS = 86
"""Exit status of a process that wants all of them started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """``retry.json``: what became of the first try, and how the second one is executed.

    Attributes:
        message: What the first try ended with, redacted.
        micro_batch: Samples of its forward passes on one process.
        seconds: Seconds of training and evaluation in it, by the process that failed.
        execution: How the steps are computed now.
        gpu_energy_j: Energy the first try used on its node, joules, or ``None``; likewise ``cpu_energy_j``.
    """

    message: str
    micro_batch: int
    seconds: float
    execution: Execution
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None

    def told(self) -> str:
        """Say what was tried before and how it is tried now."""
        return (
            f"gpu_oom with a micro-batch of {self.micro_batch} after {self.seconds:.1f} s, tried again with "
            f"{self.execution.micro_batch}: {self.message.splitlines()[-1]}"
        )


def read_retry(attempt_dir: Path) -> Retry | None:
    """Read what the first try left, or ``None`` if this is the first one.

    Raises:
        InputError: The file is damaged.
    """
    path = attempt_dir / RETRY
    try:
        return from_json(Retry, read_json(path), where=str(path))
    except FileNotFoundError:
        return None


def ask_for_retry(
    attempt_dir: Path,
    *,
    n_ranks: int,
    message: str,
    seconds: float,
    gpu_energy_j: float | None = None,
    cpu_energy_j: float | None = None,
) -> bool:
    """Ask for a second try with half the micro-batch.

    Args:
        attempt_dir: The attempt folder.
        n_ranks: Processes that share a batch.
        message: What this try ended with.
        seconds: Seconds of training and evaluation in it.
        gpu_energy_j: Energy it used on the GPUs, joules, or ``None``.
        cpu_energy_j: Energy it used on the CPU packages, joules, or ``None``.

    Returns:
        Whether there is to be one: not if the passes are of one sample already.

    Raises:
        InputError: ``pipeline.json`` is damaged.
        OSError: The file system refused.
    """
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
    share = -(-int(plan.pipeline.params.get("batch_size", 1)) // n_ranks)
    execution = plan.execution.halved(share)
    if execution is None:
        return False
    retry = Retry(
        message=message,
        micro_batch=min(plan.execution.micro_batch or share, share),
        seconds=seconds,
        execution=execution,
        gpu_energy_j=gpu_energy_j,
        cpu_energy_j=cpu_energy_j,
    )
    create_json(attempt_dir / RETRY, to_json(retry))  # the first process to fail says why
    return True
