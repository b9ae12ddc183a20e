"""Attempts with small workers, for tests that run real processes."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes import failed_end
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import COMMAND, Command, write_members
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.records import to_json

WRITE_OUTCOME = """
import os, sys
attempt_dir = sys.argv[-1]
with open(attempt_dir + "/o.tmp", "w") as file:
    file.write(open(sys.argv[1]).read())
os.link(attempt_dir + "/o.tmp", attempt_dir + "/outcome.json")
"""
"""A worker that writes the outcome it is given."""

WRITE_PID = "import os, sys\nopen(sys.argv[-1] + '/pid', 'w').write(str(os.getpid()))\n"
"""A worker that writes its process id; what follows may need it."""

SLEEP = "import time\nwhile True: time.sleep(0.05)\n"


def make_attempt(folder: Path, worker: str = WRITE_OUTCOME, **limits: object) -> Path:
    """Make an attempt folder whose worker runs some Python text.

    Args:
        folder: Attempt folder.
        worker: Text of the program.
        limits: Fields of the command that differ.
    """
    folder.mkdir(parents=True)
    script, given = folder / "worker.py", folder / "given.json"
    script.write_text(worker)
    given.write_text(json.dumps(to_json(failed_end("diverged"))))
    fields: dict[str, object] = {
        "argv": (sys.executable, "-S", str(script), str(given)),
        "time_limit_s": 30.0,
        "wall_limit_s": 60.0,
        "memory_bytes": 2**31,
        "n_threads": 1,
        "heartbeat_s": 30.0,
        "deterministic": False,
        "enforce_limits": True,
        "environment": {"PATH": "/usr/bin:/bin"},
        "site": "here",
        "cluster": "test",
    }
    write_json(folder / COMMAND, to_json(Command(**{**fields, **limits})))  # type: ignore[arg-type]
    return folder


def submission_of(folder: Path, *attempt_dirs: Path, resources: Resources | None = None) -> Submission:
    """Make a submission of attempts, its members written."""
    write_members(folder, attempt_dirs)
    return Submission(name="test-g000-s0", folder=folder, attempt_dirs=attempt_dirs, resources=resources or Resources())


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0, what: str = "") -> None:
    """Wait for a condition, or fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come true within {seconds:g} s: {what or condition}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Tell whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
