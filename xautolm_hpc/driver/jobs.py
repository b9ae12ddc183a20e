"""The jobs of one run: intent before deed, adoption after a driver's death, retries, interruption.

An attempt may be submitted twice when a driver dies between a submission and its record; the claim in the attempt
folder lets only one of the two jobs run it.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from xautolm_hpc.driver.attempts import AttemptTemplate, bad_nodes
from xautolm_hpc.driver.batches import Batch, plan_batches
from xautolm_hpc.errors import BusyError, InterruptedSearchError, LaunchError, QueueFullError
from xautolm_hpc.gather import AttemptResult
from xautolm_hpc.jobdir import End, write_members
from xautolm_hpc.launcher import Launcher, QueueLimits, Resources, Submission
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import generation_job_name, single_job_name, submission_dir_beside
from xautolm_hpc.run.history import Trial
from xautolm_hpc.run.journal import Journal

LONGEST_NAP_S = 1.0
"""Seconds after which a waiting driver looks whether it was interrupted."""

CANCEL_AGAIN_S = 60.0
"""Seconds after which a job that was cancelled and has no end is cancelled once more."""

BACK_OFF_S = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Seconds of waiting for a controller that is busy before each further try; ten minutes in all."""

FULL_PAUSE_S = 60.0
"""Seconds between two tries to get into a queue that other jobs fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How jobs are waited for.

    Attributes:
        poll: Looks once at some attempts and lists those that have ended.
        poll_s: Seconds between two looks.
        n_interrupts: Tells how often the person pressed Ctrl-C.
        show: Shows the run as it is now, given how each attempt that was polled ended; ``None``: it has not.
        full_timeout_s: Seconds to wait for room in a queue that other jobs fill.
        given_back: Lists the attempts that their jobs, as the last look found, ended without having begun.
        impossible: Lists the attempts that the last look gave up because no job that asks for as much starts -> why.
        warn: Tells a person, whatever else is shown, why the search waits.
    """

    poll: Callable[[Sequence[Path]], list[AttemptResult]]
    poll_s: float
    n_interrupts: Callable[[], int]
    show: Callable[[Mapping[Path, End | None]], None]
    full_timeout_s: float = 24 * 3600.0
    given_back: Callable[[], Collection[Path]] = tuple
    impossible: Callable[[], Mapping[Path, str]] = dict
    warn: Callable[[str], None] = lambda text: None


