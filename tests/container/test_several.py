"""Several processes of one trial inside the image: two in one container, and one on each of two nodes."""

from pathlib import Path

import pytest

from tests.container.conftest import Cluster, Outside
from tests.container.searching import (
    SEVERAL_EPOCHS,
    TWO_PROCESSES,
    WAIT_S,
    is_clean,
    left_behind,
    search,
    write_one_trial,
    write_profile,
)

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]


@pytest.mark.parametrize("job", [TWO_PROCESSES, "n_nodes = 2"], ids=["two-processes", "two-nodes"])
def test_two_processes_in_the_image_end_as_two_on_the_host(
    cluster: Cluster, image: Path, outside: Outside, job: str, request: pytest.FixtureRequest
) -> None:
    place = cluster.place
    folder = place.folder / request.node.callspec.id
    write_profile(folder, image, job=job)

    search_path = write_one_trial(folder, epochs=SEVERAL_EPOCHS)
    (inside,) = search(place, search_path, folder, environ=cluster.environ, more=["--skip-job-check"])

    (on_host,) = outside["two-processes"].result(WAIT_S)
    assert on_host.outcome.succeeded
    assert inside.outcome.succeeded
    assert inside.outcome.metrics == pytest.approx(dict(on_host.outcome.metrics), abs=1e-6)
    assert inside.provenance.image_digest is not None
    assert is_clean(place), left_behind(place)
