"""Whole searches on Slurm with a GPU for each trial: one after another, preempted, their driver killed."""

import subprocess
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.gpu_cluster.searching import CardSearch
from tests.slurm.searching import ROOT_DIR
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import End, heartbeat_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.run.history import History

pytestmark = [pytest.mark.gpu_cluster, pytest.mark.timeout(1200)]

WAIT_S = 300.0


def only_ends(history: History) -> list[End]:
    """List the ends of trials that had one attempt each."""
    ends = [attempt.end for trial in history.trials.values() for attempt in trial.attempts]
    assert len(ends) == len(history.trials)
    found = [end for end in ends if end is not None]
    assert len(found) == len(ends)
    return found


@pytest.mark.parametrize("trials_per_job", [1, 4], ids=["a job for each trial", "warm workers"])
def test_every_card_runs_trials_one_after_another_and_no_other_card_is_theirs(
    cluster: DevCluster, cards: Mapping[str, str], tmp_path: Path, trials_per_job: int
) -> None:
    search = CardSearch(tmp_path, population=4 * len(cards), trials_per_job=trials_per_job)

    ends = only_ends(search.run(cluster.environ))

    assert [end.outcome.status for end in ends] == ["succeeded"] * 4 * len(cards), [end.outcome.message for end in ends]
    started = search.started()
    assert {each.devices for each in started} == set(cards.values())
    assert all(each.devices in cluster.cards_of(each.claim.node).values() for each in started)
    assert len(started) == 4 * len(cards) // trials_per_job
    if trials_per_job > 1:
        by_job: dict[float | None, list[End]] = {}
        for end in sorted(ends, key=lambda end: end.ended_at):
            by_job.setdefault(end.job_started_at, []).append(end)
        assert [len(job) for job in by_job.values()] == [4] * len(cards)
        assert all((b.started_at or 0) >= a.ended_at for job in by_job.values() for a, b in pairwise(job))
    n_gpus = 1 if list_gpus(None)[0] else 0
    assert {end.system and end.system.n_gpus for end in ends} == {n_gpus}
    if n_gpus:
        assert all(end.outcome.gpu_energy_j for end in ends)
        assert {end.outcome.step for end in ends} == {"graph"}


def test_a_preempted_trial_is_requeued_and_goes_on(cluster: DevCluster, tmp_path: Path) -> None:
    partition = 'partition = "preempt-requeue"\noptions = { nodelist = "n1" }'
    epochs = 300 if list_gpus(None)[0] else 20  # a quarter of a minute
    search = CardSearch(tmp_path, population=1, epochs=epochs, slurm=partition)
    beat = heartbeat_path(search.attempt_dir, 0)
    driver = subprocess.Popen(search.command, env=cluster.environ, cwd=ROOT_DIR, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: beat.exists() and read_json(beat)["phase"] == "train", timeout_s=WAIT_S)
        job_id = search.started()[-1].claim.job_id
        urgent = cluster.run(
            "sbatch", "--parsable", "--partition=urgent", "--nodelist=n1", "--exclusive", "--mem=0", "--wrap=sleep 1"
        )
        cluster.wait_for_job(urgent, "COMPLETED", timeout_s=90)
        cluster.wait_for_job(job_id, "PENDING", "RUNNING")
        cluster.start_soon(job_id)
        assert driver.wait(timeout=2 * WAIT_S) == 0
    finally:
        driver.kill()
        driver.wait()

    (end,) = only_ends(search.history())
    assert end.outcome.succeeded, end.outcome.message
    assert end.restart == 1
    assert [(each.claim.job_id, each.restart or "0") for each in search.started()] == [(job_id, "0"), (job_id, "1")]


def test_after_its_driver_was_killed_a_search_ends_with_nothing_lost_and_nothing_twice(
    cluster: DevCluster, tmp_path: Path
) -> None:
    search = CardSearch(tmp_path, population=4)
    driver = subprocess.Popen(search.command, env=cluster.environ, cwd=ROOT_DIR, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: bool(search.started()), timeout_s=WAIT_S)
    finally:
        driver.kill()
        driver.wait()

    ends = only_ends(search.run(cluster.environ))

    assert [end.outcome.status for end in ends] == ["succeeded"] * 4
    assert set(Counter(each.folder for each in search.started()).values()) == {1}
    assert len(search.started()) == 4
