"""``plan``: show what ``run`` would do first, without side effects."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from xautolm_hpc import priors, report, sample
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.doctor import Site, job_check_key, recall_start_s
from xautolm_hpc.doctor.packages import check_worker_packages
from xautolm_hpc.driver.batches import plan_batches
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import make_launcher, slurm_launcher
from xautolm_hpc.driver.measured import check_measured, unmeasured_by_profile, unmeasured_on
from xautolm_hpc.driver.proposal import SearchProposer, read_stores
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.driver.start_up import StartUp, plan_start_up, start_up_notes
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError
from xautolm_hpc.jobdir import COMMAND, PROFILE, PROFILE_RESULT, ProfileResult, TrialPlan, to_wire
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.node import SystemClock
from xautolm_hpc.records import System, from_json, to_json
from xautolm_hpc.run.attempt_end import find_end
from xautolm_hpc.run.folder import RunDir, generation_job_name, single_job_name, submission_dir_beside
from xautolm_hpc.run.resume import has_trials, known_run_id
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.apptainer import container_argv
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.series_launcher import as_jobs
from xautolm_hpc.view import J_PER_KWH, Spent, charges, charges_text

NO_RUN_ID = "0" * 8
"""Placeholder in job names for the run id, which exists only once the run has started."""

FINDINGS = 4
N_LOG_LINES = 20
"""Last lines shown of a profile that crashed."""

TRIAL_FILES_BYTES = 2**16
"""Size of a trial's records and logs, without checkpoints."""


def run(arguments: argparse.Namespace) -> int:
    """Profile the data in a temporary folder, draw the first generation and show what would be submitted."""
    inputs = Inputs.load(
        Path(arguments.search),
        tuple(arguments.settings),
        environ=arguments.environ,
        has_trials=lambda name: has_trials(RunDir(Path(arguments.runs_dir) / name)),
    )
    run_dir = RunDir(Path(arguments.runs_dir).resolve() / inputs.search.name)
    inputs = inputs.for_run(run_dir)
    inputs.check()
    run_id = known_run_id(run_dir)
    exists = run_id is not None
    unmeasured = unmeasured_by_profile(inputs.profile, environ=arguments.environ)
    warnings = [] if exists else check_measured(inputs.search, unmeasured)
    clock, watcher = SystemClock(), report.NotedView()
    setup = inputs.setup(
        run_dir,
        run_id or NO_RUN_ID,
        launcher=make_launcher(inputs.profile, arguments.environ, clock=clock, since=clock.now()),
        clock=clock,
        watcher=watcher,
        n_interrupts=lambda: 0,
    )
    with tempfile.TemporaryDirectory(prefix="xautolm-plan-") as folder:
        plan = {"run_exists": exists, **_make_plan(setup, inputs, folder=Path(folder))}
        plan["notes"] += [*watcher.lines, *warnings]
    if arguments.json:
        print(json.dumps(plan, indent=1))
    else:
        report.print_plan(plan, Console())
    is_rejected = any(not array["accepted"] for array in plan["arrays"])
    return FINDINGS if is_rejected or plan["disk"]["peak_bytes"] > plan["disk"]["free_bytes"] else 0


def _make_plan(setup: Setup, inputs: Inputs, *, folder: Path) -> dict[str, Any]:
    """Run the steps before the first trial in a temporary folder."""
    profile = _profile_here(setup, inputs, folder=folder)
    data_bytes = sum(path.stat().st_size for path in (folder / "data").iterdir())
    warnings = [] if setup.run_dir.run_path.exists() else check_measured(setup.search, unmeasured_on(profile.system))
    proposer = SearchProposer(setup, profile, past=read_stores(setup))
    drawn = proposer.propose([], [])
    foreseen = [proposer.foresee(trial) for trial in drawn.plans]
    start_up = _start_up(setup, foreseen, is_calibrated=proposer.prior.slowness is not None)
    return {
        "name": setup.search.name,
        "run_dir": str(setup.run_dir.path),
        "task": to_json(profile.task),
        "system": to_json(profile.system),
        "notes": [
            *profile.notes,
            *_notes(setup.profile),
            *_cost_notes(setup),
            *start_up_notes(
                start_up,
                has_one_process=setup.has_one_process(),
                population=setup.search.search.population,
                n_parallel=_n_parallel(setup),
            ),
            *warnings,
        ],
        "start_up": None if start_up is None else to_json(start_up),
        "prior": priors.shown(to_json(proposer.prior)),
        "trials": [{"trial": n, **to_wire(plan)} for n, plan in enumerate(drawn.plans)],
        "foreseen": [{"trial": n, **to_json(one)} for n, one in enumerate(foreseen)],
        "refusals": dict(drawn.rejections),
        "refusal_reasons": {name: list(reasons) for name, reasons in drawn.reasons.items()},
        "resources": to_json(_job_resources(setup)),
        "n_parallel": _n_parallel(setup),
        "disk": _disk(setup, drawn.plans, data_bytes=data_bytes),
        "worker_command": _worker_command(setup, profile),
        "arrays": _arrays(setup, inputs, trials=range(len(drawn.plans)), folder=folder),
    }


