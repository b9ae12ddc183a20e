"""What a search tries next: its prior, its constraints, its draws. Reads stores and writes nothing but the prior.

The driver and ``plan`` both ask here, so that what is planned is what a run then draws.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import groupby
from pathlib import Path
from typing import Protocol

from xautolm_hpc import priors, sample
from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.distribution import Distribution, FrozenPrior
from xautolm_hpc.driver.additions import list_additions
from xautolm_hpc.driver.attempts import objectives_of
from xautolm_hpc.driver.budget import trials_left
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import set_aside
from xautolm_hpc.errors import RunFolderError, SpaceError
from xautolm_hpc.execution import AS_DRAWN, AtLimit, Foretelling, StepMode
from xautolm_hpc.jobdir import ProfileResult, TrialPlan
from xautolm_hpc.records import Pipeline, System, Task, from_json, to_json
from xautolm_hpc.run.history import KnownEnd
from xautolm_hpc.run.resume import has_trials, read_prior
from xautolm_hpc.store import CheckLimits, ExperienceStore, locate_store
from xautolm_hpc.table import ExperienceTable, is_censored
from xautolm_hpc.task_kinds import TASK_KINDS
from xautolm_hpc.view import Finish

Past = ExperienceTable | FrozenPrior
"""What a search begins with: past experiences, or the prior that it froze when it began."""


LEAST_SHARE, N_STEP_DRAWS = 0.2, 500
"""Share of draws that a preset's least steps must leave, else one step is enough; draws that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextTrials:
    """What is tried next.

    Attributes:
        plans: Plans of the next trials, in order of their numbers.
        rejections: Constraint -> draws it rejected.
        is_exhausted: Whether nothing could be drawn: the space is exhausted.
        reasons: Constraint -> some of its reasons.
    """

    plans: tuple[TrialPlan, ...]
    rejections: Mapping[str, int]
    is_exhausted: bool
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class Proposer(Protocol):
    """Decides which pipelines are tried; a search draws them, an evaluation takes them from a list."""

    @property
    def prior(self) -> FrozenPrior:
        """The content of ``priors.json``."""
        ...

    @property
    def is_search(self) -> bool:
        """Whether it compares trials by the objectives, and has always something to try."""
        ...

    def finish(self, n_drawn: int) -> Finish | None:
        """Return why nothing is left to propose after so many trials; ``None`` while something is."""
        ...

    def propose(
        self, drawn: Sequence[Pipeline], known: Sequence[KnownEnd], *, unfit: Collection[str] = ()
    ) -> NextTrials:
        """Propose the next generation.

        Args:
            drawn: Pipelines of all earlier trials, by trial.
            known: The ends that are known, by trial; nothing else is learnt from.
            unfit: Models whose files do not fit together.
        """
        ...


class MakeProposer(Protocol):
    """Builds a proposer once the task and the past are known."""

    def __call__(self, setup: Setup, profile: ProfileResult, *, past: Past) -> Proposer:
        """Build it."""
        ...


