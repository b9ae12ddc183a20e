"""Every way to end, under every state of Slurm's sources: what gathering makes of it, and how soon."""

import getpass
import shutil
import subprocess
import threading
import time
from collections.abc import Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from slurm.dev.daemons import wait_until
from slurm.dev.plan import DevClusterError
from slurm.dev.private import DevCluster
from tests.slurm.dying import (
    CLOSED,
    GIVEN_BACK,
    SHARED,
    SHORT,
    SMALL,
    START_S,
    WAYS,
    Way,
    dying_dir,
    has_started,
    write_attempts,
)
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.gather import AttemptResult, JobTracker, gather_ends
from xautolm_hpc.launcher import JobState, Submission
from xautolm_hpc.node import SystemClock
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.series_launcher import SeriesLauncher
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher

PATIENCE_S = 30.0
"""Grace of a missing outcome, and patience with a job that waits for what cannot come."""

BOUND_S = 90.0
"""Seconds from a job's end to its verdict, beside one poll."""

LOOKS = 2
"""Looks after the end of patience that a job which waits in vain may take: one gives it up, one finds it over."""

NO_REASONS = ("None", "Priority", "BeginTime")
"""What Slurm says of a job that it has not looked at closely."""

COMMANDS = ("squeue", "sacct", "scancel")
SLOW = """#!/bin/sh
[ -e {flag} ] && sleep {hang_s}
exec {real} "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What answers while jobs end.

    Attributes:
        name: In words.
        accounting: Whether there are accounts.
        min_job_age_s: Seconds for which squeue remembers a job; Slurm forgets once a minute.
        poll_s: Seconds between two looks.
        loses_accounts: Whether the accounts go when the first job is about to end.
        hang_s: Seconds that every command takes from the last poll before that.
    """

    name: str
    accounting: bool = True
    min_job_age_s: int = 300
    poll_s: float = 5.0
    loses_accounts: bool = False
    hang_s: float = 0.0

    @property
    def ways(self) -> tuple[Way, ...]:
        """The ways to end that there are."""
        answers = self.accounting and not self.loses_accounts
        return tuple(
            way for way in WAYS if (self.accounting or not way.needs_accounts) and (answers or not way.asks_accounts)
        )

    @property
    def poll_takes_s(self) -> float:
        """Seconds from one look to the end of the next: a pause, squeue beside sacct, and perhaps scancel."""
        return self.poll_s + 2 * self.hang_s


def sources(hang_s: float) -> tuple[Sources, ...]:
    """List the states of the sources; what squeue has forgotten, it had forgotten before anybody looked."""
    return (
        Sources(name="sacct", min_job_age_s=2, poll_s=75.0),
        Sources(name="no accounts", accounting=False),
        Sources(name="slurmdbd dies", loses_accounts=True),
        Sources(name=f"{hang_s:g} s a command", hang_s=hang_s),
        Sources(name="forgotten", accounting=False, min_job_age_s=2, poll_s=75.0),
    )


IMPOSSIBLE: Mapping[tuple[str, str], str] = {
    ("node down", "forgotten"): (
        "slurm.conf(5), MinJobAge: the record is purged from slurmctld's memory, and without AccountingStorageType "
        "nobody else keeps it; the node's own daemon died before it could write"
    ),
}
"""Way and sources -> why nobody can know the kind; it must still be of the right origin."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What became of one way under one state of the sources.

    Attributes:
        kind: Failure kind; ``None`` for a success, ``HANGS`` if nothing was found in time.
        origin: Its origin.
        after_s: Seconds from the job's end to the verdict; from the end of patience for one that waits in vain.
        n_looks: Looks begun after the end of patience, for one that waits in vain.
        others: What became of the trial before it and the one after it in its job; empty if it had it for itself.
    """

    kind: str | None
    origin: str | None
    after_s: float
    n_looks: int = 0
    others: tuple[str, ...] = ()

    def is_right(self, way: Way, given: Sources) -> bool:
        """Tell whether this is what it must be, and whether it came in time."""
        known = self.kind == way.kind or (way.name, given.name) in IMPOSSIBLE
        spared = self.others in ((), *way.beside)
        in_time = self.n_looks <= LOOKS if way.waits_in_vain else self.after_s <= BOUND_S + given.poll_takes_s
        return known and spared and self.origin == way.origin and in_time


