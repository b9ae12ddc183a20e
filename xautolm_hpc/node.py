"""The machine this process runs on: cores, memory, GPUs, and what distinguishes one process from a later one.

GPUs are asked through NVML (nvidia-ml-py), without torch; a machine without the driver has none.
"""

import ctypes
import os
import platform
import resource
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Protocol

from xautolm_hpc.errors import InputError, quoted
from xautolm_hpc.records import System

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
POWERCAP_DIR = Path("/sys/class/powercap")
BUSY_SHARE_OF_TIME = 0.1
"""Share of a trial's time by which others may delay it; above it that time is no evidence on the pipeline."""

LEAST_DELAY_S = 1.0
"""A shorter delay is within what every machine does now and then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU, or a slice of one in MIG mode.

    Attributes:
        uuid: NVML's UUID; that of a slice begins with ``MIG-``.
        name: Product name.
        memory_bytes: Total memory.
        used_bytes: Memory used by anyone.
        others_bytes: Memory that processes of others hold, ``None`` without any; see :func:`bytes_of_others`.
        capability: CUDA compute capability, for instance 9.0.
    """

    uuid: str
    name: str
    memory_bytes: int
    used_bytes: int
    others_bytes: int | None
    capability: float

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice: its memory is its own, the energy counter that of the whole GPU."""
        return self.uuid.startswith("MIG-")


def node_name() -> str:
    """Name this node as its kernel does."""
    return platform.node()


def boot_id() -> str:
    """Read the kernel's id of this boot: a pid means nothing after another boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_started(pid: int) -> int | None:
    """Read when a process started, in clock ticks since boot; ``None`` if there is no such living process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before ")" may hold spaces
    return None if fields[0] in ("Z", "X") else int(fields[19])


def die_with(parent_pid: int) -> None:
    """Ask the kernel to kill this process when its parent dies; called in the child before it becomes the worker.

    Args:
        parent_pid: The parent; if it is dead already, this process ends at once.
    """
    set_process_option(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)


def become_subreaper() -> None:
    """Make orphans among this process's descendants its own children, so that none escapes."""
    set_process_option(PR_SET_CHILD_SUBREAPER, 1)


