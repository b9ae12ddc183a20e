"""A second try with smaller micro-batches after a GPU ran out of memory: once in an attempt, in fresh processes.

``retry.json`` asks for it and records the first try. The leader starts its processes again; a process without a leader
replaces itself by ``exec``. So nothing of the first try stays in the GPU's memory.
"""

from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.execution import Execution
from xautolm_hpc.jobdir import PIPELINE, TrialPlan
from xautolm_hpc.records import from_json, to_json

RETRY = "retry.json"
RETRY_EXIT_STATUS = 86
"""Exit status of a process that asks for a second try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """``retry.json``: how the first try ended, and how the second one is executed.

    Attributes:
        message: Error of the first try, redacted.
        micro_batch: Samples of its micro-batches on one process.
        seconds: Seconds of training and evaluation in it, by the process that failed.
        execution: How the second try computes its steps.
        gpu_energy_j: Energy the first try used on its node, joules, or ``None``; likewise ``cpu_energy_j``.
    """

    message: str
    micro_batch: int
    seconds: float
    execution: Execution
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None

    def summary(self) -> str:
        """Describe the first try and how the second one differs."""
        return (
            f"gpu_oom with a micro-batch of {self.micro_batch} after {self.seconds:.1f} s, tried again with "
            f"{self.execution.micro_batch}: {self.message.splitlines()[-1]}"
        )


def read_retry(attempt_dir: Path) -> Retry | None:
    """Read the record of the first try; ``None`` if this is the first one.

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
        message: Error of this try.
        seconds: Seconds of training and evaluation in it.
        gpu_energy_j: Energy of the GPUs in it, joules, or ``None``.
        cpu_energy_j: Energy of the CPU packages in it, joules, or ``None``.

    Returns:
        Whether there will be one: not if micro-batches have one sample already.

    Raises:
        InputError: ``pipeline.json`` is damaged.
        OSError: The file could not be written.
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
    create_json(attempt_dir / RETRY, to_json(retry))  # create, not write: only the first process to fail is recorded
    return True
