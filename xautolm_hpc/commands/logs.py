"""``logs``: print the output of a trial."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from xautolm_hpc.commands.status import profile_of, take_snapshot
from xautolm_hpc.durable import read_log
from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import MEMBERS, VERDICT, Claim, claim_path, read_members, read_whole, restarts
from xautolm_hpc.launcher import GROUPS, JobStatus, read_groups
from xautolm_hpc.records import Outcome
from xautolm_hpc.report import escape_controls
from xautolm_hpc.run.attempt_end import read_end
from xautolm_hpc.run.folder import RunDir, find_run, submission_dir_beside, submission_dirs_in, trial_number
from xautolm_hpc.run.progress import read_exit

POLL_S = 0.5
STATE_POLL_S = 15.0
"""Seconds between two queries of the job's state; its files are read every :data:`POLL_S` seconds."""

PROFILE = "profile"
FILES = ("stdout", "stderr")
LARGEST_BYTES = 16 * 1024**2
"""Bytes of a log that are printed at one time, its last ones."""


def run(arguments: argparse.Namespace) -> int:
    """Print stdout and stderr of an attempt; with ``--follow``, until the attempt has ended."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    attempt_dir = _attempt_dir(run_dir, arguments.trial, attempt=arguments.attempt)
    positions = _print_new(attempt_dir, dict.fromkeys(FILES, 0))
    if arguments.follow:
        profile = profile_of(run_dir)

        def state() -> JobStatus | None:
            return take_snapshot(run_dir, profile, environ=arguments.environ).states.get(attempt_dir)

        positions = _follow(attempt_dir, positions, state=state)
    end = read_end(attempt_dir)
    has_output = any(positions.values())
    if not has_output:
        _log(f"`{attempt_dir}`: no output yet" if end is None else f"`{attempt_dir}`: the worker left no output")
    if not has_output or (attempt_dir / VERDICT).exists():
        _print_launcher_logs(attempt_dir)
    if end is not None:
        _explain(end.outcome, has_output=has_output)
    elif (ended := read_exit(attempt_dir)) is not None:
        why = ": ".join(filter(None, [ended.ended_by or f"exit status {ended.returncode}", ended.message]))
        _log(f"its worker ended: {why}; no verdict yet")
    return 0


def _explain(outcome: Outcome, *, has_output: bool) -> None:
    """Print why an attempt ended and, where its logs are gone, what its record keeps of them."""
    lines = [line.strip() for line in (outcome.message or "").splitlines() if line.strip()]
    if not has_output:
        sys.stdout.writelines(f"{escape_controls(line)}\n" for line in lines if line != outcome.reason)
        sys.stdout.flush()
    is_cancelled = outcome.kind == FailureKind.CANCELLED
    kind = f", {outcome.kind} ({outcome.origin})" if outcome.kind and not is_cancelled else ""
    why = f": {outcome.reason}" if outcome.reason else ""
    _log(f"ended: {FailureKind.CANCELLED if is_cancelled else outcome.status}{kind}{why}")


def _follow(attempt_dir: Path, positions: dict[str, int], *, state: Callable[[], JobStatus | None]) -> dict[str, int]:
    """Print new output and changes of the job's state, until the attempt has ended or its job is gone."""
    last_text, next_poll = "", time.monotonic()
    is_gone = False
    while read_end(attempt_dir) is None and not is_gone:
        if time.monotonic() >= next_poll:
            now = state()
            is_gone = now is not None and not now.is_alive
            text = "" if now is None else f"{now.state} {now.reason}".strip()
            if text != last_text:
                _log(f"job: {text}")
            last_text, next_poll = text, time.monotonic() + STATE_POLL_S
        time.sleep(POLL_S)
        positions = _print_new(attempt_dir, positions)
    return _print_new(attempt_dir, positions)


def _attempt_dir(run_dir: RunDir, trial: str, *, attempt: int | None) -> Path:
    """Find the folder of a trial's attempt, or of the profile job's; the last one by default."""
    if trial != PROFILE and not trial.isdecimal():
        raise InputError(f"trial {trial!r}: expected a trial number, or {PROFILE} for the profile job")
    found = run_dir.profile_attempt_dirs() if trial == PROFILE else run_dir.trial_attempt_dirs(int(trial))
    if not found:
        numbers = sorted({trial_number(path) for path in run_dir.attempt_dirs()})
        span = f"{numbers[0]} to {numbers[-1]}" if numbers else "none yet"
        raise InputError(f"run `{run_dir.path}` has no trial {trial}; trials: {span}")
    if attempt is None:
        return found[-1]
    if attempt >= len(found):
        raise InputError(f"trial {trial} has no attempt {attempt}; attempts: 0 to {len(found) - 1}")
    return found[attempt]


def _print_new(attempt_dir: Path, positions: dict[str, int]) -> dict[str, int]:
    """Print what was added to the files since ``positions``; return the new positions, without what is no log."""
    found = {name: _print_file(attempt_dir / name, position) for name, position in positions.items()}
    return {name: position for name, position in found.items() if position is not None}


def _print_file(path: Path, position: int, *, title: str = "") -> int | None:
    """Print a log from a position on; return the new one, or ``None`` if it is no log."""
    try:
        content, begin = read_log(path, start=position, largest_bytes=LARGEST_BYTES)
    except FileNotFoundError:
        return position
    except (OSError, InputError) as error:
        _log(f"{error}: left out")
        return None
    if title and content.strip():
        _log(title)
    if begin > position:
        _log(f"`{path}`: {begin - position:,} bytes are left out before this")
    sys.stdout.write(escape_controls(content.decode(errors="replace")))
    sys.stdout.flush()
    return begin + len(content)


def _print_launcher_logs(attempt_dir: Path) -> None:
    """Print what the launcher's own programs said of an attempt's job."""
    for path in _launcher_logs(attempt_dir):
        _print_file(path, 0, title=f"the launcher's `{path}`:")


def _launcher_logs(attempt_dir: Path) -> list[Path]:
    """List the launcher's error logs of an attempt's jobs, by the names that submitit and the local pool give them."""
    folders = [submission_dir_beside(attempt_dir), *submission_dirs_in(attempt_dir.parents[1])]
    found: list[Path] = []
    for folder in folders:
        try:
            members = read_members(folder / MEMBERS)
        except (OSError, InputError):
            continue
        if attempt_dir not in members:
            continue
        groups = read_groups(folder)
        job_dirs, where = (list(groups), folder / GROUPS) if groups else (members, folder)
        job_dir = next((group for group, shared in groups.items() if attempt_dir in shared), attempt_dir)
        names = [f"*_{job_dirs.index(job_dir)}_0_log.err", *_names_by_claim(job_dir)]
        names += ["*_0_log.err"] if len(job_dirs) == 1 else []
        names += [] if restarts(job_dir) else ["launch.log"]
        found += [path for name in names for path in sorted(where.glob(name))]
        found += sorted(job_dir.glob("stderr")) if groups else []
    return list(dict.fromkeys(found))


def _names_by_claim(attempt_dir: Path) -> list[str]:
    paths = [claim_path(attempt_dir, restart) for restart in restarts(attempt_dir)] if attempt_dir.is_dir() else []
    claims = [claim for path in paths if (claim := read_whole(Claim, path)) is not None]
    return [f"{name}_0_log.err" for claim in claims for name in (claim.job_id, claim.pid)]


def _log(line: str) -> None:
    sys.stderr.write(f"logs: {escape_controls(line)}\n")
    sys.stderr.flush()
