"""The profile job: the run's first, which measures the task and the node and writes the split."""

import hashlib
import shutil
from itertools import count
from pathlib import Path

from xautolm_hpc.driver.jobs import Jobs
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json, set_aside, write_json
from xautolm_hpc.errors import DataError, InputError, InterruptedSearchError, RunFolderError
from xautolm_hpc.failures import FailureOrigin
from xautolm_hpc.jobdir import COMMAND, PROFILE, PROFILE_RESULT, SPLITS, End, ProfileResult, split_path, to_wire
from xautolm_hpc.model_check import MODELS
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.attempt_end import read_end


def profile_task(setup: Setup, jobs: Jobs) -> ProfileResult:
    """Run the profile job unless it has run; a failure under an earlier driver is tried again.

    Raises:
        DataError: The data cannot be learnt from, or the job failed as often as it may.
        RunFolderError: What an earlier job measured is damaged, and the data has changed since.
        InterruptedSearchError: The person interrupted it.
    """
    n_tries = 0
    for number in count():
        path = setup.run_dir.profile_attempt_dir(number)
        if path.exists() and not jobs.has_submitted(_job_name(number)):
            continue  # of a beginning that was given up; its job may still be writing
        earlier = read_end(path)
        end = earlier or _run_job(setup, jobs, path=path, number=number)
        result = _read_result(setup, path) if end.outcome.succeeded else None
        if result is not None:
            return _with_split(setup, result, path=path)
        n_tries += earlier is None
        if earlier is not None:
            continue
        if end.outcome.origin is FailureOrigin.PIPELINE or n_tries >= setup.search.trial.max_attempts:
            break
        if setup.n_interrupts():
            raise InterruptedSearchError("interrupted before the task was profiled; the same command goes on")
    raise DataError(end.outcome.message or f"the profile job failed without a message; see `{path}/stderr`")


def _keep_split(setup: Setup, jobs: Jobs) -> None:
    """Copy the split of a run that has trials before the data is profiled again: they go on with that one."""
    kept = setup.run_dir.kept_data_dir
    if jobs.history.trials and setup.run_dir.data_dir.exists() and not kept.exists():
        aside = kept.with_name(f".{kept.name}")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(setup.run_dir.data_dir, aside)
        aside.rename(kept)


def _read_result(setup: Setup, path: Path) -> ProfileResult | None:
    """Read what a profile job measured; ``None`` if that is damaged, and can be measured again."""
    where = path / PROFILE_RESULT
    try:
        return from_json(ProfileResult, read_json(where), where=f"`{where}`")
    except (OSError, InputError) as error:
        setup.watcher.log(f"{error}. It holds what the profile job measured: the task is profiled again")
        return None


def _with_split(setup: Setup, result: ProfileResult, *, path: Path) -> ProfileResult:
    """Make sure that a repeated profile job made the split that the trials of the run had."""
    kept = setup.run_dir.kept_data_dir
    if not kept.exists():
        return result
    files = {split: split_path(kept, split) for split in SPLITS if split_path(kept, split).exists()}
    if all(hashlib.sha256(file.read_bytes()).hexdigest() == result.sha256.get(split) for split, file in files.items()):
        shutil.rmtree(kept)
        return result
    for split, file in files.items():
        file.replace(split_path(setup.run_dir.data_dir, split))
    shutil.rmtree(kept)
    set_aside(path / PROFILE_RESULT)
    raise RunFolderError(
        f"`{setup.search.data.path or setup.search.data.hub}` has changed since the search began, and what was "
        f"measured then can no longer be read in `{path.parent}`: put the data back, or begin a new search with: run "
        "--fork NEWNAME"
    )


def _run_job(setup: Setup, jobs: Jobs, *, path: Path, number: int) -> End:
    _keep_split(setup, jobs)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_json(path / PROFILE, to_wire(setup.profile_request()))
    write_json(path / COMMAND, to_wire(setup.profile_command()))
    write_json(path / MODELS, to_json(setup.model_check_request()))
    return jobs.run_single(path, setup.one_node(), name=_job_name(number))


def _job_name(number: int) -> str:
    """Name a profile job within its run."""
    return f"profile-{number}"
