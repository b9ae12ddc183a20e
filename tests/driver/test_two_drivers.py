"""Two drivers on one run folder, as real processes: one works, and none submits what another has submitted."""

import contextlib
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.driving import SEARCH, end_attempt, projection, search_in
from tests.fakes import FakeLauncher
from xautolm_hpc import report, sample
from xautolm_hpc.errors import LeaseLostError, RunFolderError
from xautolm_hpc.launcher import Submission
from xautolm_hpc.run.ledger import Ledger, Line

N_ROUNDS = 50
TEXT = SEARCH.replace("generations = 3", "generations = 1").replace("population = 4", "population = 2")


class CountingLauncher(FakeLauncher):
    """Writes down, for all processes, what is submitted."""

    def __init__(self, log_path: Path) -> None:
        super().__init__(end_attempt)
        self.log_path = log_path

    def submit(self, submission: Submission) -> Mapping[Path, str]:
        jobs = super().submit(submission)
        descriptor = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, "".join(f"{path}\n" for path in submission.attempt_dirs).encode())
        os.close(descriptor)
        return jobs


def start_driver(folder: Path, gate: tuple[int, int], *, pause_at: int) -> int:
    """Run a search in a process of its own once the parent closes its end of a pipe; gives its pid.

    It exits with 0 done, 3 refused, 4 lease lost, 5 anything else.
    """
    pid = os.fork()
    if pid:
        return pid
    status = 5
    try:
        Ledger.append = pausing(Ledger.append, at=pause_at)  # type: ignore[method-assign]
        os.close(gate[1])
        os.read(gate[0], 1)
        search_in(folder, text=TEXT, launcher=CountingLauncher(folder / "submitted.log"), lease_stale_s=1.0)
        status = 0
    except RunFolderError:
        status = 3
    except LeaseLostError:
        status = 4
    finally:
        if status == 5:
            (folder / "crash.txt").write_text(traceback.format_exc())
        os._exit(status)


def pausing(append: Callable[..., Line], *, at: int) -> Callable[..., Line]:
    """Let a driver stop itself, as by SIGSTOP from outside, before its n-th ledger line."""
    count = iter(range(1000))

    def paused(*arguments: Any, **fields: Any) -> Line:
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGSTOP)
        return append(*arguments, **fields)

    return paused


def let_lease_go_stale(folder: Path) -> None:
    """Let the newest lease look as if its holder had been silent for an hour."""
    newest = max((folder / "runs" / "fake").glob("lease-*"), key=lambda path: int(path.name.split("-")[1]))
    old = newest.stat().st_mtime - 3600
    os.utime(newest, (old, old))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make quick what computes much and remembers nothing: it is not what these tests are about."""
    original = sample.check_feasible
    monkeypatch.setattr(sample, "check_feasible", lambda *a, **k: original(*a, **{**k, "n_draws": 50}))
    monkeypatch.setattr(report, "write_report", lambda facts, folder: None)


def run_pair(folder: Path, *, pause_at: int) -> list[int]:
    """Start two drivers at once; the one that gets the run pauses, a third takes over, then the first goes on.

    Returns:
        Exit statuses of the first two, ascending.
    """
    gate = os.pipe()
    pids = {start_driver(folder, gate, pause_at=pause_at) for _ in range(2)}
    os.close(gate[1])
    statuses: list[int] = []
    while pids:
        pid, status = os.waitpid(-1, os.WUNTRACED)
        if pid not in pids:
            continue  # some earlier test's
        if os.WIFSTOPPED(status):
            let_lease_go_stale(folder)
            with contextlib.suppress(RunFolderError):  # the other one of the pair was late, and takes over itself
                search_in(folder, text=TEXT, launcher=CountingLauncher(folder / "submitted.log"), lease_stale_s=1.0)
            os.kill(pid, signal.SIGCONT)
        else:
            pids.remove(pid)
            statuses.append(os.waitstatus_to_exitcode(status))
    os.close(gate[0])
    return sorted(statuses)


@pytest.mark.usefixtures("quick")
def test_of_two_drivers_at_once_one_paused_past_its_lease_none_submits_twice(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    search_in(tmp_path / "alone", text=TEXT)
    expected = projection(tmp_path / "alone")
    rng = random.Random(5)

    outcomes = Counter[tuple[int, ...]]()
    for number in range(N_ROUNDS):
        folder = tmp_path / f"round-{number}"
        folder.mkdir()
        outcomes[tuple(run_pair(folder, pause_at=rng.randrange(8)))] += 1

        submitted = Counter((folder / "submitted.log").read_text().splitlines())
        assert set(submitted.values()) == {1}, f"round {number}: {submitted}"
        assert projection(folder) == expected, f"round {number}"
        assert not (folder / "crash.txt").exists(), (folder / "crash.txt").read_text()

    # One is refused, the paused one finds its lease lost (0: it had nothing left to do). A late one takes over itself.
    assert set(outcomes) <= {(3, 4), (0, 3), (4, 4), (0, 4)}, outcomes
    assert outcomes[3, 4] > N_ROUNDS / 2, outcomes
