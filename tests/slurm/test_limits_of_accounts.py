"""What `doctor` and `run` say of limits that a real Slurm would hold every job back for."""

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.dev.private import DevCluster
from tests.slurm.test_commands import PROFILE
from tests.stub_search import write_stub_search
from xautolm_hpc import cli

pytestmark = pytest.mark.slurm


@pytest.fixture
def small_account(accounting_cluster: DevCluster) -> Iterator[DevCluster]:
    """Build a cluster on which a job of this user may have one core."""

    def limit(n_cpus: int) -> None:
        who = ("user", getpass.getuser(), "set", f"maxtresperjob=cpu={n_cpus}")
        accounting_cluster.run("sacctmgr", "--immediate", "modify", *who)

    limit(1)
    yield accounting_cluster
    limit(-1)


@pytest.mark.parametrize("verb", ["doctor", "run"])
def test_a_limit_of_the_account_is_named_with_the_key_before_anything_is_submitted(
    verb: str,
    small_account: DevCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_CONF", small_account.environ["SLURM_CONF"])
    profile = PROFILE.format(worker="./worker").replace("[job]\n", "[job]\nn_cpus = 2\n")
    search = write_stub_search(tmp_path, profile=profile)
    named = tmp_path / "site.toml" if verb == "doctor" else search

    status = cli.main([verb, str(named), "--runs-dir", str(tmp_path / "runs")])

    said = capsys.readouterr()
    words = " ".join((said.out + said.err).split())
    assert status != 0
    assert "a job asks for 2 cores; association of" in words
    assert "allows 1 for a job (MaxTRES)" in words
    assert "lower job.n_cpus" in words
    assert small_account.run("squeue", "--noheader") == ""


def test_a_cluster_without_accounts_has_limits_that_are_not_known(
    bare_cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_CONF", bare_cluster.environ["SLURM_CONF"])
    write_stub_search(tmp_path, profile=PROFILE.format(worker="./worker"))

    cli.main(["doctor", str(tmp_path / "site.toml"), "--runs-dir", str(tmp_path / "runs")])

    assert "not known: sacctmgr does not answer" in " ".join(capsys.readouterr().out.split())
