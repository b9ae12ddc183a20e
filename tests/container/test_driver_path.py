"""A node whose driver lies in a place of its own: found missing in the image, then bound and in the library path."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from containers.dev.offline import ROOT_DIR, OfflinePlace
from tests.container.searching import PYTHON, is_clean, left_behind, write_profile
from xautolm_hpc.view import Finding

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

LOADABLE = "numpy.libs/libquadmath-*.so*"
"""A library of a wheel, which needs the C library alone: it stands for the driver's."""


def node_finding(place: OfflinePlace, image: Path, driver_dir: Path, *, key: str = "") -> Finding:
    """Let doctor's job look where the node's library path names the driver's folder; return what it says of GPUs."""
    folder = place.folder / ("named" if key else "plain")
    profile = write_profile(folder, image, launcher="local")
    (folder / "models").mkdir()
    profile.write_text(f'hf_home = "{folder}/models"\n{profile.read_text()}nv = true\n{key}\n')
    command = [PYTHON, "-m", "xautolm_hpc", "doctor", str(profile), "--job", "--json", "--runs-dir", f"{folder}/runs"]
    environ = {"PYTHONPATH": str(ROOT_DIR), "LD_LIBRARY_PATH": str(driver_dir)}
    done = place.run(*command, environ=environ)
    assert done.stdout, done.stderr
    rows = [row for row in json.loads(done.stdout) if row["check"] == "GPUs of the job"]
    assert len(rows) == 1, done.stdout
    return Finding(**rows[0])


def test_a_driver_in_a_place_of_its_own_is_found_missing_and_seen_once_the_profile_names_it(
    place: OfflinePlace, image: Path
) -> None:
    driver_dir = place.folder / "site" / "driver"
    driver_dir.mkdir(parents=True)
    spec = find_spec("numpy")
    assert spec is not None
    assert spec.origin is not None
    library = next(Path(spec.origin).parents[1].glob(LOADABLE))
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        shutil.copy(library, driver_dir / name)
    subprocess.run(["chmod", "-R", "a+rX", str(driver_dir.parent)], check=True)

    plain = node_finding(place, image, driver_dir)
    named = node_finding(place, image, driver_dir, key=f'driver_path = "{driver_dir}"')

    assert (plain.level, plain.remedy) == ("failure", f'set driver_path = "{driver_dir}" in [container] of the profile')
    assert plain.found.endswith("and the image lacks libcuda.so.1 and libnvidia-ml.so.1")
    assert (named.level, named.found) == ("ok", "none")
    assert is_clean(place), left_behind(place)
