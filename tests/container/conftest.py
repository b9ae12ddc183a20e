"""A place without network, in it a private Slurm, both an ordinary user's; and the image, built or from the cache."""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from containers.dev.apptainer import find_apptainer, problems, up
from containers.dev.offline import ROOT_DIR, OfflinePlace
from containers.image import build, image_path
from slurm.dev.daemons import wait_until
from slurm.dev.packages import install, missing_packages
from tests.container.searching import (
    DISTURBED_EPOCHS,
    PYTHON,
    SEVERAL_EPOCHS,
    TINY_PATH,
    TWO_PROCESSES,
    search,
    write_one_trial,
    write_profile,
)
from xautolm_hpc.records import Experience

Outside = Mapping[str, "Future[list[Experience]]"]
"""Searches on the host, by name: the outcomes that each will store."""


@pytest.fixture(scope="session")
def _user() -> None:
    """Install Apptainer and the ordinary user if they are missing."""
    if find_apptainer() is None or problems():
        up()


@pytest.fixture(scope="session")
def outside(_user: None) -> Iterator[Outside]:
    """Start the searches on the host that those in the image are compared with; they run beside the next tests.

    They have a place without network of their own, so that the processes of the other are those of the image alone.
    """
    with OfflinePlace("container-outside") as place:
        pool = ThreadPoolExecutor(1)

        def begin(name: str, *, epochs: int | None, job: str = "") -> "Future[list[Experience]]":
            folder = place.folder / name
            write_profile(folder, None, launcher="local", job=job)
            path = TINY_PATH if epochs is None else write_one_trial(folder, epochs=epochs)
            return pool.submit(search, place, path, folder)

        yield {
            "tiny": begin("tiny", epochs=None),
            "undisturbed": begin("undisturbed", epochs=DISTURBED_EPOCHS),
            "two-processes": begin("two-processes", epochs=SEVERAL_EPOCHS, job=TWO_PROCESSES),
        }
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config, outside: Outside) -> Path:
    """Return the image of the present definition and lock; build it if the cache does not have it."""
    del outside  # begun before: they need no image
    was_there, started = image_path("cpu").exists(), time.monotonic()
    path = build("cpu", mirror=None, sign_key=None)
    words = "from the cache" if was_there else f"built in {time.monotonic() - started:.0f} s"
    reporter = pytestconfig.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(f"image: {path.stat().st_size / 2**20:.0f} MB, {words}")
    return path


@pytest.fixture(scope="session")
def place(_user: None) -> Iterator[OfflinePlace]:
    """Open the place without network."""
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
    assert wait_until(lambda: not _cluster_session.ask("squeue", "--noheader"), timeout_s=200)
