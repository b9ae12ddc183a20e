"""What happened in a run so far, told by its ledger and its attempt folders; a driver that restarts reads it here."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xautolm_hpc import __version__
from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.failures import FailureKind, OutcomeStatus, origin_of
from xautolm_hpc.jobdir import OUTCOME, VERDICT, End, TrialPlan
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.records import Outcome, Pipeline, from_json
from xautolm_hpc.run.attempt_end import read_end_file
from xautolm_hpc.run.folder import RunDir, submission_dir_beside
from xautolm_hpc.run.ledger import Line, read_ledger
from xautolm_hpc.view import Spent


@dataclass(slots=True)
class Attempt:
    """One attempt of a trial.

    Attributes:
        number: From 0.
        path: Its folder.
        submission: Name of the submission it was last part of; ``None`` if it was never submitted.
        job_id: Id the launcher gave, or ``None``.
        job: Number of that job in the run, from 0; attempts with one number share a job.
        submitted_at: Seconds since the epoch, or ``None``.
        end: How it ended, or ``None``.
        source: File that says so: ``outcome`` or ``verdict``.
    """

    number: int
    path: Path
    submission: str | None = None
    job_id: str | None = None
    job: int | None = None
    submitted_at: float | None = None
    end: End | None = None
    source: str | None = None

    @property
    def outcome(self) -> Outcome | None:
        """What came of it; ``None`` while it has not ended."""
        return None if self.end is None else self.end.outcome


@dataclass(slots=True)
class Trial:
    """One trial: a pipeline and its attempts, the last one being the present one.

    Attributes:
        number: Number in the run.
        generation: Its generation.
        plan: What is trained.
        attempts: At least one.
    """

    number: int
    generation: int
    plan: TrialPlan
    attempts: list[Attempt]

    @property
    def last(self) -> Attempt:
        """The present attempt."""
        return self.attempts[-1]


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """The end of a trial, as a search learns from it.

    Attributes:
        trial: Number of the trial.
        generation: Its generation.
        pipeline: What was trained.
        outcome: What came of its last attempt.
    """

    trial: int
    generation: int
    pipeline: Pipeline
    outcome: Outcome


@dataclass(slots=True)
class History:
    """The state of a run, replayed from its ledger.

    Attributes:
        run_dir: The run folder.
        trials: Trial number -> trial, in the order they were drawn.
        submissions: Submission name -> its ``intent`` line.
        rejections: Constraint name -> pipelines rejected so far.
        reasons: Constraint name -> why it rejected the first of them; earlier versions did not write it.
        committed: Generations whose experiences are in the store, in order.
        ends: (trial, attempt) of the ends in the order they came.
        exhausted: Whether the last draw found nothing feasible any more.
        stopped: Why the driver stopped the search itself, or ``None``.
        suspects: Trials that are no evidence, because they all ended alike.
        unread: (trial, attempt) whose end cannot be read any more -> why; they count as lost.
        models_out: Model whose files do not fit together -> number of the first trial that it is not drawn for.
    """

    run_dir: RunDir
    trials: dict[int, Trial] = field(default_factory=dict)
    submissions: dict[str, Line] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    committed: list[int] = field(default_factory=list)
    ends: list[tuple[int, int]] = field(default_factory=list)
    exhausted: bool = False
    stopped: str | None = None
    suspects: set[int] = field(default_factory=set)
    models_out: dict[str, int] = field(default_factory=dict)
    unread: dict[tuple[int, int], str] = field(default_factory=dict)
    _jobs: dict[str, int] = field(default_factory=dict)
    _sessions: dict[int, tuple[float, float]] = field(default_factory=dict)

    def apply(self, line: Line) -> None:
        """Apply one ledger line.

        Raises:
            InputError: A plan or an end in it is damaged.
            RunFolderError: It names what the lines before do not.
        """
        try:
            self._apply(line)
        except (LookupError, ValueError) as error:
            raise RunFolderError(
                f"`{self.run_dir.ledger_path}`: a line {line['event']!r} names a trial, attempt or submission that the "
                f"lines before do not: {error}. Restore the file, or start again with --fork"
            ) from error

    def _apply(self, line: Line) -> None:
        """Apply a line whose fields are as they should be; what it names may still be unknown."""
        first, _ = self._sessions.get(line["lease"], (line["at"], line["at"]))
        self._sessions[line["lease"]] = (first, line["at"])
        match line["event"]:
            case "drawn":
                self._apply_drawn(line)
            case "intent":
                self._apply_intent(line)
            case "submitted":
                self._apply_submitted(line)
            case "given_back":
                self._apply_given_back(line)
            case "end" | "late":
                self._apply_end(line)
            case "commit" | "stop" | "model_out":
                self._apply_decision(line)

    def attempt(self, trial: int, number: int) -> Attempt:
        """Find an attempt, adding it if it is the trial's next one."""
        attempts = self.trials[trial].attempts
        if number == len(attempts):
            path = self.run_dir.attempt_dir(self.trials[trial].generation, trial, attempt=number)
            attempts.append(Attempt(number, path))
        return attempts[number]

    def submission(self, name: str) -> Submission:
        """Rebuild a submission from its intent.

        Args:
            name: Name of the submission.
        """
        line = self.submissions[name]
        paths = {key: line[key] for key in ("folder", "attempt_dirs") if key in line} or self._paths_of_name(line)
        return Submission(
            name=name,
            folder=self.run_dir.path / paths["folder"],
            attempt_dirs=tuple(self.run_dir.path / path for path in paths["attempt_dirs"]),
            resources=from_json(Resources, line["resources"], where=f"`{self.run_dir.ledger_path}`: {name}"),
            max_parallel=line.get("max_parallel"),
            trials_per_job=line.get("trials_per_job", 1),
        )

    def _paths_of_name(self, line: Line) -> dict[str, Any]:
        """Find the folders of an intent that does not name them, as those of older versions: its name tells."""
        if line["generation"] >= 0:
            number = int(line["name"].rpartition("-s")[2])
            members = [self.attempt(trial, attempt).path for trial, attempt in line["attempts"]]
            return {"folder": self.run_dir.submission_dir(line["generation"], number), "attempt_dirs": members}
        _, job, number = line["name"].rsplit("-", 2)
        path = {"profile": self.run_dir.profile_attempt_dir, "final": self.run_dir.final_attempt_dir}[job](int(number))
        return {"folder": submission_dir_beside(path), "attempt_dirs": [path]}

    def generation(self, generation: int) -> list[Trial]:
        """List the trials of a generation."""
        return [trial for trial in self.trials.values() if trial.generation == generation]

    def open_generations(self) -> list[int]:
        """List the generations that were drawn and are not in the store yet, ascending."""
        drawn = {trial.generation for trial in self.trials.values()}
        return sorted(drawn.difference(self.committed))

    def pipelines(self) -> list[Pipeline]:
        """List the pipelines that were drawn, by trial."""
        return [trial.plan.pipeline for trial in self.trials.values()]

    def known_ends(self) -> list[KnownEnd]:
        """List the trials whose last attempt has ended, by trial."""
        return [
            KnownEnd(trial.number, trial.generation, trial.plan.pipeline, trial.last.end.outcome)
            for trial in self.trials.values()
            if trial.last.end is not None
        ]

    def newly_unfit_models(self) -> dict[str, str]:
        """Find the models whose files do not fit together, by the ends, and that are still drawn: model -> reason."""
        ends = [(trial.plan.model.id, trial.last.end) for trial in self.trials.values()]
        found = {model: end.outcome.reason or "" for model, end in ends if end is not None and end.is_model_unfit}
        return {model: reason for model, reason in found.items() if model not in self.models_out}

    def n_generations(self) -> int:
        """Count the generations that were drawn."""
        return 1 + max((trial.generation for trial in self.trials.values()), default=-1)

    def spent(self, now: float, lease_number: int) -> Spent:
        """Add up what the run has cost; the present driver counts until ``now``."""
        ended = [a.end for trial in self.trials.values() for a in trial.attempts if a.end is not None]
        seconds = charged_s(ended)
        energies = [
            joules for e in ended for joules in (e.outcome.gpu_energy_j, e.outcome.cpu_energy_j) if joules is not None
        ]
        sessions = dict(self._sessions)
        if lease_number in sessions:
            sessions[lease_number] = (sessions[lease_number][0], now)
        return Spent(
            n_generations=len(self.committed),
            n_trials=sum(trial.last.end is not None for trial in self.trials.values()),
            wall_s=sum(last - first for first, last in sessions.values()),
            gpu_s=sum(s * ((e.system and e.system.n_gpus) or 0) for s, e in zip(seconds, ended, strict=True)),
            trial_s=sum(seconds),
            energy_j=sum(energies) if energies else None,
        )

    def _apply_decision(self, line: Line) -> None:
        match line["event"]:
            case "commit":
                self.committed.append(line["generation"])
            case "stop":
                self.stopped, self.suspects = line["reason"], set(line["suspects"])
            case "model_out":
                self.models_out[line["model"]] = line["from_trial"]

    def _apply_drawn(self, line: Line) -> None:
        """Add the trials that were drawn, and count what was rejected on the way."""
        self.exhausted = line["exhausted"]
        for name, count in line["refusals"].items():
            self.rejections[name] = self.rejections.get(name, 0) + count
        self.reasons = line.get("refusal_reasons", {}) | self.reasons
        for number, plan in enumerate(line["plans"], start=len(self.trials)):
            path = self.run_dir.attempt_dir(line["generation"], number, attempt=0)
            where = f"`{self.run_dir.ledger_path}`: trial {number}"
            self.trials[number] = Trial(
                number, line["generation"], from_json(TrialPlan, plan, where=where), [Attempt(0, path)]
            )

    def _apply_intent(self, line: Line) -> None:
        self.submissions[line["name"]] = line
        for trial, number in line["attempts"]:
            self.attempt(trial, number).submission = line["name"]

    def _apply_submitted(self, line: Line) -> None:
        for key, job_id in line["jobs"].items():
            attempt = self.attempt(*map(int, key.split("/")))
            attempt.job_id, attempt.submitted_at = job_id, line["at"]
            attempt.job = self._jobs.setdefault(job_id, len(self._jobs))

    def _apply_given_back(self, line: Line) -> None:
        """Forget a job that ended without having begun an attempt, which is as if it had never been submitted."""
        attempt = self.attempt(line["trial"], line["attempt"])
        attempt.submission = attempt.job_id = attempt.job = attempt.submitted_at = None

    def _apply_end(self, line: Line) -> None:
        attempt = self.attempt(line["trial"], line["attempt"])
        attempt.end, attempt.source = self._end_in(line, attempt), line["source"]
        if (line["trial"], line["attempt"]) not in self.ends:
            self.ends.append((line["trial"], line["attempt"]))

    def _end_in(self, line: Line, attempt: Attempt) -> End:
        """Return the end that a line holds; earlier versions left it in the attempt's folder."""
        if "end" in line:
            return from_json(End, line["end"], where=f"`{self.run_dir.ledger_path}`: end of trial {line['trial']}")
        path = attempt.path / (OUTCOME if line["source"] == "outcome" else VERDICT)
        try:
            return read_end_file(path)
        except (OSError, InputError) as error:
            self.unread[line["trial"], line["attempt"]] = str(error)
            return _unread_end(line, reason=str(error))


