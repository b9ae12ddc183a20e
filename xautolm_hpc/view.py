"""What is shown of a run: its progress (:class:`RunView`), its results (:class:`RunFacts`), results of checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from xautolm_hpc.failures import OutcomeStatus
from xautolm_hpc.launcher import JobState
from xautolm_hpc.predictions import Predictions
from xautolm_hpc.records import Experience, Task

J_PER_KWH = 3.6e6


class Phase(StrEnum):
    """Phase of a run."""

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
    """The driver stopped the search because many trials failed alike."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How a search ended, or that it has not ended.

    Attributes:
        kind: The reason, for code.
        text: The reason, for readers.
    """

    kind: FinishKind
    text: str


UNFINISHED = Finish(FinishKind.UNFINISHED, "the search goes on")
"""The finish in a report that is written before the search has ended."""


def is_unfinished(run: Mapping[str, Any]) -> bool:
    """Return whether a report was written before the search had ended.

    Args:
        run: ``run`` of ``report.json``; older ones name no kind of finish.
    """
    return run.get("finish_kind") == FinishKind.UNFINISHED or run.get("finish") in (None, UNFINISHED.text)


def finish_text(summary: Mapping[str, Any]) -> str:
    """Write why a search ended; of one that had not, when that was, as nothing tells later that its driver is gone.

    Args:
        summary: The content of ``report.json``.
    """
    run = summary["run"]
    if run["finish"] != UNFINISHED.text:
        return str(run["finish"])
    return f"not finished when this was written, {as_of(summary)}"


def as_of(summary: Mapping[str, Any]) -> str:
    """Write up to which generation a report of a search that has not ended goes."""
    return f"as of generation {summary['spent']['generations'] - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Cost of a run so far.

    Attributes:
        n_generations: Generations committed.
        n_trials: Trials that have ended.
        wall_s: Seconds that drivers of this run were running.
        gpu_s: Seconds of GPUs held by ended attempts, summed over GPUs.
        trial_s: Seconds of ended attempts, start to end, summed.
        energy_j: Energy of ended attempts, GPUs and CPUs; ``None`` if it is known of none.
    """

    n_generations: int = 0
    n_trials: int = 0
    wall_s: float = 0.0
    gpu_s: float = 0.0
    trial_s: float = 0.0
    energy_j: float | None = None


def charges(rates: Mapping[str, Any], spent: Spent) -> dict[str, Any]:
    """Compute what energy and GPU time cost.

    Args:
        rates: ``[cost]`` of the cluster profile: ``co2_g_per_kwh``, ``price_per_gpu_h`` and ``currency``.
        spent: Energy and GPU time.

    Returns:
        ``co2_kg`` and ``price``, each ``None`` where its rate or the energy is unknown, and the rates by their names.
    """
    grams, price, energy_j = rates["co2_g_per_kwh"], rates["price_per_gpu_h"], spent.energy_j
    return {
        "co2_kg": None if grams is None or energy_j is None else energy_j / J_PER_KWH * grams / 1000,
        "price": None if price is None else spent.gpu_s / 3600 * price,
        **rates,
    }


def charges_text(found: Mapping[str, Any]) -> list[str]:
    """Write what energy and GPU time cost, such as ``0.12 kg CO2`` and ``3.40 EUR``; what is unknown is left out.

    Args:
        found: Result of :func:`charges`.
    """
    texts = [] if found.get("co2_kg") is None else [f"{found['co2_kg']:.3g} kg CO2"]
    return texts if found.get("price") is None else [*texts, f"{found['price']:.2f} {found['currency']}"]


