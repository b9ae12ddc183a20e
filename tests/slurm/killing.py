"""Kills the driver of a search, by SIGKILL and at a step of its choice, and looks whether the next one loses anything.

A step is anything the driver does to the disk of its search or asks of Slurm that changes something: Python tells of
each one before it happens (its audit events), so a driver killed at step n has done n - 1 of them.
"""

import os
import re
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import StubSearch
from xautolm_hpc.cli import main

PATH_OF = {
    "os.rename": 1, "os.link": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0,
    "shutil.rmtree": 0, "open": 0,
}  # fmt: skip
"""Audit event -> which of its arguments names the file that is changed."""

DEEDS = ("sbatch", "scancel")
MOST_DRIVERS = 400
CRASHED = 70


@dataclass(slots=True)
class Killer:
    """Ends this very process before one of its steps.

    Attributes:
        folder: Steps are what changes something below it.
        log: Open file that gets the name of the step.
        at: Number of the step, from 0; after ``after`` if that is set.
        after: Name of a step after which counting begins.
    """

    folder: str
    log: int
    at: int
    after: str | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        step = name_step(event, arguments, self.folder)
        if step is None:
            return
        if self.after is not None:
            self.after = None if step == self.after else self.after
            return
        if self.at == 0:
            os.write(self.log, f"{step}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        self.at -= 1


def name_step(event: str, arguments: tuple[Any, ...], folder: str) -> str | None:
    """Name what a driver is about to do; ``None`` if it changes nothing."""
    if event == "subprocess.Popen":
        program = Path(os.fsdecode(arguments[0])).name
        return program if program in DEEDS and "--test-only" not in arguments[1] else None
    path = arguments[PATH_OF[event]] if event in PATH_OF else None
    if not isinstance(path, str | bytes | os.PathLike) or not os.fsdecode(path).startswith(folder):
        return None
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return None
    name = re.sub(r"\.[0-9a-f]+\.tmp$", " aside", Path(os.fsdecode(path)).name)  # what is written before a rename
    return f"{event.removeprefix('os.')} {re.sub('[0-9]+', 'N', re.sub('[0-9a-f]{16,}', '*', name))}"


def run_driver(search: StubSearch, environ: Mapping[str, str], killer: Killer | None) -> int:
    """Run the driver in a fork of this process, which has everything imported already; gives its exit status."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = CRASHED
    try:
        os.environ.clear()
        os.environ.update({**environ, "HF_HUB_OFFLINE": "1"})
        log = os.open(search.folder / "driver.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        if killer is not None:
            sys.addaudithook(killer)
        status = main(search.command[3:])
    finally:
        if status == CRASHED:
            os.write(2, traceback.format_exc().encode())
        os._exit(status)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A search whose drivers were killed one after the other until one came through.

    Attributes:
        search: The search.
        killed_at: The steps at which its drivers were killed, in order.
        n_lost: Records of the search that was left alone which this one lacks, or has otherwise.
        n_extra: Records that only this one has.
        n_twice: Attempts that were run more than once.
        n_orphans: Jobs of the search that went on after its end.
    """

    search: StubSearch
    killed_at: list[str] = field(default_factory=list)
    n_lost: int = 0
    n_extra: int = 0
    n_twice: int = 0
    n_orphans: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """What must be nothing at all."""
        return {"lost": self.n_lost, "extra": self.n_extra, "twice": self.n_twice, "orphans": self.n_orphans}


def sweep(
    search: StubSearch,
    cluster: DevCluster,
    *,
    kills: Iterator[Killer],
    expected: StubSearch,
    disturb: Callable[[], None] = lambda: None,
) -> Sweep:
    """Run a search whose drivers are killed, each once, as long as there are killers; then count what went wrong.

    Args:
        search: The search, not run yet.
        cluster: Where it runs.
        kills: When to kill the drivers; the first that comes through ends it.
        expected: The same search, left alone.
        disturb: Is called before each driver; does something to the jobs.

    Raises:
        AssertionError: A driver ended with an error, or there is no end of them.
    """
    log_path = search.folder / "kills.log"
    for _ in range(MOST_DRIVERS):
        disturb()
        killer = next(kills, None)
        status = run_driver(search, cluster.environ, killer)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            raise AssertionError(f"a driver ended with status {status}:\n{(search.folder / 'driver.log').read_text()}")
    else:
        raise AssertionError(f"after {MOST_DRIVERS} drivers `{search.folder}` has not ended")
    found, wanted = Counter(search.projection()), Counter(expected.projection())
    runs = Counter((attempt, restart) for attempt, _, restart in search.started())
    return Sweep(
        search,
        log_path.read_text().splitlines() if log_path.exists() else [],
        n_lost=(wanted - found).total(),
        n_extra=(found - wanted).total(),
        n_twice=sum(n - 1 for n in runs.values()),
        n_orphans=_count_orphans(search, cluster),
    )


def _count_orphans(search: StubSearch, cluster: DevCluster) -> int:
    """Count the jobs of a search that neither ended nor are ending."""
    names = ",".join({line["name"] for line in search.ledger() if line["event"] == "intent"})

    def left() -> list[str]:
        return cluster.run("squeue", "--noheader", "--array", f"--name={names}", "--format=%i").split()

    wait_until(lambda: not left(), timeout_s=60, poll_s=0.3)
    return len(left())


def open_log(search: StubSearch) -> int:
    """Open the file in which killers leave the name of their step."""
    return os.open(search.folder / "kills.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
