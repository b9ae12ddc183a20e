"""Whole searches on a private Slurm: trials end as a pure function of their pipeline, everything else is real."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Self

from tests.driving import projection
from tests.fakes import end_with
from xautolm_hpc.records import Outcome, to_json

ROOT_DIR = Path(__file__).resolve().parents[2]
DATA_PATH = ROOT_DIR / "examples" / "data" / "tickets.jsonl"
WAIT_S = 240.0

STUB_WORKER = """#!{python} -S
# Runs the profile job for real, or as in an earlier run, and ends a trial at once with an F1 made of its pipeline.
import hashlib, json, os, shutil, sys, time
python, log_path, sleep_s, earlier_dir = {python!r}, {log_path!r}, {sleep_s!r}, {earlier_dir!r}
if "xautolm_hpc.train" not in sys.argv and earlier_dir is None:
    os.execv(python, [python, *sys.argv[1:]])
if "xautolm_hpc.train" not in sys.argv:
    shutil.copytree(earlier_dir + "/data", json.load(open("profile.json"))["data_dir"], dirs_exist_ok=True)
    for name in ("profile-result.json", "outcome.json"):
        shutil.copy(earlier_dir + "/profile/attempt-0/" + name, name + ".aside")
        os.replace(name + ".aside", name)
    sys.exit(0)
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
job_id = os.environ.get("SLURM_ARRAY_JOB_ID", "local") + "_" + os.environ.get("SLURM_ARRAY_TASK_ID", "0")
log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(log, " ".join([sys.argv[-1], job_id, restart]).encode() + b"\\n")
began = time.time()
{prelude}
time.sleep(sleep_s)
share = int.from_bytes(hashlib.sha256(open("pipeline.json", "rb").read()).digest()[:4], "big") / 2**32
outcome = dict(
    status="succeeded", metrics=dict(f1=round(share, 6)), load_s=1.0, train_s=10.0, eval_s=1.0,
    evaluation_time_s=11.0, retry_s=None, queue_s=None, time_scope="job", gpu_energy_j=None, cpu_energy_j=None,
    energy_source="none", energy_scope="none", peak_gpu_memory_bytes=None, peak_rss_bytes=1024, n_steps=10,
    n_samples=160, curve=[], kind=None, origin=None, message=None,
)
if share < 0.2:
    outcome.update(status="failed", metrics=dict(), kind="diverged", origin="pipeline", message="the loss is nan")
end = dict(
    outcome=outcome, system=None, restart=int(restart), started_at=began, ended_at=time.time(),
    node=os.environ.get("SLURMD_NODENAME"), lock_hash=None, image_digest=None, package_version="stub",
)
aside = "outcome." + restart
with open(aside, "w") as file:
    json.dump(end, file)
try:
    os.link(aside, "outcome.json")
except FileExistsError:
    pass
os.unlink(aside)
"""

STUB_OUTCOME = json.dumps(to_json(end_with(Outcome(status="succeeded", metrics={"f1": 0.5}))))
"""The outcome of a worker that has none of its own."""

SEARCH = """
name = "stub"
profile = "profile.toml"
[task]
name = "tickets"
[data]
path = "{data_path}"
train_rows = 60
validation_rows = 30
test_rows = 30
[space]
models = ["minilm-l1", "minilm-l2", "minilm-l3", "minilm-l6"]
[search]
objectives = ["f1"]
population = {population}
seed = 7
[budget]
generations = {generations}
[trial]
time_limit_min = 5
[store]
path = "store"
"""

PROFILE = """
launcher = "{launcher}"
worker_python = "{folder}/worker"
{more}
[local]
poll_s = 0.2
[slurm]
poll_s = 1
{slurm}
[patience]
outcome_grace_s = 5
lease_stale_s = 60
"""


@dataclass(frozen=True)
class StubSearch:
    """A search in a folder of its own whose trials end at once.

    Attributes:
        folder: The folder; made if it is not there.
        launcher: ``slurm`` or ``local``.
        population: Trials of a generation.
        generations: Generations.
        sleep_s: Seconds a trial takes.
        slurm: Further lines of the profile's ``[slurm]``.
        earlier: A search that ended, whose profile job is repeated without work.
        profile: Further lines of the profile, before its sections.
        prelude: Python that a trial runs first.
    """

    folder: Path
    _: KW_ONLY
    launcher: str = "slurm"
    population: int = 4
    generations: int = 2
    sleep_s: float = 0.0
    slurm: str = ""
    earlier: "StubSearch | None" = None
    profile: str = ""
    prelude: str = ""

    def __post_init__(self) -> None:
        worker = STUB_WORKER.format(
            python=sys.executable,
            log_path=str(self.log_path),
            sleep_s=self.sleep_s,
            prelude=self.prelude,
            earlier_dir=None if self.earlier is None else str(self.earlier.run_dir),
        )
        search = SEARCH.format(data_path=DATA_PATH, population=self.population, generations=self.generations)
        profile = PROFILE.format(launcher=self.launcher, folder=self.folder, slurm=self.slurm, more=self.profile)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in {"worker": worker, "search.toml": search, "profile.toml": profile}.items():
            (self.folder / name).write_text(text)
        (self.folder / "worker").chmod(0o755)

    @property
    def log_path(self) -> Path:
        """Where every worker says that it started."""
        return self.folder / "started.log"

    @property
    def run_dir(self) -> Path:
        """The run folder."""
        return self.folder / "runs" / "stub"

    @property
    def command(self) -> list[str]:
        """The command line that runs the search, or goes on with it."""
        return run_command(self.folder / "search.toml", self.folder / "runs")

    def run(self, environ: Mapping[str, str]) -> Self:
        """Run the search to its end; what it says is shown if it fails."""
        run_checked(self.command, environ)
        return self

    def projection(self) -> list[tuple[object, ...]]:
        """List what must be equal between two runs."""
        return projection(self.folder)

    def started(self) -> list[tuple[str, str, str]]:
        """List the workers that were started: attempt below the run folder, job id, restart count."""
        text = self.log_path.read_text() if self.log_path.exists() else ""
        lines = [line.split() for line in text.splitlines()]
        return [(str(Path(path).relative_to(self.run_dir)), job_id, restart) for path, job_id, restart in lines]

    def ledger(self) -> list[dict[str, Any]]:
        """Read the run's ledger."""
        return [json.loads(line) for line in (self.run_dir / "ledger.jsonl").read_text().splitlines()]


def run_command(search_path: Path, runs_dir: Path, *more: str) -> list[str]:
    """Give the command line that runs a search."""
    argv = [sys.executable, "-m", "xautolm_hpc", "run", str(search_path), "--runs-dir", str(runs_dir), "--quiet"]
    return [*argv, "--skip-job-check", *more]


def run_checked(command: list[str], environ: Mapping[str, str]) -> str:
    """Run a command to its end; gives what it said.

    Raises:
        AssertionError: Its status is not 0.
    """
    completed = subprocess.run(
        command,
        env={**environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        cwd=ROOT_DIR,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    if completed.returncode != 0:
        raise AssertionError(f"{command} ended with status {completed.returncode}:\n{completed.stdout}")
    return completed.stdout


def local_environ() -> dict[str, str]:
    """Give an environment without any Slurm."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
