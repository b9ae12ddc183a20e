"""What a search draws, given its profile: prior, constraints, generations. Reads stores and writes nothing.

The driver and ``plan`` both ask here, so that what is planned is what a run then draws.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xautolm_hpc import priors, sample
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.driver.budget import trials_left
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.execution import AS_DRAWN
from xautolm_hpc.jobdir import ProfileResult, TrialPlan
from xautolm_hpc.records import Pipeline, System
from xautolm_hpc.store import CheckLimits, ExperienceStore, Finding
from xautolm_hpc.table import ExperienceTable
from xautolm_hpc.task_kinds import TRAINABLE_FAMILIES


def read_stores(setup: Setup, *, on_finding: Callable[[Finding], None] | None = None) -> ExperienceTable:
    """Read the past experiences of every store the search file names.

    Args:
        setup: What the search is run with.
        on_finding: Is told of every segment that is left out.

    Raises:
        StoreError: A store is damaged.
    """
    store = setup.search.store
    paths = [Path(path) for path in (store.path, *store.also_read)]
    return ExperienceStore.read_tables(paths, limits=CheckLimits.of(store.check), on_finding=on_finding)


def prior_content(setup: Setup, profile: ProfileResult) -> dict[str, Any]:
    """Turn past experiences into what the search begins with: the content of ``priors.json``.

    Args:
        setup: What the search is run with.
        profile: The task and the system.

    Raises:
        StoreError: A store is damaged.
    """
    search = setup.search
    return priors.prior_content(
        read_stores(setup),
        setup.space,
        task=profile.task,
        system=profile.system,
        settings=priors.PriorSettings(objectives=search.search.objectives, **search.prior.model_dump()),
        models=load_catalogue(),
    )


def measure_slowness(setup: Setup, profile: ProfileResult) -> float | None:
    """Say how much longer than estimated past trials took on such nodes; ``None`` if too few tell.

    Raises:
        StoreError: A store is damaged.
    """
    return sample.measured_slowness(read_stores(setup), setup.space, system=profile.system)


def read_ranking(setup: Setup, profile: ProfileResult, *, content: Mapping[str, Any]) -> priors.Ranking | None:
    """Rebuild what chooses among draws; ``None`` for a prior that leaves the draws alone.

    Args:
        setup: What the search is run with.
        profile: The task and the system.
        content: The content of ``priors.json``.

    Raises:
        InputError: The content belongs to another search space.
    """
    objectives = setup.search.search.objectives
    scene = priors.make_scene(
        setup.space, models=load_catalogue(), task=profile.task, system=profile.system, objectives=objectives
    )
    return priors.ranking_from_json(content, scene, where=str(setup.run_dir.prior_path))


def build_constraints(
    setup: Setup, profile: ProfileResult, *, slowness: float | None = None
) -> Sequence[sample.Constraint]:
    """Build what refuses pipelines that cannot run.

    Args:
        setup: What the search is run with.
        profile: The task and the system.
        slowness: How much longer than estimated trials take on such nodes; ``None`` if nobody knows.
    """
    allowance = sample.Allowance(
        time_limit_s=setup.search.trial.time_limit_min * 60,
        memory_bytes=setup.resources().memory_bytes,
        room=_room(setup, profile.system),
        slowness=slowness or 1.0,
    )
    return sample.build_constraints(
        profile.task,
        _whole_job(setup, profile.system),
        allowance=allowance,
        trainable_families=TRAINABLE_FAMILIES[setup.search.task.kind],
    )


def refuse_infeasible_space(setup: Setup, constraints: Sequence[sample.Constraint]) -> None:
    """Refuse a space in which next to nothing can run.

    Raises:
        SpaceError: It is one; names the constraints that refuse most.
    """
    found = sample.check_feasible(setup.space, constraints, seed=setup.search.search.seed)
    if not found.is_feasible:
        raise SpaceError(sample.infeasible_message(found))


def draw_generation(
    setup: Setup, proposal: sample.Proposal, *, constraints: Sequence[sample.Constraint], known: Sequence[Pipeline]
) -> sample.Drawn:
    """Draw the next generation.

    Args:
        setup: What the search is run with.
        proposal: What to draw from.
        constraints: What may refuse a pipeline.
        known: The pipelines of all earlier trials, in order.
    """
    search, first_trial = setup.search.search, len(known)
    n_trials = trials_left(setup.limits(), first_trial, population=search.population)
    return sample.draw_generation(
        proposal,
        setup.space,
        trials=range(first_trial, first_trial + n_trials),
        seed=search.seed,
        constraints=[sample.not_drawn_before(known), *constraints],
    )


def plan_trial(setup: Setup, number: int, *, profile: ProfileResult, pipeline: Pipeline) -> TrialPlan:
    """Say what a trial trains, and how it does so in the memory there is.

    Args:
        setup: What the search is run with.
        number: Number of the trial.
        profile: The task and the system.
        pipeline: What was drawn for it.

    Raises:
        SpaceError: Its model is not in the search space.
    """
    model = setup.space.model(pipeline.model_id)
    if model is None:
        raise SpaceError(f"trial {number}: model {pipeline.model_id!r} is not in the search space")
    seed = sample.training_seed(setup.search.search.seed, number)
    room = _room(setup, profile.system)
    execution = sample.fit_execution(pipeline, model, task=profile.task, room=room) or AS_DRAWN
    return TrialPlan(pipeline=pipeline, model=model, seed=seed, execution=execution, hf_home=setup.hf_home)


def _whole_job(setup: Setup, system: System) -> System:
    """Give the cores and GPUs of all nodes of a job, as if they were of one."""
    n, cores, gpus = setup.profile.job.n_nodes, system.n_cpu_cores, system.n_gpus
    return replace(system, n_cpu_cores=cores and cores * n, n_gpus=gpus and gpus * n)


def _room(setup: Setup, system: System) -> sample.Room:
    """Say what memory the processes of a trial have on nodes such as the profile job met."""
    n_nodes, host_bytes = setup.profile.job.n_nodes, setup.resources().memory_bytes
    return sample.Room.of(system, host_bytes=host_bytes, n_processes=setup.n_processes(), n_nodes=n_nodes)
