"""The layout of a run on disk, and the files by which the login node and the compute node talk to each other.

::

    runs/NAME/  search.toml  run.json  priors.json  ledger.jsonl  lease-<n>  data/  report/
      profile/attempt-0/  profile.json profile-result.json   the run's first job
      gen-000/submission-0/members.json                      array index -> attempt folder
      gen-000/trial-000/attempt-0/  task.json pipeline.json command.json claim-<r>.json stdout stderr
                                    heartbeat-<r>.json exit-<r>.json checkpoint/ outcome.json verdict.json

``<r>`` is the restart count: a requeued job runs again in the same folder and overwrites nothing.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import create_json, read_json, write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import AS_DRAWN, UNMEASURED, AtLimit, Execution, Foretelling, StepMeasures, StepMode
from xautolm_hpc.image import Container
from xautolm_hpc.records import Outcome, Pipeline, System, T, Task, from_json, to_json

COMMAND, TASK, PIPELINE, WEIGHTS = "command.json", "task.json", "pipeline.json", "weights.safetensors"
PROFILE, PROFILE_RESULT, EXPORT = "profile.json", "profile-result.json", "export.json"
OUTCOME, VERDICT, MEMBERS, TEST = "outcome.json", "verdict.json", "members.json", "test.json"
RUN_NAME = r"^[A-Za-z0-9][\w.-]*$"  # it is the name of a folder
SPLITS = ("train", "dev", "validation", "test")  # of the normalised data

READY = "ready"  # empty; shows that signals reach the worker now; on other nodes than the first ``ready-<node>``

PROTOCOL = 4
"""Version of the files that driver and worker write for each other; it rises with every key added to them.
A version refuses a file with a key that it does not know, so each side leaves out what the other's protocol lacks.
Protocol 1 is that of every version before the number was written; a worker of 3 claims each trial of a job safely."""

PROTOCOL_VARIABLE = "XAUTOLM_PROTOCOL"  # tells a worker the driver's protocol; an earlier worker reads over it
CHECKPOINT_EXIT_STATUS = 85  # of a worker that checkpointed because a signal asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``command.json``: what the wrapper starts on the node, and under which limits.

    Attributes:
        argv: Program and arguments of the worker; it gets the attempt folder as last argument.
        time_limit_s: The trial's own budget: training and evaluation, in seconds.
        wall_limit_s: Seconds after which the local wrapper ends the worker; Slurm has its own.
        memory_bytes: Host memory limit that the local wrapper keeps; Slurm has its own.
        n_threads: Threads of each worker process.
        heartbeat_s: Seconds between two heartbeats.
        deterministic: Whether training avoids non-deterministic kernels.
        enforce_limits: Whether the wrapper keeps time and memory itself (local launcher).
        environment: Variables set for the worker, allow-listed by the driver; holds no secrets.
        site: Site name for the system record; likewise ``cluster``.
        container: The image the worker runs in, or ``None``.
    """

    argv: tuple[str, ...]
    time_limit_s: float
    wall_limit_s: float
    memory_bytes: int
    n_threads: int
    heartbeat_s: float
    deterministic: bool
    enforce_limits: bool
    environment: Mapping[str, str]
    site: str
    cluster: str
    container: Container | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """``claim-<r>.json``: the job that runs an attempt, written before anything else it does.

    Attributes:
        job_id: Id of the job; another job that finds this file ends at once and writes nothing.
        node: Name of the node.
        restart: Slurm's restart count.
        pid: Process of the wrapper, which may run several attempts one after the other.
        pid_started: Kernel start time of that process, in clock ticks since boot.
        boot_id: Kernel's boot id of the node.
        claimed_at: Seconds since the epoch.
        job_started_at: When its job began, if it runs several attempts; seconds since the epoch, or ``None``.
    """

    job_id: str
    node: str
    restart: int
    pid: int
    pid_started: int
    boot_id: str
    claimed_at: float
    job_started_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """``exit-<r>.json``: how the worker ended, as the wrapper saw it.

    Attributes:
        returncode: Exit status; below 0 the signal that ended it.
        ended_by: ``None`` if it ended by itself; ``time_limit``, ``host_oom``, ``cancelled`` or ``wall_limit`` if
            the wrapper ended it; ``launch_failure``, ``storage`` or ``environment`` if it could not be started.
        started_at: Seconds since the epoch; likewise ``ended_at``.
        peak_rss_bytes: Highest resident memory of the worker's processes, or ``None``.
        message: What happened, in the wrapper's text, or ``None``.
    """

    returncode: int | None
    ended_by: str | None
    started_at: float
    ended_at: float
    peak_rss_bytes: int | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """``heartbeat-<r>.json``: progress and cost so far; what a killed attempt leaves behind.

    Attributes:
        at: Seconds since the epoch.
        phase: ``load``, ``train``, ``eval`` or ``done``.
        step: Optimiser steps done.
        n_steps: Optimiser steps planned.
        train_s: Seconds of training so far in this restart.
        gpu_energy_j: Energy of the allocated GPUs so far, joules, or ``None``; ``cpu_energy_j`` of the CPU packages.
        dev_f1: Last F1 on ``dev``, or ``None``.
        delay_s: Seconds by which others on the node have delayed the trial in this restart, or ``None``.
    """

    at: float
    phase: str
    step: int = 0
    n_steps: int = 0
    train_s: float = 0.0
    gpu_energy_j: float | None = None
    cpu_energy_j: float | None = None
    dev_f1: float | None = None
    delay_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialInput:
    """``task.json``: the task and where its normalised split lies.

    Attributes:
        task: The task.
        data_dir: Absolute folder of ``{train,dev,validation,test}.jsonl.gz``.
        sha256: Split name -> sha256 of its file.
    """

    task: Task
    data_dir: str
    sha256: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """``pipeline.json``: what is to be trained.

    Attributes:
        pipeline: The pipeline.
        model: Its model, as in the catalogue of the driver.
        seed: Training seed, the same in every attempt of the trial.
        execution: How its steps are computed in the memory there is.
        hf_home: Offline cache of hub models, or ``None``.
        early_stopping_min_steps: Optimiser steps after the warm-up before early stopping counts epochs; 0 counts all.
        step: One of :class:`xautolm_hpc.execution.StepMode`, where it can be chosen. Likewise ``at_limit``, one of
            ``AtLimit`` there, and ``foretell``, one of ``Foretelling``.
    """

    pipeline: Pipeline
    model: Model
    seed: int
    execution: Execution = AS_DRAWN
    hf_home: str | None = None
    early_stopping_min_steps: int = 0
    step: str = StepMode.EAGER.value
    at_limit: str = AtLimit.FAIL.value
    foretell: str = Foretelling.OFF.value


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """``outcome.json``, written by the worker, or ``verdict.json``, written by gather: how an attempt ended.

    Attributes:
        outcome: What came of it.
        system: Node it ran on; ``None`` if it never got far enough to measure it.
        restart: Restart count when it ended.
        started_at: Seconds since the epoch; ``None`` if it never started. Likewise ``ended_at``, always known.
        node: Node name, or ``None``.
        lock_hash: Digest of the lock parts of the worker's environment, or ``None``.
        image_digest: sha256 of the worker's image, or ``None``.
        package_version: Version of this package that ran.
        is_model_unfit: Whether the files of the model do not fit together, so that no trial of it can succeed.
        job_started_at: When its job began, if that runs several attempts; seconds since the epoch, or ``None``.
    """

    outcome: Outcome
    system: System | None
    restart: int
    started_at: float | None
    ended_at: float
    node: str | None
    lock_hash: str | None
    image_digest: str | None
    package_version: str
    is_model_unfit: bool = False
    job_started_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRequest:
    """``profile.json`` in the profile job's attempt folder: what to read and where to write the split.

    Attributes:
        task_name: Name of the task.
        task_kind: One of :data:`xautolm_hpc.task_kinds.TASK_KINDS`.
        data_path: File or folder of the data; ``data_files``: its files by split, if their names do not show it.
        text_column: Column; likewise ``label_column``, ``question_column``, ``context_column``, ``answers_column``.
        train_rows: Rows to draw from train, or ``None`` for all; likewise ``validation_rows`` and ``test_rows``.
        split_seed: Seed of every split.
        data_dir: Folder to write the normalised split to.
        cache_dir: Folder of cached profiles, shared by the runs beside each other.
        metric: Metric that ``f1`` stands for, or ``None`` for the usual one of the kind of task.
        delimiter: What divides the columns of CSV and TSV files, or ``None`` if it is to be recognised.
    """

    task_name: str
    task_kind: str
    data_path: str
    text_column: str
    label_column: str
    train_rows: int | None
    validation_rows: int | None
    test_rows: int | None
    split_seed: int
    data_dir: str
    cache_dir: str
    question_column: str = "question"
    context_column: str = "context"
    answers_column: str = "answers"
    metric: str | None = None
    data_files: Mapping[str, tuple[str, ...]] | None = None
    delimiter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileResult:
    """``profile-result.json`` beside the profile job's outcome: what it measured.

    Attributes:
        task: The task.
        system: The node it ran on.
        sha256: Split name -> sha256 of its file.
        from_cache: Whether the features came from the cache.
        majority_f1: F1 on ``validation``, 0..1, of always answering train's most frequent label, or of no answer.
        notes: What was left out of the data, for the user: rows whose text is in another split, and the like.
        protocol: :data:`PROTOCOL` of the worker that wrote it.
        has_quantiser: Whether the worker knows ``quantization = nf4`` and has the package for it.
        measures: What plans of memory and time are made of.
    """

    task: Task
    system: System
    sha256: Mapping[str, str]
    from_cache: bool
    majority_f1: float | None
    notes: tuple[str, ...] = ()
    protocol: int = 1
    has_quantiser: bool = False
    measures: StepMeasures = UNMEASURED


