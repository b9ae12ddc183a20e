"""The driver may be killed at any step of a search on a real Slurm; ``make bench-kill-sweep`` does it 200 times."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.dev.private import DevCluster
from tests.slurm.killing import Killer, open_log, sweep
from tests.slurm.searching import StubSearch

pytestmark = pytest.mark.slurm

MOMENTS = (
    (5, None),
    (0, "sbatch"),  # sbatch has answered, and nothing is written down: the profile job
    (0, "rename priors.json"),
    (4, "mkdir gen-N"),  # attempts are being written
    (0, "sbatch"),  # the first generation's array
    (0, "open ledger.jsonl"),  # the first end is recorded
    (0, "rename seg-*.hN"),  # the experiences are in the store, and the ledger does not say so
    (2, "remove stderr"),  # the generation is committed and half cleaned up
    (0, "open ledger.jsonl"),  # the second generation is drawn
    (0, "sbatch"),
    (1, "open ledger.jsonl"),
    (0, "open .seg-*.hN aside"),
    (1, "rename report.md"),
)
"""Where the drivers are killed, one after the other: step after the first one of this name."""


@pytest.mark.parametrize("trials_per_job", [1, 2])
def test_drivers_killed_at_a_dozen_steps_lose_nothing_and_run_nothing_twice(
    bare_cluster: DevCluster, local_search: StubSearch, tmp_path: Path, trials_per_job: int
) -> None:
    search = StubSearch(tmp_path, sleep_s=1.0, earlier=local_search, trials_per_job=trials_per_job)

    def kills() -> Iterator[Killer]:
        log = open_log(search)
        for at, after in MOMENTS:
            yield Killer(str(tmp_path), log, at, after)

    found = sweep(search, bare_cluster, kills=kills(), expected=local_search)

    assert found.faults == dict.fromkeys(found.faults, 0), found
    assert len(found.killed_at) == len(MOMENTS)
