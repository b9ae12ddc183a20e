"""When a search ends: budgets, and a run of equal failures that only a person can mend."""

from collections.abc import Iterable
from dataclasses import dataclass

from xautolm_hpc.failures import failure_kind
from xautolm_hpc.records import Outcome
from xautolm_hpc.report import duration_text
from xautolm_hpc.view import J_PER_KWH, Finish, FinishKind, Spent

FIRST_EQUAL, CONSECUTIVE_EQUAL = 5, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The budget of a search; ``None`` sets no limit.

    Attributes:
        generations: Generations.
        trials: Trials.
        wall_s: Seconds that drivers are at work.
        gpu_s: GPU-seconds of trials.
        energy_j: Joules of trials.
    """

    generations: int | None
    trials: int | None
    wall_s: float | None
    gpu_s: float | None
    energy_j: float | None


def spent_limit(limits: Limits, spent: Spent) -> Finish | None:
    """Return the first limit that is reached; ``None`` while all have room."""
    counts = (("generations", limits.generations, spent.n_generations), ("trials", limits.trials, spent.n_trials))
    for name, n_most, n in counts:
        if n_most is not None and n >= n_most:
            return Finish(FinishKind.BUDGET_USED, f"budget used: {name} {n} of {n_most}")
    costs = (
        ("wall time", limits.wall_s, spent.wall_s, duration_text),
        ("GPU time", limits.gpu_s, spent.gpu_s, duration_text),
        ("energy", limits.energy_j, spent.energy_j or 0.0, _energy_text),
    )
    for name, limit, used, text in costs:
        if limit is not None and used >= limit:
            over = "" if text(used) == text(limit) else " (trials that ran at that moment still ended)"
            return Finish(FinishKind.BUDGET_USED, f"budget used: {text(used)} of {text(limit)} of {name}{over}")
    return None


def _energy_text(joules: float) -> str:
    return f"{joules / J_PER_KWH:.3g} kWh"


def trials_left(limits: Limits, n_drawn: int, *, population: int) -> int:
    """Count the trials that the next generation may have."""
    return population if limits.trials is None else max(0, min(population, limits.trials - n_drawn))


def equal_failures(ends: Iterable[Outcome]) -> int:
    """Count the last trials whose equal failures must stop the search.

    Args:
        ends: Outcomes of the trials, the last one to end first; read until one differs.

    Returns:
        How many of the last trials ended alike, if these are the first 5 or any 10 in a row; else 0.
    """
    signatures = map(_signature, ends)
    last, n_equal = next(signatures, None), 1
    if last is None:
        return 0
    for signature in signatures:
        if signature != last:
            return n_equal if n_equal >= CONSECUTIVE_EQUAL else 0
        n_equal += 1
    return n_equal if n_equal >= FIRST_EQUAL else 0


def _signature(outcome: Outcome) -> tuple[str, str] | None:
    """Name a failure by kind and reason; ``None`` for successes and for failures every search meets."""
    if outcome.kind is None or failure_kind(outcome.kind).traits.is_expected:
        return None
    return outcome.kind, outcome.reason
