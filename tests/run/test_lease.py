"""The lease: of real processes on one run folder, one works at a time, and a dead one does not stand in the way."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import LeaseLostError, RunFolderError
from xautolm_hpc.node import boot_id, node_name
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.run.lease import Holder, Lease, live_holder, newest_lease
from xautolm_hpc.run.ledger import Ledger, read_ledger

STALE_S = 120.0
N_ROUNDS = 20
DRIVER = """
import sys
from pathlib import Path
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.run.lease import Lease
for folder in sys.stdin:
    try:
        print(Lease.acquire(Path(folder.strip()), stale_s=120.0).number, flush=True)
    except RunFolderError as error:
        print(error, flush=True)
"""


class Driver:
    """A process of its own that tries to take every run folder it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, folder: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def acquire(self, folder: Path) -> str:
        """Give the number of the lease it got, or why it got none."""
        self.tell(folder)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture
def driver() -> Iterator[Driver]:
    started = Driver()
    yield started
    started.kill()


@pytest.fixture
def other_driver() -> Iterator[Driver]:
    started = Driver()
    yield started
    started.kill()


def make_silent(run_path: Path, number: int, *, seconds: float) -> None:
    """Set a lease's time back, as if its holder had been silent."""
    path = run_path / f"lease-{number}"
    seen = path.stat().st_mtime - seconds
    os.utime(path, (seen, seen))


def elsewhere(run_path: Path, number: int) -> None:
    """Make a lease that of a driver on another node."""
    path = run_path / f"lease-{number}"
    holder = from_json(Holder, read_json(path), where=str(path))
    write_json(path, to_json(replace(holder, node="another-node", boot_id="another-boot")))


def test_of_two_processes_at_once_exactly_one_takes_a_run_folder(
    tmp_path: Path, driver: Driver, other_driver: Driver
) -> None:
    for number in range(N_ROUNDS):
        folder = tmp_path / f"run-{number}"
        folder.mkdir()

        driver.tell(folder)
        other_driver.tell(folder)
        answers = [driver.answer(), other_driver.answer()]

        assert answers.count("1") == 1
        assert [path.name for path in folder.iterdir()] == ["lease-1"]


def test_of_two_processes_at_once_exactly_one_replaces_a_dead_driver(
    tmp_path: Path, driver: Driver, other_driver: Driver
) -> None:
    folders = [tmp_path / f"run-{number}" for number in range(N_ROUNDS)]
    dead = Driver()
    for folder in folders:
        folder.mkdir()
        assert dead.acquire(folder) == "1"
    dead.kill()

    for folder in folders:
        driver.tell(folder)
        other_driver.tell(folder)
        answers = [driver.answer(), other_driver.answer()]

        assert answers.count("2") == 1
        assert newest_lease(folder) == 2


def test_a_live_driver_is_named_with_pid_and_node(tmp_path: Path, driver: Driver) -> None:
    driver.acquire(tmp_path)

    with pytest.raises(RunFolderError, match="is in the hands of another driver") as refusal:
        Lease.acquire(tmp_path, stale_s=STALE_S)

    assert str(refusal.value) == (
        f"run folder `{tmp_path}` is in the hands of another driver (lease 1: pid {driver.process.pid} on "
        f"{node_name()}). Watch it with `xautolm-hpc status`, or stop that process and run again; a driver on another "
        "node that died is replaced after 120 s of silence"
    )


def test_one_process_does_not_take_a_run_folder_twice(tmp_path: Path) -> None:
    Lease.acquire(tmp_path, stale_s=STALE_S)

    with pytest.raises(RunFolderError, match=rf"\(lease 1: pid {os.getpid()} on "):
        Lease.acquire(tmp_path, stale_s=STALE_S)


def test_a_killed_driver_is_replaced_at_once(tmp_path: Path) -> None:
    killed = Driver()
    killed.acquire(tmp_path)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.communicate(timeout=30)

    lease = Lease.acquire(tmp_path, stale_s=STALE_S)

    assert lease.number == 2
    lease.check()


def test_a_killed_driver_that_nobody_waited_for_is_replaced_too(tmp_path: Path) -> None:
    zombie = Driver()
    zombie.acquire(tmp_path)
    os.kill(zombie.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, zombie.process.pid, os.WEXITED | os.WNOWAIT)

    lease = Lease.acquire(tmp_path, stale_s=STALE_S)

    zombie.process.communicate(timeout=30)
    assert lease.number == 2


@pytest.mark.parametrize("change", [{"boot_id": "an-earlier-boot"}, {"pid_started": 1}])
def test_a_pid_that_another_process_has_by_now_is_no_live_driver(tmp_path: Path, change: dict[str, object]) -> None:
    Lease.acquire(tmp_path, stale_s=STALE_S)
    path = tmp_path / "lease-1"
    write_json(path, {**read_json(path), **change})

    assert Lease.acquire(tmp_path, stale_s=STALE_S).number == 2


