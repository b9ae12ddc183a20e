"""How long others kept a trial from running: the CPU time of its cores that went to others while its threads waited.

Linux counts for every thread how long it ran and how long it was ready but waited for a core
(``/proc/PID/task/TID/schedstat``), and for every core how long it was busy (``/proc/stat``). A thread may also wait for
threads of its own trial: only what others used of the cores counts, and only up to the cores that the trial was given.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROC_DIR, CGROUP_DIR = Path("/proc"), Path("/sys/fs/cgroup")
SAMPLE_INTERVAL_S = 5.0
"""Seconds between two readings; what a thread did after the last reading before its end is lost."""

STOP_GAP_S = 10.0
"""Seconds by which a reading may be late; a later one means that the process was stopped, if it did not run."""

Thread = tuple[int, int]
"""Process and thread number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuReading:
    """What was counted up to a moment.

    Attributes:
        at_s: The moment, seconds of the monotonic clock.
        run_s: Seconds that each thread of the trial ran on this node.
        wait_s: Seconds that each of them was ready to run and waited.
        busy_s: Seconds that the cores the trial may use were busy, with whatever, summed over cores.
        throttled_s: Seconds that the trial's own quota kept it from running, summed over cores.
        n_cores: Cores that it may use at the same time, the quota counted in.
    """

    at_s: float
    run_s: Mapping[Thread, float]
    wait_s: Mapping[Thread, float]
    busy_s: float
    throttled_s: float = 0.0
    n_cores: float = 1.0


