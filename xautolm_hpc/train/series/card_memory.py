"""What the processes of a trial hold on the GPUs of their job; the next trial finds them as that one did."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xautolm_hpc.node import list_gpus, open_nvml

TIMEOUT_S, TICK_S = 30.0, 0.1
"""Seconds that the memory of an ended trial is waited for; seconds between two looks."""

TOLERANCE = 0.01
"""Share of a GPU's memory by which it may differ from its level before the trial, where no pid tells whose it is."""

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""The kernel's number of the namespace in which pids are those that the NVIDIA driver lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardReading:
    """A GPU at one moment.

    Attributes:
        uuid: NVML's UUID.
        memory_bytes: Total memory.
        used_bytes: Memory that anyone holds.
        pids: Processes that hold some; ``None`` where the driver does not tell them by numbers of ours.
    """

    uuid: str
    memory_bytes: int
    used_bytes: int
    pids: frozenset[int] | None


def read_cards(visible_gpus: str | None) -> list[CardReading]:
    """Read who holds memory of the GPUs of this job.

    Args:
        visible_gpus: Value of CUDA_VISIBLE_DEVICES: indices or UUIDs; ``None`` means all, "" none.
    """
    gpus, _, _ = list_gpus(visible_gpus)
    with open_nvml() as nvml:
        if nvml is None:
            return []
        readings = []
        for gpu in gpus:
            try:
                device = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)
                running = [process.pid for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)]
            except nvml.NVMLError:
                running = None
            pids = frozenset(running) if running is not None and _sees_all_pids() else None
            readings.append(
                CardReading(uuid=gpu.uuid, memory_bytes=gpu.memory_bytes, used_bytes=gpu.used_bytes, pids=pids)
            )
        return readings


def _sees_all_pids() -> bool:
    """Check whether this process is in the initial PID namespace, as one in a container is not."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino == INITIAL_PID_NAMESPACE
    except OSError:
        return False


class CardMemory:
    """Waits until the processes of a trial hold nothing on the GPUs; what others hold does not count.

    Args:
        read: Reads the GPUs; an empty list where there are none.
        now: Returns seconds that only grow.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[CardReading]],
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._read = read
        self._now = now
        self._sleep = sleep
        self._levels: dict[str, int] = {}

    @classmethod
    def of_job(cls, visible_gpus: str | None) -> "CardMemory":
        """Build it for the GPUs that a job may use.

        Args:
            visible_gpus: Value of CUDA_VISIBLE_DEVICES.
        """
        return cls(partial(read_cards, visible_gpus) if list_gpus(visible_gpus)[0] else list)

    def note_level(self) -> None:
        """Note what is held before a trial begins."""
        self._levels = {card.uuid: card.used_bytes for card in self._read()}

    def wait_until_free(self, pids: Collection[int]) -> bool:
        """Wait until the trial whose level was noted last holds nothing any more, 30 s at most.

        Args:
            pids: The processes it had; empty before the first trial.

        Returns:
            Whether it holds nothing.
        """
        deadline = self._now() + TIMEOUT_S
        while pids and any(self._holds(card, pids) for card in self._read()):
            if self._now() >= deadline:
                return False
            self._sleep(TICK_S)
        return True

    def _holds(self, card: CardReading, pids: Collection[int]) -> bool:
        if card.pids is not None:
            return not card.pids.isdisjoint(pids)
        level = self._levels.get(card.uuid, card.used_bytes)
        return card.used_bytes > level + TOLERANCE * card.memory_bytes
