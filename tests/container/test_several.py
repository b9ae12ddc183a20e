"""Several processes of one trial inside the image: on one node in one container, and on two nodes."""

from pathlib import Path

import pytest

from tests.container.conftest import Cluster
from tests.container.searching import left_behind, search, write_one_trial, write_profile

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

EPOCHS = 4


@pytest.mark.parametrize("job", ["n_processes = 2\nn_cpus = 2", "n_nodes = 2"], ids=["two-processes", "two-nodes"])
def test_two_processes_in_the_image_end_as_two_on_the_host(
    cluster: Cluster, image: Path, job: str, request: pytest.FixtureRequest
) -> None:
    place, name = cluster.place, request.node.callspec.id
    ends = {}
    for where, chosen in (("inside", image), ("outside", None)):
        folder = place.folder / f"{name}-{where}"
        write_profile(folder, chosen, job=job)
        (ends[where],) = search(place, write_one_trial(folder, epochs=EPOCHS), folder, environ=cluster.environ)

    assert {experience.outcome.status for experience in ends.values()} == {"succeeded"}
    outside = dict(ends["outside"].outcome.metrics)
    assert ends["inside"].outcome.metrics == pytest.approx(outside, abs=1e-6)
    assert ends["inside"].provenance.image_digest is not None
    assert left_behind(place) == []
