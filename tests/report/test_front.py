"""The Pareto set of a run against brute force."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report.facts import failure, success
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.records import Experience
from xautolm_hpc.report.summary import split_front

NAMES = tuple(OBJECTIVES)
VALUES = st.tuples(*[st.integers(0, 4)] * len(NAMES))


def _trial(trial: int, values: tuple[int, ...]) -> Experience:
    f1, time_s, energy_j, memory_bytes = values
    return success(
        trial,
        f1=f1 / 4,
        evaluation_time_s=float(time_s),
        gpu_energy_j=float(energy_j),
        peak_gpu_memory_bytes=memory_bytes,
    )


def _dominates(one: Experience, other: Experience, objectives: tuple[str, ...]) -> bool:
    signs = [(-1 if OBJECTIVES[name].is_maximised else 1) for name in objectives]
    pairs = [
        (sign * (one.outcome.objective(name) or 0), sign * (other.outcome.objective(name) or 0))
        for name, sign in zip(objectives, signs, strict=True)
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=25), st.permutations(NAMES), st.integers(1, 3))
def test_the_front_is_what_no_trial_dominates(rows: list[tuple[int, ...]], names: list[str], n: int) -> None:
    objectives = tuple(names[:n])
    trials = [_trial(number, row) for number, row in enumerate(rows)]

    front, dominated = split_front(trials, objectives)

    expected = {e.provenance.trial for e in trials if not any(_dominates(o, e, objectives) for o in trials)}
    assert {e.provenance.trial for e in front} == expected
    assert {e.provenance.trial for e in dominated} == set(range(len(trials))) - expected


def test_trials_come_best_first_and_ties_by_trial() -> None:
    trials = [success(0, f1=0.5), success(1, f1=0.9), success(2, f1=0.9), success(3, f1=0.7)]

    front, dominated = split_front(trials, ("f1",))

    assert [e.provenance.trial for e in front] == [1, 2]
    assert [e.provenance.trial for e in dominated] == [3, 0]


def test_failures_and_trials_without_a_finite_objective_are_left_out() -> None:
    trials = [
        success(0, f1=0.4),
        success(1, f1=0.9, evaluation_time_s=None),
        success(2, f1=float("nan")),
        failure(3, "gpu_oom", metrics={"f1": 0.9}, evaluation_time_s=1.0),
    ]

    front, dominated = split_front(trials, ("f1", "evaluation_time_s"))

    assert [e.provenance.trial for e in front] == [0]
    assert dominated == []
