"""How long others kept a trial from running; what it does to itself, and its own quota, is no load of others."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.train.limit.busy import busy_processes
from xautolm_hpc.node import is_node_busy
from xautolm_hpc.train.limit.foreign_load import CpuReading, LoadMeter, lost_cpu_s, read_counters

START = CpuReading(at_s=100.0, run_s={}, wait_s={}, busy_s=1000.0, n_cores=2.0)


def after(
    seconds: float, *, run_s: float, wait_s: float, others_s: float, throttled_s: float = 0.0, n_cores: float = 2.0
) -> CpuReading:
    """Read the counters some seconds later, all of the trial's time in one thread."""
    return CpuReading(
        at_s=100.0 + seconds,
        run_s={(1, 1): run_s},
        wait_s={(1, 1): wait_s},
        busy_s=1000.0 + run_s + others_s,
        throttled_s=throttled_s,
        n_cores=n_cores,
    )


@pytest.mark.parametrize(
    ("case", "n_allotted", "now", "lost_s"),
    [
        ("alone", 2, after(10, run_s=19.9, wait_s=0.1, others_s=0.05), 0.05),
        ("two busy processes beside two threads", 2, after(10, run_s=10, wait_s=10, others_s=10), 10.0),
        ("two busy processes on cores it does not want", 2, after(10, run_s=9, wait_s=0.1, others_s=10), 0.1),
        ("eight threads of its own", 2, after(10, run_s=20, wait_s=60, others_s=0), 0.0),
        ("eight threads of its own, now and then one", 2, after(10, run_s=15, wait_s=30, others_s=0.2), 0.2),
        ("eight threads beside others, but it got its two cores", 2, after(10, run_s=20, wait_s=60, others_s=20), 0.0),
        ("eight threads and one core of a shared node", 1, after(10, run_s=9, wait_s=60, others_s=11), 1.0),
        ("held back by its own quota", 2, after(10, run_s=5, wait_s=15, others_s=15, throttled_s=15), 0.0),
        ("a quota of half a core, used up", 2, after(10, run_s=5, wait_s=15, others_s=15, n_cores=0.5), 0.0),
        ("its own quota, and others", 2, after(10, run_s=5, wait_s=15, others_s=15, throttled_s=9), 6.0),
        ("ticks that run behind", 2, after(10, run_s=5, wait_s=1, others_s=-0.02), 0.0),
    ],
)
def test_only_time_of_others_on_the_trials_own_share_is_lost(
    case: str, n_allotted: int, now: CpuReading, lost_s: float
) -> None:
    assert lost_cpu_s(START, now, n_allotted=n_allotted) == pytest.approx(lost_s), case


def meter(*readings: CpuReading | None) -> LoadMeter:
    """Build a meter that sees these readings."""
    given = iter(readings)
    return LoadMeter(read=lambda: next(given), n_allotted=2)


def test_the_delay_is_the_part_of_the_time_in_which_others_ran_instead() -> None:
    two_threads = meter(START, after(10, run_s=10, wait_s=10, others_s=10))
    one_thread_for_a_gpu = meter(START, after(10, run_s=4, wait_s=2, others_s=10))
    seldom_running = meter(START, after(10, run_s=0.1, wait_s=0.3, others_s=10))

    meters = (two_threads, one_thread_for_a_gpu, seldom_running)
    assert [load.delay_s() for load in meters] == [None, None, None]
    assert [load.delay_s() for load in meters] == pytest.approx([5.0, 2.0, 0.3])


def test_delays_add_up_and_ended_threads_are_no_gain() -> None:
    ended = replace(after(20, run_s=0, wait_s=0, others_s=10), run_s={}, wait_s={}, busy_s=1030.0)
    again = replace(after(30, run_s=4, wait_s=2, others_s=0), busy_s=1044.0)
    load = meter(START, after(10, run_s=10, wait_s=10, others_s=10), ended, again)

    assert [load.delay_s() for _ in range(4)] == [None, 5.0, 5.0, pytest.approx(7.0)]


