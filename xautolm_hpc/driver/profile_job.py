"""The profile job: the run's first, which measures the task and the node and writes the split."""

from itertools import count
from pathlib import Path

from xautolm_hpc.driver.jobs import Jobs
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError, InterruptedSearchError
from xautolm_hpc.failures import FailureOrigin
from xautolm_hpc.jobdir import COMMAND, PROFILE, PROFILE_RESULT, End, ProfileResult, to_wire
from xautolm_hpc.model_check import MODELS
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.attempt_end import find_end


def profile_task(setup: Setup, jobs: Jobs) -> ProfileResult:
    """Run the profile job unless it has run; a failure under an earlier driver is tried again.

    Raises:
        DataError: The data cannot be learnt from, or the job failed as often as it may.
        InterruptedSearchError: The person interrupted it.
    """
    n_tries = 0
    for number in count():
        path = setup.run_dir.profile_attempt_dir(number)
        if path.exists() and not jobs.has_submitted(_job_name(number)):
            continue  # of a beginning that was given up; its job may still be writing
        earlier = find_end(path)
        end = earlier or _run_job(setup, jobs, path=path, number=number)
        if end.outcome.succeeded:
            where = path / PROFILE_RESULT
            return from_json(ProfileResult, read_json(where), where=str(where))
        n_tries += earlier is None
        if earlier is not None:
            continue
        if end.outcome.origin is FailureOrigin.PIPELINE or n_tries >= setup.search.trial.max_attempts:
            break
        if setup.n_interrupts():
            raise InterruptedSearchError("interrupted before the task was profiled; the same command goes on")
    raise DataError(end.outcome.message or f"the profile job failed without a message; see `{path}/stderr`")


def _run_job(setup: Setup, jobs: Jobs, *, path: Path, number: int) -> End:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path / PROFILE, to_wire(setup.profile_request()))
    write_json(path / COMMAND, to_wire(setup.profile_command()))
    write_json(path / MODELS, to_json(setup.model_check_request()))
    return jobs.run_single(path, setup.one_node(), name=_job_name(number))


def _job_name(number: int) -> str:
    """Name a profile job within its run."""
    return f"profile-{number}"
