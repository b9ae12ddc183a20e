"""The generation loop: one search from profile to report.

The way of one trial, top to bottom: :meth:`Search._draw` writes it into the ledger, :class:`Jobs` submits it and
gathers its end, :meth:`Search._on_ends` looks at the end, :meth:`Results.commit` stores it as an experience.

Everything the driver must remember stands in the ledger and the attempt folders. Killed at any moment, the same
command goes on where it was: what was drawn is read, what was submitted is adopted, what ended is not run again.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from xautolm_hpc import gather, report
from xautolm_hpc.driver.attempts import clean_up
from xautolm_hpc.driver.budget import equal_failures, spent_limit
from xautolm_hpc.driver.display import Display
from xautolm_hpc.driver.final_evaluation import kept_trials, test_trials
from xautolm_hpc.driver.jobs import Jobs, Pace
from xautolm_hpc.driver.measured import check_measured, end_of_unmeasured, unmeasured_on
from xautolm_hpc.driver.profile_job import profile_task
from xautolm_hpc.driver.proposal import MakeProposer, Proposer, SearchProposer, read_past
from xautolm_hpc.driver.results import Results, find_importance, named_settings, test_metrics
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.driver.starting import check_jobs_start
from xautolm_hpc.driver.worker_version import check_trials_per_job, check_worker_version
from xautolm_hpc.durable import remove_torn
from xautolm_hpc.errors import InterruptedSearchError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.jobdir import WEIGHTS, End, ProfileResult, to_wire
from xautolm_hpc.records import Outcome, to_json
from xautolm_hpc.run.history import Trial
from xautolm_hpc.run.journal import Journal
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.overview import ended_line
from xautolm_hpc.run.resume import freeze_prior, store_config
from xautolm_hpc.run.run_file import stops_unmeasured
from xautolm_hpc.view import UNFINISHED, Finish, FinishKind, Phase, RunFacts, charges


def run_search(setup: Setup, make_proposer: MakeProposer = SearchProposer) -> RunFacts:
    """Run a search to its end, or go on with one.

    Args:
        setup: What the search is run with.
        make_proposer: Builds what decides which pipelines are tried, once the task and the past are known.

    Returns:
        The run's results; its report is written.

    Raises:
        RunFolderError: Another driver works on the run.
        DataError: The data cannot be learnt from.
        InputError: The worker is of a version that does not know a setting.
        SpaceError: Nothing in the space can run.
        InterruptedSearchError: The person interrupted it; jobs may run on.
        LeaseLostError: Another driver took over.
        LaunchError: The cluster refused the jobs.
        StoreError: The store is damaged or could not be written.
    """
    lease = Lease.acquire(setup.run_dir.path, stale_s=setup.profile.patience.lease_stale_s)
    try:
        remove_torn(setup.run_dir.path)
        setup.run_dir.cancel_path.unlink(missing_ok=True)  # it was meant for an earlier driver
        return _begin(setup, lease, make_proposer=make_proposer).run()
    finally:
        lease.release()


def _begin(setup: Setup, lease: Lease, *, make_proposer: MakeProposer) -> "Search":
    """Run what comes before the first generation: settings, stores, profile job, prior."""
    journal = Journal(setup.run_dir, lease, clock=setup.clock)
    _record_changes(setup, journal)
    past = read_past(setup)  # a store that cannot be read stops the search before its first job
    display = Display(setup, journal)
    jobs = _make_jobs(setup, journal, display=display)
    display.enter(Phase.PROFILE)
    profile = profile_task(setup, jobs)
    for note in profile.notes:
        setup.watcher.log(f"data: {note}")
    check_trials_per_job(setup, profile)
    if not journal.history.trials:
        check_worker_version(setup, profile)
        for line in check_measured(setup.search, unmeasured_on(profile.system)):
            setup.watcher.log(line)
    display.enter(Phase.PRIORS)
    proposer = make_proposer(setup, profile, past=past)
    freeze_prior(setup.run_dir, proposer.prior)
    return Search(setup, journal, jobs=jobs, display=display, profile=profile, proposer=proposer)


def _record_changes(setup: Setup, journal: Journal) -> None:
    """Record which settings and search space a resumed search uses."""
    if setup.changes:
        journal.record("changed", settings=setup.changes)
    store_config(setup.run_dir, setup.config)
    for change in setup.changes:
        setup.watcher.log(f"changed since the search began: {change}")


def _make_jobs(setup: Setup, journal: Journal, *, display: Display) -> Jobs:
    """Build what submits jobs and waits for them."""

    def poll(paths: Sequence[Path]) -> list[gather.AttemptResult]:
        return gather.gather_ends(setup.launcher, display.tracker, attempt_dirs=paths, clock=setup.clock)

    pace = Pace(
        poll=poll,
        poll_s=setup.profile.poll_s,
        n_interrupts=setup.n_interrupts,
        show=display.show,
        full_timeout_s=setup.profile.patience.pending_patience_h * 3600,
        given_back=lambda: display.tracker.given_back,
        impossible=lambda: display.tracker.impossible,
        warn=setup.watcher.warn,
    )
    return Jobs(journal, setup.launcher, pace=pace, run_id=setup.run_id)


class Search:
    """One driver's work on a run whose task and prior are known.

    Args:
        setup: What the search is run with.
        journal: What happened so far; it holds the lease.
        jobs: Submits jobs and waits for them.
        display: Shows the run.
        profile: The task, the split and the node.
        proposer: Decides which pipelines are tried.
    """

    def __init__(
        self,
        setup: Setup,
        journal: Journal,
        *,
        jobs: Jobs,
        display: Display,
        profile: ProfileResult,
        proposer: Proposer,
    ) -> None:
        self.setup = setup
        self.journal = journal
        self.history = journal.history
        self.jobs = jobs
        self.display = display
        self.profile = profile
        self.proposer = proposer
        self.template = setup.template(profile)
        self.results = Results(setup, journal, profile=profile)
        self.results.restore_ends()
        self._warned: set[str] = set()

    def run(self) -> RunFacts:
        """Run generations until the search ends, then evaluate the best on ``test`` and report."""
        finish = self._run_generations()
        self.results.take_late_outcomes()
        self._test()
        self.display.enter(Phase.REPORT)
        facts = self._write_report(finish)
        self._clean_up()
        self.display.enter(Phase.DONE)
        return facts

    def _run_generations(self) -> Finish:
        """Draw, submit, train, gather and store, generation by generation; one is open at a time."""
        while True:
            if not self.history.open_generations():
                finish = self._reason_to_stop() or self._draw()
                if finish is not None:
                    return finish
            self.display.enter(Phase.GENERATION)
            ended = self.jobs.run_until_one_ends(self.history.open_generations(), self.template, on_ends=self._on_ends)
            for generation in ended:
                self._commit(generation)

    def _reason_to_stop(self) -> Finish | None:
        if self.history.stopped is not None:
            return Finish(FinishKind.STOPPED, self.history.stopped)
        if self.setup.n_interrupts():
            raise InterruptedSearchError("interrupted between two generations; the same command goes on")
        if self.history.exhausted:
            text = "space exhausted: no pipeline is left that the constraints allow"
            return Finish(FinishKind.SPACE_EXHAUSTED, text)
        spent = spent_limit(self.setup.limits(), self.journal.spent())
        return spent or self._unmeasured() or self.proposer.finish(len(self.history.trials))

    def _unmeasured(self) -> Finish | None:
        """Return why the search ends where trials do not measure what it compares them by, or what limits it."""
        outcomes = [end.outcome for end in self.history.known_ends()]
        reason, lines = end_of_unmeasured(self.setup.search, outcomes, spent=self.journal.spent())
        if reason is not None and not (self.proposer.is_search and stops_unmeasured(self.setup.run_dir)):
            lines = [*lines, f"it goes on all the same, but {reason}"]
            reason = None
        for line in lines:
            if line not in self._warned:
                self._warned.add(line)
                self.setup.watcher.log(line)
        return None if reason is None else Finish(FinishKind.STOPPED, f"stopped: {reason}")

    def _draw(self) -> Finish | None:
        """Draw a generation from the ends known by now; return why the search ends if nothing is left to draw."""
        self._leave_out_unfit_models()
        drawn = self.proposer.propose(
            self.history.pipelines(), self.history.known_ends(), unfit=self.history.models_out.keys()
        )
        self.journal.record(
            "drawn",
            generation=self.history.n_generations(),
            plans=[to_wire(plan) for plan in drawn.plans],
            refusals=dict(drawn.rejections),
            refusal_reasons={name: reason for name, (reason, *_) in drawn.reasons.items()},
            exhausted=drawn.is_exhausted,
        )
        return None if drawn.plans else self._reason_to_stop()

    def _leave_out_unfit_models(self) -> None:
        """Record which models are not drawn any more because their files do not fit together."""
        for model, reason in self.history.newly_unfit_models().items():
            self.journal.record("model_out", model=model, reason=reason, from_trial=len(self.history.trials))
            self.setup.watcher.log(f"{reason}; it is not drawn from trial {len(self.history.trials)} on")

    def _on_ends(self, ends: Sequence[tuple[Trial, End]]) -> None:
        """Log ends, and stop the search when no job can start, or trial after trial fails alike."""
        for trial, end in ends:
            self.setup.watcher.log(ended_line(trial, end))
        for trial, end in ends:
            if end.outcome.kind == FailureKind.LAUNCH_FAILURE:
                check_jobs_start(self.history, newest=trial.last, lease_number=self.journal.lease.number)
        n_equal = equal_failures(outcome for _, outcome in self._finished())
        alike = list(islice(self._finished(), n_equal))
        suspects = {number for number, _ in alike}
        if not suspects <= self.history.suspects:
            _, last = alike[0]
            reason = f"stopped: the last {n_equal} trials failed alike, with {last.kind}: {last.reason}"
            self.journal.record("stop", reason=reason, suspects=sorted(suspects))
            self.setup.watcher.log(reason)

    def _finished(self) -> Iterator[tuple[int, Outcome]]:
        """Iterate over number and outcome of the trials that get no other attempt, the last one to end first."""
        for number, attempt in reversed(self.history.ends):
            trial = self.history.trials[number]
            end = trial.last.end
            if end is not None and trial.last.number == attempt and not self.template.is_due_again(trial):
                yield number, end.outcome

    def _commit(self, generation: int) -> None:
        """Store a generation's experiences; doing it again after a crash adds nothing."""
        self.display.enter(Phase.COMMIT)
        n = self.results.commit(generation)
        self._clean_up()
        self._write_report(UNFINISHED)
        self.setup.watcher.log(
            f"generation {generation}: {n} attempt{'s' if n != 1 else ''} stored in `{self.results.store.path}`"
        )

    def _test(self) -> None:
        """Evaluate the best trials, or those a person named, on ``test``."""
        for trial in kept_trials(self.setup, self.history.trials):
            if (trial.last.path / WEIGHTS).exists():
                self.template.write_plan(trial)  # of a project that was moved since
        if not self.setup.n_interrupts():
            test_trials(self.setup, self.jobs, template=self.template, trials=self.history.trials, display=self.display)

    def _clean_up(self) -> None:
        kept = {trial.last.path for trial in kept_trials(self.setup, self.history.trials)}
        for generation in self.history.committed:
            clean_up(self.setup.run_dir.generation_dir(generation), kept)

    def _write_report(self, finish: Finish) -> RunFacts:
        """Write the report of everything that ended so far."""
        trials = list(self.history.trials.values())
        experiences, spent = tuple(self.results.experiences(trials)), self.journal.spent()
        facts = RunFacts(
            name=self.setup.search.name,
            run_id=self.setup.run_id,
            objectives=self.setup.search.search.objectives,
            task=self.profile.task,
            majority_f1=self.profile.majority_f1,
            experiences=experiences,
            rejections=self.history.rejections,
            reasons=self.history.reasons,
            prior=to_json(self.proposer.prior),
            spent=spent,
            finish=finish,
            tests=test_metrics(trials),
            answers=self.results.answers,
            importance=None if finish is UNFINISHED else find_importance(experiences),
            settings=named_settings(self.setup),
            charges=charges(self.setup.profile.cost.model_dump(), spent),
        )
        report.write_report(facts, self.setup.run_dir.report_dir)
        return facts
