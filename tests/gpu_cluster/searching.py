"""Searches with real trials on a cluster with GPUs; each worker notes what it was granted before it begins."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from slurm.dev.private import DevCluster
from tests.slurm.searching import DATA_PATH, run_checked, run_command
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import Claim, claim_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import from_json
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History, read_history

SEARCH = """
name = "cards"
profile = "profile.toml"
[task]
name = "tickets"
[data]
path = "{data}"
train_rows = {rows}
validation_rows = 60
test_rows = 60
[space]
models = ["minilm-l1"]
methods = ["full"]
[space.params.full]
learning_rate = {{ low = 2e-4, high = 1e-3, log = true }}
batch_size = [{batch_size}]
gradient_accumulation_steps = [1]
max_length = [64]
epochs = [{epochs}]
early_stopping_patience = [{epochs}]
[search]
objectives = ["f1"]
population = {population}
seed = 3
[budget]
generations = 1
[trial]
time_limit_min = 5
[store]
path = "store"
"""

UNTIL_ALL_RUN = "until [ -e all-run ]; do sleep 0.2; done"
"""Lets a job go on until :func:`let_all_end`, so that no other one can be granted its card."""

PROFILE = """
launcher = "slurm"
{worker}
[job]
n_cpus = 2
n_gpus = {n_gpus}
memory_gb = 6
trials_per_job = {trials_per_job}
[slurm]
poll_s = 1
{slurm}
[patience]
outcome_grace_s = 5
heartbeat_s = 0.5
[environment]
allow = ["PYTHONPATH", "HF_HUB_OFFLINE"]
{container}
"""

WORKER = """#!{python}
# The real worker; first it notes what it runs and what it was granted.
import json, os, sys
names = ("CUDA_VISIBLE_DEVICES", "SLURM_RESTART_COUNT")
if "xautolm_hpc.train" in sys.argv:
    line = json.dumps([sys.argv[-1], *(os.environ.get(name, "") for name in names)]) + "\\n"
    log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(log, line.encode())
{prelude}
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def let_all_end(cluster: DevCluster, job_ids: Sequence[str]) -> None:
    """Let jobs end that wait for it, once all of them run at the same time."""
    for job_id in job_ids:
        cluster.wait_for_job(job_id, "RUNNING", timeout_s=120)
    (cluster.dir / "all-run").touch()


@dataclass(frozen=True)
class Started:
    """A worker that was started: the folder it runs, and what Slurm granted it."""

    folder: str
    devices: str
    restart: str

    @property
    def claim(self) -> Claim:
        """The claim of its job, with job id and node."""
        path = claim_path(Path(self.folder), int(self.restart or 0))
        return from_json(Claim, read_json(path), where=str(path))


@dataclass(frozen=True)
class CardSearch:
    """A search in a folder of its own, with GPUs where the machine has any.

    Attributes:
        folder: The folder; made if it is not there.
        population: Trials; there is one generation.
        trials_per_job: Trials that a job runs.
        epochs: Epochs of a trial.
        rows: Rows to train on.
        batch_size: Rows of a batch.
        slurm: Further lines of the profile's ``[slurm]``.
        prelude: Python that a worker runs first.
        data: The data.
        container: The profile's ``[container]``, if workers run in an image; then they note nothing.
    """

    folder: Path
    _: KW_ONLY
    population: int = 4
    trials_per_job: int = 1
    epochs: int = 4
    rows: int = 120
    batch_size: int = 8
    slurm: str = ""
    prelude: str = ""
    data: Path = DATA_PATH
    container: str = ""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        n_gpus = 1 if list_gpus(None)[0] else 0
        slurm = self.slurm if n_gpus else f'gres = "gpu:1"\n{self.slurm}'
        worker = "" if self.container else f'worker_python = "{self.folder}/worker"'
        values = {**vars(self), "n_gpus": n_gpus, "slurm": slurm, "worker": worker}
        (self.folder / "search.toml").write_text(SEARCH.format(**values))
        (self.folder / "profile.toml").write_text(PROFILE.format(**values))
        text = WORKER.format(python=sys.executable, log=str(self.folder / "started.log"), prelude=self.prelude)
        (self.folder / "worker").write_text(text)
        (self.folder / "worker").chmod(0o755)

    @property
    def command(self) -> list[str]:
        """The command line that runs the search, or goes on with it."""
        return run_command(self.folder / "search.toml", self.folder / "runs", "--final", "none")

    @property
    def attempt_dir(self) -> Path:
        """The first attempt of the first trial."""
        return self.folder / "runs" / "cards" / "gen-000" / "trial-000" / "attempt-0"

    def run(self, environ: Mapping[str, str]) -> History:
        """Run the search to its end, or go on with it, and read what happened."""
        run_checked(self.command, {**environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
        return self.history()

    def history(self) -> History:
        """Read what happened so far."""
        return read_history(RunDir(self.folder / "runs" / "cards"))

    def started(self) -> list[Started]:
        """List the workers that were started, each trial alone or all of a job."""
        path = self.folder / "started.log"
        return [Started(*json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
