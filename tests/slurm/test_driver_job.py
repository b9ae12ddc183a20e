"""The driver as a job that hands the search on to its successor before its time is over."""

import re
import sys
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.test_commands_run import PROFILE
from tests.stub_search import let_go, write_stub_search
from xautolm_hpc.store import ExperienceStore

pytestmark = pytest.mark.slurm

DRIVER_PATH = Path(__file__).resolve().parents[2] / "slurm" / "driver.sbatch"
WAIT_S = 300.0


def submit_driver(cluster: DevCluster, folder: Path, *options: str) -> str:
    """Submit the driver job in a folder, as a person with the environment activated does."""
    arguments = [str(folder / "search.toml"), "--runs-dir", str(folder / "runs"), "--skip-job-check"]
    return cluster.run(
        "env", f"XAUTOLM_HPC={Path(sys.executable).parent / 'xautolm-hpc'}",
        "sbatch", "--parsable", f"--chdir={folder}", "--job-name=xa-stub", *options, str(DRIVER_PATH), *arguments,
    )  # fmt: skip


def jobs(cluster: DevCluster, fields: str) -> list[str]:
    return cluster.run("squeue", "--noheader", "--name=xa-stub", f"--format={fields}").splitlines()


def test_a_driver_job_hands_the_search_on_and_the_last_one_ends_the_chain(
    bare_cluster: DevCluster, tmp_path: Path
) -> None:
    write_stub_search(tmp_path, profile=PROFILE, waits=True)
    log_path = tmp_path / "xa-stub.log"

    first = submit_driver(bare_cluster, tmp_path, "--time=3", "--signal=B:USR1@150")
    assert wait_until(lambda: log_path.exists() and "goes on" in log_path.read_text(), timeout_s=WAIT_S), log_path
    queued = [line.split() for line in jobs(bare_cluster, "%i %j %P %l")]
    let_go(tmp_path)
    assert wait_until(lambda: not jobs(bare_cluster, "%i"), timeout_s=WAIT_S, poll_s=0.5), jobs(
        bare_cluster, "%i %T %r"
    )

    log = log_path.read_text()
    successor = next(fields for fields in queued if fields[0] != first)
    second = successor[0]
    assert f"driver job {first}: time is nearly over; job {second} goes on" in log
    assert successor == [second, "xa-stub", "gpu", "3:00"]
    assert f"driver job {first}: let go of the search" in log
    handed = re.findall(r"driver job (\d+): time is nearly over; job (\d+) goes on\n", log)
    assert [before for before, _ in handed] == [first, *(after for _, after in handed[:-1])]
    assert re.findall(r"driver job (\d+): the search ended with status (\d+)\n", log) == [(handed[-1][1], "0")]
    trials = sorted(e.provenance.trial for e in ExperienceStore(tmp_path / "store").read())
    assert trials == [0, 1, 2, 3]


def test_a_driver_job_that_cannot_begin_ends_with_its_status_and_no_successor(
    bare_cluster: DevCluster, tmp_path: Path
) -> None:
    write_stub_search(tmp_path, profile=PROFILE.replace("max_parallel", "max_paralel"))
    log_path = tmp_path / "xa-stub.log"

    submit_driver(bare_cluster, tmp_path, "--time=3")

    assert wait_until(lambda: log_path.exists() and "ended with status" in log_path.read_text(), timeout_s=WAIT_S)
    assert "unknown key `slurm.max_paralel`" in log_path.read_text()
    assert "the search ended with status 2" in log_path.read_text()
    assert wait_until(lambda: not jobs(bare_cluster, "%i"), timeout_s=WAIT_S)
