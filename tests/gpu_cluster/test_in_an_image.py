"""Trials in an image of this machine's own packages, with the GPU that Slurm grants, compared with trials outside.

Prints size and build time of the image, start-up, and steps a second; asserts nothing of them.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from containers import image
from containers.dev.apptainer import down, find_apptainer, problems, up, user_home_dir
from containers.from_python import PythonEnvironment, read_pins
from slurm.dev.private import DevCluster
from tests.gpu_cluster.searching import CardSearch
from xautolm_hpc.durable import read_json
from xautolm_hpc.image import read_image
from xautolm_hpc.jobdir import Exit, exit_path
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import from_json
from xautolm_hpc.run.history import History
from xautolm_hpc.submit.apptainer import find_driver

pytestmark = [pytest.mark.gpu_cluster, pytest.mark.timeout(1200)]

MAY_BE_MISSING = ("bitsandbytes",)
"""Packages that these trials do not use."""

IS_GPU = bool(list_gpus(None)[0])
IMAGE = "cuda" if IS_GPU else "cpu"
EPOCHS, N_TRIALS = (60, 4) if IS_GPU else (4, 2)

Log = Callable[[str], None]


@pytest.fixture(scope="module")
def log(pytestconfig: pytest.Config) -> Log:
    """Return what prints a line of figures, whatever pytest captures."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    assert capture is not None

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            sys.stdout.write(f"\nimage: {line}\n")
            sys.stdout.flush()

    return write


@pytest.fixture(scope="module")
def apptainer() -> Iterator[Path]:
    """Return Apptainer; where there is none it comes from the carried packages, and goes in the end."""
    packages = os.environ.get("SLURM_PACKAGES")
    has_packages = packages is not None and bool(list(Path(packages).glob("apptainer_*.deb")))
    was_there = find_apptainer() is not None and not problems()
    if not was_there and not has_packages:
        pytest.skip("no Apptainer, and none in SLURM_PACKAGES (python containers/dev/apptainer.py collect)")
    if not was_there:
        up(Path(packages or ""))
    try:
        found = find_apptainer()
        assert found is not None
        with pytest.MonkeyPatch.context() as patch:  # mount programs lie beside it
            patch.setenv("PATH", f"{found.parent}{os.pathsep}{os.environ['PATH']}")
            yield found
    finally:
        if not was_there:
            down()


@pytest.fixture(scope="module")
def environment(apptainer: Path) -> PythonEnvironment:
    """Read the packages of this interpreter."""
    del apptainer
    return image.read_environment(IMAGE, Path(sys.executable), without=MAY_BE_MISSING)


@pytest.fixture(scope="module")
def path(environment: PythonEnvironment, log: Log) -> Iterator[Path]:
    """Build the image where root and the ordinary user can both read it."""
    with TemporaryDirectory(dir="/var/tmp", prefix="xautolm-images-") as folder, pytest.MonkeyPatch.context() as patch:
        owner = user_home_dir().stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        Path(folder).chmod(0o755)
        patch.setenv("XAUTOLM_IMAGE_DIR", folder)
        started = time.monotonic()
        built = image.build(IMAGE, mirror=None, sign_key=None, environment=environment)
        log(f"{built.stat().st_size / 2**20:.0f} MB, built in {time.monotonic() - started:.0f} s")
        yield built


def test_the_image_passes_its_own_test_and_says_what_differs_from_the_lock(
    path: Path, environment: PythonEnvironment, capsys: pytest.CaptureFixture[str], log: Log
) -> None:
    image.check(IMAGE, verify_key=None, environment=environment)

    said = capsys.readouterr().out
    differs = environment.differences(read_pins(image.lock_parts(IMAGE)))
    label = read_image(path, machine=os.uname().machine).labels["xautolm.lock.differs"]
    log(f"{len(environment.packages)} packages, {len(differs)} not as the lock has them")
    assert "9 packages import" in said
    assert label == (",".join(differs) or "none")


def test_trials_in_the_image_use_the_granted_card_and_end_as_outside(
    cluster: DevCluster, apptainer: Path, path: Path, tmp_path: Path, log: Log
) -> None:
    inside = CardSearch(tmp_path / "in", population=N_TRIALS, epochs=EPOCHS, container=section(path, apptainer))
    outside = CardSearch(tmp_path / "out", population=N_TRIALS, epochs=EPOCHS)

    figures = {name: look(search.run(cluster.environ)) for name, search in (("in", inside), ("out", outside))}

    lock = read_image(path, machine=os.uname().machine).lock_sha256
    ends = {
        name: [trial.last.end for trial in search.history().trials.values()]
        for name, search in (("in", inside), ("out", outside))
    }
    for name, found in ends.items():
        assert len(found) == N_TRIALS
        assert [end and end.outcome.status for end in found] == ["succeeded"] * N_TRIALS, [
            end and end.outcome.message for end in found
        ]
        assert {end and end.system and end.system.n_gpus for end in found} == {int(IS_GPU)}
        assert {end and bool(end.outcome.gpu_energy_j) for end in found} == {IS_GPU}, name
    assert {end and end.lock_hash for end in ends["in"]} == {lock}
    assert all(end and end.image_digest for end in ends["in"])
    assert not any(end and end.image_digest for end in ends["out"])
    log(
        f"start-up {figures['in']['start_s']:.1f} s inside, {figures['out']['start_s']:.1f} s outside; steps a second "
        f"{figures['in']['steps']:.1f} inside, {figures['out']['steps']:.1f} outside, "
        f"ratio {figures['in']['steps'] / figures['out']['steps']:.3f}"
    )


def section(path: Path, apptainer: Path) -> str:
    """Write ``[container]`` for this machine: its driver's folder, and namespaces of a user's own for root."""
    lines = ["[container]", f'image = "{path}"', f'program = "{apptainer}"']
    lines += ['options = ["--userns"]'] if os.geteuid() == 0 else []
    if IS_GPU and (driver_dir := find_driver(os.environ)) is not None:
        lines.append(f'driver_path = "{driver_dir}"')
    return "\n".join(lines)


def look(history: History) -> Mapping[str, float]:
    """Compute the medians of trials: seconds outside training and evaluation, and steps a second."""
    start_s, steps = [], []
    for trial in history.trials.values():
        end = trial.last.end
        assert end is not None
        outcome = end.outcome
        assert outcome.succeeded, outcome.message
        ended = from_json(Exit, read_json(exit_path(trial.last.path, 0)), where="exit")
        worked_s = (outcome.train_s or 0.0) + (outcome.eval_s or 0.0)
        start_s.append(ended.ended_at - ended.started_at - worked_s)
        steps.append((outcome.n_steps or 0) / (outcome.train_s or 1.0))
    return {"start_s": statistics.median(start_s), "steps": statistics.median(steps)}