def test_a_stopped_process_was_delayed_and_one_that_only_waits_for_its_gpu_was_not() -> None:
    stopped = meter(START, after(65, run_s=0.5, wait_s=0.0, others_s=0))
    computing = meter(START, after(65, run_s=60, wait_s=0.0, others_s=0))
    waiting = meter(START, after(5.1, run_s=0.0, wait_s=0.0, others_s=9))

    assert [load.delay_s() or load.delay_s() for load in (stopped, computing, waiting)] == [60.0, 0.0, 0.0]


def test_without_the_kernels_counters_the_delay_is_unknown_and_no_excuse() -> None:
    load = meter(None, None)

    assert [load.delay_s(), load.delay_s()] == [None, None]
    assert not is_node_busy(None, 1.0)


@pytest.mark.parametrize("missing", ["stat", "1/task/1/schedstat", "1/task"])
def test_a_kernel_that_does_not_count_gives_no_reading(tmp_path: Path, missing: str) -> None:
    write_proc(tmp_path)
    assert read_counters(1, proc_dir=tmp_path, cgroup_dir=tmp_path) is not None
    (tmp_path / missing).rename(tmp_path / "gone")

    assert read_counters(1, proc_dir=tmp_path, cgroup_dir=tmp_path) is None


def test_a_kernel_whose_statistics_are_off_gives_no_reading(tmp_path: Path) -> None:
    write_proc(tmp_path, schedstat="0 0 0\n")

    assert read_counters(1, proc_dir=tmp_path, cgroup_dir=tmp_path) is None


def test_threads_of_children_count_and_cores_of_others_do_not(tmp_path: Path) -> None:
    write_proc(tmp_path)
    (tmp_path / "1" / "task" / "1" / "children").write_text("7 ")
    thread = tmp_path / "7" / "task" / "8"
    thread.mkdir(parents=True)
    (thread / "schedstat").write_text("500000000 250000000 1\n")
    n_cores = len(os.sched_getaffinity(0))

    reading = read_counters(1, proc_dir=tmp_path, cgroup_dir=tmp_path)

    assert reading is not None
    assert (reading.run_s, reading.wait_s) == ({(1, 1): 2.0, (7, 8): 0.5}, {(1, 1): 3.0, (7, 8): 0.25})
    assert reading.busy_s == pytest.approx(n_cores * 26 / os.sysconf("SC_CLK_TCK"))  # not idle, waiting, or a guest
    assert (reading.n_cores, reading.throttled_s) == (n_cores, 0.0)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/job/step\n", {"job/cpu.max": "50000 100000\n", "job/cpu.stat": "usage_usec 9\nthrottled_usec 7000000\n"}),
        (
            "9:name=systemd:/\n1:cpu,cpuacct:/job\n0::/\n",
            {
                "cpu,cpuacct/job/cpu.cfs_quota_us": "50000\n",
                "cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/job/cpu.stat": "nr_periods 4\nthrottled_time 7000000000\n",
            },
        ),
    ],
)
def test_the_quota_of_a_control_group_is_the_trials_own(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    write_proc(tmp_path)
    (tmp_path / "1" / "cgroup").write_text(groups)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)

    reading = read_counters(1, proc_dir=tmp_path, cgroup_dir=tmp_path / "groups")

    assert reading is not None
    assert (reading.n_cores, reading.throttled_s) == (0.5, 7.0)


def write_proc(folder: Path, *, schedstat: str = "2000000000 3000000000 5\n") -> None:
    """Write what a kernel shows of one process with one thread."""
    thread = folder / "1" / "task" / "1"
    thread.mkdir(parents=True)
    (thread / "schedstat").write_text(schedstat)
    lines = [f"cpu{core} 1 2 3 400 500 6 7 7 900 900\n" for core in range(256)]
    (folder / "stat").write_text("cpu  1 2 3\n" + "".join(lines) + "intr 1\n")


def test_real_busy_processes_delay_a_real_process() -> None:
    with busy_processes():
        load = LoadMeter(read=lambda: read_counters(os.getpid()), n_allotted=1)
        load.delay_s()
        began_at = time.monotonic()
        spin(1.5)
        delay_s, elapsed_s = load.delay_s(), time.monotonic() - began_at

    assert delay_s is not None
    assert is_node_busy(delay_s, elapsed_s)
    assert delay_s < elapsed_s


def spin(cpu_s: float) -> None:
    """Use so much CPU time."""
    began_s = time.thread_time()
    while time.thread_time() - began_s < cpu_s:
        pass
