"""``plan``, ``doctor`` and ``run``'s first look on a real Slurm: what is wrong is said before anything is submitted."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm.dev.private import DevCluster
from tests.stub_search import write_stub_search
from xautolm_hpc import cli
from xautolm_hpc.doctor.passed import FILE_NAME, START
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import PIPELINE

pytestmark = pytest.mark.slurm

PROFILE = """
site = "private"
cluster = "dev"
launcher = "slurm"
worker_python = "{worker}"
[job]
memory_gb = 2
[slurm]
partition = "gpu"
poll_s = 1
[patience]
outcome_grace_s = 5
[system]
n_gpus = 0
"""

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    bare_cluster: DevCluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Give the command line against the private cluster: exit status, what was printed, what was complained."""
    monkeypatch.setenv("SLURM_CONF", bare_cluster.environ["SLURM_CONF"])

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "--runs-dir", str(tmp_path / "runs")])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """Give a search whose profile fits the private cluster."""
    return write_stub_search(tmp_path, profile=PROFILE.format(worker="./worker"))


def jobs_of(cluster: DevCluster) -> list[str]:
    """List every job the controller remembers; those that ended are forgotten after a while."""
    return cluster.run("squeue", "--noheader", "--states=all", "--format=%i").split()


def edit(path: Path, old: str, *, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_run_submits_the_scripts_and_draws_the_pipelines_of_its_plan(
    command: Command, search: Path, tmp_path: Path, bare_cluster: DevCluster
) -> None:
    before = jobs_of(bare_cluster)
    status, planned, _ = command("plan", str(search), "--json")
    plan = json.loads(planned)
    assert (status, set(jobs_of(bare_cluster)) - set(before), (tmp_path / "runs").exists()) == (0, set(), False)
    assert all(re.match(r"Job \d+ to start at", array["said"]) for array in plan["arrays"])

    assert command("run", str(search), "--quiet")[0] == 0

    run_dir = tmp_path / "runs" / "stub"
    lines = [json.loads(line) for line in (run_dir / "ledger.jsonl").read_text().splitlines()]
    job_id = next(line["jobs"]["0/0"] for line in lines if line["event"] == "submitted" and line["jobs"])
    submitted = bare_cluster.run("scontrol", "write", "batch_script", job_id.partition("_")[0], "-")
    run_id = read_json(run_dir / "run.json")["run_id"]
    assert plan["arrays"][1]["script"].replace("00000000", run_id[:8]).strip() == submitted
    drawn = [read_json(path) for path in sorted(run_dir.glob(f"gen-000/trial-*/*/{PIPELINE}"))]
    assert [{k: v for k, v in trial.items() if k != "trial"} for trial in plan["trials"]] == drawn
    passed = [key for key in read_json(tmp_path / "runs" / FILE_NAME) if not key.startswith(START.format(""))]
    assert len(passed) == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"gpu"', '"gpus"', r"partition: there is no partition 'gpus'. Remedy: .* gpu, preempt-cancel"),
        ('"gpu"', '"gpu"\ngres = "gpu:h100:1"', r"GPUs: a job asks for gpu:h100:1, nodes .* have gpu:2. Remedy: set"),
        ("memory_gb = 2", "memory_gb = 200", r"node size: .* nodes have 16 cores with 6\d GiB. Remedy: lower"),
        ('"gpu"', '"gpu"\nreservation = "none"', r"sbatch: .*reservation is invalid. Remedy: see"),
        ("poll_s = 1", "pol_s = 1", r"unknown key `slurm.pol_s`; valid here: account, partition"),
        ("poll_s = 1", "poll_s = 0", r"`slurm.poll_s` = 0"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_before_anything_is_submitted(
    command: Command, search: Path, bare_cluster: DevCluster, *, old: str, new: str, said: str
) -> None:
    edit(search.parent / "site.toml", old, new=new)
    before = jobs_of(bare_cluster)

    status, _, complaint = command("run", str(search))

    assert status == 2
    assert re.search(said, complaint), complaint
    assert set(jobs_of(bare_cluster)) <= set(before)
    assert not (search.parent / "runs").exists()


def test_a_trial_longer_than_the_partition_allows_is_refused(
    command: Command, search: Path, bare_cluster: DevCluster
) -> None:
    edit(search.parent / "site.toml", '"gpu"', new='"urgent"')
    bare_cluster.run("scontrol", "update", "partitionname=urgent", "maxtime=30")
    try:
        status, _, complaint = command("run", str(search), "--set", "trial.time_limit_min=50")
    finally:
        bare_cluster.run("scontrol", "update", "partitionname=urgent", "maxtime=infinite")

    assert status == 2  # sbatch itself would take it and let it wait for ever
    assert "a job asks for 60 min, partition 'urgent' allows 30 min. Remedy: lower trial.time_limit_min" in complaint


def test_a_plan_that_slurm_refuses_says_so_with_status_4(command: Command, search: Path) -> None:
    edit(search.parent / "site.toml", '"gpu"', new='"gpu"\nqos = "none"\nreservation = "none"')

    status, printed, _ = command("plan", str(search))

    words = " ".join(printed.split())
    assert status == 4
    assert "sbatch --test-only: allocation failure: Requested reservation is invalid" in words
    assert "#SBATCH --reservation=none" in words


def test_without_sbatch_a_search_says_where_to_work(
    command: Command, search: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))

    complaints = [command(verb, str(search))[::2] for verb in ("run", "plan")]

    assert [status for status, _ in complaints] == [2, 2]
    assert "no sbatch, squeue, scancel, scontrol, sinfo on PATH. Remedy: work on a login node" in complaints[0][1]
    assert "on PATH; work on a login node of the cluster" in complaints[1][1]


def test_doctor_finds_a_fitting_profile_fit_and_its_job_takes_a_training_step(
    command: Command, search: Path, tmp_path: Path
) -> None:
    status, printed, _ = command("doctor", str(search.parent / "site.toml"), "--job", "--json")

    rows = {row["check"]: row for row in json.loads(printed)}
    assert status == 4  # of the one warning
    assert [name for name, row in rows.items() if row["level"] != "ok"] == ["accounting"]
    assert {"Slurm", "MinJobAge", "MaxArraySize", "partition", "GPUs", "sbatch", "free space"} <= set(rows)
    assert re.match(r"ran on node n[12], which sees the run folder and the interpreters", rows["job check"]["found"])
    assert "torch 2." in rows["worker's imports"]["found"]
    assert re.search(r"on cpu: loss 0\.\d+ after", rows["training step"]["found"])
    assert re.match(r"imports \d+\.\d s; forked", rows["start-up of a trial"]["found"])
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".job-checks.json"]  # how long a worker starts


