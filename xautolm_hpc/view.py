"""What a person is shown of a run: while it goes on (:class:`RunView`) and of its results (:class:`RunFacts`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from xautolm_hpc.records import Experience, Task


class Phase(StrEnum):
    """What a run is doing."""

    PROFILE = "profile"
    PRIORS = "priors"
    GENERATION = "generation"
    COMMIT = "commit"
    TEST = "test"
    REPORT = "report"
    DONE = "done"


class FinishKind(StrEnum):
    """Why a search ended."""

    UNFINISHED = "unfinished"
    BUDGET_USED = "budget-used"
    SPACE_EXHAUSTED = "space-exhausted"
    LIST_EVALUATED = "list-evaluated"
    STOPPED = "stopped"
    """The driver stopped the search, because trial after trial failed alike."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a search ended, or that it goes on.

    Attributes:
        kind: What code decides on.
        text: The same for a person.
    """

    kind: FinishKind
    text: str


UNFINISHED = Finish(FinishKind.UNFINISHED, "the search goes on")
"""How a search ended, in a report that is written before it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What a run has cost so far.

    Attributes:
        n_generations: Generations committed.
        n_trials: Trials ended.
        wall_s: Seconds that drivers of this run were at work.
        gpu_s: Seconds of GPUs held by ended attempts, summed over GPUs.
        trial_s: Seconds of ended attempts, start to end, summed.
        energy_j: Energy of ended attempts, GPUs and CPUs; ``None`` if none of them knew it.
    """

    n_generations: int = 0
    n_trials: int = 0
    wall_s: float = 0.0
    gpu_s: float = 0.0
    trial_s: float = 0.0
    energy_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One trial of the present generation.

    Attributes:
        trial: Number in the run.
        attempt: Number of the present attempt.
        model: Model id.
        method: Method name.
        state: Slurm's word, or ``SUCCEEDED`` / ``FAILED`` once it ended.
        reason: Queue reason, or failure kind.
        node: Node, or ``None``.
        elapsed_s: Seconds since the attempt started, or its length once it ended; ``None`` before the start.
        step: Optimiser steps done, from the heartbeat; ``n_steps`` those planned, 0 while unknown.
        f1: F1 on ``validation`` once it succeeded.
    """

    trial: int
    attempt: int
    model: str
    method: str
    state: str
    reason: str = ""
    node: str | None = None
    elapsed_s: float | None = None
    step: int = 0
    n_steps: int = 0
    f1: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestTrial:
    """The trial with the highest F1 so far.

    Attributes:
        trial: Number in the run.
        model: Model id.
        method: Method name.
        f1: F1 on ``validation``, 0..1.
    """

    trial: int
    model: str
    method: str
    f1: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run at one moment.

    Attributes:
        name: Name of the run.
        phase: What the run is doing.
        generation: Present generation, from 0.
        n_generations: Generations planned, or ``None`` when another budget ends the search.
        trials: The present generation's trials, by number.
        spent: Cost so far.
        n_succeeded: Trials succeeded in the whole run.
        n_failed: Trials failed in the whole run.
        best: Trial with the highest F1 so far, or ``None``.
        note: One line for the person, or "".
    """

    name: str
    phase: Phase
    generation: int = 0
    n_generations: int | None = None
    trials: tuple[TrialView, ...] = ()
    spent: Spent = field(default_factory=Spent)
    n_succeeded: int = 0
    n_failed: int = 0
    best: BestTrial | None = None
    note: str = ""


class Watcher(Protocol):
    """Protocol of a progress display: the driver calls it while a search runs."""

    def show(self, view: RunView) -> None:
        """Show the run as it is now; called at every poll."""
        ...

    def log(self, text: str) -> None:
        """Show one line that stays: a retry, a failure, a commit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """A run's results, for the report.

    Attributes:
        name: Name of the run.
        run_id: UUID of the run.
        objectives: Objectives, the first one first.
        task: The task.
        majority_f1: Macro-F1 of always answering the most frequent label, or ``None``.
        experiences: Every attempt of the run, by trial and attempt.
        refusals: Constraint name -> pipelines it refused before submission.
        prior: Content of ``priors.json``.
        spent: Cost.
        finish: Why the search ended.
        tests: Trial number -> metric -> value on ``test``, of the trials that were evaluated there.
    """

    name: str
    run_id: str
    objectives: tuple[str, ...]
    task: Task
    majority_f1: float | None
    experiences: tuple[Experience, ...]
    refusals: Mapping[str, int]
    prior: Mapping[str, Any]
    spent: Spent
    finish: Finish
    tests: Mapping[int, Mapping[str, float]] = field(default_factory=dict)

    def last_attempts(self) -> tuple[Experience, ...]:
        """List the last attempt of every trial: what each trial came to."""
        last = {e.provenance.trial: e for e in self.experiences}
        return tuple(last.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row.

    Attributes:
        check: What was looked at.
        level: ``ok``; ``warning`` if a search can run nevertheless; ``failure`` if it cannot.
        found: What was found.
        remedy: What to do about it; "" where nothing is to be done.
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Say that a check found nothing wrong."""
    return Finding(check=check, level="ok", found=found)


def warning(check: str, found: str, *, remedy: str) -> Finding:
    """Say that something is not as it should be, but a search can run."""
    return Finding(check=check, level="warning", found=found, remedy=remedy)


def failure(check: str, found: str, *, remedy: str) -> Finding:
    """Say that a search cannot run."""
    return Finding(check=check, level="failure", found=found, remedy=remedy)