def _profile_here(setup: Setup, inputs: Inputs, *, folder: Path) -> ProfileResult:
    """Profile the data in a child process on this machine; the system is taken from the cluster profile.

    Raises:
        DataError: The data cannot be profiled, or the child process failed.
    """
    attempt_dir = folder / "profile"
    attempt_dir.mkdir()
    request = replace(setup.profile_request(), data_dir=str(folder / "data"), cache_dir=str(folder / "cache"))
    command = setup.command("xautolm_hpc.profile")
    write_json(attempt_dir / PROFILE, to_json(request))
    write_json(attempt_dir / COMMAND, to_json(command))
    is_here = command.container is None and shutil.which(command.argv[0], path=command.environment.get("PATH"))
    argv = command.argv if is_here else (sys.executable, "-m", "xautolm_hpc.profile")
    log_path = attempt_dir / "log"
    with Console(stderr=True).status("profiling the data"), log_path.open("wb") as log:
        ended = subprocess.run(
            [*argv, str(attempt_dir)],
            env=dict(command.environment),
            cwd=attempt_dir,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    end = find_end(attempt_dir)
    if end is None:
        ended_so = _without_outcome(ended.returncode, log_path.read_text(errors="replace"))
        raise DataError("\n".join([ended_so, *_lacking_packages(inputs, folder)]))
    if not end.outcome.succeeded:
        raise DataError(end.outcome.message or "the data cannot be profiled")
    where = attempt_dir / PROFILE_RESULT
    result = from_json(ProfileResult, read_json(where), where=str(where))
    return replace(result, system=planned_system(setup.profile, result.system))


def _without_outcome(status: int, log: str) -> str:
    """Write how a profile that left no outcome ended, with the last lines it printed."""
    last = [report.escape_controls(line) for line in log.splitlines() if line.strip()][-N_LOG_LINES:]
    return "\n".join(
        [f"profiling the data ended with status {status}:", *(f"  {line}" for line in last or ["no output"])]
    )


def _lacking_packages(inputs: Inputs, folder: Path) -> list[str]:
    """Write which packages the worker's Python lacks, and what to do, as ``doctor`` does; none if it has them all."""
    site = Site(inputs=inputs, runs_dir=folder, slurm=Slurm(inputs.environ), settings=None, partitions=None)
    findings = check_worker_packages(site)
    return [f"{finding.found}: {finding.remedy}" for finding in findings if finding.remedy]


def planned_system(profile: ClusterProfile, here: System) -> System:
    """Return the node a trial will run on: ``[system]``, with no more GPUs than a job asks for.

    With the local launcher it is this machine, unless ``[system]`` is given.

    Args:
        profile: The cluster profile.
        here: This machine.
    """
    given = profile.system
    if profile.launcher == "local" and given == type(given)():
        return here
    n_gpus = profile.job.n_gpus if given.n_gpus is None else min(given.n_gpus, profile.job.n_gpus)
    return System(
        site=profile.site,
        cluster=profile.cluster,
        n_cpu_cores=given.n_cpu_cores,
        ram_bytes=_bytes(given.ram_gb),
        n_gpus=n_gpus,
        gpu_name=given.gpu_name if n_gpus else None,
        gpu_memory_bytes=_bytes(given.gpu_memory_gb) if n_gpus else None,
        gpu_capability=given.gpu_capability if n_gpus else None,
    )


def _bytes(gibibytes: float | None) -> int | None:
    return None if gibibytes is None else int(gibibytes * 2**30)


def _notes(profile: ClusterProfile) -> list[str]:
    """List what the plan could not estimate."""
    if profile.launcher == "slurm" and profile.system == type(profile.system)():
        return ["the cluster profile has no [system], so memory and time are not estimated; a run measures the node"]
    return []


def _cost_notes(setup: Setup) -> list[str]:
    """Write what a trial and the whole budget cost and emit at most, as far as the profile's ``[cost]`` tells."""
    rates, budget, of_trial = setup.profile.cost.model_dump(), setup.search.budget, setup.resources()
    trial_s = setup.search.trial.time_limit_min * 60 * of_trial.n_gpus * of_trial.n_nodes
    spans = {
        f"a trial that uses its whole time ({trial_s / 3600:.3g} GPU-hours)": Spent(gpu_s=trial_s),
        "the whole budget": Spent(gpu_s=(budget.gpu_h or 0.0) * 3600, energy_j=(budget.energy_kwh or 0.0) * J_PER_KWH),
    }
    found = {
        name: charges_text({key: value for key, value in charges(rates, spent).items() if value})
        for name, spent in spans.items()
    }
    return [f"{name} costs at most {' and '.join(texts)}" for name, texts in found.items() if texts]


def _job_resources(setup: Setup) -> Resources:
    """Return what a job of trials asks for: the time of all that it runs."""
    of_trial = setup.resources()
    return replace(of_trial, time_limit_s=of_trial.time_limit_s * setup.profile.job.trials_per_job)


def _start_up(setup: Setup, foreseen: Sequence[sample.Foresight], *, is_calibrated: bool) -> StartUp | None:
    """Compare the start-up of trials with their work, which is what is foreseen of them."""
    limit_s = setup.search.trial.time_limit_min * 60
    trials_s = [min(limit_s, one.seconds) for one in foreseen]
    start_s = recall_start_s(setup.run_dir.path.parent, job_check_key(setup.profile))
    return plan_start_up(
        trials_s,
        trials_per_job=setup.profile.job.trials_per_job,
        start_s=start_s,
        is_calibrated=is_calibrated,
    )


def _n_parallel(setup: Setup) -> int:
    profile = setup.profile
    return profile.local.n_slots if profile.launcher == "local" else profile.slurm.max_parallel


def _disk(setup: Setup, trials: Sequence[TrialPlan], *, data_bytes: int) -> dict[str, int]:
    """Estimate the peak size of the run folder.

    Each running trial may write a new checkpoint beside its last one; what a finished trial leaves is small.
    """
    sizes = sorted((sample.checkpoint_bytes(trial.pipeline, trial.model) for trial in trials), reverse=True)
    checkpoints = int(2 * sum(sizes[: _n_parallel(setup)]) + sum(sizes[_n_parallel(setup) :]))
    limits, population = setup.limits(), setup.search.search.population
    n_trials = limits.trials or (limits.generations or 1) * population
    return {
        "data_bytes": data_bytes,
        "checkpoint_bytes": checkpoints,
        "files_bytes": n_trials * TRIAL_FILES_BYTES,
        "peak_bytes": data_bytes + checkpoints + n_trials * TRIAL_FILES_BYTES,
        "free_bytes": shutil.disk_usage(_nearest_folder(setup.run_dir.path)).free,
    }


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _arrays(setup: Setup, inputs: Inputs, *, trials: Sequence[int], folder: Path) -> list[dict[str, Any]]:
    """Write the batch scripts of the profile job and the first generation, and ask Slurm whether it accepts them."""
    if setup.profile.launcher != "slurm":
        return []
    launcher = slurm_launcher(setup.profile, since=setup.clock.now())
    slurm, exports = Slurm(inputs.environ), wrapper_environment(inputs.environ)
    planned = []
    for number, submission in enumerate(map(as_jobs, _submissions(setup, trials))):
        script_path = folder / f"{number}.sh"
        script_path.write_text(launcher.sbatch_text(submission))
        accepted, answer = slurm.test_only(script_path, exports)
        planned.append(
            {
                "name": submission.name,
                "n_jobs": len(submission.attempt_dirs),
                "script": script_path.read_text(),
                "accepted": accepted,
                "said": answer,
            }
        )
    return planned


def _submissions(setup: Setup, trials: Sequence[int]) -> list[Submission]:
    """Build the submissions that a new run makes first, in the run folder it will have."""
    run_dir = setup.run_dir
    profile_dir = run_dir.profile_attempt_dir(0)
    profile_job = Submission(
        name=single_job_name(setup.run_id, "profile-0"),
        folder=submission_dir_beside(profile_dir),
        attempt_dirs=(profile_dir,),
        resources=setup.resources(),
    )
    batches = plan_batches(
        [(setup.resources(), trials)],
        setup.launcher.limits(),
        n_queued=0,
        n_parallel=0,
        trials_per_job=setup.profile.job.trials_per_job,
    )
    return [
        profile_job,
        *(
            Submission(
                name=generation_job_name(setup.run_id, 0, submission=number),
                folder=run_dir.submission_dir(0, number),
                attempt_dirs=tuple(run_dir.attempt_dir(0, trial, attempt=0) for trial in batch.members),
                resources=batch.resources,
                max_parallel=batch.max_parallel,
                trials_per_job=batch.trials_per_job,
            )
            for number, batch in enumerate(batches)
        ),
    ]


def _worker_command(setup: Setup, profile: ProfileResult) -> list[str]:
    """Build the command that a node runs for the first trial; the node creates the folder ``$SCRATCH``."""
    command = setup.template(profile).command
    attempt_dir = str(setup.run_dir.attempt_dir(0, 0, attempt=0))
    if command.container is None:
        return [*command.argv, attempt_dir]
    return container_argv(command.container, command.argv, attempt_dir=attempt_dir, scratch_dir="$SCRATCH")
