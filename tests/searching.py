"""Whole searches as real processes: a trial ends as a pure function of its pipeline, everything else is real."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SEARCH = """
name = "stub"
profile = "site.toml"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[space]
models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
[search]
objectives = ["f1"]
population = 4
seed = 7
[budget]
generations = 3
[store]
path = "store"
"""

STUB_WORKER = """#!{python} -S
# Runs the profile job for real and ends a trial soon, with an F1 made of its pipeline's digest.
import hashlib, json, os, sys, time
python, log_path, trial_s = {python!r}, {log_path!r}, {trial_s!r}
if "xautolm_hpc.train" not in sys.argv:
    os.execv(python, [python, *sys.argv[1:]])
attempt_dir, restart = sys.argv[-1], int(os.environ.get("SLURM_RESTART_COUNT", "0"))
log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(log, (attempt_dir + " " + str(restart) + chr(10)).encode())
began = time.time()
time.sleep(trial_s)
share = int.from_bytes(hashlib.sha256(open("pipeline.json", "rb").read()).digest()[:4], "big") / 2**32
outcome = dict(status="succeeded", metrics=dict(f1=round(share, 6)), evaluation_time_s=11.0, time_scope="job")
if share < 0.2:
    outcome.update(status="failed", metrics=dict(), kind="diverged", origin="pipeline", message="the loss is nan")
end = dict(
    outcome=outcome, system=None, restart=restart, started_at=began, ended_at=time.time(), node=None, lock_hash=None,
    image_digest=None, package_version="stub",
)
with open("outcome.tmp", "w") as file:
    json.dump(end, file)
os.link("outcome.tmp", "outcome.json")
os.unlink("outcome.tmp")
"""


def write_stub_search(folder: Path, *, profile: str = "", trial_s: float = 0.2, text: str = SEARCH) -> Path:
    """Write a search, its data, a worker that only pretends to train, and the profile that names it.

    Args:
        folder: Folder for all of it; the stub writes the attempts it runs into ``trials.log`` there.
        profile: Further lines of the cluster profile.
        trial_s: Seconds a trial takes.
        text: The search file.

    Returns:
        The search file.
    """
    rows = "".join(f'{{"text": "words {n} of text", "label": "{"yes" if n % 3 else "no"}"}}\n' for n in range(120))
    (folder / "rows.jsonl").write_text(rows)
    stub = folder / "worker"
    stub.write_text(
        STUB_WORKER.format(python=sys.executable, log_path=str(folder / "trials.log"), trial_s=trial_s),
    )
    stub.chmod(0o700)
    (folder / "site.toml").write_text(f'worker_python = "./worker"\n{profile}')
    search_path = folder / "search.toml"
    search_path.write_text(text)
    return search_path


def start_command(folder: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start the command line in a folder; what it prints goes to ``said.log`` there."""
    with (folder / "said.log").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "xautolm_hpc", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )


def run_command(
    folder: Path, *arguments: str, environ: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run the command line in a folder to its end."""
    return subprocess.run(
        [sys.executable, "-m", "xautolm_hpc", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {})},
        timeout=280,
        check=False,
    )


def trials_run(folder: Path) -> list[str]:
    """List the attempts that a stub worker ran, one entry each time: the end of the folder's path and the restart."""
    log_path = folder / "trials.log"
    return [line.partition("/runs/")[2] for line in log_path.read_text().splitlines()] if log_path.exists() else []


def wait_for(condition: Callable[[], bool], *, limit_s: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It did not hold within the limit.
    """
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.02)