@dataclass(slots=True, kw_only=True)
class LoadMeter:
    """Adds up how long others kept the trial from running, in a thread while its ``with`` block is open.

    Attributes:
        read: Reads the counters; returns ``None`` where the kernel does not have them.
        n_allotted: Cores that the trial was given on this node; it may see more.
        interval_s: Seconds between two readings.
    """

    read: Callable[[], CpuReading | None]
    n_allotted: int
    interval_s: float = SAMPLE_INTERVAL_S
    _delay_s: float = 0.0
    _last: CpuReading | None = None
    _is_known: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "LoadMeter":
        self.delay_s()
        self._thread = threading.Thread(target=self._sample_on, name="load", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def delay_s(self) -> float | None:
        """Read the counters and return by how many seconds others have delayed the trial so far.

        Returns:
            Seconds from the first reading on; ``None`` where they cannot be measured, and before the second reading.
        """
        with self._lock:
            now = self.read()
            if now is not None and self._last is not None and now.at_s > self._last.at_s:
                self._delay_s += self._delay_between(self._last, now)
                self._is_known = True
            self._last = now or self._last
            return self._delay_s if self._is_known else None

    def _delay_between(self, before: CpuReading, now: CpuReading) -> float:
        elapsed_s = now.at_s - before.at_s
        run_s = _grown(before.run_s, now.run_s)
        late_s = elapsed_s - self.interval_s
        if late_s > STOP_GAP_S and run_s < 0.1 * late_s:
            return late_s
        lost_s = lost_cpu_s(before, now, n_allotted=self.n_allotted)
        return elapsed_s * lost_s / max(run_s + lost_s, elapsed_s)

    def _sample_on(self) -> None:
        while not self._ended.wait(self.interval_s):
            self.delay_s()


def lost_cpu_s(before: CpuReading, now: CpuReading, *, n_allotted: int) -> float:
    """Compute the CPU time that others took from the trial between two readings.

    It is the least of three bounds: the time its threads waited, without what its own quota made them wait; the time
    that others used its cores; and what was left of the cores it was given. A trial with more threads than cores
    makes itself wait, and is held to the last two.

    Args:
        before: The earlier reading.
        now: The later one.
        n_allotted: Cores that the trial was given on this node.

    Returns:
        Seconds, at least 0.
    """
    run_s = _grown(before.run_s, now.run_s)
    waited_s = _grown(before.wait_s, now.wait_s) - (now.throttled_s - before.throttled_s)
    by_others_s = now.busy_s - before.busy_s - run_s
    left_s = min(n_allotted, now.n_cores) * (now.at_s - before.at_s) - run_s
    return max(0.0, min(waited_s, by_others_s, left_s))


def no_load_meter() -> LoadMeter:
    """Build the meter of a process whose load is measured elsewhere, or not at all."""
    return LoadMeter(read=lambda: None, n_allotted=1)


def read_counters(root_pid: int, *, proc_dir: Path = PROC_DIR, cgroup_dir: Path = CGROUP_DIR) -> CpuReading | None:
    """Read the counters of a process and all its descendants.

    Args:
        root_pid: The process.
        proc_dir: Where the kernel shows processes.
        cgroup_dir: Where it shows control groups.

    Returns:
        The reading; ``None`` where the kernel does not count, or does not show it.
    """
    cores = os.sched_getaffinity(0)
    try:
        times = {
            (pid, int(task.name)): _schedstat(task / "schedstat")
            for pid in _family(root_pid, proc_dir)
            for task in (proc_dir / str(pid) / "task").iterdir()
        }
        busy_s = _busy_s((proc_dir / "stat").read_text(), cores)
    except (OSError, ValueError):
        return None
    if not any(run_s for run_s, _ in times.values()):
        return None  # a kernel whose scheduler statistics are switched off shows zeros
    quota, throttled_s = _quota(_read_or_empty(proc_dir / str(root_pid) / "cgroup"), cgroup_dir)
    return CpuReading(
        at_s=time.monotonic(),
        run_s={thread: run_s for thread, (run_s, _) in times.items()},
        wait_s={thread: wait_s for thread, (_, wait_s) in times.items()},
        busy_s=busy_s,
        throttled_s=throttled_s,
        n_cores=min(len(cores), quota),
    )


def _grown(before: Mapping[Thread, float], now: Mapping[Thread, float]) -> float:
    """Add up how much each thread's counter has grown; a new thread, or a number used again, began at 0."""
    return sum(
        value - (before.get(thread, 0.0) if value >= before.get(thread, 0.0) else 0.0) for thread, value in now.items()
    )


def _family(root_pid: int, proc_dir: Path) -> list[int]:
    """List a process and its descendants; a kernel that does not list children shows the process alone."""
    family = [root_pid]
    for pid in family:  # grows meanwhile
        for path in (proc_dir / str(pid) / "task").glob("*/children"):
            family += map(int, _read_or_empty(path).split())
    return family


def _schedstat(path: Path) -> tuple[float, float]:
    """Read how long a thread ran and waited, in seconds; a thread that has just ended has none."""
    words = _read_or_empty(path).split()
    return (int(words[0]) / 1e9, int(words[1]) / 1e9) if words else (0.0, 0.0)


def _busy_s(stat: str, cores: Iterable[int]) -> float:
    """Add up how long some cores were busy: user, nice, system, interrupts, and what the hypervisor gave to others.

    Raises:
        ValueError: A core is missing.
    """
    rows = {words[0]: words[1:] for line in stat.splitlines() if (words := line.split())}
    try:
        ticks = sum(sum(int(rows[f"cpu{core}"][column]) for column in (0, 1, 2, 5, 6, 7)) for core in cores)
    except (KeyError, IndexError) as error:
        raise ValueError(f"a core is not listed: {error}") from error
    return ticks / os.sysconf("SC_CLK_TCK")


def _quota(groups: str, cgroup_dir: Path) -> tuple[float, float]:
    """Find the CPU quota of a process's control groups, and how long it kept them from running.

    Args:
        groups: The process's ``cgroup`` file.
        cgroup_dir: Where the control groups are mounted.

    Returns:
        Cores that the narrowest quota allows, infinite without one; the longest time that one of them was throttled,
        in seconds.
    """
    quotas, throttled_s = [math.inf], [0.0]
    for controllers, path in (line.split(":", 2)[1:] for line in groups.splitlines() if line.count(":") > 1):
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = cgroup_dir / controllers
        for folder in (mounted / path.strip("/"), *map(mounted.joinpath, Path(path.strip("/")).parents)):
            quotas.append(_quota_of(folder))
            throttled_s.append(_throttled_s(folder))
    return min(quotas), max(throttled_s)


def _quota_of(folder: Path) -> float:
    """Read the cores that a control group's quota allows; infinite without a quota."""
    words = _read_or_empty(folder / "cpu.max").split()  # version 2: quota and period
    words = words or [_read_or_empty(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    is_limited = all(word.isdecimal() for word in words) and len(words) > 1
    return int(words[0]) / int(words[1]) if is_limited else math.inf


def _throttled_s(folder: Path) -> float:
    rows = dict(line.split() for line in _read_or_empty(folder / "cpu.stat").splitlines() if line.count(" ") == 1)
    return int(rows.get("throttled_usec", 0)) / 1e6 + int(rows.get("throttled_time", 0)) / 1e9


def _read_or_empty(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