def charged_s(ends: Sequence[End]) -> list[float]:
    """Compute for how many seconds the attempts of a run held what their jobs were given.

    Where a job runs several, each is charged from the end of the one before it, or from the job's start: so the time of
    the job outside trials is charged, too.

    Args:
        ends: How attempts ended.

    Returns:
        Seconds, in the order of ``ends``; 0 for an attempt that never started.
    """
    free_at: dict[tuple[str | None, float], float] = {}
    charged: dict[int, float] = {}
    for i, end in sorted(enumerate(ends), key=lambda pair: pair[1].ended_at):
        began_at = end.started_at
        if end.job_started_at is not None:
            began_at = free_at.get((end.node, end.job_started_at), end.job_started_at)
            free_at[end.node, end.job_started_at] = end.ended_at
        charged[i] = 0.0 if began_at is None else max(0.0, end.ended_at - began_at)
    return [charged[i] for i in range(len(ends))]


def _unread_end(line: Line, *, reason: str) -> End:
    """Return the end of an attempt of which only the ledger's line is left: lost, whatever it was."""
    kind = FailureKind.LOST
    message = f"how it ended cannot be read any more: {reason}"
    outcome = Outcome(status=OutcomeStatus.FAILED, kind=kind, origin=origin_of(kind), message=message)
    return End(
        outcome=outcome, system=None, restart=line.get("restart", 0), started_at=None, ended_at=line["at"], node=None,
        lock_hash=None, image_digest=None, package_version=__version__,
    )  # fmt: skip


def read_history(run_dir: RunDir) -> History:
    """Read what happened in a run from its ledger.

    Raises:
        RunFolderError: The ledger is damaged.
    """
    history = History(run_dir)
    for line in read_ledger(run_dir.ledger_path):
        history.apply(line)
    return history
