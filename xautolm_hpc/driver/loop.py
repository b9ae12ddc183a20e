"""The driver: one search from profile to report. The only file that knows every step.

Everything it must remember stands in the ledger and the attempt folders. Killed at any moment, the same
command goes on where it was: what was drawn is read, what was submitted is adopted, what ended is not run again.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import count
from pathlib import Path

from xautolm_hpc import gather, report, sample
from xautolm_hpc.distribution import Distribution
from xautolm_hpc.driver import proposal
from xautolm_hpc.driver.attempts import Origin, objectives_of, tidy
from xautolm_hpc.driver.budget import equal_failures, spent_limit
from xautolm_hpc.driver.final_evaluation import chosen_trials, named_trials, test_metrics, untested, write_final
from xautolm_hpc.driver.jobs import Ended, Jobs, Pace
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError, InterruptedSearchError
from xautolm_hpc.jobdir import COMMAND, PROFILE, PROFILE_RESULT, End, ProfileResult, find_end
from xautolm_hpc.records import Experience, from_json, to_json
from xautolm_hpc.run.history import Trial
from xautolm_hpc.run.journal import Journal
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.overview import ended_line, fill_view
from xautolm_hpc.run.resume import keep_changes
from xautolm_hpc.store import CheckLimits, ExperienceStore
from xautolm_hpc.view import UNFINISHED, RunFacts, RunView

SLOWNESS = "slowness"
"""Key beside the frozen prior: how much longer than estimated trials took on such nodes."""


def run_search(setup: Setup) -> RunFacts:
    """Run a search to its end, or go on with one.

    Returns:
        The run's results; its report is written.

    Raises:
        RunFolderError: Another driver works on the run.
        DataError: The data cannot be learnt from.
        SpaceError: Nothing in the space can run.
        InterruptedSearchError: The person interrupted it; jobs may run on.
        LeaseLostError: Another driver took over.
        LaunchError: The cluster refused the jobs.
        StoreError: The store is damaged or could not be written.
    """
    lease = Lease.acquire(setup.run_dir.path, stale_s=setup.profile.patience.lease_stale_s)
    try:
        setup.run_dir.cancel_path.unlink(missing_ok=True)  # whoever wished the last driver's jobs away
        return Search(setup, lease).run()
    finally:
        lease.release()


class Search:
    """One driver's work on one run.

    Args:
        setup: What the search is run with.
        lease: The lease on its run folder.
    """

    def __init__(self, setup: Setup, lease: Lease) -> None:
        self.setup = setup
        self.journal = Journal(setup.run_dir, lease, clock=setup.clock)
        self.history = self.journal.history
        store = setup.search.store
        self.store = ExperienceStore(Path(store.path), limits=CheckLimits.of(store.check), group=store.group)
        patience = setup.profile.patience
        self.watch = gather.Watch(
            outcome_grace_s=setup.outcome_grace_s(),
            pending_patience_s=patience.pending_patience_h * 3600,
            redact=setup.redact,
        )
        pace = Pace(
            poll=self._poll,
            poll_s=setup.profile.poll_s,
            n_interrupts=setup.n_interrupts,
            show=self._show,
            full_patience_s=patience.pending_patience_h * 3600,
        )
        self.jobs = Jobs(self.journal, setup.launcher, pace=pace, job_prefix=f"xa-{setup.run_id[:8]}")
        self.phase = "profile"
        self.generation = len(self.history.committed)

    def run(self) -> RunFacts:
        """Do every step, in order."""
        self._record_changes()
        if not self.setup.run_dir.prior_path.exists():
            # A store that cannot be read is found out before the first job.
            proposal.read_stores(self.setup, on_finding=lambda found: self.setup.watcher.say(f"store: {found.message}"))
        self.profile = self._profile()
        self.prior = self._compute_prior()
        content = read_json(self.setup.run_dir.prior_path)
        self.ranking = proposal.read_ranking(self.setup, self.profile, content=content)
        self.constraints = self._build_constraints()
        finish = self._run_generations()
        self._take_late_outcomes()
        self._test_chosen()
        return self._report(finish)

    def _record_changes(self) -> None:
        """Write down which settings a resumed search goes on with."""
        if self.setup.changes:
            self.journal.record("changed", settings=self.setup.changes)
            keep_changes(self.setup.run_dir, self.setup.search.model_dump(mode="json"))
        for change in self.setup.changes:
            self.setup.watcher.say(f"changed since the search began: {change}")

    # profile

    def _profile(self) -> ProfileResult:
        """Run the profile job unless it has run; a failure of an earlier driver's is tried again."""
        n_tries = 0
        for number in count():
            path = self.setup.run_dir.profile_attempt_dir(number)
            if path.exists() and not self.jobs.has_submitted(_profile_job(number)):
                continue  # of a beginning that was given up; its job may still be writing
            earlier = find_end(path)
            end = earlier or self._run_profile_job(path, number)
            if end.outcome.status == "succeeded":
                where = path / PROFILE_RESULT
                return from_json(ProfileResult, read_json(where), where=str(where))
            n_tries += earlier is None
            if earlier is not None:
                continue
            if end.outcome.origin == "pipeline" or n_tries >= self.setup.search.trial.max_attempts:
                break
            if self.setup.n_interrupts():
                raise InterruptedSearchError("interrupted before the task was profiled; the same command goes on")
        raise DataError(end.outcome.message or f"the profile job failed without a word; see `{path}/stderr`")

    def _run_profile_job(self, path: Path, number: int) -> End:
        self._enter("profile")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_json(path / PROFILE, to_json(self.setup.profile_request()))
        write_json(path / COMMAND, to_json(self.setup.profile_command()))
        return self.jobs.run_single(path, self.setup.one_node(), name=_profile_job(number))

    # priors

    def _compute_prior(self) -> Distribution:
        """Compute the prior once and freeze it: the store may grow while the search goes on."""
        path = self.setup.run_dir.prior_path
        if not path.exists():
            self._enter("priors")
            prior = proposal.prior_content(self.setup, self.profile)
            slowness = proposal.measure_slowness(self.setup, self.profile)
            write_json(path, {**prior, SLOWNESS: slowness})  # the stores may grow while the search goes on
        return Distribution.from_json(read_json(path)["distribution"], self.setup.space)

    # sample

    def _build_constraints(self) -> Sequence[sample.Constraint]:
        """Build the constraints, and refuse a space in which next to nothing can run."""
        slowness = read_json(self.setup.run_dir.prior_path).get(SLOWNESS)
        constraints = proposal.build_constraints(self.setup, self.profile, slowness=slowness)
        if not self.history.trials:
            proposal.refuse_infeasible_space(self.setup, constraints)
        return constraints

    def _run_generations(self) -> str:
        """Run generation after generation; says why the search ended."""
        self.template = self.setup.template(self.profile)
        while True:
            if not self.history.generation(self.generation):
                reason = self._reason_to_stop() or self._draw()
                if reason is not None:
                    return reason
            self._enter("generation")
            self.jobs.run_generation(self.generation, self.template, on_end=self._on_end)
            self._commit()
            self.generation += 1

    def _reason_to_stop(self) -> str | None:
        if self.history.stopped is not None:
            return self.history.stopped
        if self.setup.n_interrupts():
            raise InterruptedSearchError("interrupted between two generations; the same command goes on")
        if self.history.exhausted:
            return "space exhausted: no pipeline is left that the constraints allow"
        return spent_limit(self.setup.limits(), self.journal.spent())

    def _draw(self) -> str | None:
        """Draw a generation; says so if nothing is left to draw."""
        known = [trial.plan.pipeline for trial in self.history.trials.values()]
        drawn = proposal.draw_generation(self.setup, self._proposal(), constraints=self.constraints, known=known)
        plans = [proposal.plan_trial(self.setup, n, profile=self.profile, pipeline=p) for n, p in drawn.pipelines]
        self.journal.record(
            "drawn",
            generation=self.generation,
            plans=[to_json(plan) for plan in plans],
            refusals=dict(drawn.refusals),
            exhausted=drawn.exhausted,
        )
        return None if drawn.pipelines else self._reason_to_stop()

    def _proposal(self) -> sample.Proposal:
        """Say what the next generation is drawn from; a prior that ranks learns from all outcomes so far."""
        trials = list(self.history.trials.values())
        results = [(trial.plan.pipeline, trial.last.end.outcome) for trial in trials if trial.last.end is not None]
        return sample.Proposal(
            distribution=self._distribution(),
            epsilon=self.setup.search.search.epsilon,
            choose=None if self.ranking is None else self.ranking.after(results).choose,
        )

    def _distribution(self) -> Distribution:
        """Recompute the search's model from the prior and the outcomes of all earlier generations."""
        search = self.setup.search.search

        evolution = sample.Evolution(
            population=search.population,
            selection=search.selection,
            learning_factor=search.learning_factor,
            objectives=search.objectives,
        )

        def learn(distribution: Distribution, generation: int) -> Distribution:
            trials = self.history.generation(generation)
            results = [(t.number, t.plan.pipeline, objectives_of(t, search.objectives)) for t in trials]
            return sample.update(distribution, self.setup.space, results=results, evolution=evolution)

        return reduce(learn, range(self.generation), self.prior)

    # submit, train and gather

    def _poll(self, paths: Sequence[Path]) -> list[Ended]:
        return list(gather.gather_ends(self.setup.launcher, self.watch, attempt_dirs=paths, clock=self.setup.clock))

    def _on_end(self, trial: Trial, end: End) -> None:
        """Tell of an end, and stop the search when trial after trial fails alike."""
        self.setup.watcher.say(ended_line(trial, end))
        finished = [self.history.trials[t] for t, number in self.history.ends if self._is_final(t, number)]
        outcomes = [t.last.end.outcome for t in finished if t.last.end is not None]
        n_equal = equal_failures(outcomes)
        suspects = {t.number for t in finished[-n_equal:]} if n_equal else set()
        if not suspects <= self.history.suspects:
            last = outcomes[-1]
            reason = f"stopped: the last {n_equal} trials failed alike, with {last.kind}: {last.reason}"
            self.journal.record("stop", reason=reason, suspects=sorted(suspects))
            self.setup.watcher.say(reason)

    def _is_final(self, number: int, attempt: int) -> bool:
        trial = self.history.trials[number]
        return trial.last.number == attempt and not self.template.is_due_again(trial)

    # store

    def _commit(self) -> None:
        """Commit a generation's experiences; doing it again after a crash adds nothing."""
        self._enter("commit")
        trials = self.history.generation(self.generation)
        experiences = self._experiences(trials)
        self.journal.lease.check()
        self.store.append(experiences)
        self._mark_committed_suspects()
        self.journal.record("commit", generation=self.generation, n=len(experiences))
        self._tidy()
        self._write_report(UNFINISHED)
        self.setup.watcher.say(f"generation {self.generation}: {len(experiences)} experiences in `{self.store.path}`")

    def _mark_committed_suspects(self) -> None:
        """Say of trials committed before the search stopped itself that they are suspect too."""
        early = [t for t in self.history.trials.values() if t.generation in self.history.committed]
        self.store.amend(self._experiences([t for t in early if t.number in self.history.suspects]))

    def _experiences(self, trials: Sequence[Trial]) -> list[Experience]:
        """Turn every ended attempt of some trials into an experience."""
        return [
            self._origin().experience(trial, attempt, is_suspect=trial.number in self.history.suspects)
            for trial in trials
            for attempt in trial.attempts
            if attempt.end is not None
        ]

    def _origin(self) -> Origin:
        return Origin(
            run_id=self.setup.run_id,
            site=self.setup.profile.site,
            prior_kind=self.setup.search.prior.kind,
            task=self.profile.task,
            system=self.profile.system,
        )

    def _take_late_outcomes(self) -> None:
        """Replace a committed ``lost`` by the outcome that arrived after all."""
        for trial in self.history.trials.values():
            is_committed = trial.generation in self.history.committed
            for attempt in trial.attempts:
                late = gather.late_outcome(attempt.path) if attempt.source == "verdict" else None
                if late is None or not is_committed:
                    continue
                is_suspect = trial.number in self.history.suspects
                lost = self._origin().experience(trial, attempt, is_suspect=is_suspect)
                found = self._origin().experience(trial, replace(attempt, end=late), is_suspect=is_suspect)
                self.journal.lease.check()
                self.store.forget([lost.id], site=self.setup.profile.site)
                self.store.append([found])
                self.journal.record("late", trial=trial.number, attempt=attempt.number, source="outcome")
                self.setup.watcher.say(f"trial {trial.number}: its outcome arrived late and was taken in")

    # final step

    def _chosen(self) -> list[Trial]:
        return chosen_trials(list(self.history.trials.values()), self.setup.search.search.objectives)

    def _test_chosen(self) -> None:
        """Evaluate what is chosen on ``test``, in one job; a job that fails is told, not repeated."""
        named = self.setup.final
        members = untested(self._chosen() if named is None else named_trials(self.history.trials, named))
        if not members or self.setup.n_interrupts():
            return
        self._enter("test")
        paths = map(self.setup.run_dir.final_attempt_dir, count())
        number, path = next((n, path) for n, path in enumerate(paths) if find_end(path) is None)
        template = self.setup.template(self.profile)
        command = self.setup.command("xautolm_hpc.train", "final")
        write_final(path, members, command=command, trial_input=template.trial_input)
        outcome = self.jobs.run_single(path, self.setup.resources(), name=f"final-{number}").outcome
        if outcome.status != "succeeded":
            self.setup.watcher.say(f"the evaluation on test failed with {outcome.kind}; see `{path}/stderr`")

    def _tidy(self) -> None:
        named = [trial for number, trial in self.history.trials.items() if number in (self.setup.final or ())]
        kept = {trial.last.path for trial in (*self._chosen(), *named)}
        for generation in self.history.committed:
            tidy(self.setup.run_dir.generation_dir(generation), kept)

    # report

    def _report(self, finish: str) -> RunFacts:
        """Write the last report and tidy the whole run up."""
        self._enter("report")
        facts = self._write_report(finish)
        self._tidy()
        self._enter("done")
        return facts

    def _write_report(self, finish: str) -> RunFacts:
        """Write the report of everything that ended so far."""
        facts = RunFacts(
            name=self.setup.search.name,
            run_id=self.setup.run_id,
            objectives=self.setup.search.search.objectives,
            task=self.profile.task,
            majority_f1=self.profile.majority_f1,
            experiences=tuple(self._experiences(list(self.history.trials.values()))),
            refusals=self.history.refusals,
            prior=read_json(self.setup.run_dir.prior_path),
            spent=self.journal.spent(),
            finish=finish,
            tests=test_metrics(list(self.history.trials.values())),
        )
        report.write_report(facts, self.setup.run_dir.report_dir)
        return facts

    def _enter(self, phase: str) -> None:
        self.phase = phase
        self._show()

    def _show(self) -> None:
        view = RunView(
            name=self.setup.search.name,
            phase=self.phase,
            generation=self.generation,
            n_generations=self.setup.search.budget.generations,
            spent=self.journal.spent(),
        )
        states, now = self.watch.states, self.setup.clock.now()
        self.setup.watcher.show(fill_view(view, self.history, states=states, now=now))


def _profile_job(number: int) -> str:
    """Name a profile job within its run."""
    return f"profile-{number}"
