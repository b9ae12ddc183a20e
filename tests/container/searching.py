"""Searches in the place without network, with and without the image, and checks of what they leave."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from containers.dev.offline import ROOT_DIR, OfflinePlace
from slurm.dev.daemons import wait_until
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore

PYTHON = sys.executable
WAIT_S = 400.0

PROFILE = """
site = "tests"
launcher = "{launcher}"
{worker}
[job]
memory_gb = 3
{job}
[local]
n_slots = 2
[slurm]
max_parallel = 2
poll_s = 1
{slurm}
[patience]
outcome_grace_s = 5
lease_stale_s = 60
heartbeat_s = 1
"""

ONE_TRIAL = """
name = "one"
profile = "profile.toml"
[task]
name = "tickets"
[data]
path = "{data_path}"
train_rows = 120
validation_rows = 60
test_rows = 60
[space]
models = ["minilm-l3"]
methods = ["full"]
[space.params.full]
learning_rate = [5e-4]
batch_size = [8]
gradient_accumulation_steps = [1]
early_stopping_patience = [100]
max_length = [32]
epochs = [{epochs}]
[search]
objectives = ["f1"]
population = 1
seed = 1
[budget]
trials = 1
[trial]
time_limit_min = 5
deterministic = true
[store]
path = "store"
"""
DISTURBED_EPOCHS, SEVERAL_EPOCHS = 10, 4
TWO_PROCESSES = "n_processes = 2\nn_cpus = 2"
TINY_PATH = ROOT_DIR / "examples" / "tiny.toml"
DATA_PATH = ROOT_DIR / "examples" / "data" / "tickets.jsonl"


def write_profile(folder: Path, image: Path | None, *, launcher: str = "slurm", slurm: str = "", job: str = "") -> Path:
    """Write a cluster profile, with the image or for the driver's own interpreter."""
    worker = f'worker_python = "{PYTHON}"' if image is None else ""
    section = "" if image is None else f'[container]\nimage = "{image}"\n'
    folder.mkdir(exist_ok=True, mode=0o777)
    folder.chmod(0o777)
    path = folder / "profile.toml"
    path.write_text(PROFILE.format(launcher=launcher, worker=worker, slurm=slurm, job=job) + section)
    return path


def write_one_trial(folder: Path, *, epochs: int) -> Path:
    """Write a search of a single trial beside its profile."""
    path = folder / "search.toml"
    path.write_text(ONE_TRIAL.format(data_path=DATA_PATH, epochs=epochs))
    return path


def search_command(search_path: Path, folder: Path, *more: str) -> list[str]:
    """Return the command that runs a search which writes all its files to one folder."""
    settings = {"profile": folder / "profile.toml", "store.path": folder / "store"}
    words = [word for key, value in settings.items() for word in ("--set", f'{key}="{value}"')]
    command = [PYTHON, "-m", "xautolm_hpc", "run", str(search_path), "--runs-dir", str(folder / "runs"), "--quiet"]
    return [*command, *words, *more]


def search(
    place: OfflinePlace,
    search_path: Path,
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    more: Sequence[str] = (),
) -> list[Experience]:
    """Run a search to its end and read what it stored."""
    command = search_command(search_path, folder, *more)
    done = place.run(*command, environ={"PYTHONPATH": str(ROOT_DIR), **(environ or {})})
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{words_of(folder)}"
    return experiences(folder)


def experiences(folder: Path) -> list[Experience]:
    """Read what a search stored, in the order of its attempts."""
    found = ExperienceStore(folder / "store").read()
    return sorted(found, key=lambda e: (e.provenance.trial, e.provenance.attempt, e.provenance.restart))


def words_of(folder: Path) -> str:
    """Collect the logs of workers and wrappers of a search, for the message of a failed test."""
    paths = [*folder.glob("runs/*/**/stderr"), *folder.glob("runs/*/**/exit-*.json")]
    return "\n".join(f"--- {path}\n{path.read_text()[-1500:]}" for path in sorted(paths) if path.stat().st_size)


def comparable(experience: Experience) -> tuple[object, ...]:
    """Return what must not depend on where a trial ran, numbers apart from the rest."""
    e = experience
    return (e.provenance.generation, e.provenance.trial, e.pipeline.canonical(), e.outcome.status, e.outcome.kind)


def left_behind(place: OfflinePlace) -> list[str]:
    """List processes of an image that are still there, and mounts of one."""
    marks = ("squashfuse", "Apptainer", "appinit", "xautolm_hpc.train", "xautolm_hpc.profile")
    processes = [line for line in place.processes() if any(mark in line for mark in marks)]
    return processes + [line for line in Path("/proc/mounts").read_text().splitlines() if "squashfuse" in line]


def is_clean(place: OfflinePlace) -> bool:
    """Wait until nothing of an image is left: a worker may end a moment after the driver has read its outcome."""
    return wait_until(lambda: not left_behind(place), timeout_s=120)


def last_step(attempt_dir: Path) -> int:
    """Read how many steps an attempt has done; 0 before it has begun."""
    steps = [json.loads(path.read_text())["step"] for path in attempt_dir.glob("heartbeat-*.json")]
    return max(steps, default=0)