ADDED: Mapping[type, Mapping[str, int]] = {
    ProfileRequest: {"delimiter": 2},
    ProfileResult: dict.fromkeys(("protocol", "has_quantiser", "measures"), 2),
    TrialPlan: {"early_stopping_min_steps": 2, "step": 2, "at_limit": 4, "foretell": 4},
    Claim: {"job_started_at": 3},
    Heartbeat: {"delay_s": 2},
    End: {"is_model_unfit": 2, "job_started_at": 3},
    Outcome: dict.fromkeys(
        ("truncated", "epochs_done", "epochs", "schedule_share", "step", "step_reason", "cpu_share"), 2
    ),
}
"""Record -> its fields that protocol 1 lacks, and the protocol that brought each; every new one needs an entry."""


def to_wire(record: Any, *, reader: int = PROTOCOL) -> dict[str, Any]:
    """Turn a record into plain data for the other side, which may be of an earlier version.

    An added field at its default is left out. One that is set is left out too if the reader does not know it: what a
    worker measured is then unknown to an earlier driver. A driver checks first that the worker knows what it asks for.

    Args:
        record: A dataclass of this module, or one in it.
        reader: Protocol of the version that reads it.
    """
    data: dict[str, Any] = to_json(record)
    added = ADDED.get(type(record), {})
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.name in added and (value == field.default or added[field.name] > reader):
            del data[field.name]
        elif dataclasses.is_dataclass(value):
            data[field.name] = to_wire(value, reader=reader)
    return data


