"""Write the frozen runs, and what the same searches yield when nobody interrupts them.

Started on the commit that it names, from the root of the repository: ``python -m tests.upgrade.make_old_run``. The
driver of a frozen run is killed for real, in the third generation: some of its trials have ended, the ends of some lie
on disk without a line in the ledger, the rest run. On a later commit it would write what that commit does.
"""

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.driving import end_attempt, search_in
from tests.fakes import FakeLauncher
from tests.upgrade.old_run import ARCHIVE_PATH, PAST, RECORDED_PATH, SEARCHES, end_trial, launcher, pack, rows_of
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import End

KILLED = 9
LAST_LOOK = 3
FIRST_SLOW, FATAL = 4, 7
"""Of the ten trials of a generation: the first one that ends at the last look only, and the one at which the driver
dies then."""


def end_until_killed(generation: int) -> Callable[[Path], End | None]:
    """End trials until the last look at a generation; in the middle of it this process dies."""
    n_looks: Counter[str] = Counter()

    def end_of(attempt_dir: Path) -> End | None:
        trial_dir = attempt_dir.parent
        place = int(trial_dir.name.removeprefix("trial-")) % 10
        if trial_dir.parent.name != f"gen-{generation:03d}" or place < FIRST_SLOW:
            return end_trial(attempt_dir)
        n_looks[trial_dir.name] += 1
        if n_looks[trial_dir.name] < LAST_LOOK:
            return None
        if place == FATAL:
            os._exit(KILLED)
        return end_trial(attempt_dir)

    return end_of


def search_until_killed(folder: Path, text: str) -> None:
    """Run a search in a process of its own that dies in the third generation.

    Raises:
        RuntimeError: It did not die there.
    """
    ending = partial(end_attempt, trial_end=end_until_killed(2))
    child = os.fork()
    if child == 0:
        search_in(folder, text=text, launcher=FakeLauncher(ending, state="RUNNING"))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != KILLED:
        raise RuntimeError(f"the driver ended with {status}, expected {KILLED}")


def leave_out(folder: Path) -> None:
    """Remove what no test needs, and put made-up names where leases name this machine."""
    shutil.rmtree(folder / "runs" / "past")
    for path in (*folder.rglob("*.png"), *folder.rglob(".checked"), folder / "search.toml"):
        path.unlink()
    for path in folder.rglob("lease-*"):
        write_json(path, {**read_json(path), "node": "fake-login", "boot_id": "fake", "pid": 1, "pid_started": 1})


def main() -> None:
    """Write both files beside this script."""
    recorded = {}
    with tempfile.TemporaryDirectory() as killed, tempfile.TemporaryDirectory() as whole:
        search_in(Path(killed), text=PAST, launcher=launcher())
        shutil.copytree(Path(killed, "past"), Path(whole, "past"))
        for name, text in SEARCHES.items():
            search_until_killed(Path(killed), text)
            search_in(Path(whole), text=text, launcher=launcher())
            recorded[name] = rows_of(Path(whole), name)
        leave_out(Path(killed))
        ARCHIVE_PATH.write_bytes(pack(Path(killed)))
    write_json(RECORDED_PATH, recorded)


if __name__ == "__main__":
    main()
