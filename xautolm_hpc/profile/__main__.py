"""Profile the task of an attempt folder: ``python -m xautolm_hpc.profile ATTEMPT_DIR``, on a compute node.

Reads ``profile.json`` and ``command.json``; writes the split, ``profile-result.json`` and ``outcome.json``. Exit
status 0, or 2 if the data is at fault. A crash writes no outcome; gather then reads the exit file and the log.
"""

import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import xautolm_hpc
from xautolm_hpc import durable, jobdir
from xautolm_hpc.errors import InputError
from xautolm_hpc.execution import StepMeasures
from xautolm_hpc.failures import OutcomeStatus, origin_of
from xautolm_hpc.jobdir import Command, End, ProfileRequest, ProfileResult
from xautolm_hpc.model_check import MODELS, NotCheckedError, ask_worker, refuse_unfit
from xautolm_hpc.node import Clock, SystemClock, measure_system, node_name
from xautolm_hpc.profile.task import profile_task
from xautolm_hpc.records import Outcome, System, from_json


def main(arguments: list[str], *, clock: Clock) -> int:
    """Profile the task of one attempt folder, write its outcome and return the exit status."""
    if len(arguments) != 1:
        _log("usage: python -m xautolm_hpc.profile ATTEMPT_DIR")
        return 2
    attempt_dir = Path(arguments[0])
    started_at = clock.now()
    system: System | None = None
    try:
        request_data = durable.read_json(attempt_dir / jobdir.PROFILE)
        command_data = durable.read_json(attempt_dir / jobdir.COMMAND)
        request = from_json(ProfileRequest, request_data, where=jobdir.PROFILE)
        command = from_json(Command, command_data, where=jobdir.COMMAND)
        system = measure_system(command.site, command.cluster, visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"))
        result = profile_task(request, system=system, log=_log)
        result = _with_models(result, attempt_dir)
    except InputError as error:
        _log(str(error))
        _write_end(attempt_dir, _failure(error), system=system, started_at=started_at, ended_at=clock.now())
        return error.exit_status
    reader = jobdir.protocol_of_driver(os.environ)
    durable.write_json(attempt_dir / jobdir.PROFILE_RESULT, jobdir.to_wire(result, reader=reader))
    ended_at = clock.now()
    outcome = _success(ended_at - started_at)
    _write_end(attempt_dir, outcome, system=system, started_at=started_at, ended_at=ended_at)
    return 0


def _with_models(result: ProfileResult, attempt_dir: Path) -> ProfileResult:
    """Check the models of the search with this very interpreter; add notes for the user and what it measured.

    Raises:
        InputError: The files of a model do not fit together.
    """
    if not (attempt_dir / MODELS).exists():  # as of a driver that does not ask for it
        return result
    try:
        answer = ask_worker([sys.executable], attempt_dir)
    except NotCheckedError as error:
        _log(str(error))
        return replace(result, notes=(*result.notes, str(error)))
    refuse_unfit(answer.findings)
    notes = [note for finding in answer.findings for note in finding.notes]
    for note in notes:
        _log(note)
    return replace(
        result,
        notes=(*result.notes, *notes),
        measures=StepMeasures(
            speed=answer.speed,
            attention={finding.model: finding.attention for finding in answer.findings if finding.attention},
            costs={finding.model: finding.costs for finding in answer.findings if finding.costs},
        ),
    )


def _success(load_s: float) -> Outcome:
    return Outcome(
        status=OutcomeStatus.SUCCEEDED,
        load_s=load_s,
        train_s=0.0,  # nothing was trained: known, hence 0
        eval_s=0.0,
        evaluation_time_s=0.0,
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


def _failure(error: InputError) -> Outcome:
    kind = "data_unavailable" if isinstance(error.__cause__, OSError) else "error"
    return Outcome(status=OutcomeStatus.FAILED, kind=kind, origin=origin_of(kind), message=str(error))


def _write_end(
    attempt_dir: Path, outcome: Outcome, *, system: System | None, started_at: float, ended_at: float
) -> None:
    """Create ``outcome.json``, unless an earlier restart did."""
    end = End(
        outcome=outcome,
        system=system,
        restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
        started_at=started_at,
        ended_at=ended_at,
        node=node_name(),
        lock_hash=os.environ.get("XAUTOLM_LOCK_HASH") or None,
        image_digest=os.environ.get("XAUTOLM_IMAGE_DIGEST") or None,
        package_version=xautolm_hpc.__version__,
    )
    durable.create_json(attempt_dir / jobdir.OUTCOME, jobdir.to_wire(end, reader=jobdir.protocol_of_driver(os.environ)))


def _log(line: str) -> None:
    sys.stderr.write(f"profile: {line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], clock=SystemClock()))
