"""Jobs of several trials as real processes of this machine; the trials are stubs."""

from pathlib import Path

import pytest

from tests.driving import projection
from tests.slurm.searching import StubSearch, local_environ

KILLS_ITS_WRAPPER = """
import signal
if "trial-001/attempt-0" in sys.argv[-1]:
    os.kill(int(os.environ["WRAPPER_PID"]), signal.SIGKILL)
    time.sleep(600)
"""
KILLS_ITSELF = """
import signal
if "trial-001/attempt-0" in sys.argv[-1]:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def search(folder: Path, *, prelude: str = "", earlier: StubSearch | None = None, together: int = 5) -> StubSearch:
    """Describe a search of one generation of six trials: two slots, so three to a job."""
    return StubSearch(
        folder,
        launcher="local",
        population=6,
        generations=1,
        earlier=earlier,
        prelude=prelude,
        trials_per_job=together,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> StubSearch:
    """The same search with a job for each trial."""
    return search(tmp_path_factory.mktemp("alone"), together=1).run(local_environ())


def kinds(run: StubSearch) -> dict[tuple[object, object], object]:
    """Map trial and attempt to the failure kind."""
    return {(row[1], row[2]): row[5] for row in projection(run.folder)}


def test_a_search_ends_as_with_a_job_for_each_trial(tmp_path: Path, alone: StubSearch) -> None:
    run = search(tmp_path, earlier=alone).run(local_environ())

    assert run.projection() == alone.projection()
    jobs = [set(line["jobs"].values()) for line in run.ledger() if line["event"] == "submitted"]
    assert [len(ids) for ids in jobs] == [0, 2]
    assert len(run.started()) == 6


def test_a_job_that_is_killed_costs_the_trial_it_ran_and_gives_the_rest_back(tmp_path: Path, alone: StubSearch) -> None:
    run = search(tmp_path, earlier=alone, prelude=KILLS_ITS_WRAPPER).run(local_environ())

    found = kinds(run)
    assert found[1, 0] == "lost"
    assert set(found) == {(1, 1)} | {(n, 0) for n in range(6)}
    assert [line["trial"] for line in run.ledger() if line["event"] == "given_back"] == [2]
    assert len(run.started()) == len({attempt for attempt, _, _ in run.started()}) == 7
    assert {row for row in run.projection() if row[1] != 1} == {row for row in alone.projection() if row[1] != 1}


def test_a_trial_that_is_killed_takes_no_other_along(tmp_path: Path, alone: StubSearch) -> None:
    run = search(tmp_path, earlier=alone, prelude=KILLS_ITSELF).run(local_environ())

    found = kinds(run)
    assert found[1, 0] == "lost"
    assert set(found) == {(1, 1)} | {(n, 0) for n in range(6)}
    assert not [line for line in run.ledger() if line["event"] == "given_back"]
