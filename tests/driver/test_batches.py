"""Batches: arrays are cut at the limits, and their shares of running jobs add up to no more than allowed."""

from hypothesis import given
from hypothesis import strategies as st

from xautolm_hpc.driver.batches import Batch, plan_batches
from xautolm_hpc.launcher import QueueLimits, Resources

SMALL, LARGE = Resources(memory_bytes=1), Resources(memory_bytes=2)


def sizes(batches: list[Batch[int]]) -> list[tuple[int, int | None]]:
    return [(len(batch.members), batch.max_parallel) for batch in batches]


def test_without_limits_there_is_one_batch_for_each_class_of_resources() -> None:
    batches = plan_batches([(SMALL, range(40)), (LARGE, [40])], QueueLimits(), n_queued=7, n_parallel=7)

    assert [(batch.resources, batch.max_parallel) for batch in batches] == [(SMALL, None), (LARGE, None)]
    assert [batch.members for batch in batches] == [tuple(range(40)), (40,)]


def test_forty_jobs_in_arrays_of_eleven_share_the_sixteen_that_may_run() -> None:
    batches = plan_batches([(SMALL, range(40))], QueueLimits(batch=11, parallel=16), n_queued=0, n_parallel=0)

    assert sizes(batches) == [(11, 4), (11, 4), (11, 4), (7, 4)]


def test_a_share_that_a_small_piece_cannot_use_goes_to_the_others() -> None:
    batches = plan_batches([(SMALL, range(8)), (LARGE, [8])], QueueLimits(parallel=6), n_queued=0, n_parallel=0)

    assert sizes(batches) == [(8, 5), (1, 1)]


def test_what_finds_no_room_is_left_out() -> None:
    limits = QueueLimits(batch=4, queued=10, parallel=3)

    assert sizes(plan_batches([(SMALL, range(20))], limits, n_queued=4, n_parallel=1)) == [(4, 1), (2, 1)]
    assert sizes(plan_batches([(SMALL, range(20))], limits, n_queued=4, n_parallel=2)) == [(4, 1)]
    assert plan_batches([(SMALL, range(20))], limits, n_queued=4, n_parallel=3) == []
    assert plan_batches([(SMALL, range(20))], limits, n_queued=12, n_parallel=0) == []


@given(
    counts=st.lists(st.integers(1, 30), max_size=4),
    batch=st.integers(1, 12),
    queued=st.none() | st.integers(1, 60),
    parallel=st.none() | st.integers(1, 20),
    in_flight=st.integers(0, 25),
)
def test_no_limit_is_ever_exceeded_and_whoever_is_taken_is_taken_once(
    counts: list[int], batch: int, queued: int | None, parallel: int | None, in_flight: int
) -> None:
    classes = [(Resources(memory_bytes=k), [(k, n) for n in range(count)]) for k, count in enumerate(counts)]
    limits = QueueLimits(batch=batch, queued=queued, parallel=parallel)

    batches = plan_batches(classes, limits, n_queued=in_flight, n_parallel=in_flight)

    members = [member for one in batches for member in one.members]
    assert len(set(members)) == len(members)
    assert all(1 <= len(one.members) <= batch for one in batches)
    assert queued is None or len(members) <= max(0, queued - in_flight)
    if parallel is not None:
        assert sum(one.max_parallel or 0 for one in batches) <= max(0, parallel - in_flight)
        assert all(1 <= (one.max_parallel or 0) <= len(one.members) for one in batches)


def test_trials_that_share_jobs_count_as_jobs_against_every_limit() -> None:
    limits = QueueLimits(batch=3, queued=8, parallel=5)

    batches = plan_batches([(SMALL, range(100))], limits, n_queued=4, n_parallel=2, trials_per_job=10)

    assert [(len(batch.members), batch.n_jobs, batch.max_parallel) for batch in batches] == [(30, 3, 2), (10, 1, 1)]
    assert {batch.trials_per_job for batch in batches} == {10}


def test_nothing_to_submit_makes_no_batch() -> None:
    limits = QueueLimits(queued=5, slots=2)

    assert plan_batches([(SMALL, range(0))], limits, n_queued=0, n_parallel=0, trials_per_job=10) == []


def test_no_slot_stays_empty_for_longer_jobs_in_others() -> None:
    together = [
        plan_batches([(SMALL, range(n))], QueueLimits(slots=4), n_queued=0, n_parallel=0, trials_per_job=10)[0]
        for n in (3, 4, 6, 20, 100)
    ]

    assert [batch.trials_per_job for batch in together] == [1, 1, 2, 5, 10]
    assert [batch.n_jobs for batch in together] == [3, 4, 3, 4, 10]


@given(
    counts=st.lists(st.integers(1, 60), max_size=4),
    batch=st.integers(1, 12),
    queued=st.integers(1, 30),
    in_flight=st.integers(0, 25),
    trials_per_job=st.integers(1, 12),
    slots=st.none() | st.integers(1, 8),
)
def test_with_shared_jobs_no_limit_is_exceeded_and_as_many_are_taken_as_find_room(
    counts: list[int], batch: int, queued: int, in_flight: int, trials_per_job: int, slots: int | None
) -> None:
    classes = [(Resources(memory_bytes=k), [(k, n) for n in range(count)]) for k, count in enumerate(counts)]
    limits = QueueLimits(batch=batch, queued=queued, slots=slots)

    batches = plan_batches(classes, limits, n_queued=in_flight, n_parallel=in_flight, trials_per_job=trials_per_job)

    members = [member for one in batches for member in one.members]
    n_jobs = sum(one.n_jobs for one in batches)
    assert len(set(members)) == len(members)
    assert n_jobs <= max(0, queued - in_flight)
    assert all(1 <= one.n_jobs <= batch and one.trials_per_job <= trials_per_job for one in batches)
    assert len(members) == sum(counts) or n_jobs == max(0, queued - in_flight)