class SearchProposer:
    """Draws generations from the prior and what the search's own trials came to.

    Args:
        setup: What the search is run with.
        profile: The task and the system.
        past: Past experiences, or the prior as it was frozen.

    Raises:
        InputError: A setting names something unknown, or the frozen prior belongs to another search space.
    """

    is_search = True

    def __init__(self, setup: Setup, profile: ProfileResult, *, past: Past) -> None:
        self.setup = setup
        self.profile = profile
        self.prior = _compute_prior(setup, profile, table=past) if isinstance(past, ExperienceTable) else past
        self.ranking = _read_ranking(setup, profile, prior=self.prior)
        self.memory_budget = _memory_budget(setup, profile, corrections=self.prior.memory)
        self.constraints = _build_constraints(
            setup, profile, memory_budget=self.memory_budget, time_calibration=self.prior.slowness
        )
        self.start = Distribution.from_json(self.prior.distribution, setup.space)

    def finish(self, n_drawn: int) -> Finish | None:
        """Return ``None``: a search has always something to try."""
        del n_drawn
        return None

    def propose(
        self, drawn: Sequence[Pipeline], known: Sequence[KnownEnd], *, unfit: Collection[str] = ()
    ) -> NextTrials:
        """Draw the next generation.

        Args:
            drawn: Pipelines of all earlier trials, by trial.
            known: The ends that are known, by trial.
            unfit: Models whose files do not fit together; they are not drawn.

        Raises:
            SpaceError: Next to nothing in the space can run; found out before the first generation.
        """
        if not drawn:
            self._check_feasible()
        search, first = self.setup.search.search, len(drawn)
        n_trials = trials_left(self.setup.limits(), first, population=search.population)
        source, constraints = self._source(known), self._constraints_after(known)

        def draw(constraints: Sequence[sample.Constraint]) -> sample.Drawn:
            return sample.draw_generation(
                source,
                self.setup.space,
                trials=range(first, first + n_trials),
                seed=search.seed,
                constraints=[sample.ModelFits(frozenset(unfit)), sample.not_drawn_before(drawn), *constraints],
            )

        found = draw(constraints)
        if found.exhausted and constraints is not self.constraints:  # a forecast alone ends no search
            found = draw(self.constraints)
        plans = tuple(self._plan(number, pipeline) for number, pipeline in found.pipelines)
        return NextTrials(plans=plans, rejections=found.rejections, is_exhausted=found.exhausted, reasons=found.reasons)

    def foresee(self, plan: TrialPlan) -> sample.Foresight:
        """Return what is foreseen of a planned trial: its memory, its time, how it is executed."""
        return sample.foresee(plan.pipeline, plan.model, execution=plan.execution, constraints=self.constraints)

    def _constraints_after(self, known: Sequence[KnownEnd]) -> Sequence[sample.Constraint]:
        """Return the constraints, their forecast of time corrected by the search's own trials where that is obeyed."""
        if not known or self.setup.foretell() is not Foretelling.OBEY:
            return self.constraints
        results = [(end.pipeline, end.outcome) for end in known]
        return sample.recalibrate(self.constraints, results, space=self.setup.space)

    def _plan(self, number: int, pipeline: Pipeline) -> TrialPlan:
        min_steps = self.setup.early_stopping_min_steps()
        plan = plan_trial(
            self.setup, number, profile=self.profile, pipeline=pipeline, early_stopping_min_steps=min_steps
        )
        execution = sample.plan_execution(
            pipeline, plan.model, task=self.profile.task, memory_budget=self.memory_budget
        )
        return replace(plan, execution=execution or AS_DRAWN)

    def _check_feasible(self) -> None:
        seed, enough = self.setup.search.search.seed, sample.MIN_FEASIBLE_SHARE
        found = sample.check_feasible(self.setup.space, self.constraints, seed=seed, enough=enough)
        if not found.is_feasible:
            raise SpaceError(sample.infeasible_message(found))

    def _source(self, known: Sequence[KnownEnd]) -> sample.Proposal:
        """Build what the next generation is drawn from; a prior that ranks learns from all known ends."""
        is_cut = self.setup.at_limit() is AtLimit.EVALUATE
        results = [(end.pipeline, end.outcome) for end in known if not (is_cut and is_censored(end.outcome))]
        ranking = None if self.ranking is None else self.ranking.after(results)
        return sample.Proposal(
            distribution=self._distribution(known),
            epsilon=self.setup.search.search.epsilon,
            select=None if ranking is None else ranking.select,
            p_accept=None if ranking is None or self.prior.explores == "share" else ranking.p_accept,
        )

    def _distribution(self, known: Sequence[KnownEnd]) -> Distribution:
        """Recompute the search's distribution from the prior and the known ends, generation by generation."""
        search = self.setup.search.search
        evolution = sample.Evolution(
            population=search.population,
            selection=search.selection,
            learning_factor=search.learning_factor,
            objectives=search.objectives,
        )

        def learn(distribution: Distribution, ends: Sequence[KnownEnd]) -> Distribution:
            results = [(end.trial, end.pipeline, objectives_of(end.outcome, search.objectives)) for end in ends]
            return sample.update(distribution, self.setup.space, results=results, evolution=evolution)

        by_generation = sorted(known, key=lambda end: (end.generation, end.trial))
        generations = [list(ends) for _, ends in groupby(by_generation, key=lambda end: end.generation)]
        return reduce(learn, generations, self.start)


