"""Energy of the GPUs and CPU packages that a trial runs on, read from hardware counters.

One reader per node. GPUs: NVML's total-energy counter of each whole GPU (Volta and later; not of a MIG slice).
CPUs: RAPL through powercap where the kernel allows reading; it counts the whole node and wraps around. An energy that
cannot be read is ``None``, never 0.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

from xautolm_hpc.node import POWERCAP_DIR, bytes_of_others, list_gpus, open_nvml, rapl_zones

SAMPLE_INTERVAL_S = 5.0
"""A RAPL counter of 65 kJ wraps around after two minutes at 500 W; sampled this often no wrap is missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """An energy counter, which only grows.

    Attributes:
        device: ``gpu`` or ``cpu``.
        read_j: Reads it, in joules; returns ``None`` when it cannot be read now.
        wraps_at_j: Value after which it starts at 0 again; ``None`` if it never does.
        has_others: Checks whether somebody else uses the device now.
    """

    device: str
    read_j: Callable[[], float | None]
    wraps_at_j: float | None = None
    has_others: Callable[[], bool] = lambda: False


class _Tally:
    """The energy that one counter has counted since its first reading."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self._total_j: float | None = None
        self._last_j: float | None = None
        self._is_broken = False
        self.is_shared = False

    @property
    def total_j(self) -> float | None:
        return None if self._is_broken else self._total_j

    def sample(self) -> None:
        now_j = self.counter.read_j()
        self.is_shared = self.is_shared or self.counter.has_others()
        if now_j is None:
            return
        if self._last_j is not None:
            self._add(now_j - self._last_j)
        self._last_j = now_j

    def _add(self, delta_j: float) -> None:
        if delta_j < 0 and self.counter.wraps_at_j is not None:
            delta_j += self.counter.wraps_at_j
        # A lower value without a wrap means that the driver was reloaded: the energy in between is unknown.
        self._is_broken = self._is_broken or delta_j < 0
        self._total_j = (self._total_j or 0.0) + delta_j


class EnergyReader:
    """Adds up energy counters from :meth:`begin` to :meth:`end`, sampling them in a thread in between.

    Once others were seen on a GPU, the energy of the GPUs is unknown.

    Attributes:
        reads: Whether this process reads its node's counters.
        elsewhere_j: Device -> energy of the trial's other nodes, joules; ``None`` where it is unknown.
    """

    def __init__(
        self, counters: Sequence[Counter], *, scope: str | None = None, interval_s: float = SAMPLE_INTERVAL_S
    ) -> None:
        """Prepare to read counters.

        Args:
            counters: Counters to read.
            scope: What the GPUs' energy covers; ``None`` derives it from the counters.
            interval_s: Seconds between two samples.
        """
        self.reads = True
        self.elsewhere_j: dict[str, float | None] = {}
        self._scope = scope
        self._counters = counters
        self._tallies: list[_Tally] = []
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def source(self) -> str:
        """Name what was read: ``nvml-counter``, ``rapl``, ``nvml-counter+rapl`` or ``none``."""
        labels = {"gpu": "nvml-counter", "cpu": "rapl"}
        return "+".join(label for device, label in labels.items() if device in self._devices()) or "none"

    @property
    def scope(self) -> str:
        """Name what it covers: ``whole-gpu``, ``node``, ``unattributed`` or ``none``."""
        if self._is_shared:
            return "unattributed"
        devices = self._devices()
        return self._scope or ("whole-gpu" if "gpu" in devices else "node" if "cpu" in devices else "none")

    @property
    def _is_shared(self) -> bool:
        return any(tally.is_shared for tally in self._tallies)

    def _devices(self) -> set[str]:
        return {counter.device for counter in self._counters if not (self._is_shared and counter.device == "gpu")}

    def begin(self) -> None:
        """Read the first sample and start the sampling thread."""
        self._tallies = [_Tally(counter) for counter in self._counters]
        self.sample()
        self._thread = threading.Thread(target=self._sample_on, name="energy", daemon=True)
        self._thread.start()

    def sample(self) -> None:
        """Read every counter now."""
        with self._lock:
            for tally in self._tallies:
                tally.sample()

    def end(self) -> None:
        """Read the last sample; do nothing if :meth:`begin` was not called or this was called before."""
        if self._thread is None or self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self.sample()

    def energy_j(self, device: str) -> float | None:
        """Add up the energy so far, of this node and, once they are known, of the other nodes.

        Args:
            device: ``gpu`` or ``cpu``.

        Returns:
            Joules; ``None`` if one of the device's counters could not be read twice, or others were seen on a GPU, or
            the sum is 0 (a GPU's counter moves in steps, and a window can be shorter than a step).
        """
        here_j, elsewhere_j = self.here_j(device), self.elsewhere_j.get(device, 0.0)
        return None if here_j is None or elsewhere_j is None else here_j + elsewhere_j

    def here_j(self, device: str) -> float | None:
        """Add up the energy of this node so far, joules; see :meth:`energy_j`."""
        with self._lock:
            totals = [tally.total_j for tally in self._tallies if tally.counter.device == device]
        if not totals or None in totals or (device == "gpu" and self._is_shared):
            return None
        return sum(total for total in totals if total is not None) or None

    def _sample_on(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.sample()


def no_energy_reader() -> EnergyReader:
    """Build the reader of a process that leaves its node's counters to another process."""
    reader = EnergyReader([])
    reader.reads = False
    return reader


@contextmanager
def open_energy_reader(
    visible_gpus: str | None, *, shared: bool, powercap_dir: Path = POWERCAP_DIR
) -> Iterator[EnergyReader]:
    """Open the counters this process may read.

    Args:
        visible_gpus: Value of CUDA_VISIBLE_DEVICES; ``None`` means all GPUs, "" none.
        shared: Whether others use the GPUs too; the energy of a whole GPU is then not that of the trial.
        powercap_dir: Folder of the kernel's powercap interface.
    """
    with open_nvml() as nvml:
        cpu = rapl_counters(powercap_dir)
        if nvml is None:
            yield EnergyReader(cpu)
        elif shared or "MIG-" in (visible_gpus or "") or any(gpu.is_slice for gpu in list_gpus(visible_gpus)[0]):
            yield EnergyReader(cpu, scope="unattributed")
        else:
            yield EnergyReader([*_gpu_counters(nvml, visible_gpus), *cpu])


def rapl_counters(powercap_dir: Path) -> list[Counter]:
    """List the counters of the CPU packages."""
    return [
        Counter(
            device="cpu",
            read_j=_rapl_reading(zone / "energy_uj"),
            wraps_at_j=int((zone / "max_energy_range_uj").read_text()) / 1e6,
        )
        for zone in rapl_zones(powercap_dir)
    ]


def _rapl_reading(path: Path) -> Callable[[], float | None]:
    def read_j() -> float | None:
        try:
            return int(path.read_text()) / 1e6
        except (OSError, ValueError):
            return None

    return read_j


def _gpu_counters(nvml: ModuleType, visible_gpus: str | None) -> list[Counter]:
    devices = [nvml.nvmlDeviceGetHandleByUUID(gpu.uuid) for gpu in list_gpus(visible_gpus)[0]]
    return [
        Counter(
            device="gpu",
            read_j=_gpu_reading(nvml, device),
            has_others=partial(_has_others, nvml, device),
        )
        for device in devices
    ]


def _has_others(nvml: ModuleType, device: object) -> bool:
    return bytes_of_others(nvml, device) is not None


def _gpu_reading(nvml: ModuleType, device: object) -> Callable[[], float | None]:
    def read_j() -> float | None:
        try:
            return int(nvml.nvmlDeviceGetTotalEnergyConsumption(device)) / 1000  # NVML counts millijoules
        except nvml.NVMLError:
            return None

    return read_j
