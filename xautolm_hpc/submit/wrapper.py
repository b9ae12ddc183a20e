"""Runs on the compute node around one worker: claims the attempt, starts the worker, watches it, writes how it ended.

submitit calls :func:`run_member`, the same function for every element of an array. The claim decides who runs an
attempt, so a job that was submitted or started twice runs once.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from xautolm_hpc.durable import append_to_log, create_json, read_json, read_log
from xautolm_hpc.errors import DISK_FULL_ERRNOS, InputError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    OUTCOME,
    READY,
    Claim,
    Command,
    Exit,
    claim_attempt,
    claim_path,
    exit_path,
    is_foreign,
    read_members,
)
from xautolm_hpc.node import become_subreaper, boot_id, die_with, node_name, process_started
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.apptainer import (
    REFUSED_STATUS,
    check_container,
    container_argv,
    container_environment,
    find_driver,
    scratch,
)
from xautolm_hpc.submit.environment import node_environment
from xautolm_hpc.submit.signals import SignalInbox
from xautolm_hpc.submit.watchdog import Watchdog

CHECKPOINT_LEAD_S = 120.0
"""Seconds before the end of a job's time at which its worker is told to checkpoint; a fifth of a short job's time."""

ASK_TIMEOUT_S = 10.0
"""Seconds that Slurm has to answer when the job's time is over; the worker is not watched meanwhile."""

LOG_TAIL_BYTES = 16 * 1024
JOIN_TIMEOUT_S, JOIN_TICK_S = 120.0, 0.2
"""Seconds that a job's other nodes wait for the first one's claim; seconds between two looks."""

MAX_RESTARTS = 4
"""Restarts after which the wrapper asks for no further one; Slurm itself holds a job after five."""


def run_member(members_path: str, index: int | None = None, *, job_id: str | None = None) -> None:
    """Run one attempt of a submission, unless another job has claimed it or it has ended.

    Args:
        members_path: ``members.json`` of the submission.
        index: Place of the attempt in it; by default Slurm's array index, else 0.
        job_id: Id of this job; by default Slurm's.

    Raises:
        InputError: ``members.json`` is damaged or has no such place.
    """
    inbox = SignalInbox()
    os.umask(0o077)
    if index is None:
        index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    attempt_dir = _find_member(Path(members_path), index)
    restart = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    claim = describe_claim(job_id or slurm_job_id(), restart)
    node = int(os.environ.get("SLURM_NODEID", "0"))
    may_run = join_attempt(attempt_dir, claim) if node else claim_attempt(attempt_dir, claim)
    if not may_run:
        return
    become_subreaper()
    ready_path = attempt_dir / (f"{READY}-{node}" if node else READY)
    ended, wants_requeue = _run_worker(attempt_dir, inbox, ready_path=ready_path, job_id=claim.job_id)
    create_json(exit_path(attempt_dir, restart, node=node), to_json(ended))
    if wants_requeue and restart < MAX_RESTARTS and node == 0:
        Slurm().requeue(claim.job_id)


def slurm_job_id() -> str:
    """Name the Slurm job this process belongs to, as squeue does: ``123_4`` or ``123``.

    Raises:
        InputError: There is none.
    """
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    if array and task:
        return f"{array}_{task}"
    job_id = os.environ.get("SLURM_JOB_ID")
    if not job_id:
        raise InputError("no job id: neither given nor SLURM_JOB_ID set; the wrapper is started by a launcher")
    return job_id


def describe_claim(job_id: str, restart: int) -> Claim:
    """Describe this process as the one that runs an attempt."""
    pid = os.getpid()
    return Claim(
        job_id=job_id,
        node=os.environ.get("SLURMD_NODENAME") or node_name(),  # as Slurm calls it, so that it can be excluded
        restart=restart,
        pid=pid,
        pid_started=process_started(pid) or 0,
        boot_id=boot_id(),
        claimed_at=time.time(),
    )


def join_attempt(attempt_dir: Path, claim: Claim) -> bool:
    """Wait, on every node of a job but its first, until that one has claimed the attempt.

    Returns:
        Whether it did; if not, the attempt has ended or is another job's.
    """
    path, deadline = claim_path(attempt_dir, claim.restart), time.monotonic() + JOIN_TIMEOUT_S
    while not path.exists():
        if time.monotonic() > deadline or (attempt_dir / OUTCOME).exists():
            return False
        time.sleep(JOIN_TICK_S)
        os.listdir(attempt_dir)  # noqa: PTH208 - opens the folder now: a file server may show an old one
    return not is_foreign(attempt_dir, claim.job_id)


def _find_member(members_path: Path, index: int) -> Path:
    members = read_members(members_path)
    if not 0 <= index < len(members):
        raise InputError(f"`{members_path}` has {len(members)} places, no place {index}")
    return members[index]


