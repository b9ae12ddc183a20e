"""Energy is what the hardware's counters counted, and unknown where they could not be read."""

import os
import sys
import types
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import pytest

from xautolm_hpc.node import list_gpus, measure_system, reads_gpu_energy
from xautolm_hpc.train.energy import Counter, EnergyReader, open_energy_reader, rapl_counters
from xautolm_hpc.train.worker import gpu_is_busy, others_hold_gpu


def _replay(device: str, readings: Sequence[float | None], wraps_at_j: float | None = None) -> Counter:
    left: Iterator[float | None] = iter(readings)
    return Counter(device=device, read_j=lambda: next(left), wraps_at_j=wraps_at_j)


def _count(reader: EnergyReader, n_samples: int) -> None:
    """Sample n times, the first and last by begin and end."""
    reader.begin()
    for _ in range(n_samples - 2):
        reader.sample()
    reader.end()


def test_energy_is_the_growth_of_all_counters_of_a_device() -> None:
    reader = EnergyReader([_replay("gpu", [1000, 1100, 1350]), _replay("gpu", [5, 5, 15]), _replay("cpu", [7, 8, 9])])

    _count(reader, 3)

    assert (reader.energy_j("gpu"), reader.energy_j("cpu")) == (360, 2)
    assert (reader.source, reader.scope) == ("nvml-counter+rapl", "whole-gpu")


def test_a_counter_that_wraps_around_goes_on_counting() -> None:
    reader = EnergyReader([_replay("cpu", [90, 10, 60, 5], wraps_at_j=100)])

    _count(reader, 4)

    assert reader.energy_j("cpu") == 20 + 50 + 45


def test_a_reading_that_fails_is_made_up_for_by_the_next() -> None:
    reader = EnergyReader([_replay("gpu", [100, None, 130])])

    _count(reader, 3)

    assert reader.energy_j("gpu") == 30


@pytest.mark.parametrize("readings", [[None, None, None], [100, None, None], [100, 40, 90], [100, 100, 100]], ids=str)
def test_energy_is_unknown_not_zero(readings: Sequence[float | None]) -> None:
    reader = EnergyReader([_replay("gpu", readings), _replay("gpu", [0, 10, 20])])
    reader_of_one = EnergyReader([_replay("gpu", readings)])

    _count(reader, 3)
    _count(reader_of_one, 3)

    assert reader_of_one.energy_j("gpu") is None
    assert reader.energy_j("gpu") == (None if readings != [100, 100, 100] else 20)


def test_a_reader_that_never_began_knows_nothing() -> None:
    reader = EnergyReader([_replay("gpu", [1, 2])])

    reader.end()

    assert reader.energy_j("gpu") is None


def test_a_reader_without_counters_says_none() -> None:
    reader = EnergyReader([])

    assert (reader.source, reader.scope, reader.energy_j("cpu")) == ("none", "none", None)


def test_the_thread_samples_in_between() -> None:
    readings: list[float] = []

    def read_j() -> float:
        readings.append(len(readings) * 10.0)
        return readings[-1]

    reader = EnergyReader([Counter(device="cpu", read_j=read_j)], interval_s=0.001)
    reader.begin()
    while len(readings) < 5:
        reader.energy_j("cpu")

    reader.end()

    assert reader.energy_j("cpu") == readings[-1]


def _zone(folder: Path, number: str, name: str, energy_uj: int) -> Path:
    zone = folder / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    return zone / "energy_uj"


def test_rapl_counts_packages_once(tmp_path: Path) -> None:
    _zone(tmp_path, "0", "package-0", 1_500_000)
    _zone(tmp_path, "0:0", "core", 900_000)
    _zone(tmp_path, "1", "package-1", 2_000_000)
    _zone(tmp_path, "2", "psys", 9_000_000)

    counters = rapl_counters(tmp_path)

    assert [counter.read_j() for counter in counters] == [1.5, 2.0]
    assert counters[0].wraps_at_j == 262143.32885


def test_rapl_that_cannot_be_read_has_no_counters(tmp_path: Path) -> None:
    _zone(tmp_path, "0", "package-0", 1).unlink()

    assert rapl_counters(tmp_path) == []


def test_a_node_without_a_driver_measures_its_packages(tmp_path: Path) -> None:
    energy_path = _zone(tmp_path, "0", "package-0", 4_000_000)

    with open_energy_reader("", shared=False, powercap_dir=tmp_path) as reader:
        reader.begin()
        energy_path.write_text("9000000\n")
        reader.end()

    assert (reader.energy_j("cpu"), reader.energy_j("gpu")) == (5.0, None)
    assert (reader.source, reader.scope) == ("rapl", "node")


