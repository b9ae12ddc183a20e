"""When a search ends: each limit, and failures that are all alike."""

import pytest

from tests.nouns import failed, succeeded
from xautolm_hpc.driver.budget import Limits, equal_failures, spent_limit, trials_left
from xautolm_hpc.failures import FAILURE_KINDS
from xautolm_hpc.records import Outcome
from xautolm_hpc.view import Finish, FinishKind, Spent

EXPECTED_KINDS = [kind for kind in FAILURE_KINDS if kind.traits.is_expected]

NO_LIMITS = {"generations": None, "trials": None, "wall_s": None, "gpu_s": None, "energy_j": None}
SPENT = Spent(n_generations=3, n_trials=60, wall_s=7200.0, gpu_s=3600.0, trial_s=9000.0, energy_j=5e5)

STILL = "(trials that ran at that moment still ended)"


@pytest.mark.parametrize(
    ("name", "reached", "not_yet", "words"),
    [
        ("generations", 3, 4, "budget used: generations 3 of 3"),
        ("trials", 60, 61, "budget used: trials 60 of 60"),
        ("wall_s", 7200.0, 7200.5, "budget used: 2 h 00 min of 2 h 00 min of wall time"),
        ("wall_s", 216.0, 7200.5, f"budget used: 2 h 00 min of 3 min 36 s of wall time {STILL}"),
        ("gpu_s", 3600.0, 3601.0, "budget used: 1 h 00 min of 1 h 00 min of GPU time"),
        ("energy_j", 4e5, 6e5, f"budget used: 0.139 kWh of 0.111 kWh of energy {STILL}"),
    ],
)
def test_a_search_ends_when_a_limit_is_reached(name: str, reached: float, not_yet: float, words: str) -> None:
    assert spent_limit(Limits(**{**NO_LIMITS, name: reached}), SPENT) == Finish(FinishKind.BUDGET_USED, words)  # type: ignore[arg-type]
    assert spent_limit(Limits(**{**NO_LIMITS, name: not_yet}), SPENT) is None  # type: ignore[arg-type]


def test_without_limits_no_limit_is_reached() -> None:
    assert spent_limit(Limits(**NO_LIMITS), SPENT) is None


def test_energy_nobody_measured_never_ends_a_search() -> None:
    limits = Limits(**{**NO_LIMITS, "energy_j": 1.0})  # type: ignore[arg-type]

    assert spent_limit(limits, Spent(n_trials=100)) is None


def test_the_first_of_two_reached_limits_is_named() -> None:
    limits = Limits(**{**NO_LIMITS, "trials": 10, "generations": 2})

    assert spent_limit(limits, SPENT) == Finish(FinishKind.BUDGET_USED, "budget used: generations 3 of 2")


@pytest.mark.parametrize(
    ("trials", "n_drawn", "left"),
    [(None, 500, 20), (100, 0, 20), (100, 80, 20), (100, 93, 7), (100, 100, 0), (50, 60, 0)],
)
def test_the_last_generation_has_as_many_trials_as_the_budget_leaves(
    trials: int | None, n_drawn: int, left: int
) -> None:
    limits = Limits(**{**NO_LIMITS, "trials": trials})

    assert trials_left(limits, n_drawn, population=20) == left


BROKEN = failed("environment", "Traceback\nImportError: no torch")
OTHER = failed("environment", "Traceback\nImportError: no peft")


@pytest.mark.parametrize(
    ("ends", "n_equal"),
    [
        ([], 0),
        ([BROKEN] * 4, 0),
        ([BROKEN] * 5, 5),
        ([BROKEN] * 7, 7),
        ([succeeded(), *[BROKEN] * 9], 0),
        ([succeeded(), *[BROKEN] * 10], 10),
        ([OTHER, *[BROKEN] * 5], 0),
        ([OTHER, *[BROKEN] * 12], 12),
        ([*[BROKEN] * 5, OTHER], 0),
        ([BROKEN, OTHER] * 10, 0),
        ([*[BROKEN] * 9, succeeded(), *[BROKEN] * 9], 0),
        ([*[BROKEN] * 5, succeeded()], 0),
        ([*[BROKEN] * 4, failed("error", "Traceback\nImportError: no torch")], 0),
        ([*[BROKEN] * 9, failed("gpu_oom"), BROKEN], 0),
        ([failed("error")] * 5, 5),
    ],
)
def test_the_first_5_or_any_10_equal_failures_stop_a_search(ends: list[Outcome], n_equal: int) -> None:
    assert equal_failures(reversed(ends)) == n_equal


def test_ends_before_one_that_differs_are_not_read() -> None:
    ends = iter([*[BROKEN] * 3, OTHER, *[BROKEN] * 100])

    assert equal_failures(ends) == 0
    assert len(list(ends)) == 100


def test_only_the_line_that_says_why_is_compared() -> None:
    errors = [failed("error", f"line {number}\nValueError: x\n") for number in range(5)]
    unstarted = [failed("launch_failure", f"the image is not there\nline {number}") for number in range(5)]

    assert equal_failures(errors) == 5
    assert equal_failures(unstarted) == 5


@pytest.mark.parametrize("kind", EXPECTED_KINDS)
def test_failures_every_search_meets_never_stop_one(kind: str) -> None:
    assert equal_failures([failed(kind, "the same words")] * 50) == 0


def test_the_failures_every_search_meets_are_limits_of_the_hardware_and_divergence() -> None:
    assert EXPECTED_KINDS == ["gpu_oom", "host_oom", "time_limit", "diverged"]
