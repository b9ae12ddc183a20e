"""The worker inside the image, offline, through a real Slurm, as an ordinary user."""

import os
import signal
from pathlib import Path

import pytest

from containers.dev.offline import ROOT_DIR, OfflinePlace
from slurm.dev.daemons import wait_until
from tests.container.conftest import Cluster, Outside
from tests.container.searching import (
    DISTURBED_EPOCHS,
    TINY_PATH,
    WAIT_S,
    comparable,
    experiences,
    is_clean,
    last_step,
    left_behind,
    search,
    search_command,
    words_of,
    write_one_trial,
    write_profile,
)
from xautolm_hpc.image import image_sha256, read_image

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

WHOLE_NODE = ("--cpus-per-task=16", "--nodelist=n1")


def test_the_place_has_no_network_and_an_ordinary_user(place: OfflinePlace) -> None:
    assert place.run("ip", "route").stdout == ""
    assert place.run("id", "-u").stdout.strip() != "0"
    assert place.run("sh", "-c", "grep CapEff /proc/self/status").stdout.split()[1] == "0" * 16


def test_the_images_own_test_passes_offline(place: OfflinePlace, image: Path) -> None:
    tested = place.run("apptainer", "test", "--containall", "--cleanenv", "--no-home", str(image))

    assert tested.returncode == 0, tested.stderr
    assert "9 packages import" in tested.stdout


def test_several_trials_in_a_job_end_in_the_image_as_on_the_host(
    cluster: Cluster, image: Path, outside: Outside
) -> None:
    place, folder = cluster.place, cluster.place.folder / "together"
    write_profile(folder, image, job="trials_per_job = 4")

    inside = search(place, TINY_PATH, folder, environ=cluster.environ)

    on_host = outside["tiny"].result(WAIT_S)
    assert [comparable(e) for e in inside] == [comparable(e) for e in on_host]
    assert [e.outcome.metrics for e in inside] == [pytest.approx(dict(e.outcome.metrics), abs=1e-6) for e in on_host]
    assert sorted(e.provenance.job_position or 0 for e in inside) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_tiny_example_ends_in_the_image_as_on_the_host(cluster: Cluster, image: Path, outside: Outside) -> None:
    place, folder = cluster.place, cluster.place.folder / "inside"
    write_profile(folder, image)

    inside = search(place, TINY_PATH, folder, environ=cluster.environ)

    on_host = outside["tiny"].result(WAIT_S)
    assert len(inside) == 8
    assert [comparable(e) for e in inside] == [comparable(e) for e in on_host]
    assert [e.outcome.metrics for e in inside] == [pytest.approx(dict(e.outcome.metrics), abs=1e-6) for e in on_host]
    read = read_image(image, machine=os.uname().machine)
    digest = image_sha256(image, stamp=read.stamp)
    assert {(e.provenance.image_digest, e.provenance.lock_hash) for e in inside} == {(digest, read.lock_sha256)}
    assert {e.provenance.image_digest for e in on_host} == {None}
    assert is_clean(place), left_behind(place)
    assert not list(Path("/tmp").glob("xautolm-????????"))


def test_a_trial_pushed_aside_in_the_image_resumes_and_ends_with_the_same_metric(
    cluster: Cluster, image: Path, outside: Outside
) -> None:
    place, folder = cluster.place, cluster.place.folder / "preempted"
    write_profile(folder, image, slurm='partition = "preempt-requeue"\n[slurm.options]\nnodelist = "n1"')
    search_path = write_one_trial(folder, epochs=DISTURBED_EPOCHS)
    attempt_dir = folder / "runs" / "one" / "gen-000" / "trial-000" / "attempt-0"
    driver = place.start(
        search_command(search_path, folder, "--skip-job-check"), {**cluster.environ, "PYTHONPATH": str(ROOT_DIR)}
    )

    assert wait_until(lambda: has_heard(attempt_dir), timeout_s=WAIT_S), words_of(folder)
    urgent = cluster.ask("sbatch", "--parsable", "--partition=urgent", *WHOLE_NODE, "--output=/dev/null", "--wrap=true")
    assert urgent
    victim = "".join(cluster.ask("squeue", "--noheader", "--partition=preempt-requeue", "--format=%i").split())
    assert wait_until(lambda: (attempt_dir / "exit-0.json").exists(), timeout_s=WAIT_S), words_of(folder)
    assert wait_until(lambda: has_restarted(cluster, victim, attempt_dir=attempt_dir), timeout_s=WAIT_S, poll_s=5.0)
    words, _ = driver.communicate(timeout=WAIT_S)

    assert driver.returncode == 0, f"{words}\n{words_of(folder)}"
    (found,), (undisturbed,) = experiences(folder), outside["undisturbed"].result(WAIT_S)
    assert undisturbed.outcome.succeeded
    assert (attempt_dir / "exit-0.json").read_text().count('"returncode": 85') == 1
    assert found.provenance.restart == 1
    assert found.outcome.metrics == pytest.approx(dict(undisturbed.outcome.metrics), abs=1e-6)
    assert is_clean(place), left_behind(place)


def has_heard(attempt_dir: Path) -> bool:
    """Check whether a worker is training: only then is there something to save."""
    return (attempt_dir / "ready").exists() and last_step(attempt_dir) > 0


def has_restarted(cluster: Cluster, job_id: str, *, attempt_dir: Path) -> bool:
    """Check whether a requeued job runs again; it is started in two seconds instead of two minutes."""
    if (attempt_dir / "claim-1.json").exists():
        return True
    cluster.ask("scontrol", "update", f"jobid={job_id}", "starttime=now+2")
    return False


def pids(place: OfflinePlace) -> set[str]:
    """List the ids of all processes of an image."""
    return {line.split()[0] for line in left_behind(place)}


def test_a_killed_container_is_retried_and_leaves_nothing(cluster: Cluster, image: Path, outside: Outside) -> None:
    place, folder = cluster.place, cluster.place.folder / "killed"
    write_profile(folder, image)
    attempt_dir = folder / "runs" / "one" / "gen-000" / "trial-000" / "attempt-0"
    driver = place.start(
        search_command(write_one_trial(folder, epochs=DISTURBED_EPOCHS), folder, "--skip-job-check"),
        {**cluster.environ, "PYTHONPATH": str(ROOT_DIR)},
    )

    assert wait_until(lambda: has_heard(attempt_dir), timeout_s=WAIT_S), words_of(folder)
    before = pids(place)
    (parent,) = [line for line in left_behind(place) if "Apptainer runtime parent" in line]
    os.kill(int(parent.split()[0]), signal.SIGKILL)
    assert wait_until(lambda: (attempt_dir / "exit-0.json").exists(), timeout_s=200)
    still_there = before & pids(place)
    words, _ = driver.communicate(timeout=WAIT_S)

    assert driver.returncode == 0, f"{words}\n{words_of(folder)}"
    (lost, found), (undisturbed,) = experiences(folder), outside["undisturbed"].result(WAIT_S)
    assert undisturbed.outcome.succeeded
    assert (lost.outcome.kind, lost.outcome.origin, found.outcome.status) == ("lost", "infrastructure", "succeeded")
    assert lost.provenance.image_digest == found.provenance.image_digest is not None
    assert found.outcome.metrics == pytest.approx(dict(undisturbed.outcome.metrics), abs=1e-6)
    assert len(before) >= 4  # Apptainer, its init, the mount, the worker
    assert still_there == set()
    assert is_clean(place), left_behind(place)