def _run_worker(attempt_dir: Path, inbox: SignalInbox, *, ready_path: Path, job_id: str) -> tuple[Exit, bool]:
    """Run the worker to its end; returns how it ended and whether the job is to be requeued."""
    started_at = time.time()
    path = attempt_dir / COMMAND
    ready_path.unlink(missing_ok=True)  # of the run before a requeue
    with ExitStack() as launched:
        try:
            command = from_json(Command, read_json(path), where=str(path))
            process = launched.enter_context(_launch(command, attempt_dir))
        except (OSError, InputError, ValueError, subprocess.SubprocessError) as error:
            return _not_started(error, started_at), False
        ask = None if command.enforce_limits else partial(_checkpoint_at, job_id, command, started_at=started_at)
        watchdog = Watchdog(process, command, ready_path=ready_path, inbox=inbox, ask_checkpoint_at=ask)
        watchdog.watch()
    has_begun = ready_path.exists() or watchdog.ended_by is not None
    refused = None if has_begun else _refused_by_container(process.returncode, command, attempt_dir=attempt_dir)
    ended = Exit(
        returncode=process.returncode,
        ended_by=FailureKind.LAUNCH_FAILURE if refused else watchdog.ended_by,
        started_at=started_at,
        ended_at=time.time(),
        peak_rss_bytes=watchdog.peak_rss_bytes or None,
        message=refused or watchdog.message,
    )
    checkpointed = process.returncode == CHECKPOINT_EXIT_STATUS and watchdog.asked_in_time
    return ended, checkpointed and not command.enforce_limits


def _not_started(error: Exception, started_at: float) -> Exit:
    """Describe why there was no worker."""
    return Exit(
        returncode=None,
        ended_by=FailureKind.STORAGE
        if getattr(error, "errno", None) in DISK_FULL_ERRNOS
        else FailureKind.LAUNCH_FAILURE,
        started_at=started_at,
        ended_at=time.time(),
        message=f"the worker could not be started: {error}",
    )


@contextmanager
def _launch(command: Command, attempt_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the worker, inside its image if it has one; scratch on the node's disk lasts as long as it does."""
    environment = {**command.environment, **node_environment()}
    if command.container is None:
        yield _start([*command.argv, str(attempt_dir)], environment, attempt_dir=attempt_dir)
        return
    container = check_container(command.container)
    if container.nv and container.driver_path is None and (driver_dir := find_driver(os.environ)) is not None:
        environment["XAUTOLM_NODE_DRIVER"] = driver_dir
    with scratch(command, attempt_dir, environ=os.environ) as scratch_dir:
        argv = container_argv(
            container,
            command.argv,
            attempt_dir=str(attempt_dir),
            scratch_dir=str(scratch_dir),
        )
        starter_environment = container_environment(container, environment, scratch_dir=str(scratch_dir))
        yield _start(argv, starter_environment, attempt_dir=attempt_dir)


def _start(argv: Sequence[str], environment: Mapping[str, str], *, attempt_dir: Path) -> subprocess.Popen[bytes]:
    """Start a worker in a process group of its own; it dies with this process."""
    with ExitStack() as files:
        stdout = files.enter_context(append_to_log(attempt_dir / "stdout"))
        stderr = files.enter_context(append_to_log(attempt_dir / "stderr"))
        return subprocess.Popen(
            argv,
            env=environment,
            cwd=attempt_dir,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
            umask=0o077,
            preexec_fn=partial(die_with, os.getpid()),
        )


def _refused_by_container(returncode: int, command: Command, *, attempt_dir: Path) -> str | None:
    """Return why Apptainer did not start a worker that never began; ``None`` if it did start it."""
    if command.container is None or returncode != REFUSED_STATUS:
        return None
    log = read_log(attempt_dir / "stderr", largest_bytes=LOG_TAIL_BYTES)[0].decode(errors="replace")
    reason = [line for line in log.splitlines() if "FATAL" in line][-1:] or log.splitlines()[-1:]
    return f"the worker could not be started in `{command.container.image}`: {''.join(reason)}"


def _checkpoint_at(job_id: str, command: Command, *, started_at: float) -> float:
    """Return when to checkpoint: some time before the job's own is over.

    Slurm 23.02 and later sets the end in the environment; older versions are asked. Without an answer the end is the
    time limit that was asked for, from now on.
    """
    known = os.environ.get("SLURM_JOB_END_TIME")
    job_end = float(known) if known else Slurm(timeout_s=ASK_TIMEOUT_S).job_end(job_id)
    if job_end is None:
        job_end = started_at + command.wall_limit_s
    return job_end - min(CHECKPOINT_LEAD_S, max(0.0, job_end - started_at) / 5)
