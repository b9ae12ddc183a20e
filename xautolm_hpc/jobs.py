"""The jobs of one run: intent before deed, adoption after a driver's death, retries, interruption.

An attempt may be submitted twice when a driver dies between a submission and its record; the claim in the attempt
folder lets only one of the two jobs run it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from xautolm_hpc.attempts import AttemptTemplate, needs_attempt
from xautolm_hpc.errors import InterruptedSearchError
from xautolm_hpc.history import History, Trial
from xautolm_hpc.jobdir import End, write_members
from xautolm_hpc.journal import Journal
from xautolm_hpc.launcher import Launcher, Resources, Submission
from xautolm_hpc.records import from_json, to_json

Ended = tuple[Path, End, str]
"""Attempt folder, how it ended, and the file that says so: ``outcome`` or ``verdict``."""


LONGEST_NAP_S = 1.0
"""Seconds after which a waiting driver looks whether it was interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How jobs are waited for.

    Attributes:
        poll: Looks once at some attempts and lists those that have ended.
        poll_s: Seconds between two looks.
        n_interrupts: Tells how often the person pressed Ctrl-C.
        show: Shows the run as it is now.
    """

    poll: Callable[[Sequence[Path]], list[Ended]]
    poll_s: float
    n_interrupts: Callable[[], int]
    show: Callable[[], None]


class Jobs:
    """Submits attempts and waits for their ends.

    Args:
        journal: What happened so far.
        launcher: Starts and watches jobs.
        pace: How jobs are waited for.
        job_prefix: Start of every job name, unique to the run.
    """

    def __init__(self, journal: Journal, launcher: Launcher, *, pace: Pace, job_prefix: str) -> None:
        self.journal = journal
        self.history = journal.history
        self.launcher = launcher
        self.pace = pace
        self.job_prefix = job_prefix
        self._cancelled: set[Path] = set()

    def run_single(self, path: Path, resources: Resources, *, name: str) -> End:
        """Run one attempt that belongs to no trial, and wait for its end."""
        submission = Submission(
            name=f"{self.job_prefix}-{name}",
            folder=_folder_beside(path),
            attempt_dirs=(path,),
            resources=resources,
        )
        is_known = submission.name in self.history.submissions
        if not (is_known and self.launcher.adopt(submission, {})):
            self._start(submission, [], generation=-1)
        return self._wait_for([path])[0][1]

    def run_generation(
        self, generation: int, template: AttemptTemplate, *, on_end: Callable[[Trial, End], None]
    ) -> None:
        """Submit what is due and wait, until every trial of a generation has ended or the search was stopped.

        Args:
            generation: Number of the generation, drawn already.
            template: Writes and sizes attempts.
            on_end: Is told of each end after it was recorded.

        Raises:
            InterruptedSearchError: The person interrupted, with trials still to run.
            LeaseLostError: Another driver took over.
            LaunchError: The cluster refused the jobs.
        """
        trials = self.history.generation(generation)
        self._adopt(trials)
        while True:
            self._submit_due(trials, template, generation=generation)
            waiting = {t.last.path: t for t in trials if t.last.submission and t.last.end is None}
            if not waiting:
                break
            for path, end, source in self._wait_for(list(waiting)):
                self._record_end(waiting[path], end, source=source)
                on_end(waiting[path], end)
        if any(self._is_due(trial, template) for trial in trials):
            raise InterruptedSearchError("interrupted with trials still to run; the same command goes on")

    def _is_due(self, trial: Trial, template: AttemptTemplate) -> bool:
        if self.history.stopped is not None:
            return False
        return trial.last.submission is None or needs_attempt(trial, template.max_attempts)

    def _submit_due(self, trials: Sequence[Trial], template: AttemptTemplate, *, generation: int) -> None:
        """Write and submit what has not been submitted or gets another attempt, one batch per size."""
        if self.pace.n_interrupts():
            return
        due = [trial for trial in trials if self._is_due(trial, template)]
        for trial in due:
            if trial.last.end is not None:
                self.history.attempt(trial.number, len(trial.attempts))
            template.write(trial)
        sized = sorted(((template.resources_of(trial), trial) for trial in due), key=lambda pair: repr(pair[0]))
        for resources, pairs in groupby(sized, key=lambda pair: pair[0]):
            group = sorted((trial for _, trial in pairs), key=lambda trial: trial.number)
            self._start(
                self._submission(group, resources, generation=generation),
                [(trial.number, trial.last.number) for trial in group],
                generation=generation,
            )

    def _submission(self, trials: Sequence[Trial], resources: Resources, *, generation: int) -> Submission:
        number = sum(line["generation"] == generation for line in self.history.submissions.values())
        return Submission(
            name=f"{self.job_prefix}-g{generation:03d}-s{number}",
            folder=self.journal.run_dir.submission_dir(generation, number),
            attempt_dirs=tuple(trial.last.path for trial in trials),
            resources=resources,
        )

    def _start(self, submission: Submission, attempts: list[tuple[int, int]], *, generation: int) -> None:
        """Submit a batch: what is intended is on disk before, what was accepted after."""
        write_members(submission.folder, submission.attempt_dirs)
        self.journal.record(
            "intent",
            name=submission.name,
            generation=generation,
            attempts=attempts,
            resources=to_json(submission.resources),
        )
        self.journal.lease.check()
        jobs = self.launcher.submit(submission)
        pairs = zip(attempts, submission.attempt_dirs, strict=False)  # a single job belongs to no trial
        self.journal.record(
            "submitted",
            name=submission.name,
            jobs={f"{trial}/{number}": jobs[path] for (trial, number), path in pairs},
        )

    def _adopt(self, trials: Sequence[Trial]) -> None:
        """Find the jobs that an earlier driver submitted; an attempt that never was submitted is due again."""
        waiting = [trial.last for trial in trials if trial.last.submission and trial.last.end is None]
        for name in sorted({attempt.submission for attempt in waiting if attempt.submission}):
            submission = known_submission(self.history, name)
            members = [attempt for attempt in waiting if attempt.submission == name]
            jobs = self.launcher.adopt(submission, {a.path: a.job_id for a in members if a.job_id})
            for attempt in members:
                if attempt.path not in jobs:
                    attempt.submission = None

    def _wait_for(self, paths: Sequence[Path]) -> list[Ended]:
        """Look until at least one attempt has ended."""
        while True:
            if self.pace.n_interrupts() > 1:
                raise InterruptedSearchError("detached: the jobs run on; the same command goes on with them")
            self.journal.lease.refresh()
            if self.journal.run_dir.cancel_path.exists():
                self._cancel(paths)
            ends = self.pace.poll(paths)
            self.pace.show()
            if ends:
                return ends
            self._pause()

    def _cancel(self, paths: Sequence[Path]) -> None:
        """Cancel once what another process was told to cancel: only this one knows the jobs that still wait."""
        self.launcher.cancel([path for path in paths if path not in self._cancelled])
        self._cancelled.update(paths)

    def _pause(self) -> None:
        """Wait for the next look, but not after the person pressed Ctrl-C or somebody cancelled the run."""
        n_interrupts, left_s = self.pace.n_interrupts(), self.pace.poll_s
        while left_s > 0 and self.pace.n_interrupts() == n_interrupts:
            self.journal.clock.sleep(min(left_s, LONGEST_NAP_S))
            left_s -= LONGEST_NAP_S

    def _record_end(self, trial: Trial, end: End, *, source: str) -> None:
        self.journal.record(
            "end",
            trial=trial.number,
            attempt=trial.last.number,
            restart=end.restart,
            status=end.outcome.status,
            kind=end.outcome.kind,
            source=source,
        )


def known_submission(history: History, name: str) -> Submission:
    """Rebuild a submission of a run from its intent.

    Args:
        history: What happened in the run.
        name: Name of the submission.
    """
    line = history.submissions[name]
    if line["generation"] < 0:
        attempt_dir = history.run_dir.profile_attempt_dir(int(name.rpartition("-")[2]))
        folder = _folder_beside(attempt_dir)
        attempt_dirs: tuple[Path, ...] = (attempt_dir,)
    else:
        folder = history.run_dir.submission_dir(line["generation"], int(name.rpartition("-s")[2]))
        attempt_dirs = tuple(history.attempt(trial, number).path for trial, number in line["attempts"])
    return Submission(
        name=name,
        folder=folder,
        attempt_dirs=attempt_dirs,
        resources=from_json(Resources, line["resources"], where=f"ledger: {name}"),
    )


def _folder_beside(attempt_dir: Path) -> Path:
    """Name the folder of the submission of a single attempt."""
    return attempt_dir.with_name(f"submission-{attempt_dir.name}")
