"""Searches whose trials end as a pure function of their pipeline; everything else in them is real."""

import sys
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
generations = {generations}
[store]
path = "store"
"""

LOCAL = 'worker_python = "./worker"\n[local]\npoll_s = 0.1\n'

WORKER = """#!{python} -S
# Runs the profile job for real, or as in an earlier run, and ends a trial soon with an F1 made of its pipeline.
import hashlib, json, os, shutil, sys, time
python, log_path, trial_s, earlier_dir = {python!r}, {log_path!r}, {trial_s!r}, {earlier_dir!r}
if "batch" in sys.argv:
    os.execv(python, [python, {series!r}, sys.argv[-1]])
is_profile = "xautolm_hpc.profile" in sys.argv and earlier_dir is not None
if "trial" not in sys.argv and not is_profile:
    os.execv(python, [python, *sys.argv[1:]])
if is_profile:
    shutil.copytree(earlier_dir + "/data", json.load(open("profile.json"))["data_dir"], dirs_exist_ok=True)
    for name in ("profile-result.json", "outcome.json"):
        shutil.copy(earlier_dir + "/profile/attempt-0/" + name, name + ".aside")
        os.replace(name + ".aside", name)
    sys.exit(0)
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
job_id = os.environ.get("SLURM_ARRAY_JOB_ID", "local") + "_" + os.environ.get("SLURM_ARRAY_TASK_ID", "0")
log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(log, " ".join([sys.argv[-1], job_id, restart]).encode() + b"\\n")
began = time.time()
{prelude}
time.sleep(trial_s)
plan = json.load(open("pipeline.json"))
drawn = dict((name, value) for name, value in plan.items() if name not in ("at_limit", "foretell"))
share = int.from_bytes(hashlib.sha256((json.dumps(drawn, indent=1) + "\\n").encode()).digest()[:4], "big") / 2**32
outcome = dict(
    status="succeeded", metrics=dict(f1=round(share, 6)), load_s=1.0, train_s=10.0, eval_s=1.0,
    evaluation_time_s=11.0, time_scope="job", peak_rss_bytes=1024, n_steps=10, n_samples=160,
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

SERIES = """
# Runs the trials of a job as the real worker does, each as the stub that is named in its command; without its imports.
import os, runpy, sys
from pathlib import Path
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import COMMAND, READY
from xautolm_hpc.train.series.card_memory import CardMemory
from xautolm_hpc.train.series.warm import run_series
from xautolm_hpc.train.stop import StopFlag

folder = Path(sys.argv[1])
os.environ["WRAPPER_PID"] = str(os.getppid())
stop = StopFlag()
stop.install()
(folder / READY).touch()


def run_one(attempt_dir):
    sys.argv = [*read_json(attempt_dir / COMMAND)["argv"], str(attempt_dir)]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    return 0


sys.exit(run_series(folder, run_one, stop=stop, cards=CardMemory(list), prepare=lambda: None))
"""
"""A worker of several trials."""


WAIT_FOR_GO = """
print("trial begins", file=sys.stderr, flush=True)
beat = dict(at=began, phase="train", step=30, n_steps=100, train_s=1.0)
json.dump(beat, open("heartbeat.tmp", "w"))
os.replace("heartbeat.tmp", "heartbeat-0.json")
while not os.path.exists({go!r}):
    time.sleep(0.05)
"""
"""A worker's prelude: it reports progress until a file is there."""


def write_worker(folder: Path, *, trial_s: float = 0.0, earlier_dir: Path | None = None, prelude: str = "") -> None:
    """Write the interpreter of the jobs: it hands everything but trials to the real one.

    Args:
        folder: Its folder; the file is ``worker``, and it notes every trial in ``started.log``.
        trial_s: Seconds a trial takes.
        earlier_dir: Run folder of a search that ended, whose profile job is repeated without work.
        prelude: Python that a trial runs first.
    """
    path = folder / "worker"
    path.write_text(
        WORKER.format(
            python=sys.executable,
            log_path=str(folder / "started.log"),
            trial_s=trial_s,
            earlier_dir=None if earlier_dir is None else str(earlier_dir),
            prelude=prelude,
            series=str(folder / "series.py"),
        )
    )
    (folder / "series.py").write_text(SERIES)
    path.chmod(0o755)


def started(folder: Path) -> list[tuple[str, str, str]]:
    """List the trials that a worker started, one entry each time: attempt below ``runs``, job id, restart count."""
    log_path = folder / "started.log"
    lines = log_path.read_text().splitlines() if log_path.exists() else []
    return [(path.partition("/runs/")[2], job_id, restart) for path, job_id, restart in map(str.split, lines)]


def write_stub_search(
    folder: Path,
    *,
    profile: str = LOCAL,
    generations: int = 1,
    trial_s: float = 0.0,
    waits: bool = False,
    earlier_dir: Path | None = None,
) -> Path:
    """Write a search, its data, its worker and the profile that names it.

    Args:
        folder: Folder for all of it.
        profile: The cluster profile; its worker is ``./worker``.
        generations: Generations of the search.
        trial_s: Seconds a trial takes.
        waits: Whether trials wait until :func:`let_go`.
        earlier_dir: Run folder of a search of the same data that ended, whose profile job is repeated without work.

    Returns:
        The search file.
    """
    rows = "".join(f'{{"text": "words {n} of text", "label": "{"yes" if n % 3 else "no"}"}}\n' for n in range(120))
    (folder / "rows.jsonl").write_text(rows)
    prelude = WAIT_FOR_GO.format(go=str(folder / "go"))
    write_worker(folder, trial_s=trial_s, earlier_dir=earlier_dir, prelude=prelude)
    (folder / "site.toml").write_text(profile)
    (folder / "search.toml").write_text(SEARCH.format(generations=generations))
    if not waits:
        let_go(folder)
    return folder / "search.toml"


def let_go(folder: Path) -> None:
    """Let the trials end."""
    (folder / "go").touch()
