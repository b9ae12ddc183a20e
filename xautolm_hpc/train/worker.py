"""One attempt on the compute node: files in, one outcome out, whatever happens in between.

Imports nothing heavy by itself, so that a node on which torch cannot be imported still leaves an outcome that says so.
"""

import dataclasses
import math
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc import __version__
from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    OUTCOME,
    PIPELINE,
    TASK,
    Command,
    End,
    Heartbeat,
    TrialInput,
    TrialPlan,
    heartbeat_path,
)
from xautolm_hpc.node import list_gpus, measure_system, node_name
from xautolm_hpc.records import Outcome, System, from_json, origin_of, to_json
from xautolm_hpc.redact import redact
from xautolm_hpc.train.energy import EnergyReader, open_energy_reader
from xautolm_hpc.train.failures import classify, describe
from xautolm_hpc.train.heartbeat import Pulse
from xautolm_hpc.train.stop import StopFlag, StopRequestedError
from xautolm_hpc.train.watch import Progress, Watch

BUSY_SHARE = 0.05
"""Share of a GPU's memory that others may hold before running out of it says nothing about the pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the entry knows: the attempt and what the environment says.

    Attributes:
        attempt_dir: Absolute attempt folder.
        restart: Slurm's restart count, from 0.
        visible_gpus: Value of CUDA_VISIBLE_DEVICES, or ``None``.
        image_digest: sha256 of the image, or ``None`` outside a container.
        secrets: Values to keep out of messages.
        user: Login name, to keep out of messages; likewise ``host`` and ``home``.
    """

    attempt_dir: Path
    restart: int
    visible_gpus: str | None
    image_digest: str | None
    secrets: tuple[str, ...]
    user: str
    host: str
    home: str


def run_trial(job: Job, stop: StopFlag) -> int:
    """Run one attempt and write its outcome, unless there is one already.

    Args:
        job: The attempt.
        stop: Set by a signal: checkpoint and leave.

    Returns:
        0 once an outcome is there; 85 after a checkpoint.

    Raises:
        OSError: The outcome could not be written.
    """
    if (job.attempt_dir / OUTCOME).exists():
        return 0  # a requeued job whose earlier run had finished after all
    started_at = time.time()
    progress = Progress()
    is_busy = gpu_is_busy(job.visible_gpus)
    with open_energy_reader(job.visible_gpus, shared=is_busy) as energy:
        try:
            _attempt(job, progress, stop=stop, energy=energy)
        except StopRequestedError:
            return CHECKPOINT_EXIT_STATUS
        except Exception as error:  # noqa: BLE001 - the one blind except: a crash of the pipeline is its outcome
            energy.end()
            outcome = _failed(error, progress, energy=energy, job=job, gpu_was_busy=is_busy)
        else:
            outcome = _measured("succeeded", progress, energy=energy, job=job)
    create_json(job.attempt_dir / OUTCOME, to_json(_end(job, outcome, started_at=started_at)))
    return 0


def gpu_is_busy(visible_gpus: str | None) -> bool:
    """Tell whether somebody holds memory of our GPUs before we have begun."""
    return any(gpu.used_bytes > BUSY_SHARE * gpu.memory_bytes for gpu in list_gpus(visible_gpus)[0])


def _attempt(job: Job, progress: Progress, *, stop: StopFlag, energy: EnergyReader) -> None:
    """Read the inputs, import torch and the rest, train."""
    command = from_json(Command, read_json(job.attempt_dir / COMMAND), where=COMMAND)
    trial = from_json(TrialInput, read_json(job.attempt_dir / TASK), where=TASK)
    plan = from_json(TrialPlan, read_json(job.attempt_dir / PIPELINE), where=PIPELINE)
    path = heartbeat_path(job.attempt_dir, job.restart)
    watch = Watch(progress, stop, time_limit_s=command.time_limit_s)
    with Pulse(path, progress, energy=energy, interval_s=command.heartbeat_s) as pulse:
        pulse.enter("load")
        with progress.load:
            from xautolm_hpc.train.finetune import Inputs, finetune

        inputs = Inputs(
            attempt_dir=job.attempt_dir,
            command=command,
            trial=trial,
            plan=plan,
            expects_gpu=_shows_gpu(job.visible_gpus),
        )
        finetune(inputs, progress, watch=watch, pulse=pulse, energy=energy)
        pulse.enter("done")


def _shows_gpu(visible_gpus: str | None) -> bool:
    return bool(list_gpus(visible_gpus)[0])


def _failed(error: Exception, progress: Progress, *, energy: EnergyReader, job: Job, gpu_was_busy: bool) -> Outcome:
    """Turn a crash into an outcome that keeps what the trial did and cost until then."""
    kind = classify(error, gpu_was_busy=gpu_was_busy)
    message = redact(describe(error), job.secrets, user=job.user, host=job.host, home=job.home)
    measured = _measured("failed", progress, energy=energy, job=job)
    return dataclasses.replace(measured, kind=kind, origin=origin_of(kind), message=message)


def _measured(status: str, progress: Progress, *, energy: EnergyReader, job: Job) -> Outcome:
    """Build the outcome from what was measured; a number that is not finite is unknown."""
    return Outcome(
        status=status,
        metrics={name: value for name, value in progress.metrics.items() if math.isfinite(value)},
        load_s=progress.load.measured_s,
        train_s=progress.train.measured_s,
        eval_s=progress.eval.measured_s,
        evaluation_time_s=progress.evaluation_time_s,
        retry_s=_thrown_away_s(job, progress),
        gpu_energy_j=progress.energy_j(energy, "gpu"),
        cpu_energy_j=progress.energy_j(energy, "cpu"),
        energy_source=energy.source,
        energy_scope=energy.scope,
        peak_gpu_memory_bytes=progress.peak_gpu_memory_bytes,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts KiB
        n_steps=progress.step,
        n_samples=progress.n_samples,
        curve=tuple(progress.curve),
    )


def _thrown_away_s(job: Job, progress: Progress) -> float:
    """Sum the training of earlier restarts that no checkpoint kept: what they did, less what this one took over."""
    done_s = 0.0
    for restart in range(job.restart):
        try:
            path = heartbeat_path(job.attempt_dir, restart)
            done_s += from_json(Heartbeat, read_json(path), where=path.name).train_s
        except (FileNotFoundError, InputError):
            continue  # killed before its first heartbeat
    return max(0.0, done_s - progress.train.before_s)


def _end(job: Job, outcome: Outcome, *, started_at: float) -> End:
    """Wrap an outcome in what is known of the node and the software."""
    return End(
        outcome=outcome,
        system=_system(job),
        restart=job.restart,
        started_at=started_at,
        ended_at=time.time(),
        node=node_name(),
        lock_hash=_lock_hash(),
        image_digest=job.image_digest,
        package_version=__version__,
    )


def _system(job: Job) -> System | None:
    """Measure the node; without a readable command its site and cluster are unknown, and so is all of it."""
    try:
        command = from_json(Command, read_json(job.attempt_dir / COMMAND), where=COMMAND)
    except (OSError, InputError):
        return None
    system = measure_system(command.site, command.cluster, visible_gpus=job.visible_gpus)
    torch = sys.modules.get("torch")  # absent if it could not be imported
    cuda_version = getattr(getattr(torch, "version", None), "cuda", None)
    return dataclasses.replace(system, cuda_version=cuda_version or system.cuda_version)


def _lock_hash() -> str | None:
    path = Path(sys.prefix) / "xautolm-lock.sha256"
    return path.read_text().strip() if path.is_file() else None
