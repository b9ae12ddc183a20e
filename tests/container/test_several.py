"""Several processes of one trial inside the image: two in one container, and one on each of two nodes."""

from pathlib import Path

import pytest

from containers.dev.offline import OfflinePlace
from tests.container.conftest import Cluster
from tests.container.searching import is_clean, left_behind, search, write_one_trial, write_profile
from xautolm_hpc.records import Experience

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

EPOCHS = 4


@pytest.fixture(scope="session")
def outside(place: OfflinePlace) -> Experience:
    """Run the trial with two processes on the host, without Slurm."""
    folder = place.folder / "two-outside"
    write_profile(folder, None, launcher="local", job="n_processes = 2\nn_cpus = 2")
    (experience,) = search(place, write_one_trial(folder, epochs=EPOCHS), folder)
    assert experience.outcome.status == "succeeded"
    return experience


@pytest.mark.parametrize("job", ["n_processes = 2\nn_cpus = 2", "n_nodes = 2"], ids=["two-processes", "two-nodes"])
def test_two_processes_in_the_image_end_as_two_on_the_host(
    cluster: Cluster, image: Path, outside: Experience, job: str, request: pytest.FixtureRequest
) -> None:
    place = cluster.place
    folder = place.folder / request.node.callspec.id
    write_profile(folder, image, job=job)

    (inside,) = search(place, write_one_trial(folder, epochs=EPOCHS), folder, environ=cluster.environ)

    assert inside.outcome.status == "succeeded"
    assert inside.outcome.metrics == pytest.approx(dict(outside.outcome.metrics), abs=1e-6)
    assert inside.provenance.image_digest is not None
    assert is_clean(place), left_behind(place)
