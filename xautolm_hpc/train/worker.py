"""One attempt on the compute node: files in, one outcome out, whatever happens.

This file imports nothing heavy at its top, so that a node on which torch cannot be imported still writes an outcome.
"""

import dataclasses
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc import __version__
from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import AtLimit, Foretelling
from xautolm_hpc.failures import FailureKind, OutcomeStatus, origin_of
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    OUTCOME,
    PIPELINE,
    PROTOCOL,
    TASK,
    Claim,
    Command,
    End,
    Heartbeat,
    TrialInput,
    TrialPlan,
    claim_path,
    heartbeat_path,
    to_wire,
)
from xautolm_hpc.node import is_node_busy, list_gpus, measure_system, node_name, peak_rss_bytes
from xautolm_hpc.records import BUSY_TIME_SCOPE, TIME_SCOPE, Outcome, System, from_json
from xautolm_hpc.redact import LONGEST_MESSAGE, cut_message, redact
from xautolm_hpc.train.energy import EnergyReader, no_energy_reader, open_energy_reader
from xautolm_hpc.train.exceptions import UnfitModelError, classify, describe, is_lost_process
from xautolm_hpc.train.heartbeat import HeartbeatWriter
from xautolm_hpc.train.libraries import leave_out_scipy
from xautolm_hpc.train.limit.at_limit import LimitPlan
from xautolm_hpc.train.limit.foreign_load import CpuReading, LoadMeter, read_counters
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.process_group import ALONE, Rank
from xautolm_hpc.train.retry import RETRY_EXIT_STATUS, ask_for_retry, read_retry
from xautolm_hpc.train.stop import StopFlag, StopRequestedError

FIRST_FAILURE_TIMEOUT_S = 20.0
"""Seconds that a rank waits after it lost its connection to another one: that rank's failure is the cause."""

BUSY_SHARE = 0.05
"""Share of a GPU's memory that others may hold; above it running out of memory is no evidence on the pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An attempt, and what the environment variables say about it.

    Attributes:
        attempt_dir: Absolute attempt folder.
        restart: Slurm's restart count, from 0.
        visible_gpus: Value of CUDA_VISIBLE_DEVICES, or ``None``.
        image_digest: sha256 of the image, or ``None`` outside a container.
        secrets: Values to keep out of messages.
        user: Login name, to keep out of messages; likewise ``host`` and ``home``.
        rank: This process among those of the trial.
        driver_protocol: :data:`~xautolm_hpc.jobdir.PROTOCOL` of the driver that reads the outcome.
        read_cpu: Reads what a process and its descendants got of the node's cores.
    """

    attempt_dir: Path
    restart: int
    visible_gpus: str | None
    image_digest: str | None
    secrets: tuple[str, ...]
    user: str
    host: str
    home: str
    rank: Rank = ALONE
    driver_protocol: int = PROTOCOL
    read_cpu: Callable[[int], CpuReading | None] = read_counters


def run_trial(job: Job, stop: StopFlag) -> int:
    """Run one attempt, or one rank's share of it, and write its outcome unless there is one already.

    Rank 0 writes the outcome of a success. The outcome of a failure is written by the rank that failed first: the
    others hang or lose their connection to it.

    Args:
        job: The attempt.
        stop: Set by a signal: write a checkpoint and return.

    Returns:
        0 once an outcome is there; 85 after a checkpoint; 86 to be started again with smaller micro-batches; 1 after
        a failure while other ranks may still wait for this one.

    Raises:
        OSError: The outcome could not be written.
    """
    if (job.attempt_dir / OUTCOME).exists():
        return 0  # a requeued job whose earlier run had finished after all
    started_at, is_unfit = time.time(), False
    progress = Progress()
    is_busy = gpu_is_busy(job.visible_gpus)
    reads = (
        open_energy_reader(job.visible_gpus, shared=is_busy)
        if job.rank.reads_energy
        else nullcontext(no_energy_reader())
    )
    with reads as energy:
        try:
            _attempt(job, progress, stop=stop, energy=energy)
        except StopRequestedError:
            return CHECKPOINT_EXIT_STATUS
        except Exception as error:  # noqa: BLE001 - the one blind except: a crash of the pipeline is its outcome
            is_oom = classify(error, gpu_was_busy=False) is FailureKind.GPU_OOM
            was_busy = is_busy or (is_oom and others_hold_gpu(job.visible_gpus))  # checked first: they may leave
            is_unfit = isinstance(error, UnfitModelError)
            energy.end()
            _wait_for_first_failure(error, job)
            outcome = _failed(error, progress, energy=energy, job=job, gpu_was_busy=was_busy)
            if _may_retry(outcome, progress, job=job):
                return RETRY_EXIT_STATUS
        else:
            if not job.rank.is_first:
                return 0
            outcome = _measured(OutcomeStatus.SUCCEEDED, progress, energy=energy, job=job)
    end = attempt_result(job, outcome, started_at=started_at, is_model_unfit=is_unfit)
    create_json(job.attempt_dir / OUTCOME, to_wire(end, reader=job.driver_protocol))
    return 1 if outcome.status == OutcomeStatus.FAILED and job.rank.n_ranks > 1 else 0


