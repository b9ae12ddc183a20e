"""An image of the packages of this very interpreter: built, tested by itself, and a trial in it, offline."""

import os
import sys
from pathlib import Path

import pytest

from containers import image
from containers.dev.offline import OfflinePlace
from tests.container.conftest import Outside
from tests.container.searching import (
    DISTURBED_EPOCHS,
    WAIT_S,
    comparable,
    is_clean,
    left_behind,
    search,
    write_one_trial,
    write_profile,
)
from xautolm_hpc.image import read_image

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]


def test_an_image_of_this_environment_passes_its_test_and_trains_as_on_the_host(
    place: OfflinePlace, outside: Outside, capsys: pytest.CaptureFixture[str]
) -> None:
    found = image.read_environment("cpu", Path(sys.executable))
    path = image.build("cpu", mirror=None, sign_key=None, environment=found)
    folder = place.folder / "from-python"
    write_profile(folder, path, launcher="local")

    image.check("cpu", verify_key=None, environment=found)
    inside = place.run("apptainer", "run", "--containall", str(path), "-c", "import sys; print(sys.base_prefix)")
    (trial,) = search(place, write_one_trial(folder, epochs=DISTURBED_EPOCHS), folder)

    said = capsys.readouterr().out
    read = read_image(path, machine=os.uname().machine)
    (on_host,) = outside["undisturbed"].result(WAIT_S)
    assert "9 packages import; torch 2." in said
    assert "not as the lock has it: nothing" in said
    assert inside.stdout == "/opt/python\n", inside.stderr
    assert read.labels["xautolm.lock.differs"] == "none"
    assert read.labels["xautolm.from-python"] == sys.executable
    assert read.lock_sha256 == trial.provenance.lock_hash == image.lock_sha256("cpu")
    assert trial.provenance.image_digest
    assert comparable(trial) == comparable(on_host)
    assert trial.outcome.metrics == pytest.approx(dict(on_host.outcome.metrics), abs=1e-6)
    assert is_clean(place), left_behind(place)