def set_process_option(option: int, value: int) -> None:
    """Set an option of this process by Linux's prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def n_oom_kills(membership_path: Path = Path("/proc/self/cgroup"), groups_dir: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the kills by the kernel's out-of-memory killer in a process's control group.

    Args:
        membership_path: Which groups the process is in, as the kernel writes it; of version 1 and 2.
        groups_dir: Where the groups are mounted.

    Returns:
        The count since the group was made; 0 where it is unknown.
    """
    with suppress(OSError, ValueError):
        for line in membership_path.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found = _count(groups_dir / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                found = _count(groups_dir / "memory" / path.lstrip("/") / "memory.oom_control")
            else:
                found = None
            if found is not None:
                return found
    return 0


def _count(path: Path) -> int | None:
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
    return None


def is_node_busy(delay_s: float | None, elapsed_s: float) -> bool:
    """Check whether others delayed a trial so much that its time says nothing about the pipeline.

    Args:
        delay_s: Seconds by which they did; ``None`` where they could not be measured: then the trial took its time.
        elapsed_s: Seconds that it took.
    """
    return delay_s is not None and delay_s > max(LEAST_DELAY_S, BUSY_SHARE_OF_TIME * elapsed_s)


def measure_system(site: str, cluster: str, *, visible_gpus: str | None) -> System:
    """Measure this node.

    Args:
        site: Site name, from the cluster profile.
        cluster: Cluster name, from the cluster profile.
        visible_gpus: Value of CUDA_VISIBLE_DEVICES: indices or UUIDs; ``None`` means all, "" none.
    """
    gpus, driver, cuda = list_gpus(visible_gpus)
    return System(
        site=site,
        cluster=cluster,
        n_cpu_cores=len(os.sched_getaffinity(0)),
        ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        n_gpus=len(gpus),
        gpu_name=gpus[0].name if gpus else None,
        gpu_memory_bytes=gpus[0].memory_bytes if gpus else None,
        gpu_capability=gpus[0].capability if gpus else None,
        driver_version=driver,
        cuda_version=cuda,
    )


def list_gpus(visible_gpus: str | None) -> tuple[list[Gpu], str | None, str | None]:
    """List the GPUs this process may use, with driver version and CUDA version of the driver."""
    with open_nvml() as nvml:
        if nvml is None:
            return [], None, None
        gpus = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        devices = [[_describe(nvml, part, gpu=gpu) for part in _slices(nvml, gpu) or [gpu]] for gpu in gpus]
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        return (
            _visible(devices, visible_gpus),
            nvml.nvmlSystemGetDriverVersion(),
            f"{cuda // 1000}.{cuda % 1000 // 10}",
        )


@contextmanager
def open_nvml() -> Iterator[ModuleType | None]:
    """Open NVML for a while; yields ``None`` where there is no NVIDIA driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:
        yield None
        return
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _slices(nvml: ModuleType, gpu: object) -> list[object]:
    """List the slices of a GPU in MIG mode that this process may see; empty for a whole one."""
    slices = []
    with suppress(nvml.NVMLError):  # a GPU that knows no MIG
        if nvml.nvmlDeviceGetMigMode(gpu)[0]:
            for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                with suppress(nvml.NVMLError):  # an empty place
                    slices.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place))
    return slices


def _describe(nvml: ModuleType, handle: object, *, gpu: object) -> Gpu:
    """Ask NVML what a GPU is, or a slice of one."""
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(gpu)
    return Gpu(
        uuid=nvml.nvmlDeviceGetUUID(handle),
        name=nvml.nvmlDeviceGetName(handle),
        memory_bytes=int(memory.total),
        used_bytes=int(memory.used),
        others_bytes=bytes_of_others(nvml, handle),
        capability=major + minor / 10,
    )


def bytes_of_others(nvml: ModuleType, device: object) -> int | None:
    """Compute the memory that processes of other sessions hold on a GPU.

    A container numbers its processes anew (a PID namespace of its own). There the driver lists our process alone,
    or, if it is older, all of them by numbers that mean nothing to us; the largest is then taken for ours.

    Args:
        nvml: NVML, opened.
        device: Handle of the GPU.

    Returns:
        Bytes, counting as 0 what the driver does not show; ``None`` if no other process has a context there, or the
        driver does not list them.
    """
    try:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(device)
    except nvml.NVMLError:
        return None
    others = sorted(process.usedGpuMemory or 0 for process in running if _session(process.pid) != os.getsid(0))
    if len(others) == len(running):
        others = others[:-1]
    return sum(others) if others else None


def reads_gpu_energy(visible_gpus: str | None) -> bool:
    """Check whether NVML counts the energy of every GPU this process may use, and there is one.

    Args:
        visible_gpus: Value of CUDA_VISIBLE_DEVICES: indices or UUIDs; ``None`` means all, "" none.
    """
    gpus, _, _ = list_gpus(visible_gpus)
    with open_nvml() as nvml:
        if nvml is None or not gpus or any(gpu.is_slice for gpu in gpus):
            return False
        try:
            for gpu in gpus:
                nvml.nvmlDeviceGetTotalEnergyConsumption(nvml.nvmlDeviceGetHandleByUUID(gpu.uuid))
        except nvml.NVMLError:
            return False
    return True


def rapl_zones(powercap_dir: Path = POWERCAP_DIR) -> list[Path]:
    """List the zones of the CPU packages whose energy this process may read.

    ``psys`` and zones inside a package are left out: they would count twice.

    Args:
        powercap_dir: Folder of the kernel's powercap interface.
    """
    zones = []
    for zone in sorted(powercap_dir.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text()
            int((zone / "max_energy_range_uj").read_text())
            (zone / "energy_uj").read_text()
        except (OSError, ValueError):
            continue  # unreadable for ordinary users since 2020, absent in most containers
        if name.startswith("package"):
            zones.append(zone)
    return zones


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _visible(devices: list[list[Gpu]], visible_gpus: str | None) -> list[Gpu]:
    """Pick what CUDA shows of the GPUs, each of which is itself or its slices; of slices it shows the first alone."""
    first = [parts[0] for parts in devices]
    by_name = {str(index): gpu for index, gpu in enumerate(first)}
    by_name |= {gpu.uuid: gpu for parts in devices for gpu in parts}
    if visible_gpus is None:
        shown = first
    else:
        names = [name.strip() for name in visible_gpus.split(",") if name.strip()]
        found = [_find(by_name, name) for name in names]
        shown = [gpu for gpu in takewhile(lambda gpu: gpu is not None, found) if gpu]  # CUDA stops at an unknown one
    return shown[:1] if shown and shown[0].is_slice else shown


def _find(by_name: Mapping[str, Gpu], name: str) -> Gpu | None:
    """Find a GPU by its index, its UUID or a beginning of it that no other one has."""
    begun = [uuid for uuid in by_name if uuid.startswith(name) and name.startswith(("GPU-", "MIG-"))]
    return by_name.get(name) or (by_name[begun[0]] if len(begun) == 1 else None)


def peak_rss_bytes() -> int:
    """Return the highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB


class Clock(Protocol):
    """A source of time."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait for some seconds."""
        time.sleep(seconds)


LATEST_MOMENT = 253_402_214_400.0
"""Seconds since the epoch, at the end of the year 9999, after which a time has no date."""


def check_moment(seconds: float | None, *, where: str) -> None:
    """Check that a time has a date; an unknown one is fine.

    Args:
        seconds: Seconds since the epoch, or ``None``.
        where: What it is the time of, for the message.

    Raises:
        InputError: It has none.
    """
    if seconds is not None and not 0 <= seconds <= LATEST_MOMENT:
        raise InputError(f"{where} is {quoted(seconds)}; expected seconds since 1970, from 0 to {LATEST_MOMENT:.0f}")


def utc_text(seconds: float) -> str:
    """Write a time as ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
