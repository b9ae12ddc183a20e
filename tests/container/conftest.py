"""A place without network, in it a private Slurm, both an ordinary user's; and the image, built or from the cache."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.dev.apptainer import find_apptainer, problems, up
from containers.dev.offline import ROOT_DIR, OfflinePlace
from containers.image import build, image_path
from slurm.dev.daemons import wait_until
from slurm.dev.packages import install, missing_packages
from tests.container.searching import PYTHON


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Path:
    """Give the image of the present definition and lock; builds it where the cache does not have it."""
    if find_apptainer() is None or problems():
        up()
    was_there, started = image_path("cpu").exists(), time.monotonic()
    path = build("cpu", mirror=None, sign_key=None)
    words = "from the cache" if was_there else f"built in {time.monotonic() - started:.0f} s"
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"image: {path.stat().st_size / 2**20:.0f} MB, {words}")
    return path


@pytest.fixture(scope="session")
def place(image: Path) -> Iterator[OfflinePlace]:
    """Give the place without network."""
    del image  # makes the ordinary user
    with OfflinePlace("container-tests") as opened:
        yield opened


@dataclass(frozen=True)
class Cluster:
    """The private Slurm in the place without network.

    Attributes:
        place: Where it runs.
        folder: Its folder.
    """

    place: OfflinePlace
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        """What Slurm's commands need beside the user's environment."""
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    def ask(self, *command: str) -> str:
        """Run one of Slurm's commands; "" if it failed."""
        return self.place.run(*command, environ=self.environ).stdout.strip()


@pytest.fixture(scope="session")
def _cluster_session(place: OfflinePlace) -> Iterator[Cluster]:
    install(missing_packages(accounting=False))
    script, folder = str(ROOT_DIR / "slurm" / "dev" / "cluster.py"), Path("/tmp/xautolm-container-tests")
    place.run(PYTHON, script, "down", "--remove", "--dir", str(folder))
    started = place.run(PYTHON, script, "up", "--nodes=2", "--kill-wait=20", "--dir", str(folder))
    assert started.returncode == 0, started.stderr
    try:
        yield Cluster(place, folder)
    finally:
        stopped = place.run(PYTHON, script, "down", "--remove", "--dir", str(folder))
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture
def cluster(_cluster_session: Cluster) -> Iterator[Cluster]:
    """Two nodes with two GPUs each that do not exist, without accounts."""
    yield _cluster_session
    if job_ids := _cluster_session.ask("squeue", "--noheader", "--format=%i").split():
        _cluster_session.ask("scancel", *job_ids)
    assert wait_until(lambda: not _cluster_session.ask("squeue", "--noheader"), timeout_s=60)