def test_a_driver_on_another_node_is_alive_until_it_is_silent_for_too_long(tmp_path: Path) -> None:
    Lease.acquire(tmp_path, stale_s=STALE_S)
    elsewhere(tmp_path, 1)
    make_silent(tmp_path, 1, seconds=STALE_S - 60)

    with pytest.raises(RunFolderError, match="on another-node"):
        Lease.acquire(tmp_path, stale_s=STALE_S)

    make_silent(tmp_path, 1, seconds=61)
    assert Lease.acquire(tmp_path, stale_s=STALE_S).number == 2


def test_a_driver_that_was_replaced_for_its_silence_learns_it(tmp_path: Path) -> None:
    slow = Lease.acquire(tmp_path, stale_s=STALE_S)
    slow.check()
    make_silent(tmp_path, 1, seconds=STALE_S + 1)

    Lease.acquire(tmp_path, stale_s=STALE_S)

    with pytest.raises(
        LeaseLostError, match=f"^another driver took `{tmp_path}` over \\(lease 2, this one held 1\\); "
    ):
        slow.check()


def test_a_lease_of_the_same_number_in_other_hands_is_lost(tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path, stale_s=STALE_S)
    write_json(tmp_path / "lease-1", to_json(replace(lease.holder, token="other")))

    with pytest.raises(LeaseLostError, match="another driver took"):
        lease.check()


def test_a_refreshed_lease_is_not_silent(tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path, stale_s=STALE_S)
    make_silent(tmp_path, 1, seconds=STALE_S + 1)
    assert live_holder(tmp_path, stale_s=STALE_S) is None

    lease.refresh()

    assert live_holder(tmp_path, stale_s=STALE_S) == lease.holder


def test_a_released_run_folder_is_taken_at_once(tmp_path: Path, driver: Driver) -> None:
    lease = Lease.acquire(tmp_path, stale_s=STALE_S)

    lease.release()

    assert live_holder(tmp_path, stale_s=STALE_S) is None
    assert driver.acquire(tmp_path) == "2"


def test_releasing_a_lost_lease_leaves_the_new_holder_alone(tmp_path: Path) -> None:
    lost = Lease.acquire(tmp_path, stale_s=STALE_S)
    make_silent(tmp_path, 1, seconds=STALE_S + 1)
    new = Lease.acquire(tmp_path, stale_s=STALE_S)

    lost.release()

    assert live_holder(tmp_path, stale_s=STALE_S) == new.holder
    assert read_json(tmp_path / "lease-1")["released"] is False


def test_leases_are_counted_by_number_not_by_name(tmp_path: Path) -> None:
    for name in ("lease-9", "lease-10", "lease-x", ".lease-11.ab.tmp", "lease-12.bak"):
        (tmp_path / name).write_text("{}")

    assert newest_lease(tmp_path) == 10


def test_a_run_folder_nobody_ever_had_has_no_holder(tmp_path: Path) -> None:
    assert newest_lease(tmp_path) == 0
    assert live_holder(tmp_path, stale_s=STALE_S) is None


def test_the_holder_says_who_it_is(tmp_path: Path) -> None:
    holder = Lease.acquire(tmp_path, stale_s=STALE_S).holder

    assert (holder.pid, holder.node, holder.boot_id) == (os.getpid(), node_name(), boot_id())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("content", ["", "[]", '{"token": 5}', "[" * 100_000, '{"of": "a later version"}'])
def test_a_damaged_lease_is_somebodys_until_it_is_silent_and_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "lease-1").write_text(content)

    with pytest.raises(
        RunFolderError, match=f"^`{tmp_path}/lease-1` is damaged: it says which driver works on the run"
    ):
        Lease.acquire(tmp_path, stale_s=STALE_S)

    make_silent(tmp_path, 1, seconds=STALE_S + 1)
    assert Lease.acquire(tmp_path, stale_s=STALE_S).number == 2


def test_a_lease_of_another_node_that_was_touched_in_the_future_is_stale(tmp_path: Path) -> None:
    Lease.acquire(tmp_path, stale_s=STALE_S)
    elsewhere(tmp_path, 1)
    make_silent(tmp_path, 1, seconds=-STALE_S - 60)

    assert live_holder(tmp_path, stale_s=STALE_S) is None
    assert Lease.acquire(tmp_path, stale_s=STALE_S).number == 2


def test_a_driver_whose_lease_is_damaged_stops_and_names_it(tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path, stale_s=STALE_S)
    (tmp_path / "lease-1").write_text("")

    with pytest.raises(
        LeaseLostError, match=f"^`{tmp_path}/lease-1`, by which this driver works on the run, is damaged"
    ):
        lease.check()


def test_where_leases_were_removed_the_next_one_is_above_those_of_the_ledger(tmp_path: Path) -> None:
    ledger_path = tmp_path / "ledger.jsonl"
    Ledger(ledger_path, 7).append("begun", 1.0)

    lease = Lease.acquire(tmp_path, stale_s=STALE_S)

    assert lease.number == 8
    Ledger(ledger_path, lease.number).append("went on", 2.0)
    assert [line["event"] for line in read_ledger(ledger_path)] == ["begun", "went on"]
