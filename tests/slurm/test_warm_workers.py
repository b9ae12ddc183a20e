"""Jobs of several trials on a real Slurm: what ends a job, or puts it back into the queue, costs no other trial."""

import subprocess
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.driving import projection
from tests.slurm.searching import ROOT_DIR, StubSearch

pytestmark = pytest.mark.slurm

TOGETHER = 3
"""Trials of a job; a generation of four has one of three, and one alone."""

ENDS_ITS_JOB = """
import subprocess
job = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
if "gen-000/trial-001/attempt-0" in sys.argv[-1] and restart == "0":
    subprocess.run([*{command!r}, job])
    time.sleep(600)
"""


def kinds(search: StubSearch) -> dict[tuple[object, object], object]:
    """Map trial and attempt to the failure kind."""
    return {(row[1], row[2]): row[5] for row in projection(search.folder)}


def test_a_search_ends_as_with_a_job_for_each_trial(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    search = StubSearch(tmp_path, earlier=local_search, trials_per_job=TOGETHER).run(bare_cluster.environ)

    assert search.projection() == local_search.projection()
    jobs = {attempt: job_id for attempt, job_id, _ in search.started()}
    assert len(jobs) == 8
    assert len(set(jobs.values())) == 4


def test_a_job_that_is_cancelled_gives_back_what_it_had_not_begun(
    accounting_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    search = StubSearch(
        tmp_path,
        earlier=local_search,
        trials_per_job=TOGETHER,
        prelude=ENDS_ITS_JOB.format(command=["scancel"]),
    ).run(accounting_cluster.environ)

    found = kinds(search)
    assert found[1, 0] == "cancelled"
    assert set(found) == {(1, 1)} | {(n, 0) for n in range(8)}
    assert [line["trial"] for line in search.ledger() if line["event"] == "given_back"] == [2]
    runs = [(attempt, restart) for attempt, _, restart in search.started()]
    assert len(runs) == len(set(runs)) == 9


def test_a_job_put_back_into_the_queue_goes_on_where_it_was(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path
) -> None:
    prelude = ENDS_ITS_JOB.format(command=["scontrol", "requeue"])
    search = StubSearch(tmp_path, earlier=local_search, trials_per_job=TOGETHER, prelude=prelude)
    driver = subprocess.Popen(search.command, env=bare_cluster.environ, cwd=ROOT_DIR)

    def waiting() -> list[str]:
        rows = bare_cluster.run("squeue", "--noheader", "--array", "--format=%i %r").splitlines()
        return [row.split()[0] for row in rows if "BeginTime" in row]

    assert wait_until(lambda: bool(waiting()), timeout_s=400)
    bare_cluster.start_soon(waiting()[0])
    status = driver.wait(timeout=800)

    assert status == 0
    assert search.projection() == local_search.projection()
    first = [(attempt[-19:], restart) for attempt, _, restart in search.started() if attempt.startswith("gen-000")]
    assert sorted(first) == [
        ("trial-000/attempt-0", "0"),
        ("trial-001/attempt-0", "0"),
        ("trial-001/attempt-0", "1"),
        ("trial-002/attempt-0", "1"),
        ("trial-003/attempt-0", "0"),
    ]