def _wait_for_first_failure(error: Exception, job: Job) -> None:
    """Wait to be ended if another rank failed first and this one has only lost its connection to it."""
    if job.rank.n_ranks > 1 and is_lost_process(error):
        time.sleep(FIRST_FAILURE_TIMEOUT_S)


def _may_retry(outcome: Outcome, progress: Progress, *, job: Job) -> bool:
    """Ask for a second try after a ``gpu_oom``, if this was the first."""
    if outcome.kind != FailureKind.GPU_OOM or read_retry(job.attempt_dir) is not None:
        return False
    return ask_for_retry(
        job.attempt_dir,
        n_ranks=job.rank.n_ranks,
        message=outcome.message or "",
        seconds=progress.train.here_s + progress.eval.here_s,
        gpu_energy_j=outcome.gpu_energy_j,
        cpu_energy_j=outcome.cpu_energy_j,
    )


def gpu_is_busy(visible_gpus: str | None) -> bool:
    """Check whether others hold memory of our GPUs before we use them."""
    return any(gpu.used_bytes > BUSY_SHARE * gpu.memory_bytes for gpu in list_gpus(visible_gpus)[0])


def others_hold_gpu(visible_gpus: str | None) -> bool:
    """Check whether others hold memory of our GPUs now, while we use them."""
    return any((gpu.others_bytes or 0) > BUSY_SHARE * gpu.memory_bytes for gpu in list_gpus(visible_gpus)[0])


def _attempt(job: Job, progress: Progress, *, stop: StopFlag, energy: EnergyReader) -> None:
    """Read the inputs, import torch and the rest, train."""
    command = from_json(Command, read_json(job.attempt_dir / COMMAND), where=COMMAND)
    trial = from_json(TrialInput, read_json(job.attempt_dir / TASK), where=TASK)
    plan = from_json(TrialPlan, read_json(job.attempt_dir / PIPELINE), where=PIPELINE)
    retry = read_retry(job.attempt_dir)
    if retry is not None:
        plan = dataclasses.replace(plan, execution=retry.execution)
        progress.retried_gpu_j, progress.retried_cpu_j = retry.gpu_energy_j, retry.cpu_energy_j
    load = LoadMeter(read=lambda: job.read_cpu(_root_pid(job.rank)), n_allotted=command.n_threads)
    budget = TrialBudget(
        progress,
        stop,
        time_limit_s=command.time_limit_s,
        load=load,
        delay_before_s=_earlier_delay_s(job),
        plan=LimitPlan(at_limit=AtLimit(plan.at_limit), foretell=Foretelling(plan.foretell)),
    )
    heartbeat_writer = _heartbeat_writer(job, progress, energy=energy, load=load, interval_s=command.heartbeat_s)
    with load, heartbeat_writer:
        heartbeat_writer.enter("load")
        with progress.load, progress.loading("imports"):
            leave_out_scipy()
            from xautolm_hpc.train.finetune import finetune
            from xautolm_hpc.train.prepare import AttemptInputs

        inputs = AttemptInputs(
            attempt_dir=job.attempt_dir,
            command=command,
            trial=trial,
            plan=plan,
            expects_gpu=_shows_gpu(job.visible_gpus),
            rank=job.rank,
        )
        try:
            finetune(inputs, progress, budget=budget, heartbeat_writer=heartbeat_writer, energy=energy)
        finally:
            progress.delay_s = budget.delay_s()
        heartbeat_writer.enter("done")


def _root_pid(rank: Rank) -> int:
    """Return the process that all the trial's processes on this node descend from: the leader, if there is one."""
    return os.getppid() if rank.n_local > 1 else os.getpid()


def _heartbeat_writer(
    job: Job, progress: Progress, *, energy: EnergyReader, load: LoadMeter, interval_s: float
) -> HeartbeatWriter:
    """Build the heartbeat writer: rank 0 writes progress and energy, the first rank of another node only energy."""
    path = heartbeat_path(job.attempt_dir, job.restart, node=job.rank.node) if job.rank.reads_energy else None
    written = progress if job.rank.is_first else Progress()
    return HeartbeatWriter(path, written, energy=energy, load=load, interval_s=interval_s)


def _shows_gpu(visible_gpus: str | None) -> bool:
    return bool(list_gpus(visible_gpus)[0])


def _failed(error: Exception, progress: Progress, *, energy: EnergyReader, job: Job, gpu_was_busy: bool) -> Outcome:
    """Build the outcome of a failure; it keeps what was measured until then."""
    kind = classify(error, gpu_was_busy=gpu_was_busy)
    text = "\n".join([*_first_try(job), describe(error)])
    message = _redacted(text, job)
    measured = _measured(OutcomeStatus.FAILED, progress, energy=energy, job=job)
    return dataclasses.replace(measured, kind=kind, origin=origin_of(kind), message=message)


