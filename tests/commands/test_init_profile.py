"""``init --profile`` where Slurm answered once, recorded, and where there is none."""

import os
import tomllib
from pathlib import Path

import pytest

from xautolm_hpc import cli
from xautolm_hpc.commands.init_profile import profile_text
from xautolm_hpc.config import load_profile

SINFO = """\
cpu*|up|3-00:00:00|120|128|515000|(null)
gpu|up|2-00:00:00|24|64|515000|gpu:a100:4(S:0-3),lscratch:800
gpu-old|down|2-00:00:00|60|40|192000|gpu:v100:4
"""
SETTINGS = "Configuration data as of 2026-05-04T10:11:12\nClusterName             = helios\nMaxArraySize = 1001\n"
ASSOCIATIONS = "nlp-grp||normal,long|40|200\nteaching|cpu|normal||\n"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which Slurm's commands say what a cluster said."""
    said = {"sinfo": SINFO, "scontrol": SETTINGS, "sacctmgr": ASSOCIATIONS, "squeue": "", "sbatch": "", "scancel": ""}
    for name, text in said.items():
        (tmp_path / f"{name}.txt").write_text(text)
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\ncat '{tmp_path}/{name}.txt'\n")
        path.chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/a"}


def test_the_partition_with_most_gpus_that_takes_jobs_is_taken(environ: dict[str, str], tmp_path: Path) -> None:
    text, notes = profile_text(environ)

    (tmp_path / "cluster.toml").write_text(text)
    profile = load_profile(tmp_path / "cluster.toml")
    assert (profile.site, profile.cluster, profile.launcher) == ("helios", "helios", "slurm")
    assert (profile.slurm.account, profile.slurm.partition, profile.slurm.gres) == ("nlp-grp", "gpu", "gpu:a100:1")
    assert (profile.slurm.max_parallel, profile.slurm.max_queued) == (16, 200)
    assert (profile.job.n_cpus, profile.job.n_gpus, profile.job.memory_gb) == (8, 1, 64)
    assert (profile.system.n_gpus, profile.system.gpu_memory_gb, profile.system.ram_gb) == (4, 40, 502)
    assert profile.hf_home == "/home/a/.cache/huggingface"
    assert notes[0] == "partition gpu: 24 nodes with 64 cores, 502 GiB, 4 GPUs; jobs of up to 2-00:00:00"
    assert notes[1] == "others: cpu, gpu-old"
    assert '# qos = "normal"    # change: one of normal, long' in text


def test_without_gpus_a_trial_gets_a_share_of_the_default_partition(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sinfo.txt").write_text("small|up|1:00:00|4|8|16000|(null)\nmain*|up|infinite|4|16|64000|(null)\n")

    profile = tomllib.loads(profile_text(environ)[0])

    assert profile["slurm"]["partition"] == "main"
    assert "gres" not in profile["slurm"]
    assert profile["job"] == {"n_cpus": 4, "n_gpus": 0, "memory_gb": 14}
    assert profile["system"] == {"n_cpu_cores": 16, "ram_gb": 62, "n_gpus": 0}


def test_without_slurm_it_is_a_profile_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))

    status = cli.main(["init", "--profile", "--to", "here.toml"])

    profile = load_profile(tmp_path / "here.toml")
    n_cores = len(os.sched_getaffinity(0))
    assert status == 0
    assert profile.launcher == "local"
    assert profile.local.n_slots * profile.job.n_cpus <= n_cores or profile.job.n_gpus


def test_an_existing_profile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster.toml").write_text("mine")

    assert cli.main(["init", "--profile"]) == 2
    assert (tmp_path / "cluster.toml").read_text() == "mine"
    assert "`cluster.toml` exists; --force overwrites it" in capsys.readouterr().err