def read_past(setup: Setup) -> Past:
    """Read what the search begins with: the prior it froze, or all experiences of the stores it names.

    Raises:
        RunFolderError: The prior of a run that has trials is damaged; that of a run without any is computed again.
        StoreError: A store is damaged.
    """
    try:
        frozen = read_prior(setup.run_dir)
    except RunFolderError as error:
        if has_trials(setup.run_dir):
            raise
        frozen, _ = None, set_aside(setup.run_dir.prior_path)
        setup.watcher.log(f"{error}: it is computed again")
    return read_stores(setup) if frozen is None else frozen


def read_stores(setup: Setup) -> ExperienceTable:
    """Read the past experiences of every store the search file names.

    Raises:
        StoreError: A store is damaged.
    """
    store = setup.search.store
    for line in missing_stores(setup.search.store.also_read):
        setup.watcher.log(line)
    paths = [Path(store.path), *map(locate_store, store.also_read)]
    return ExperienceStore.read_tables(
        paths,
        limits=CheckLimits.of(store.check),
        on_finding=lambda found: setup.watcher.log(f"store: {found.message}"),
    )


def missing_stores(paths: Iterable[str]) -> list[str]:
    """Write a line for each store to be read that does not exist: a typing error would cost a prior."""
    return [
        f"store.also_read: `{path}` does not exist, so the prior learns nothing from it; correct the path, unless that "
        "store is yet to be made"
        for path in paths
        if not locate_store(path).exists()
    ]


def plan_trial(
    setup: Setup,
    number: int,
    *,
    profile: ProfileResult,
    pipeline: Pipeline,
    seed: int | None = None,
    early_stopping_min_steps: int = 0,
) -> TrialPlan:
    """Plan what a trial trains, and how it does so in the memory there is.

    Args:
        setup: What the search is run with.
        number: Number of the trial.
        profile: The task and the system.
        pipeline: What is tried.
        seed: Training seed; ``None`` takes the one that follows from the search's seed.
        early_stopping_min_steps: Optimiser steps after the warm-up before early stopping counts epochs; 0 counts all.

    Raises:
        SpaceError: Its model is not in the search space.
    """
    model = setup.space.model(pipeline.model_id)
    if model is None:
        raise SpaceError(f"trial {number}: model {pipeline.model_id!r} is not in the search space")
    memory_budget = _memory_budget(setup, profile)
    return TrialPlan(
        pipeline=pipeline,
        model=model,
        seed=sample.training_seed(setup.search.search.seed, number) if seed is None else seed,
        execution=sample.plan_execution(pipeline, model, task=profile.task, memory_budget=memory_budget) or AS_DRAWN,
        hf_home=setup.hf_home,
        early_stopping_min_steps=early_stopping_min_steps,
        step=setup.search.trial.step,
        at_limit=setup.at_limit().value,
        foretell=setup.foretell().value,
    )


def _compute_prior(setup: Setup, profile: ProfileResult, *, table: ExperienceTable) -> FrozenPrior:
    """Compute the prior from past experiences, and how much longer than estimated trials took on such nodes."""
    search = setup.search
    content = priors.prior_content(
        table,
        setup.space,
        task=profile.task,
        system=profile.system,
        settings=priors.PriorSettings(
            objectives=search.search.objectives, at_limit=setup.at_limit().value, **search.prior.model_dump()
        ),
        models=load_catalogue(),
    )
    known = sample.TimeKnowledge(
        system=profile.system, speed=profile.measures.speed, measured=_measured(setup, profile)
    )
    time_calibration = sample.measure_time_calibration(table, setup.space, system=profile.system, knowledge=known)
    memory = sample.measure_memory_corrections(table, setup.space, system=profile.system, measured=known.measured)
    additions = list_additions(setup, min_steps=_min_steps(setup, profile.task))
    found = {**content, "slowness": time_calibration, "memory": memory, "additions": additions}
    as_read = json.loads(json.dumps(found))  # as a resumed search reads it
    return from_json(FrozenPrior, as_read, where=str(setup.run_dir.prior_path))