def protocol_of_driver(environ: Mapping[str, str]) -> int:
    """Return the protocol of the driver that wrote a job, from the job's environment variables."""
    written = environ.get(PROTOCOL_VARIABLE, "")
    return int(written) if written.isdecimal() else 1


def split_path(data_dir: Path, split: str) -> Path:
    """Name the file of a split of the normalised data."""
    return data_dir / f"{split}.jsonl.gz"


def claim_attempt(attempt_dir: Path, claim: Claim, *, reader: int = PROTOCOL) -> bool:
    """Claim an attempt for one job.

    Args:
        attempt_dir: The attempt's folder.
        claim: Who claims it.
        reader: Protocol of the driver, which reads the claim.

    Returns:
        Whether it may run. Else it has ended or is another job's, and nothing was written, save where two jobs of
        different restart counts met: then neither runs, and the attempt is lost and retried.
    """
    has_ended = (attempt_dir / OUTCOME).exists() or (attempt_dir / VERDICT).exists()
    if has_ended or is_foreign(attempt_dir, claim.job_id):
        return False
    if not create_json(claim_path(attempt_dir, claim.restart), to_wire(claim, reader=reader)):
        return False
    return not is_foreign(attempt_dir, claim.job_id)


def is_foreign(attempt_dir: Path, job_id: str) -> bool:
    """Check whether another job has claimed an attempt, under whatever restart count."""
    claims = [read_whole(Claim, claim_path(attempt_dir, restart)) for restart in restarts(attempt_dir)]
    return any(claim is None or claim.job_id != job_id for claim in claims)


def read_whole(record_type: type[T], path: Path) -> T | None:
    """Read a record of an attempt; ``None`` if its file is missing, being written, or damaged."""
    try:
        return from_json(record_type, read_json(path), where=str(path))
    except (OSError, InputError):
        return None


def claim_path(attempt_dir: Path, restart: int) -> Path:
    """Name the claim of one restart."""
    return attempt_dir / f"claim-{restart}.json"


def exit_path(attempt_dir: Path, restart: int, *, node: int = 0) -> Path:
    """Name the exit file of one restart on one of its nodes."""
    return attempt_dir / (f"exit-{restart}-{node}.json" if node else f"exit-{restart}.json")


def heartbeat_path(attempt_dir: Path, restart: int, *, node: int = 0) -> Path:
    """Name the heartbeat of one restart on one of its nodes; node 0 has the progress, the others energy alone."""
    return attempt_dir / (f"heartbeat-{restart}-{node}.json" if node else f"heartbeat-{restart}.json")


def heartbeat_paths(attempt_dir: Path, restart: int) -> list[Path]:
    """List the heartbeats of a restart: that of its first node, then those of the others."""
    return [heartbeat_path(attempt_dir, restart), *sorted(attempt_dir.glob(f"heartbeat-{restart}-*.json"))]


def write_members(folder: Path, attempt_dirs: Sequence[Path]) -> None:
    """Write ``members.json``: the attempt folders of a submission, in array order."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(folder / MEMBERS, [str(path) for path in attempt_dirs])


def read_members(path: Path) -> list[Path]:
    """Read ``members.json``; without one this is a FileNotFoundError, of a damaged one an InputError."""
    members = read_json(path)
    if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
        raise InputError(f"`{path}`: expected a list of paths")
    return [Path(member) for member in members]


def restarts(attempt_dir: Path) -> list[int]:
    """List the restart counts an attempt was claimed with, ascending; empty if no job started it."""
    found = (re.fullmatch(r"claim-(\d+)\.json", path.name) for path in attempt_dir.iterdir())
    return sorted(int(match[1]) for match in found if match)
