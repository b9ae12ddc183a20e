"""``init --profile`` on a real Slurm: what it writes passes ``doctor``, with the limits that the cluster has."""

import tomllib
from pathlib import Path

import pytest

from slurm.dev.private import ACCOUNT, DevCluster
from tests.slurm.conftest import MAX_SUBMIT_JOBS
from xautolm_hpc import cli
from xautolm_hpc.config import load_profile

pytestmark = pytest.mark.slurm


def test_a_profile_holds_account_partition_and_limits(
    accounting_cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", accounting_cluster.environ["SLURM_CONF"])
    monkeypatch.chdir(tmp_path)

    status = cli.main(["init", "--profile"])

    printed = capsys.readouterr().out
    profile = load_profile(tmp_path / "cluster.toml")
    assert status == 0
    assert (profile.launcher, profile.slurm.account, profile.slurm.partition) == ("slurm", ACCOUNT, "gpu")
    assert profile.slurm.max_queued == MAX_SUBMIT_JOBS
    assert 'account = "dev"    # change: one of dev, root' in (tmp_path / "cluster.toml").read_text()
    assert profile.slurm.gres == "gpu:1"
    assert (profile.job.n_gpus, profile.system.n_gpus) == (1, 2)
    assert "partition gpu: 2 nodes" in printed


def test_doctor_finds_no_fault_of_slurm_with_it(
    bare_cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", bare_cluster.environ["SLURM_CONF"])
    monkeypatch.chdir(tmp_path)
    cli.main(["init", "--profile"])
    assert "sacctmgr does not answer" in capsys.readouterr().out

    cli.main(["doctor", "cluster.toml"])

    rows = capsys.readouterr().out
    assert "a job asks for gpu:1, nodes have gpu:2" in rows
    assert "a job asks for 8 cores" in rows
    assert "account" not in tomllib.loads((tmp_path / "cluster.toml").read_text())["slurm"]
