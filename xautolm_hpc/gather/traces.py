"""What an attempt that left no outcome has left behind: claims, exit files, heartbeats, logs."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.durable import read_json, read_log
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import OutcomeStatus, origin_of
from xautolm_hpc.image import Container
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    OUTCOME,
    Claim,
    Command,
    End,
    Exit,
    Heartbeat,
    claim_path,
    exit_path,
    heartbeat_path,
    heartbeat_paths,
    read_whole,
    restarts,
)
from xautolm_hpc.launcher import JobStatus
from xautolm_hpc.records import Outcome, from_json

N_TAIL_LINES = 50
TAIL_BYTES = 64 * 1024
LARGEST_OUTCOME_BYTES = 16 * 1024**2
"""Size of ``outcome.json`` above which it is not read; a worker cuts its message and writes far less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything a verdict is given on.

    Attributes:
        state: State of the job, from the launcher.
        claims: Claims by restart, ascending.
        exit: Exit file of the last restart, or ``None``; that of a job of several attempts, where it was ended during
            this one.
        exits: Exit files of all restarts that have one.
        heartbeats: Heartbeats of all restarts that have one.
        log_tail: Last lines of the worker's stderr, redacted; "" if there is none.
        launch_log: Last lines of the launcher's own programs, redacted; Slurm's node writes there why it ended a job.
        time_limit_s: The trial's own budget, or ``None`` if unknown.
        container: The image it ran in, or ``None``.
        delay_s: Seconds by which others on a node delayed the trial, over all restarts; ``None`` if that is unknown.
        damaged: Why ``outcome.json`` cannot be read, or ``None`` if there is none.
        given_up: Why the job was cancelled after it had waited in vain, or ``None``.
    """

    state: JobStatus
    claims: tuple[Claim, ...] = ()
    exit: Exit | None = None
    exits: tuple[Exit, ...] = ()
    heartbeats: tuple[Heartbeat, ...] = ()
    log_tail: str = ""
    launch_log: str = ""
    time_limit_s: float | None = None
    container: Container | None = None
    delay_s: float | None = None
    damaged: str | None = None
    given_up: str | None = None

    @property
    def train_s(self) -> float | None:
        """Seconds of training over all restarts, or ``None`` without a heartbeat."""
        return sum(beat.train_s for beat in self.heartbeats) if self.heartbeats else None

    @property
    def elapsed_s(self) -> float:
        """Seconds that the worker ran or trained over all restarts, whichever is more; 0 if nothing tells."""
        return max(sum(ended.ended_at - ended.started_at for ended in self.exits), self.train_s or 0.0)


def read_outcome(attempt_dir: Path, check: Callable[[End], None]) -> tuple[End | None, str | None]:
    """Read ``outcome.json``, the folder opened anew so that no stale cache of a file server answers.

    Args:
        attempt_dir: The attempt's folder.
        check: Raises an error for an end that cannot be stored.

    Returns:
        The outcome, or ``None``; and why the file cannot be read, or ``None`` if there is none or it can.
    """
    path = attempt_dir / OUTCOME
    try:
        if OUTCOME not in os.listdir(attempt_dir):  # noqa: PTH208 - opens the folder now, all at once
            return None, None
        end = from_json(End, read_json(path, largest_bytes=LARGEST_OUTCOME_BYTES), where=str(path))
        _check_words(end.outcome, path)
        check(end)
    except FileNotFoundError:
        return None, None
    except (InputError, OSError) as error:
        return None, str(error)
    return end, None


def read_evidence(
    attempt_dir: Path, state: JobStatus, *, redact: Callable[[str], str], check: Callable[[End], None]
) -> Evidence:
    """Collect what an attempt left behind; what is missing or damaged is left out.

    Args:
        attempt_dir: The attempt's folder; it may be gone.
        state: State of the job, from the launcher.
        redact: Takes secrets out of a text.
        check: Raises an error for an end that cannot be stored.
    """
    claimed = restarts(attempt_dir) if attempt_dir.is_dir() else []
    claims = [read_whole(Claim, claim_path(attempt_dir, r)) for r in claimed]
    exits = {r: ended for r in claimed if (ended := read_whole(Exit, exit_path(attempt_dir, r))) is not None}
    by_restart = [[read_whole(Heartbeat, path) for path in heartbeat_paths(attempt_dir, r)] for r in claimed]
    command = read_whole(Command, attempt_dir / COMMAND)
    of_job = None if state.job_dir is None else last_exit(state.job_dir)
    return Evidence(
        state=state,
        claims=tuple(claim for claim in claims if claim is not None),
        exit=_deciding_exit(exits.get(claimed[-1]) if claimed else None, of_job),
        exits=tuple(exits.values()),
        heartbeats=tuple(beat for beats in by_restart for beat in beats if beat is not None),
        log_tail=redact(read_tail(attempt_dir / "stderr")),
        launch_log=redact("\n".join(filter(None, map(read_tail, state.log_paths)))),
        time_limit_s=None if command is None else command.time_limit_s,
        container=None if command is None else command.container,
        delay_s=_total_delay_s(by_restart),
        damaged=read_outcome(attempt_dir, check)[1],
    )


def read_tail(path: Path) -> str:
    """Read the last lines of a log, at most 50 lines and 64 KiB; "" if there is none."""
    try:
        text = read_log(path, largest_bytes=TAIL_BYTES)[0].decode(errors="replace")
    except (OSError, InputError):
        return ""
    lines = [line.rpartition("\r")[2].rstrip() for line in text.split("\n")]  # a progress bar's last stand
    return "\n".join([line for line in lines if line][-N_TAIL_LINES:])


def last_heartbeat(attempt_dir: Path) -> Heartbeat | None:
    """Read the newest heartbeat of an attempt, or ``None``."""
    claimed = restarts(attempt_dir) if attempt_dir.is_dir() else []
    return read_whole(Heartbeat, heartbeat_path(attempt_dir, claimed[-1])) if claimed else None


def last_exit(attempt_dir: Path) -> Exit | None:
    """Read how the last restart of an attempt ended, or ``None``."""
    claimed = restarts(attempt_dir) if attempt_dir.is_dir() else []
    return read_whole(Exit, exit_path(attempt_dir, claimed[-1])) if claimed else None


def _deciding_exit(own: Exit | None, of_job: Exit | None) -> Exit | None:
    """Choose the exit file that says how an attempt ended: its own, unless its job was ended while it ran."""
    if own is None:
        return of_job
    is_checkpoint = own.returncode == CHECKPOINT_EXIT_STATUS and own.ended_by is None
    return of_job if is_checkpoint and of_job is not None and of_job.ended_by is not None else own


def _check_words(outcome: Outcome, path: Path) -> None:
    if outcome.status == OutcomeStatus.STOPPED:
        raise InputError(f"`{path}`: no worker writes status {outcome.status.value!r}; valid: succeeded, failed")
    if outcome.status == OutcomeStatus.FAILED:
        origin_of(outcome.kind)


def _total_delay_s(by_restart: Iterable[Iterable[Heartbeat | None]]) -> float | None:
    """Add up the delays of all restarts; of several nodes the most delayed one holds up the others."""
    known = [[beat.delay_s for beat in beats if beat is not None and beat.delay_s is not None] for beats in by_restart]
    return sum(max(delays) for delays in known if delays) if any(known) else None