class FakeNvml(types.ModuleType):
    """An NVML of two GPUs that use 2 J between two readings."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(
        self, *, used_share: float = 0.0, mig: bool = False, others_at: Container[int] = (), others_share: float = 0.0
    ) -> None:
        super().__init__("pynvml")
        self.others_at = others_at
        self.others_share = others_share
        self.n_looks = 0
        self.used_share = used_share
        self.mig = mig
        self.n_readings = {"GPU-a": 0, "GPU-b": 0}

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's name; so below
        """Open it."""

    nvmlShutdown = nvmlInit  # noqa: N815

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        return ("GPU-a", "GPU-b")[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        return uuid

    nvmlDeviceGetUUID = nvmlDeviceGetName = nvmlDeviceGetHandleByUUID  # noqa: N815

    def nvmlDeviceGetMemoryInfo(self, device: str) -> types.SimpleNamespace:  # noqa: N802
        total = 250 if device.startswith("MIG-") else 1000
        return types.SimpleNamespace(total=total, used=total * self.used_share)

    def nvmlDeviceGetCudaComputeCapability(self, device: str) -> tuple[int, int]:  # noqa: N802
        assert device.startswith("GPU-")
        return (9, 0)

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 13000

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.1"

    def nvmlDeviceGetComputeRunningProcesses(self, device: str) -> list[types.SimpleNamespace]:  # noqa: N802
        self.n_looks += 1
        own = types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=100)
        joined = types.SimpleNamespace(pid=2**22 + 1, usedGpuMemory=1000 * self.others_share)
        return [own, joined] if self.n_looks in self.others_at else [own]

    def nvmlDeviceGetMigMode(self, device: str) -> list[int]:  # noqa: N802
        return [int(self.mig), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, device: str) -> int:  # noqa: N802
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, device: str, place: int) -> str:  # noqa: N802
        if place == 1:
            raise self.NVMLError
        return f"MIG-{device}-{place}"

    def nvmlDeviceGetTotalEnergyConsumption(self, device: str) -> int:  # noqa: N802
        self.n_readings[device] += 1
        return 2000 * self.n_readings[device]


def _gpu_energy(nvml: FakeNvml, visible: str, *, shared: bool, folder: Path) -> tuple[float | None, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", nvml)
        with open_energy_reader(visible, shared=shared, powercap_dir=folder) as reader:
            reader.begin()
            reader.end()
    return reader.energy_j("gpu"), reader.source, reader.scope


def test_only_the_gpus_of_this_process_are_counted(tmp_path: Path) -> None:
    nvml = FakeNvml()

    measured = _gpu_energy(nvml, "GPU-b", shared=False, folder=tmp_path)

    assert measured == (2.0, "nvml-counter", "whole-gpu")
    assert nvml.n_readings["GPU-a"] == 0


def test_two_gpus_are_added_up(tmp_path: Path) -> None:
    assert _gpu_energy(FakeNvml(), "0,1", shared=False, folder=tmp_path)[0] == 4.0


@pytest.mark.parametrize(
    ("nvml", "visible", "shared"),
    [(FakeNvml(), "0", True), (FakeNvml(mig=True), "0", False), (FakeNvml(), "MIG-3f", False)],
    ids=["shared", "mig", "mig-uuid"],
)
def test_energy_of_a_gpu_that_is_not_wholly_ours_is_not_ours(
    tmp_path: Path, nvml: FakeNvml, visible: str, shared: bool
) -> None:
    assert _gpu_energy(nvml, visible, shared=shared, folder=tmp_path) == (None, "none", "unattributed")


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("MIG-GPU-b-2", ["MIG-GPU-b-2"]),
        ("MIG-GPU-a-2,MIG-GPU-b-0", ["MIG-GPU-a-2"]),
        ("1", ["MIG-GPU-b-0"]),
        (None, ["MIG-GPU-a-0"]),
        ("MIG-GPU-b-1", []),
        ("", []),
    ],
)
def test_of_slices_cuda_shows_the_first_alone_with_its_own_memory_and_no_energy(
    visible: str | None, uuids: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", FakeNvml(mig=True, used_share=0.5))

        gpus, _, _ = list_gpus(visible)
        system = measure_system("here", "mig", visible_gpus=visible)
        has_energy = reads_gpu_energy(visible)

    assert [gpu.uuid for gpu in gpus] == uuids
    assert (system.n_gpus, system.gpu_memory_bytes) == ((1, 250) if uuids else (0, None))
    assert [gpu.used_bytes for gpu in gpus] == [125] * len(uuids)
    assert not has_energy


def test_the_energy_of_a_whole_gpu_is_counted() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", FakeNvml())

        assert reads_gpu_energy("GPU-b")


def _sampled_thrice(nvml: FakeNvml, folder: Path) -> EnergyReader:
    energy_path = _zone(folder, "0", "package-0", 1_000_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", nvml)
        with open_energy_reader("0", shared=False, powercap_dir=folder) as reader:
            reader.begin()
            reader.sample()
            energy_path.write_text("4000000\n")
            reader.end()
    return reader


def test_energy_of_a_gpu_is_unknown_once_others_joined(tmp_path: Path) -> None:
    alone = FakeNvml()
    kept = _sampled_thrice(alone, tmp_path / "alone")

    assert (kept.energy_j("gpu"), kept.energy_j("cpu"), kept.source, kept.scope) == (
        4.0, 3.0, "nvml-counter+rapl", "whole-gpu"
    )  # fmt: skip
    for look in range(alone.n_looks - 2, alone.n_looks + 1):  # at one of three samples, and gone before the next
        reader = _sampled_thrice(FakeNvml(others_at=(look,)), tmp_path / str(look))
        found = (reader.energy_j("gpu"), reader.energy_j("cpu"), reader.source, reader.scope)
        assert found == (None, 3.0, "rapl", "unattributed")


@pytest.mark.parametrize(("others_share", "hold"), [(0.04, False), (0.06, True)])
def test_others_hold_a_gpu_that_we_use_from_a_twentieth_of_it(others_share: float, hold: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", FakeNvml(others_at=range(9), others_share=others_share, used_share=0.9))

        assert others_hold_gpu("0") is hold


@pytest.mark.parametrize(("used_share", "busy"), [(0.04, False), (0.06, True)])
def test_a_gpu_is_busy_when_others_hold_over_a_twentieth_of_it(used_share: float, busy: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", FakeNvml(used_share=used_share))

        assert gpu_is_busy("0") is busy
