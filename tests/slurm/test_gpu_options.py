"""Every way to ask Slurm for GPUs, memory and partitions: `doctor` counts what Slurm gives.

The jobs have a /tmp of their own (job_container/tmpfs), and GPUs are accounted (AccountingStorageTRES).
"""

import getpass
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.plan import Ports
from slurm.dev.private import DevCluster
from tests.slurm.searching import ROOT_DIR
from tests.submit.jobs import make_attempt, submission_of
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.doctor import REQUEST_CHECKS, Site, check_job, cluster, examine, search_of_doctor
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import gpus_of_job, slurm_options
from xautolm_hpc.driver.setup import job_resources
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.submit.environment import wrapper_environment
from xautolm_hpc.submit.slurm_launcher import SlurmLauncher

pytestmark = pytest.mark.slurm

WAYS: Mapping[str, Mapping[str, Any]] = {
    "job.n_gpus": {},
    "gres with a type": {"gres": "gpu:h200:1"},
    "gres among the options": {"options": {"gres": "gpu:1"}},
    "gpus": {"options": {"gpus": 1}},
    "gpus with a type": {"options": {"gpus": "h200:1"}},
    "gpus-per-node": {"options": {"gpus-per-node": "h200:1"}},
    "gpus-per-task": {"options": {"gpus-per-task": 1}},
    "mem-per-gpu": {"options": {"gpus": 1, "mem-per-gpu": "600M"}},
    "mem-per-cpu": {"options": {"mem-per-cpu": "600M"}},
    "two partitions": {"partition": "preempt-cancel,gpu"},
}
WRITE_ENVIRONMENT = """
import json, os, sys
seen = {**os.environ, "in /tmp": " ".join(os.listdir("/tmp"))}
open(sys.argv[-1] + "/seen", "w").write(json.dumps(seen))
"""
WAIT_S = 300.0


class TypedCluster(DevCluster):
    """A private cluster whose GPUs have a type and whose jobs have a /tmp of their own."""

    def _configuration(self, ports: Ports) -> dict[str, str]:
        texts = super()._configuration(ports)
        container = "JobContainerType=job_container/tmpfs\nPrologFlags=Contain\n"
        texts["slurm.conf"] = texts["slurm.conf"].replace("Gres=gpu:", "Gres=gpu:h200:") + container
        texts["gres.conf"] = texts["gres.conf"].replace("Name=gpu ", "Name=gpu Type=h200 ")
        texts["job_container.conf"] = f"AutoBasePath=true\nBasePath={self.dir}/private-tmp\n"
        return texts


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder outside /tmp, which jobs do not share with us."""
    assert not ROOT_DIR.is_relative_to("/tmp"), f"the jobs have a /tmp of their own: put `{ROOT_DIR}` elsewhere"
    with tempfile.TemporaryDirectory(prefix="gpu-options-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def typed_cluster(folder: Path) -> Iterator[TypedCluster]:
    with TypedCluster(folder / "c", accounting=True, max_submit_jobs=100, min_job_age_s=300) as started:
        yield started


def profile_of(slurm: Mapping[str, Any]) -> ClusterProfile:
    job = {"n_gpus": 1, "memory_gb": 0.5}
    return ClusterProfile.model_validate({"launcher": "slurm", "worker_python": "python3", "job": job, "slurm": slurm})


@pytest.fixture(scope="module")
def seen(typed_cluster: TypedCluster, folder: Path) -> Mapping[str, tuple[dict[str, str], str]]:
    """Run a job for each way; return the worker's environment and what Slurm charged."""
    environ = {**typed_cluster.environ, "PATH": os.environ["PATH"]}
    started = {}
    for n, (name, slurm) in enumerate(WAYS.items()):
        profile, attempt_dir = profile_of(slurm), make_attempt(folder / f"a{n}", WRITE_ENVIRONMENT)
        launcher = SlurmLauncher(
            slurm_options(profile), since=time.time(), slurm=Slurm(environ), environment=wrapper_environment(environ)
        )
        resources = job_resources(search_of_doctor(10.0), profile)
        submission = submission_of(folder / f"s{n}", attempt_dir, resources=resources)
        started[name] = (attempt_dir / "seen", launcher.submit(submission)[attempt_dir])
    assert wait_until(lambda: all(path.exists() for path, _ in started.values()), timeout_s=WAIT_S), typed_cluster.run(
        "scontrol", "show", "job"
    )
    found = {}
    for name, (path, job_id) in started.items():
        tres = typed_cluster.run("sacct", "--noheader", "--parsable2", "-X", f"--jobs={job_id}", "--format=AllocTRES")
        found[name] = (json.loads(path.read_text()), tres)
    return found


@pytest.mark.parametrize("name", WAYS)
def test_doctor_counts_the_gpu_that_slurm_gives(
    name: str, typed_cluster: TypedCluster, seen: Mapping[str, tuple[dict[str, str], str]], tmp_path: Path
) -> None:
    profile = profile_of(WAYS[name])
    inputs = Inputs.of(search_of_doctor(10.0), profile, environ=typed_cluster.environ)

    findings = examine(Site.look(inputs, tmp_path), REQUEST_CHECKS)

    environ, tres = seen[name]
    assert [finding for finding in findings if finding.level != "ok"] == []
    assert gpus_of_job(profile) == int(environ["SLURM_GPUS_ON_NODE"]) == 1
    assert tmp_path.parts[:2] == ("/", "tmp")
    assert tmp_path.parts[2] not in environ["in /tmp"].split()
    assert "gres/gpu=1" in tres.split(",")
    if name.startswith("mem-per"):
        assert "mem=600M" in tres.split(",")
    else:
        assert "mem=512M" in tres.split(",")


def test_a_limit_on_gpus_holds_for_those_that_an_option_asks_for(typed_cluster: TypedCluster, tmp_path: Path) -> None:
    def limit(n_gpus: int) -> None:
        who = ("user", getpass.getuser(), "set", f"maxtresperjob=gres/gpu={n_gpus}")
        typed_cluster.run("sacctmgr", "--immediate", "modify", *who)

    inputs = Inputs.of(
        search_of_doctor(10.0), profile_of({"options": {"gpus": "h200:2"}}), environ=typed_cluster.environ
    )
    limit(1)
    try:
        (finding,) = cluster.check_account_limits(Site.look(inputs, tmp_path))
    finally:
        limit(-1)

    assert finding.level == "failure"
    assert "a job asks for 2 GPUs; association of" in finding.found
    assert "allows 1 for a job (MaxTRES)" in finding.found


def test_a_run_folder_below_a_tmp_that_jobs_do_not_share_is_reported_by_the_job_check(
    typed_cluster: TypedCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", typed_cluster.environ["SLURM_CONF"])
    profile = profile_of({"poll_s": 1.0}).model_copy(update={"driver_python": sys.executable})
    inputs = Inputs.of(search_of_doctor(10.0), profile, environ=typed_cluster.environ)

    (finding,) = check_job(Site.look(inputs, tmp_path), log=lambda line: None)

    assert (finding.check, finding.level) == ("run folder", "failure")
    assert f"`{tmp_path}` is not there on node" in finding.found