def _redacted(text: str, job: Job) -> str:
    """Hide secrets, then cut the text to what a store holds."""
    short = cut_message(text, longest=64 * LONGEST_MESSAGE)  # a secret that this cuts in two is in what is cut below
    return cut_message(redact(short, job.secrets, user=job.user, host=job.host, home=job.home))


def _measured(status: OutcomeStatus, progress: Progress, *, energy: EnergyReader, job: Job) -> Outcome:
    """Build the outcome from what was measured; a metric that is not finite is left out."""
    took_s = progress.evaluation_time_s
    is_busy = took_s is not None and is_node_busy(progress.delay_s, took_s)
    return Outcome(
        status=status,
        metrics={name: value for name, value in progress.metrics.items() if math.isfinite(value)},
        load_s=progress.load.measured_s,
        train_s=progress.train.measured_s,
        eval_s=progress.eval.measured_s,
        evaluation_time_s=progress.evaluation_time_s,
        retry_s=_discarded_s(job, progress),
        time_scope=BUSY_TIME_SCOPE if is_busy else TIME_SCOPE,
        gpu_energy_j=progress.energy_j(energy, "gpu"),
        cpu_energy_j=progress.energy_j(energy, "cpu"),
        energy_source=energy.source,
        energy_scope=energy.scope,
        peak_gpu_memory_bytes=progress.all_gpu_memory_bytes,
        peak_rss_bytes=peak_rss_bytes() + progress.rss_elsewhere_bytes,
        n_steps=progress.step,
        n_samples=progress.n_samples,
        truncated=progress.truncated if status == OutcomeStatus.SUCCEEDED else None,
        epochs_done=progress.epochs_done,
        epochs=progress.epochs or None,
        schedule_share=progress.schedule_share,
        step=progress.step_mode.value if progress.step and progress.step_mode else None,
        step_reason=_redacted(progress.step_reason, job) if progress.step and progress.step_reason else None,
        cpu_share=progress.cpu_share,
        curve=tuple(progress.curve),
        message=cut_message("\n".join([*_first_try(job), *progress.notes])) or None,
    )


def _first_try(job: Job) -> list[str]:
    try:
        retry = read_retry(job.attempt_dir)
    except InputError:
        return []
    return [] if retry is None else [retry.summary()]


def _discarded_s(job: Job, progress: Progress) -> float:
    """Compute the training time of earlier tries and restarts that is in no checkpoint."""
    retry = read_retry(job.attempt_dir)
    done_s = 0.0 if retry is None else retry.seconds
    done_s += sum(beat.train_s for beat in _earlier_heartbeats(job))
    return max(0.0, done_s - progress.train.before_s)


def _earlier_delay_s(job: Job) -> float:
    """Add up by how many seconds others delayed earlier restarts, as far as their heartbeats tell."""
    return sum(beat.delay_s or 0.0 for beat in _earlier_heartbeats(job))


def _earlier_heartbeats(job: Job) -> Iterator[Heartbeat]:
    """Read the last heartbeat of each earlier restart; one that was killed before its first has none."""
    for restart in range(job.restart):
        path = heartbeat_path(job.attempt_dir, restart)
        with suppress(FileNotFoundError, InputError):
            yield from_json(Heartbeat, read_json(path), where=path.name)


def attempt_result(job: Job, outcome: Outcome, *, started_at: float, is_model_unfit: bool = False) -> End:
    """Build the attempt result: an outcome, and what is known of the node and the software."""
    claim = _claim(job)
    return End(
        outcome=outcome,
        system=_system(job),
        restart=job.restart,
        started_at=started_at,
        ended_at=time.time(),
        node=node_name() if claim is None else claim.node,  # as the scheduler calls it
        lock_hash=_lock_hash(),
        image_digest=job.image_digest,
        package_version=__version__,
        is_model_unfit=is_model_unfit,
        job_started_at=None if claim is None else claim.job_started_at,
    )


def _claim(job: Job) -> Claim | None:
    """Read the claim of this job; ``None`` if there is none that can be read."""
    path = claim_path(job.attempt_dir, job.restart)
    try:
        return from_json(Claim, read_json(path), where=path.name)
    except (OSError, InputError):
        return None


def _system(job: Job) -> System | None:
    """Measure the node; ``None`` without a readable ``command.json``, which names site and cluster."""
    try:
        command = from_json(Command, read_json(job.attempt_dir / COMMAND), where=COMMAND)
    except (OSError, InputError):
        return None
    system = measure_system(command.site, command.cluster, visible_gpus=job.visible_gpus)
    torch = sys.modules.get("torch")  # missing if it could not be imported
    cuda_version = getattr(getattr(torch, "version", None), "cuda", None)
    return dataclasses.replace(system, cuda_version=cuda_version or system.cuda_version)


def _lock_hash() -> str | None:
    path = Path(sys.prefix) / "xautolm-lock.sha256"
    return path.read_text().strip() if path.is_file() else None
