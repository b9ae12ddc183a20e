"""The memory of GPUs between two trials of a job."""

from collections.abc import Callable, Sequence

import pytest

from xautolm_hpc.train.series.card_memory import TIMEOUT_S, CardMemory, CardReading

GIB = 2**30


class Card:
    """A GPU whose readings a test scripts, and a clock that moves as it is waited for."""

    def __init__(self, after_s: Callable[[float], tuple[int, frozenset[int] | None]]) -> None:
        self.after_s = after_s
        self.seconds = 0.0

    def read(self) -> Sequence[CardReading]:
        used_bytes, pids = self.after_s(self.seconds)
        return [CardReading(uuid="GPU-1", memory_bytes=80 * GIB, used_bytes=used_bytes, pids=pids)]

    def sleep(self, pause_s: float) -> None:
        self.seconds += pause_s

    def memory(self) -> CardMemory:
        return CardMemory(self.read, now=lambda: self.seconds, sleep=self.sleep)


def test_without_a_trial_before_nothing_is_waited_for() -> None:
    card = Card(lambda seconds: (70 * GIB, frozenset({7})))

    assert card.memory().wait_until_free(set())
    assert card.seconds == 0


def test_without_gpus_nothing_is_waited_for() -> None:
    assert CardMemory(list).wait_until_free({7})
    assert CardMemory.of_job("").wait_until_free({7})


def test_by_pid_what_others_hold_does_not_count() -> None:
    card = Card(lambda seconds: (70 * GIB, frozenset({7, 9}) if seconds < 2 else frozenset({9})))
    memory = card.memory()
    memory.note_level()

    assert memory.wait_until_free({7, 8})
    assert 2 <= card.seconds < 2.5


def test_without_pids_the_level_before_the_trial_is_waited_for() -> None:
    card = Card(lambda seconds: (70 * GIB if 0 < seconds < 3 else 5 * GIB, None))
    memory = card.memory()
    memory.note_level()
    card.seconds = 1.0

    assert memory.wait_until_free({7})
    assert 3 <= card.seconds < 3.5


@pytest.mark.parametrize("pids", [None, frozenset({7})])
def test_what_is_not_given_back_is_waited_for_half_a_minute_at_most(pids: frozenset[int] | None) -> None:
    card = Card(lambda seconds: (70 * GIB if seconds else 5 * GIB, pids))
    memory = card.memory()
    memory.note_level()
    card.seconds = 1.0

    assert not memory.wait_until_free({7})
    assert TIMEOUT_S <= card.seconds - 1.0 <= TIMEOUT_S + 1