def run_column(folder: Path, given: Sources, *, has_others: bool) -> dict[str, Cell]:
    """Let every way to end happen under one state of the sources; gives what came of each."""
    options = {"accounting": given.accounting, "min_job_age_s": given.min_job_age_s, "kill_wait_s": 2}
    limits = {"max_submit_jobs": 1000} if given.accounting else {}
    with DevCluster(folder / "c", nodes=5, cgroup=True, **options, **limits) as cluster:  # type: ignore[arg-type]
        cluster.run("scontrol", "create", f"partitionname={CLOSED}", "nodes=n1", "state=down")
        cluster.run("scontrol", "create", f"partitionname={SHORT}", "nodes=n1", "maxtime=1")
        if given.accounting:
            user = ("user", getpass.getuser())
            for words in (
                ("account", SMALL),
                (*user, f"account={SMALL}", "maxtresperjob=cpu=1"),
                ("account", SHARED, "grptres=cpu=1"),
                (*user, f"account={SHARED}"),
            ):
                cluster.run("sacctmgr", "--immediate", "add", *words)
        column = _Column(folder, cluster, given=given, has_others=has_others)
        column.start_all()
        column.let_end()
        return column.gather()


class _Column:
    """One cluster, and the jobs on it."""

    def __init__(self, folder: Path, cluster: DevCluster, *, given: Sources, has_others: bool) -> None:
        self.folder = folder
        self.has_others = has_others
        self.others: dict[Path, str] = {}
        self.cluster = cluster
        self.given = given
        self.slurm = Slurm({**cluster.environ, "PATH": self._slow_path()})
        self.launcher = SeriesLauncher(SlurmLauncher(WAYS[0].options, since=time.time(), slurm=self.slurm))
        self.tracker = JobTracker(
            outcome_grace_s=PATIENCE_S, pending_timeout_s=PATIENCE_S, redact=lambda text: text, check=check_end
        )
        self.submissions: dict[str, Submission] = {}
        self.job_ids: dict[str, str] = {}
        self.ended_at: dict[str, float] = {}
        self.looks: list[tuple[float, float]] = []

    def _slow_path(self) -> str:
        bin_dir, path = self.folder / "bin", self.cluster.environ["PATH"]
        bin_dir.mkdir()
        for name in COMMANDS:
            real = shutil.which(name, path=path)
            (bin_dir / name).write_text(SLOW.format(flag=self.folder / "slow", hang_s=self.given.hang_s, real=real))
            (bin_dir / name).chmod(0o755)
        return f"{bin_dir}:{path}"

    def start_all(self) -> None:
        """Submit every job, and wait until those that can start have started."""
        for way in self.given.ways:
            submission = write_attempts(self.folder, way, has_others=self.has_others)
            one = SeriesLauncher(SlurmLauncher(way.options, since=time.time(), python=way.python, slurm=self.slurm))
            ids = one.submit(submission)
            self.launcher.adopt(submission, ids)
            self.submissions[way.name], self.job_ids[way.name] = submission, next(iter(ids.values()))
        assert wait_until(has_started(self.submissions, self.given.ways), timeout_s=START_S), self.cluster.run("squeue")

    def let_end(self) -> None:
        """Take away what the sources lose, then let the jobs end."""
        if self.given.loses_accounts:
            self.cluster.stop_dbd()
        if self.given.hang_s:
            (self.folder / "slow").touch()
            self._look([])
        (self.folder / "go").touch()
        for way in self.given.ways:
            if way.act is not None:
                way.act(self.cluster, self.job_ids[way.name])
        assert wait_until(self._have_reasons, timeout_s=START_S), self.cluster.run("squeue")

    def _have_reasons(self) -> bool:
        """Check whether Slurm has a reason for every job that waits in vain; the next look sees it."""
        text = self.cluster.run("squeue", "--noheader", "--array", "--states=PD", "--format=%i|%r")
        reasons = dict(line.split("|", 1) for line in text.splitlines())
        in_vain = [self.job_ids[way.name] for way in self.given.ways if way.waits_in_vain]
        return all(reasons.get(job_id, "None") not in NO_REASONS for job_id in in_vain)

    def gather(self) -> dict[str, Cell]:
        """Look until every job has ended, or a job that ended long ago has not been found."""
        cells: dict[str, Cell] = {}
        self.looks.clear()
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            noting = pool.submit(self._note_ends, stop)
            while not self._has_all(cells) and not self._is_late(cells):
                cells |= {name: self._cell(found, name) for name, found in self._look(cells).items()}
                stop.wait(0 if self._has_all(cells) else self.given.poll_s)
            stop.set()
            noting.result()
        hangs = Cell(kind="HANGS", origin=None, after_s=float("inf"))
        return {way.name: self._with_others(cells.get(way.name, hangs), way.name) for way in self.given.ways}

    def _look(self, found_before: Container[str]) -> dict[str, AttemptResult]:
        """Look once, as a driver does, at what has not been found yet."""
        names = {dying_dir(one): name for name, one in self.submissions.items() if name not in found_before}
        paths = [path for one in self.submissions.values() for path in one.attempt_dirs]
        beside = [path for path in paths if path not in self.others and path not in map(dying_dir, self._all())]
        began = time.time()
        ends = gather_ends(self.launcher, self.tracker, attempt_dirs=[*names, *beside], clock=SystemClock())
        self.looks.append((began, time.time()))
        self.others |= dict.fromkeys(self.tracker.given_back, GIVEN_BACK)
        self.others |= {path: end.outcome.kind or "succeeded" for path, end, _ in ends if path in beside}
        return {names[found.attempt_dir]: found for found in ends if found.attempt_dir in names}

    def _all(self) -> list[Submission]:
        return list(self.submissions.values())

    def _with_others(self, cell: Cell, name: str) -> Cell:
        """Add what became of the other trials of the job."""
        paths = self.submissions[name].attempt_dirs
        beside = [path for path in paths if path != dying_dir(self.submissions[name])]
        return replace(cell, others=tuple(self.others.get(path, "NOT FOUND") for path in beside))

    def _has_all(self, cells: Mapping[str, Cell]) -> bool:
        n_beside = sum(len(one.attempt_dirs) - 1 for one in self._all())
        return len(cells) == len(self.given.ways) and len(self.others) >= n_beside

    def _cell(self, found: AttemptResult, name: str) -> Cell:
        now = time.time()
        outcome = found.end.outcome
        patience_ends = self.looks[0][1] + PATIENCE_S  # every job that waits in vain was seen at the first look
        return Cell(
            kind=outcome.kind,
            origin=outcome.origin,
            after_s=now - self.ended_at.get(name, now),
            n_looks=sum(began >= patience_ends for began, _ in self.looks),
        )

    def _is_late(self, cells: Mapping[str, Cell]) -> bool:
        left = [way.name for way in self.given.ways if way.name not in cells] or list(self.ended_at)
        patience_s = 2 * (BOUND_S + self.given.poll_takes_s)
        return all(time.time() - self.ended_at.get(name, time.time()) > patience_s for name in left)

    def _note_ends(self, stop: threading.Event) -> None:
        """Ask Slurm itself, every second, which jobs have ended; one that waits in vain ends when patience does."""
        began, in_vain = time.time(), {way.name for way in self.given.ways if way.waits_in_vain}
        while not stop.wait(1.0):
            try:
                text = self.cluster.run("squeue", "--noheader", "--array", "--states=all", "--format=%i %T")
            except (DevClusterError, subprocess.TimeoutExpired):
                continue  # no answer: nothing has ended by that
            states = dict(line.split() for line in text.splitlines())
            for name, job_id in self.job_ids.items():
                if name in in_vain:
                    self.ended_at[name] = began + PATIENCE_S
                elif not JobState.from_slurm(states.get(job_id, "")).is_alive:
                    self.ended_at.setdefault(name, time.time())