def _read_ranking(setup: Setup, profile: ProfileResult, *, prior: FrozenPrior) -> priors.Ranking | None:
    """Rebuild what chooses among draws; ``None`` for a prior that leaves the draws alone."""
    objectives = setup.search.search.objectives
    context = priors.make_search_context(
        setup.space, models=load_catalogue(), task=profile.task, system=profile.system, objectives=objectives
    )
    return priors.ranking_from_json(to_json(prior), context, where=str(setup.run_dir.prior_path))


def _build_constraints(
    setup: Setup, profile: ProfileResult, *, memory_budget: sample.MemoryBudget, time_calibration: float | None
) -> Sequence[sample.Constraint]:
    """Build what rejects pipelines that cannot run."""
    limits = sample.TrialLimits(
        time_limit_s=setup.search.trial.time_limit_min * 60,
        memory_bytes=setup.resources().memory_bytes,
        memory_budget=memory_budget,
        time_calibration=time_calibration or 1.0,
        speed=profile.measures.speed,
        min_steps=_min_steps(setup, profile.task),
        may_quantise=profile.has_quantiser and profile.system.n_gpus != 0,
    )
    return sample.build_constraints(
        profile.task,
        _whole_job(setup, profile.system),
        limits=limits,
        trainable_families=TASK_KINDS[setup.search.task.kind].families,
    )


def _min_steps(setup: Setup, task: Task) -> int:
    """Return the least steps of a trial: what the file says, else the preset's where the data has rows enough."""
    written, preset = setup.search.constraints.min_steps, setup.space.min_steps
    if written is not None or preset == 0:
        return preset if written is None else written
    constraint = sample.EnoughSteps(task, min_steps=preset)
    left = sample.check_feasible(setup.space, [constraint], seed=0, n_draws=N_STEP_DRAWS, enough=LEAST_SHARE)
    return preset if left.share >= LEAST_SHARE else 1


def _whole_job(setup: Setup, system: System) -> System:
    """Count the cores and GPUs of all nodes of a job, as if they were of one."""
    n, cores, gpus = setup.profile.job.n_nodes, system.n_cpu_cores, system.n_gpus
    return replace(system, n_cpu_cores=cores and cores * n, n_gpus=gpus and gpus * n)


def _memory_budget(
    setup: Setup, profile: ProfileResult, *, corrections: Mapping[str, float] | None = None
) -> sample.MemoryBudget:
    """Compute what memory the processes of a trial have on nodes such as the profile job met."""
    n_nodes, host_bytes = setup.profile.job.n_nodes, setup.resources().memory_bytes
    budget = sample.MemoryBudget.of(
        profile.system, host_bytes=host_bytes, n_processes=setup.n_processes(), n_nodes=n_nodes
    )
    return replace(budget, measured=replace(_measured(setup, profile), corrections=corrections or {}))


def _measured(setup: Setup, profile: ProfileResult) -> sample.StepFacts:
    """Collect what the profile job measured, and how the search computes its steps.

    Deterministic trials compute attention score by score.
    """
    measures, trial = profile.measures, setup.search.trial
    is_alone = setup.n_processes() * setup.profile.job.n_nodes == 1
    is_captured = StepMode(trial.step) is StepMode.GRAPH and profile.system.n_gpus != 0 and is_alone
    by_score = {model_id for model_id, attention in measures.attention.items() if attention == "eager"}
    return sample.StepFacts(
        costs=measures.costs,
        keeps_scores=frozenset({model.id for model in setup.space.models} if trial.deterministic else by_score),
        context_bytes=None if measures.speed is None else measures.speed.context_bytes,
        step=StepMode.GRAPH if is_captured else StepMode.EAGER,
    )
