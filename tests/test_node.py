"""The node: which processes live, what GPUs there are, and which of them a job may see."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from xautolm_hpc import node
from xautolm_hpc.node import (
    Gpu,
    boot_id,
    bytes_of_others,
    list_gpus,
    measure_system,
    node_name,
    process_started,
)

GIB = 1024**3
GONE = 2**22 + 1
"""No pid of this kernel: Linux has none above 2**22."""

UUIDS = ("GPU-aaaa", "GPU-bbbb", "GPU-cccc")


class ThreeGpuNvml:
    """NVML with three GPUs of rising memory; it remembers whether it was shut down."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(UUIDS)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMemoryInfo(self, device: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=(device + 1) * 40 * GIB, used=device * GIB)

    def nvmlDeviceGetCudaComputeCapability(self, device: int) -> tuple[int, int]:  # noqa: N802
        del device
        return 8, 6

    def nvmlDeviceGetUUID(self, device: int) -> str:  # noqa: N802
        return UUIDS[device]

    def nvmlDeviceGetName(self, device: int) -> str:  # noqa: N802
        return f"Card {device}"

    NVMLError = type("NVMLError", (Exception,), {})

    def nvmlDeviceGetMigMode(self, device: int) -> tuple[int, int]:  # noqa: N802
        if device == 0:
            raise self.NVMLError  # a GPU that knows no MIG
        return 0, 0

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[SimpleNamespace]:  # noqa: N802
        if device == 2:
            raise self.NVMLError
        own = SimpleNamespace(pid=os.getpid(), usedGpuMemory=GIB)
        stranger = SimpleNamespace(pid=GONE, usedGpuMemory=None)
        return [own, stranger][: device + 1]

    def nvmlSystemGetCudaDriverVersion(self) -> int:  # noqa: N802
        return 12040

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "550.54"


@contextmanager
def fake_nvml() -> Iterator[ModuleType]:
    yield cast("ModuleType", ThreeGpuNvml())


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "open_nvml", fake_nvml)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Give a process that lives until its input ends."""
    started = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, text=True)
    yield started
    started.kill()
    started.communicate(timeout=30)


def test_a_live_process_keeps_the_time_it_started(child: subprocess.Popen[str]) -> None:
    started = process_started(child.pid)

    assert started is not None
    assert process_started(child.pid) == started
    assert started >= (process_started(os.getpid()) or 0) > 0


def test_the_start_is_told_in_clock_ticks_since_boot() -> None:
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])

    started_s = (process_started(os.getpid()) or 0) / os.sysconf("SC_CLK_TCK")

    assert 0 < started_s <= uptime_s


def test_a_zombie_does_not_live(child: subprocess.Popen[str]) -> None:
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert process_started(child.pid) is None


def test_a_process_that_is_gone_does_not_live(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate(timeout=30)

    assert process_started(child.pid) is None


def test_a_name_with_spaces_and_brackets_does_not_confuse(child: subprocess.Popen[str]) -> None:
    script = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) S 1 (b', 0, 0, 0); print(1, flush=True); input()"
    odd = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert odd.stdout is not None
    odd.stdout.readline()

    started = process_started(odd.pid)

    odd.communicate("\n", timeout=30)
    assert started is not None
    assert started >= (process_started(child.pid) or 0) > 0


def test_without_a_driver_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_nvml() -> Iterator[None]:
        yield None

    monkeypatch.setattr(node, "open_nvml", no_nvml)

    assert list_gpus(None) == ([], None, None)


def test_without_the_nvml_package_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    assert list_gpus(None) == ([], None, None)


def test_an_nvml_that_finds_no_driver_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def refuse() -> None:
        raise pynvml.NVMLError_LibraryNotFound

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)

    assert list_gpus(None) == ([], None, None)


@pytest.mark.usefixtures("three_gpus")
def test_gpus_are_described_with_the_versions_of_the_driver() -> None:
    gpus, driver, cuda = list_gpus(None)

    assert gpus[1] == Gpu(
        uuid="GPU-bbbb", name="Card 1", memory_bytes=80 * GIB, used_bytes=GIB, others_bytes=0, capability=8.6
    )
    assert [gpu.others_bytes for gpu in gpus] == [None, 0, None]
    assert (len(gpus), driver, cuda) == (3, "550.54", "12.4")


@pytest.mark.parametrize(
    ("pids", "expected"),
    [
        ([], None),
        (["own"], None),
        (["own", "child"], None),
        (["own", "stranger"], 10),
        (["own", "stranger", "stranger"], 20),
        (["gone"], None),  # numbered by another kernel namespace: it may be ours
        (["gone", "gone"], 10),
    ],
    ids=str,
)
def test_others_on_a_gpu_are_those_of_other_sessions(pids: list[str], expected: int | None) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    numbers = {"own": os.getpid(), "child": child.pid, "stranger": stranger.pid, "gone": GONE}
    running = [SimpleNamespace(pid=numbers[name], usedGpuMemory=10) for name in pids]
    nvml = SimpleNamespace(nvmlDeviceGetComputeRunningProcesses=lambda _: running)
    try:
        assert bytes_of_others(cast("ModuleType", nvml), 0) == expected
    finally:
        for process in (child, stranger):
            process.communicate(b"\n")


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        (None, ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]),
        ("", []),
        ("1", ["GPU-bbbb"]),
        ("2,0", ["GPU-cccc", "GPU-aaaa"]),
        ("GPU-cccc", ["GPU-cccc"]),
        (" GPU-bbbb , 0 ", ["GPU-bbbb", "GPU-aaaa"]),
        ("-1", []),
        ("0,-1,1", ["GPU-aaaa"]),
        ("7", []),
        ("NoDevFiles", []),
        ("GPU-b,GPU-c", ["GPU-bbbb", "GPU-cccc"]),
        ("GPU-,0", []),
        ("MIG-GPU-bbbb", []),
    ],
)
def test_only_gpus_that_cuda_would_show_are_listed_in_its_order(visible: str | None, uuids: list[str]) -> None:
    gpus, _, _ = list_gpus(visible)

    assert [gpu.uuid for gpu in gpus] == uuids


@pytest.mark.usefixtures("three_gpus")
def test_a_system_is_described_by_the_gpus_its_job_may_use() -> None:
    system = measure_system("here", "alpha", visible_gpus="1,2")

    assert (system.site, system.cluster) == ("here", "alpha")
    assert (system.n_gpus, system.gpu_name, system.gpu_memory_bytes) == (2, "Card 1", 80 * GIB)
    assert (system.driver_version, system.cuda_version) == ("550.54", "12.4")


def test_a_node_without_gpus_is_known_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    system = measure_system("here", "alpha", visible_gpus=None)

    assert (system.n_gpus, system.gpu_name, system.gpu_memory_bytes) == (0, None, None)
    assert system.n_cpu_cores == len(os.sched_getaffinity(0))
    total_kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert system.ram_bytes == pytest.approx(total_kib * 1024, rel=0.01)


def test_the_node_knows_its_name_and_boot() -> None:
    assert node_name() == os.uname().nodename
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id())
