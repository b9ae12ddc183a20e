"""Private Slurm clusters for the tests: with accounts and memory limits, and bare, both for the whole session."""

from collections.abc import Iterator

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import StubSearch, local_environ

SMALL_ARRAY = 11
MAX_SUBMIT_JOBS = 12


@pytest.fixture(scope="session")
def _accounting_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    cluster = DevCluster(
        tmp_path_factory.mktemp("accounts"),
        accounting=True,
        cgroup=True,
        min_job_age_s=300,
        max_submit_jobs=MAX_SUBMIT_JOBS,
    )
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def _bare_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    with DevCluster(tmp_path_factory.mktemp("bare"), max_array_size=SMALL_ARRAY, kill_wait_s=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def local_search(tmp_path_factory: pytest.TempPathFactory) -> StubSearch:
    """A small search with the local launcher: what the others are held against."""
    return StubSearch(tmp_path_factory.mktemp("local"), launcher="local").run(local_environ())


@pytest.fixture
def accounting_cluster(_accounting_session: DevCluster) -> Iterator[DevCluster]:
    """Two nodes with two GPUs each, accounts, at most 12 jobs in the queue, memory limits where the machine has any."""
    yield _accounting_session
    _cancel_all(_accounting_session)


@pytest.fixture
def bare_cluster(_bare_session: DevCluster) -> Iterator[DevCluster]:
    """Two nodes with two GPUs each, no accounts, arrays of at most 11, jobs forgotten soon."""
    yield _bare_session
    _cancel_all(_bare_session)


def _cancel_all(cluster: DevCluster) -> None:
    """Leave no job to the next test, not even one that is still ending."""

    def job_ids() -> list[str]:
        return cluster.run("squeue", "--noheader", "--format=%i").split()

    if left := job_ids():
        cluster.run("scancel", *left, check=False)  # some may have ended by now
    assert wait_until(lambda: not job_ids(), timeout_s=120), cluster.run("squeue")
