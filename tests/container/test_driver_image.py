"""The driver in its own image: it asks the host's Slurm, and its jobs start outside. ``make test-images``."""

import sys
from pathlib import Path

import pytest

from containers.dev.apptainer import find_apptainer
from containers.dev.offline import ROOT_DIR
from containers.image import build
from tests.container.conftest import Cluster
from tests.container.searching import comparable, experiences, search, write_profile
from xautolm_hpc.slurm import NEEDED

pytestmark = pytest.mark.container

LIBRARY_DIR = Path("/usr/lib/x86_64-linux-gnu")
SLURM_ON_DEBIAN = [*(f"/usr/bin/{name}" for name in NEEDED), f"{LIBRARY_DIR}/slurm-wlm", f"{LIBRARY_DIR}/libmunge.so.2"]
"""What Slurm's commands are and link against, where Debian puts it."""


def in_driver_image(cluster: Cluster, *binds: str | Path) -> list[str]:
    """Return the beginning of a command line in the driver's image, with the host's Slurm."""
    image = build("driver", mirror=None, sign_key=None)
    conf = f"SLURM_CONF={cluster.environ['SLURM_CONF']}"
    words = [word for path in (*SLURM_ON_DEBIAN, cluster.folder, *binds) for word in ("--bind", str(path))]
    isolation = ["--containall", "--cleanenv", "--no-home", "--env", conf]
    return [str(find_apptainer()), "exec", *isolation, *words, str(image), "xautolm-hpc"]


@pytest.mark.timeout(900)  # two whole searches, and the image where the cache does not have it
def test_a_search_whose_driver_is_in_an_image_ends_as_one_whose_driver_is_not(cluster: Cluster) -> None:
    folder, outside = cluster.place.folder / "in-image", cluster.place.folder / "outside"
    tiny = ROOT_DIR / "examples" / "tiny.toml"
    for made in (folder, outside):
        profile = write_profile(made, None)
        profile.write_text(f'driver_python = "{sys.executable}"\n{profile.read_text()}')
    start = in_driver_image(cluster, folder, ROOT_DIR / "examples")
    runs = ("--runs-dir", str(folder / "runs"))
    settings = ("--set", f'profile="{folder}/profile.toml"', "--set", f'store.path="{folder}/store"')

    doctor = cluster.place.run(*start, "doctor", str(folder / "profile.toml"), "--job", *runs)
    plan = cluster.place.run(*start, "plan", str(tiny), *runs, *settings)
    run = cluster.place.run(*start, "run", str(tiny), *runs, *settings, "--quiet")
    expected = search(cluster.place, tiny, outside, environ=cluster.environ)

    assert (plan.returncode, run.returncode) == (0, 0), f"{plan.stderr}\n{run.stdout}\n{run.stderr}"
    assert "sbatch --test-only: Job" in plan.stdout
    assert "ran on node" in doctor.stdout
    assert "0 failures" in doctor.stdout
    found = experiences(folder)
    assert list(map(comparable, found)) == list(map(comparable, expected))
    metrics = [(a.outcome.metrics, b.outcome.metrics) for a, b in zip(found, expected, strict=True)]
    assert all(one == pytest.approx(other, abs=1e-6) for one, other in metrics)
