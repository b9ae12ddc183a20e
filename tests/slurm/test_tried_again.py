"""Attempts that end by no fault of their pipeline are made again, and nothing of them counts twice."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import ROOT_DIR, StubSearch

pytestmark = pytest.mark.slurm

WAIT_S = 300.0
DIES_ON_N1 = 'if os.environ["SLURM_JOB_NODELIST"] == "n1": os.kill(os.getpid(), 9)'
TAKES_1300_MIB = "held = bytearray(1300 << 20)"
STANDS_STILL = 'while os.environ["SLURM_JOB_NODELIST"] == "n2" and not os.path.exists({path!r}): time.sleep(0.1)'


def without_attempt(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """Leave out of a projection which attempt it was, and the attempts that are no evidence."""
    return sorted((*row[:2], *row[3:]) for row in rows if row[5] in (None, "diverged"))


def kinds(search: StubSearch) -> Counter[tuple[object, object]]:
    """Count the records by attempt and kind."""
    return Counter((row[2], row[5]) for row in search.projection() if row[5] != "diverged")


def intents(search: StubSearch) -> list[dict[str, object]]:
    return [line for line in search.ledger() if line["event"] == "intent" and line["generation"] >= 0]


def test_what_a_node_fails_is_done_on_another_and_a_node_that_failed_twice_is_used_no_more(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    search = StubSearch(tmp_path, prelude=DIES_ON_N1, earlier=local_search)

    search.run(bare_cluster.environ)

    assert without_attempt(search.projection()) == without_attempt(local_search.projection())
    assert kinds(search)[0, "lost"] == 4
    excluded = [line["resources"]["exclude"] for line in intents(search)]  # type: ignore[index]
    assert (excluded[0], {*map(tuple, excluded[1:])}) == ([], {("n1",)})  # the second generation never saw it


def test_a_trial_that_ran_out_of_memory_gets_twice_as_much(
    accounting_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    search = StubSearch(tmp_path, generations=1, prelude=TAKES_1300_MIB, earlier=local_search, job="memory_gb = 1")

    search.run(accounting_cluster.environ)

    rows = search.projection()
    assert [row[:3] for row in rows] == [(0, trial, attempt) for trial in range(4) for attempt in (0, 1)]
    assert {row[5] for row in rows if row[2] == 0} == {"host_oom"}
    assert "host_oom" not in {row[5] for row in rows if row[2] == 1}
    assert [row[3] for row in rows if row[2] == 0] == [row[3] for row in rows if row[2] == 1]
    first, *again = [line["resources"]["memory_bytes"] for line in intents(search)]  # type: ignore[index]
    assert (first, {*again}) == (2**30, {2**31})


@pytest.mark.parametrize("requeue", [False, True])
def test_a_node_that_was_cut_off_and_comes_back_writes_nothing_that_counts_twice(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path, requeue: bool
) -> None:
    search = StubSearch(
        tmp_path / "search",
        generations=1,
        prelude=STANDS_STILL.format(path=str(tmp_path / "go")),
        slurm="max_parallel = 4" + ("" if requeue else "\noptions = { no-requeue = true }"),
        earlier=local_search,
        job="memory_gb = 25",
    )
    driver = subprocess.Popen(search.command, env=bare_cluster.environ, cwd=ROOT_DIR)
    try:
        on_n2 = "--format=%i"
        assert wait_until(
            lambda: len(bare_cluster.run("squeue", "-h", "-r", "-w", "n2", "-t", "R", on_n2).split()) == 2,
            timeout_s=WAIT_S,
        )
        assert wait_until(lambda: len(search.started()) >= 4, timeout_s=WAIT_S)
        bare_cluster.cut_off_node("n2")
        if requeue:
            for job_id in bare_cluster.run("squeue", "-h", "-r", "-t", "PD", on_n2).split():
                bare_cluster.start_soon(job_id)
        (tmp_path / "go").touch()
        again = "restart" if requeue else "attempt-1"
        assert wait_until(lambda: len(search.started()) >= 6, timeout_s=WAIT_S), again
        bare_cluster.rejoin_node("n2")
        assert driver.wait(timeout=WAIT_S) == 0
    finally:
        driver.kill()

    counted = Counter((row[1], row[2]) for row in search.projection())
    assert set(counted.values()) == {1}
    last = {row[1]: row for row in search.projection()}  # sorted: of each trial its last attempt
    expected = [row for row in local_search.projection() if row[0] == 0]
    assert without_attempt(list(last.values())) == without_attempt(expected)
