"""A warm worker: it imports the libraries once and forks a process for each trial of its job, one after the other.

A trial that crashes, exceeds a limit or is stopped leaves the others alone. The worker itself never opens a GPU: a
process that is forked after that cannot use it. What it has not begun when it ends is given back by the driver.
"""

import gc
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.durable import create_json, read_json
from xautolm_hpc.jobdir import (
    CHECKPOINT_EXIT_STATUS,
    COMMAND,
    MEMBERS,
    PROTOCOL,
    Claim,
    Command,
    Exit,
    claim_attempt,
    claim_path,
    exit_path,
    read_members,
    restarts,
)
from xautolm_hpc.node import become_subreaper
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.train.libraries import leave_out_scipy
from xautolm_hpc.train.series.card_memory import CardMemory
from xautolm_hpc.train.series.trial_process import TrialProcess
from xautolm_hpc.train.stop import StopFlag


def import_libraries() -> None:
    """Import what every trial needs; where that fails, each trial finds it out itself and leaves an outcome."""
    began_s = time.monotonic()
    try:
        leave_out_scipy()
        from xautolm_hpc.train import finetune, prepare
    except (ImportError, OSError, RuntimeError) as error:
        sys.stderr.write(f"series: the libraries cannot be imported: {error}\n")
        return
    names = f"{finetune.__name__}, {prepare.__name__}"
    gc.collect()
    gc.freeze()  # the collector of a forked process would else touch, and so copy, all that was imported
    sys.stderr.write(f"series: imported {names} in {time.monotonic() - began_s:.1f} s\n")


def run_series(
    folder: Path,
    run_one: Callable[[Path], int],
    *,
    stop: StopFlag,
    cards: CardMemory,
    prepare: Callable[[], None] = import_libraries,
    reader: int = PROTOCOL,
) -> int:
    """Run the trials of a job one after the other.

    Args:
        folder: Folder of the job: ``members.json``, and the claim of the job that runs it.
        run_one: Runs one trial and returns its exit status; called in a forked process.
        stop: Set by a signal: it is passed to the running trial, and no further trial begins.
        cards: The GPUs that the trials use.
        prepare: Is called once, before the first trial.
        reader: Protocol of the driver, which reads the claims.

    Returns:
        0 once nothing is left that this job may run, or where a trial still holds memory of a GPU: then the driver
        takes the rest back; 85 if a signal asked to stop and there is more to do.
    """
    claim = _own_claim(folder)
    become_subreaper()
    prepare()
    members = read_members(folder / MEMBERS)
    pids: set[int] = set()
    for attempt_dir in members:
        if not _is_due(attempt_dir, claim.restart):
            continue
        if stop.requested:
            return CHECKPOINT_EXIT_STATUS
        if not cards.wait_until_free(pids):
            sys.stderr.write("series: the trial before still holds memory of a GPU; the rest is given back\n")
            return 0
        begins = replace(claim, claimed_at=time.time(), job_started_at=claim.claimed_at)
        if claim_attempt(attempt_dir, begins, reader=reader):
            cards.note_level()
            ended = _run_trial(attempt_dir, run_one, stop=stop, pids=pids)
            if stop.requested and _is_cut_short(ended):
                return CHECKPOINT_EXIT_STATUS  # without an exit file: the end is the job's, which may be requeued
            create_json(exit_path(attempt_dir, claim.restart), to_json(ended))
            if stop.requested and ended.returncode == CHECKPOINT_EXIT_STATUS:
                return CHECKPOINT_EXIT_STATUS
    return 0


def _is_cut_short(ended: Exit) -> bool:
    """Check whether a signal from outside ended a trial."""
    return ended.ended_by is None and ended.returncode is not None and ended.returncode < 0


def _own_claim(folder: Path) -> Claim:
    """Read the claim by which the wrapper took this job."""
    path = claim_path(folder, restarts(folder)[-1])
    return from_json(Claim, read_json(path), where=str(path))


def _run_trial(attempt_dir: Path, run_one: Callable[[Path], int], *, stop: StopFlag, pids: set[int]) -> Exit:
    """Run one trial to its end; ``pids`` becomes the processes it had."""
    path = attempt_dir / COMMAND
    command = from_json(Command, read_json(path), where=str(path))
    process = TrialProcess.fork(attempt_dir, run_one, command=command)
    ended = process.wait(stop)
    pids.clear()
    pids.update(process.pids)
    return ended


def _is_due(attempt_dir: Path, restart: int) -> bool:
    """Check whether a trial may still need this job: one that ended before a requeue does not, one cut short does."""
    if not attempt_dir.is_dir():
        return False
    paths = [exit_path(attempt_dir, earlier) for earlier in restarts(attempt_dir) if earlier < restart]
    ends = [from_json(Exit, read_json(path), where=str(path)) for path in paths if path.exists()]
    return all(ended.returncode == CHECKPOINT_EXIT_STATUS and ended.ended_by is None for ended in ends)