def run_matrix(folder: Path, *, hang_s: float, has_others: bool = False) -> dict[Sources, dict[str, Cell]]:
    """Run all columns side by side, each in a cluster of its own.

    Args:
        folder: Folder for all of it.
        hang_s: Seconds that commands take where they hang.
        has_others: Whether each trial shares its job with two that succeed, one before it and one after it.
    """
    given = sources(hang_s)
    folders = [folder / str(number) for number in range(len(given))]
    for one in folders:
        one.mkdir()
    with ThreadPoolExecutor(len(given)) as pool:
        columns = pool.map(partial(run_column, has_others=has_others), folders, given)
        return dict(zip(given, columns, strict=True))


def table(matrix: Mapping[Sources, Mapping[str, Cell]]) -> str:
    """Lay a matrix out: kind, seconds after the end, and ``!`` where either is wrong."""
    rows = [["", *(given.name for given in matrix)]]
    for way in WAYS:
        cells = [(given, column.get(way.name)) for given, column in matrix.items()]
        rows.append([way.name, *("-" if cell is None else _words(way, given, cell) for given, cell in cells)])
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(" | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _words(way: Way, given: Sources, cell: Cell) -> str:
    mark = "" if cell.is_right(way, given) else " !"
    star = " *" if (way.name, given.name) in IMPOSSIBLE else ""
    others = "" if cell.others in ((), *way.beside) else f" beside {', '.join(cell.others)}"
    return f"{cell.kind or 'succeeded'} {cell.after_s:.0f} s{others}{star}{mark}"