class Jobs:
    """Submits attempts and waits for their ends.

    Args:
        journal: What happened so far.
        launcher: Starts and watches jobs.
        pace: How jobs are waited for.
        run_id: UUID of the run; job names begin with it.
    """

    def __init__(self, journal: Journal, launcher: Launcher, *, pace: Pace, run_id: str) -> None:
        self.journal = journal
        self.history = journal.history
        self.launcher = launcher
        self.pace = pace
        self.run_id = run_id
        self._adopted: set[int] = set()
        self._cancelled_at: dict[Path, float] = {}
        self._queue_cap: int | None = None
        self._full_since: float | None = None
        self._next_look_at = -math.inf

    def run_single(self, path: Path, resources: Resources, *, name: str) -> End:
        """Run one attempt that belongs to no trial, and wait for its end.

        Raises:
            LaunchError: The cluster starts no job that asks for as much.
        """
        submission = Submission(
            name=self._full_name(name),
            folder=submission_dir_beside(path),
            attempt_dirs=(path,),
            resources=resources,
        )
        if not (self.has_submitted(name) and self._patiently(lambda: self.launcher.adopt(submission, {}))):
            while not self._start(submission, [], generation=-1):
                self._wait_for_places()
        end = self._wait_for([path])[0].end
        _check_possible(self.pace.impossible().values())
        return end

    def has_submitted(self, name: str) -> bool:
        """Check whether the ledger knows a single attempt's job by its name within the run."""
        return self._full_name(name) in self.history.submissions

    def _full_name(self, name: str) -> str:
        return single_job_name(self.run_id, name)

    def run_until_one_ends(
        self,
        generations: Sequence[int],
        template: AttemptTemplate,
        *,
        on_ends: Callable[[Sequence[tuple[Trial, End]]], None],
    ) -> list[int]:
        """Submit what is due and wait, until every trial of a generation has ended or the search was stopped.

        Args:
            generations: Numbers of the open generations, drawn already.
            template: Writes and sizes attempts.
            on_ends: Is called with the ends of each look after all of them were recorded.

        Returns:
            The generations that have ended, at least one.

        Raises:
            InterruptedSearchError: The person interrupted, with trials still to run.
            LeaseLostError: Another driver took over.
            LaunchError: The cluster refused the jobs, or starts none that asks for as much.
        """
        trials = [trial for generation in generations for trial in self.history.generation(generation)]
        self._adopt([trial for trial in trials if trial.generation not in self._adopted])
        self._adopted.update(generations)
        while True:
            has_places = self._submit_due(trials, template)
            waiting = {trial.last.path: trial for trial in trials if self._is_waiting(trial)}
            at_work = {t.generation for t in trials if self._is_waiting(t) or self._is_due(t, template)}
            if at_work != set(generations):
                return [generation for generation in generations if generation not in at_work]
            if not waiting and has_places:
                raise InterruptedSearchError("interrupted with trials still to run; the same command goes on")
            if not waiting:
                self._wait_for_places()
                continue
            ends = self._wait_for(list(waiting))
            for path, end, source in ends:
                self._record_end(waiting[path], end, source=source)
            on_ends([(waiting[path], end) for path, end, _ in ends])
            self._take_back([waiting[path] for path in self.pace.given_back()])
            impossible = self.pace.impossible().items()
            _check_possible(why for path, why in impossible if template.asks_for_least(waiting[path]))

    @staticmethod
    def _is_waiting(trial: Trial) -> bool:
        return trial.last.submission is not None and trial.last.end is None

    def _is_due(self, trial: Trial, template: AttemptTemplate) -> bool:
        if self.history.stopped is not None:
            return False
        return trial.last.submission is None or template.is_due_again(trial)

    def _submit_due(self, trials: Sequence[Trial], template: AttemptTemplate) -> bool:
        """Write and submit what has not been submitted or gets another attempt, a batch per generation and size.

        Returns:
            Whether there was room for all that is due.
        """
        if self.pace.n_interrupts():
            return True
        due = [trial for trial in trials if self._is_due(trial, template)]
        for trial in due:
            if trial.last.end is not None:
                self.history.attempt(trial.number, len(trial.attempts))
        bad = bad_nodes(self.history.trials.values())
        sizes = [(template.resources_of(trial, bad_nodes=bad), trial) for trial in due]
        sized = sorted(sizes, key=lambda pair: (pair[1].generation, repr(pair[0])))
        classes = [
            (resources, sorted((trial for _, trial in pairs), key=lambda trial: trial.number))
            for (_, resources), pairs in groupby(sized, key=lambda pair: (pair[1].generation, pair[0]))
        ]
        n_queued, n_parallel = self._in_queue(trials)
        batches = plan_batches(
            classes,
            self._limits(),
            n_queued=n_queued,
            n_parallel=n_parallel,
            trials_per_job=template.trials_per_job,
        )
        for batch in batches:
            for trial in batch.members:
                template.write(trial)
            generation = batch.members[0].generation
            submission = self._submission(batch, generation=generation)
            if not self._start(submission, [(t.number, t.last.number) for t in batch.members], generation=generation):
                self._queue_cap = n_queued + batch.n_jobs // 2
                return batch.n_jobs > 1 and self._submit_due(trials, template)
            n_queued += batch.n_jobs
        return sum(len(batch.members) for batch in batches) == len(due)

    def _limits(self) -> QueueLimits:
        """Return the launcher's limits, lowered to what Slurm last accepted; that may have changed, so try more."""
        limits = self.launcher.limits()
        if self._queue_cap is None:
            return limits
        return replace(limits, queued=min(self._queue_cap, limits.queued or self._queue_cap))

    def _in_queue(self, trials: Sequence[Trial]) -> tuple[int, int]:
        """Count the jobs that were submitted and have not ended, and how many of them may run at the same time."""
        open_attempts = [trial.last for trial in trials if trial.last.submission and trial.last.end is None]
        names = [name for name, _ in {(last.submission or "", last.job_id or last.path) for last in open_attempts}]
        n_parallel = 0
        for name in set(names):
            limit = self.history.submissions[name].get("max_parallel")
            n_parallel += min(names.count(name), limit or len(names))
        return len(names), n_parallel

    def _submission(self, batch: Batch[Trial], *, generation: int) -> Submission:
        number = sum(line["generation"] == generation for line in self.history.submissions.values())
        return Submission(
            name=generation_job_name(self.run_id, generation, submission=number),
            folder=self.journal.run_dir.submission_dir(generation, number),
            attempt_dirs=tuple(trial.last.path for trial in batch.members),
            resources=batch.resources,
            max_parallel=batch.max_parallel,
            trials_per_job=batch.trials_per_job,
        )

    def _start(self, submission: Submission, attempts: list[tuple[int, int]], *, generation: int) -> bool:
        """Submit a batch: what is intended is on disk before, what was accepted after.

        Returns:
            Whether it was submitted; if not, the queue is full.
        """
        run_dir = self.journal.run_dir
        write_members(submission.folder, submission.attempt_dirs)
        self.journal.record(
            "intent",
            name=submission.name,
            generation=generation,
            attempts=attempts,
            folder=run_dir.relative(submission.folder),
            attempt_dirs=[run_dir.relative(path) for path in submission.attempt_dirs],
            resources=to_json(submission.resources),
            max_parallel=submission.max_parallel,
            trials_per_job=submission.trials_per_job,
        )
        try:
            jobs = self._submit(submission)
        except QueueFullError as error:
            self._note_full_queue(error)
            jobs = {}
        pairs = zip(attempts, submission.attempt_dirs, strict=False)  # a single job belongs to no trial
        accepted = {f"{trial}/{number}": jobs[path] for (trial, number), path in pairs if path in jobs}
        for trial, number in attempts:
            if f"{trial}/{number}" not in accepted:
                self.history.attempt(trial, number).submission = None
        if jobs:
            self._full_since = None
            self.journal.record("submitted", name=submission.name, jobs=accepted)
        return bool(jobs)

    def _submit(self, submission: Submission) -> Mapping[Path, str]:
        """Submit a batch; after an answer that leaves it open whether it was taken, look for it first."""
        is_open = False

        def submit_once() -> Mapping[Path, str]:
            nonlocal is_open
            found = self.launcher.adopt(submission, {}) if is_open else {}
            is_open = True
            return found or self.launcher.submit(submission)

        return self._patiently(submit_once)

    def _patiently(self, ask: Callable[[], Mapping[Path, str]]) -> Mapping[Path, str]:
        """Ask the launcher something, again and again while the cluster is busy."""
        for pause_s in BACK_OFF_S:
            self.journal.lease.refresh()
            try:
                return ask()
            except BusyError as error:
                if self.pace.n_interrupts():
                    raise
                self.pace.warn(f"{error}. The next try is in {pause_s:g} s, the last after {sum(BACK_OFF_S):g} s")
                self._pause(pause_s)
        self.journal.lease.refresh()
        return ask()

    def _note_full_queue(self, error: QueueFullError) -> None:
        """Remember since when nothing goes in; a queue that others fill for too long is told of."""
        now = self.journal.clock.now()
        self._full_since = self._full_since or now
        if now - self._full_since > self.pace.full_timeout_s:
            full_h = self.pace.full_timeout_s / 3600
            error.add_note(f"the queue has been full for {full_h:g} h: other jobs of yours fill it; end some of them")
            raise error

    def _wait_for_places(self) -> None:
        """Wait while nothing of this run is in a queue that is full."""
        if self.pace.n_interrupts():
            raise InterruptedSearchError("interrupted with trials still to run; the same command goes on")
        self.journal.lease.refresh()
        self._pause(max(self.pace.poll_s, FULL_PAUSE_S))
        self._try_more()

    def _try_more(self) -> None:
        """Raise a limit that Slurm has shown a little above what it was: other jobs of the user end."""
        if self._queue_cap is not None:
            self._queue_cap += 1 + self._queue_cap // 8

    def _adopt(self, trials: Sequence[Trial]) -> None:
        """Find the jobs that an earlier driver submitted; an attempt that never was submitted is due again."""
        waiting = [trial.last for trial in trials if trial.last.submission and trial.last.end is None]
        names = {attempt.submission for attempt in waiting}
        for name in [name for name in self.history.submissions if name in names]:  # what was given back went on later
            submission = self.history.submission(name)
            members = [attempt for attempt in waiting if attempt.submission == name]
            known = {a.path: a.job_id for a in members if a.job_id}
            jobs = self._patiently(partial(self.launcher.adopt, submission, known))
            for attempt in members:
                if attempt.path not in jobs:
                    attempt.submission = None

    def _wait_for(self, paths: Sequence[Path]) -> list[AttemptResult]:
        """Wait until at least one attempt has ended, polling no more often than the pace allows."""
        while True:
            self._pause(min(self.pace.poll_s, self._next_look_at - self.journal.clock.now()))  # clocks are set back
            if self.pace.n_interrupts() > 1:
                raise InterruptedSearchError("detached: the jobs run on; the same command goes on with them")
            self.journal.lease.refresh()
            if self.journal.run_dir.cancel_path.exists():
                self._cancel(paths)
            self._next_look_at = self.journal.clock.now() + self.pace.poll_s
            ends = self.pace.poll(paths)
            self.pace.show(dict.fromkeys(paths) | {path: end for path, end, _ in ends})
            if ends or self.pace.given_back():
                self._try_more()
                return ends

    def _cancel(self, paths: Sequence[Path]) -> None:
        """Cancel what another process was told to cancel: only this one knows the jobs that still wait.

        What still has no end a minute later is cancelled again: the cluster may not have answered.
        """
        now = self.journal.clock.now()
        due = [path for path in paths if abs(now - self._cancelled_at.get(path, -math.inf)) >= CANCEL_AGAIN_S]
        self.launcher.cancel(due)
        self._cancelled_at.update(dict.fromkeys(due, now))

    def _pause(self, seconds: float) -> None:
        """Wait for the next look, but not after the person pressed Ctrl-C or somebody cancelled the run."""
        n_interrupts, left_s = self.pace.n_interrupts(), seconds
        while left_s > 0 and self.pace.n_interrupts() == n_interrupts:
            self.journal.clock.sleep(min(left_s, LONGEST_NAP_S))
            left_s -= LONGEST_NAP_S

    def _take_back(self, trials: Sequence[Trial]) -> None:
        """Record attempts that a job gave back: they are due again as if they had never been submitted."""
        for trial in trials:
            self.journal.record("given_back", trial=trial.number, attempt=trial.last.number)

    def _record_end(self, trial: Trial, end: End, *, source: str) -> None:
        """Record how a trial's present attempt ended, in full: nobody needs its folder for that again."""
        self.journal.record(
            "end",
            trial=trial.number,
            attempt=trial.last.number,
            restart=end.restart,
            status=end.outcome.status,
            kind=end.outcome.kind,
            source=source,
            end=to_json(end),
        )


def _check_possible(reasons: Iterable[str]) -> None:
    """Stop the search where another attempt would wait in vain as well.

    Raises:
        LaunchError: There is a reason.
    """
    for why in reasons:
        raise LaunchError(f"Slurm starts no job of this search: {why}. Then run the same command again")