class TrialEnd(StrEnum):
    """How a trial ended that has no running job any more, as it is shown."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    NOT_RUN = "NOT RUN"
    """The search stopped before it."""


TRIAL_ENDS: Mapping[OutcomeStatus, TrialEnd] = {
    OutcomeStatus.SUCCEEDED: TrialEnd.SUCCEEDED,
    OutcomeStatus.FAILED: TrialEnd.FAILED,
    OutcomeStatus.STOPPED: TrialEnd.STOPPED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialView:
    """One trial of the present generation.

    Attributes:
        trial: Number in the run.
        attempt: Number of the present attempt.
        model: Model id.
        method: Method name.
        state: State of its job until it ended, then how.
        reason: Queue reason, or failure kind; :data:`~xautolm_hpc.failures.TRUNCATED` of such a success.
        node: Node, or ``None``.
        elapsed_s: Seconds since the attempt started, or its duration once it ended; ``None`` before the start, and
            where nothing says when it ended.
        step: Optimiser steps done, from the heartbeat; ``n_steps`` those planned, 0 while unknown.
        f1: F1 on ``validation`` once it succeeded.
    """

    trial: int
    attempt: int
    model: str
    method: str
    state: JobState | TrialEnd
    reason: str = ""
    node: str | None = None
    elapsed_s: float | None = None
    step: int = 0
    n_steps: int = 0
    f1: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BestTrial:
    """The best trial so far, by the rule of :func:`xautolm_hpc.pareto.preference`.

    Attributes:
        trial: Number in the run.
        model: Model id.
        method: Method name.
        f1: F1 on ``validation``, 0..1, or ``None`` if it is unknown.
        objective: The search's first objective, by which it is the best.
        value: Its value of that objective, in the objective's own unit.
        truncated: Whether it was evaluated before its training had ended.
    """

    trial: int
    model: str
    method: str
    f1: float | None
    objective: str = "f1"
    value: float | None = None
    truncated: bool = False


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
        best: The best trial so far, or ``None``.
        note: One line of text, or "".
        objectives: The search's objectives, the first one first.
        charges: Result of :func:`charges`; empty where nothing is known of rates.
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
    objectives: tuple[str, ...]
    charges: Mapping[str, Any] = field(default_factory=dict)


class Watcher(Protocol):
    """A progress display; the driver calls it while a search runs."""

    def show(self, view: RunView) -> None:
        """Show the present state; called at every poll."""
        ...

    def log(self, text: str) -> None:
        """Show one line that stays: a retry, a failure, a commit."""
        ...

    def warn(self, text: str) -> None:
        """Show why the search waits longer than usual, also where a person wants to see nothing else."""
        ...


def no_answers(experience: Experience, split: str) -> Predictions | None:
    """Return what is known of the answers of a trial whose run has no folder: nothing."""
    del experience, split
    return None


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
        rejections: Constraint name -> pipelines it rejected before submission.
        prior: Content of ``priors.json``, of :class:`xautolm_hpc.distribution.FrozenPrior`.
        spent: Cost.
        finish: Why the search ended.
        tests: Trial number -> metric -> value on ``test``, of the trials that were evaluated there.
        left_out: Trials of a given list that were not evaluated, by number.
        answers: Returns what an attempt answered on each row of ``validation`` or ``test``, ``None`` where unknown.
        importance: Result of :func:`xautolm_hpc.priors.hyperparameter_importance`, or ``None``.
        charges: Result of :func:`charges`; empty where nothing is known of rates.
        reasons: Constraint name -> why it rejected one of them; empty where nothing was noted.
        settings: Settings that the report names, dotted key -> value.
    """

    name: str
    run_id: str
    objectives: tuple[str, ...]
    task: Task
    majority_f1: float | None
    experiences: tuple[Experience, ...]
    rejections: Mapping[str, int]
    prior: Mapping[str, Any]
    spent: Spent
    finish: Finish
    tests: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    left_out: tuple[int, ...] = ()
    answers: Callable[[Experience, str], Predictions | None] = no_answers
    importance: Mapping[str, Any] | None = None
    charges: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def last_attempts(self) -> tuple[Experience, ...]:
        """List the last attempt of every trial; it is the result of the trial."""
        last = {e.provenance.trial: e for e in self.experiences}
        return tuple(last.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Result of one check.

    Attributes:
        check: What was checked.
        level: ``ok``; ``warning`` if a search can run all the same; ``failure`` if it cannot.
        found: What was found.
        remedy: What to do about it, or "".
    """

    check: str
    level: str
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Finding:
    """Build the finding of a check that found nothing wrong."""
    return Finding(check=check, level="ok", found=found)


def warning(check: str, found: str, *, remedy: str) -> Finding:
    """Build a finding that does not keep a search from running."""
    return Finding(check=check, level="warning", found=found, remedy=remedy)


def failure(check: str, found: str, *, remedy: str) -> Finding:
    """Build a finding that keeps a search from running."""
    return Finding(check=check, level="failure", found=found, remedy=remedy)
