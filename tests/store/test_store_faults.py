"""Writers killed or refused at every step, and many processes at once: nothing committed is ever lost.

Here a part of the steps; ``make bench-store-faults`` takes all of them, and a minute of many processes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.store import busy, faults
from tests.store.busy import run_busy

STRIDE = 6


@pytest.mark.timeout(1800)  # two minutes of one core; on a machine that others use it takes longer
@pytest.mark.parametrize(("locking", "seed"), [("TRUE", 0), ("FALSE", 3)])
def test_a_writer_that_is_killed_or_refused_at_any_step_loses_nothing(locking: str, seed: int) -> None:
    command = [sys.executable, "-m", "tests.store.faults", "--stride", str(STRIDE), "--seed", str(seed)]
    environ = {**os.environ, "HDF5_USE_FILE_LOCKING": locking}

    done = subprocess.run(command, cwd=busy.ROOT_DIR, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert [(row["operation"], row["fault"], row["wrong"]) for row in rows if row["wrong"]] == []
    assert {(row["operation"], row["fault"]) for row in rows if row["n_runs"]} == {
        (operation, fault) for operation in faults.OPERATIONS for fault in faults.FAULTS
    }
    assert sum(row["n_runs"] for row in rows) >= 100


def test_many_processes_at_once_lose_nothing_and_see_nothing_twice(tmp_path: Path) -> None:
    done = run_busy(tmp_path / "store", seconds=10)

    assert done["errors"] == []
    assert done["findings"] == []
    assert (done["n_lost"], done["n_not_own"], done["n_twice"]) == (0, 0, 0)
    assert min(done["n_committed"], done["n_reads"], done["n_compactions"]) > 0
