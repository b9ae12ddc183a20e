"""Samples the power and the energy counter of a card from outside, to hold a trial's own reading against."""

import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

INTERVAL_S = 0.02


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading of the card.

    Attributes:
        at: Seconds of the monotonic clock.
        power_w: Power it draws now.
        total_j: Its counter of energy.
    """

    at: float
    power_w: float
    total_j: float


class Trace:
    """Samples a card continuously, in a thread."""

    def __init__(self, nvml: ModuleType, uuid: str) -> None:
        self.readings: list[Reading] = []
        self._nvml, self._device = nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read_on)

    def __enter__(self) -> "Trace":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def between(self, start: float, end: float) -> tuple[float, float]:
        """Compute the energy of a window, joules: the integral of the power, and the increase of the counter."""
        inside = [reading for reading in self.readings if start <= reading.at <= end]
        integral_j = sum(
            (after.at - before.at) * (after.power_w + before.power_w) / 2 for before, after in pairwise(inside)
        )
        return integral_j, inside[-1].total_j - inside[0].total_j

    def _read_on(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            power_w, total_j = self._power_w(), self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device) / 1000
            self.readings.append(Reading(time.monotonic(), power_w, total_j))

    def _power_w(self) -> float:
        """Read the power now; the usual reading of newer cards is a mean over a second."""
        (field,) = self._nvml.nvmlDeviceGetFieldValues(self._device, [self._nvml.NVML_FI_DEV_POWER_INSTANT])
        if field.nvmlReturn == self._nvml.NVML_SUCCESS:
            return float(field.value.uiVal / 1000)
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._device) / 1000)
