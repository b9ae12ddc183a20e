"""A driver that is killed for real, again and again, on the local launcher: nothing lost, nothing twice."""

import subprocess
from collections import Counter
from pathlib import Path

from tests.driving import ledger_of, projection
from tests.searching import run_command, start_command, wait_for
from tests.stub_search import started, write_stub_search

N_KILLS = 10
LIMIT_S = 200.0


def kill_at(folder: Path, n_lines: int) -> None:
    """Start the driver and kill it once its ledger has so many lines."""
    ledger_path = folder / "runs" / "stub" / "ledger.jsonl"
    driver = start_command(folder, "run", "search.toml", "--quiet")

    def is_there() -> bool:
        done = ledger_path.read_bytes().count(b"\n") if ledger_path.exists() else 0
        return done >= n_lines or driver.poll() is not None

    wait_for(is_there, limit_s=LIMIT_S, what=f"{n_lines} lines in the ledger")
    assert driver.poll() is None, (folder / "said.log").read_text()
    driver.kill()
    driver.wait()


def test_a_driver_killed_at_ten_moments_goes_on_as_if_it_never_was(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        write_stub_search(folder, generations=3, trial_s=0.2)
    assert run_command(whole, "run", "search.toml", "--quiet").returncode == 0
    n_lines = len(ledger_of(whole, "stub"))

    for number in range(N_KILLS):
        kill_at(killed, 1 + number * (n_lines - 4) // (N_KILLS - 1))
    finished: subprocess.CompletedProcess[str] = run_command(killed, "run", "search.toml", "--quiet")

    assert finished.returncode == 0, finished.stderr
    assert projection(killed) == projection(whole)
    assert set(Counter(started(killed)).values()) == {1}
    assert sorted(started(killed)) == sorted(started(whole))
    ends = Counter((x["trial"], x["attempt"]) for x in ledger_of(killed, "stub") if x["event"] == "end")
    assert set(ends.values()) == {1}
