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
from tests.nouns import succeeded
from tests.stub_search import started, write_worker
from xautolm_hpc.records import to_json

ROOT_DIR = Path(__file__).resolve().parents[2]
DATA_PATH = ROOT_DIR / "examples" / "data" / "tickets.jsonl"
WAIT_S = 240.0

STUB_OUTCOME = json.dumps(to_json(end_with(succeeded())))
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
[job]
trials_per_job = {trials_per_job}
{job}
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
        trials_per_job: Trials that a job runs.
        job: Further lines of the profile's ``[job]``.
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
    trials_per_job: int = 1
    job: str = ""

    def __post_init__(self) -> None:
        search = SEARCH.format(data_path=DATA_PATH, population=self.population, generations=self.generations)
        profile = PROFILE.format(
            launcher=self.launcher,
            folder=self.folder,
            slurm=self.slurm,
            more=self.profile,
            trials_per_job=self.trials_per_job,
            job=self.job,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        earlier_dir = None if self.earlier is None else self.earlier.run_dir
        write_worker(self.folder, trial_s=self.sleep_s, earlier_dir=earlier_dir, prelude=self.prelude)
        (self.folder / "search.toml").write_text(search)
        (self.folder / "profile.toml").write_text(profile)

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
        return [(path.removeprefix("stub/"), job_id, restart) for path, job_id, restart in started(self.folder)]

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