def run_apart(cluster: DevCluster, folder: Path, *arguments: str, size: str) -> subprocess.CompletedProcess[str]:
    """Run the command line where a folder ``here`` is a small file system that only it sees."""
    (folder / "here").mkdir()
    mount = f"mount -t tmpfs -o size={size} tmpfs {folder / 'here'}"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root")
    script = f'{mount} && ln -s {folder / "worker"} {folder / "here" / "worker"} && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "xautolm_hpc", *arguments],
        env=cluster.environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_full_disk_under_the_run_folder_is_found_out_before_a_search_begins(
    bare_cluster: DevCluster, search: Path
) -> None:
    before, runs_dir = jobs_of(bare_cluster), str(search.parent / "here")

    ended = run_apart(bare_cluster, search.parent, "run", str(search), "--runs-dir", runs_dir, size="2m")

    assert ended.returncode == 2, ended.stdout
    assert "free space: 0.0 GiB free. Remedy: make room, or give another folder with --runs-dir" in ended.stderr
    assert set(jobs_of(bare_cluster)) <= set(before)


def test_an_interpreter_that_nodes_do_not_see_is_found_out_by_one_short_job(
    bare_cluster: DevCluster, search: Path
) -> None:
    edit(search.parent / "site.toml", "./worker", new="here/worker")
    runs_dir = search.parent / "runs"

    ended = run_apart(bare_cluster, search.parent, "run", str(search), "--runs-dir", str(runs_dir), size="2m")

    assert ended.returncode == 1, ended.stdout
    said = r"worker_python: `.*/here/worker` cannot be run on node n\d. Remedy: .* file system that the nodes share"
    assert re.search(said, ended.stderr), ended.stderr
    assert not runs_dir.exists()


def test_a_run_folder_that_nodes_do_not_see_is_found_out_by_one_short_job(
    bare_cluster: DevCluster, search: Path
) -> None:
    runs_dir = str(search.parent / "here")

    ended = run_apart(bare_cluster, search.parent, "run", str(search), "--runs-dir", runs_dir, size="100m")

    assert ended.returncode == 1, ended.stdout
    said = r"run folder: `.*/here` is not there on node n\d. Remedy: .* file system that the nodes share"
    assert re.search(said, ended.stderr), ended.stderr
