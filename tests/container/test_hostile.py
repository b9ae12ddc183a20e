"""Images and nodes that are not as they should be: each a clear message, and a failure of the infrastructure."""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from containers.dev.offline import ROOT_DIR, OfflinePlace
from tests.container.searching import PYTHON, left_behind
from tests.submit.jobs import make_attempt, submission_of
from tests.submit.test_wrapper import exit_of
from xautolm_hpc.failures import origin_of
from xautolm_hpc.image import Bind, Container, read_image
from xautolm_hpc.jobdir import Exit

pytestmark = [pytest.mark.container, pytest.mark.timeout(900)]

CALL = "import sys; from xautolm_hpc.submit.wrapper import run_member; run_member(sys.argv[1], 0, job_id='1')"
ARCHITECTURE_OFFSET = 32 + 10 + 3
Change = Callable[[Container], Container]


@pytest.fixture(scope="session")
def whole(image: Path) -> Container:
    """Build the container of a whole image on a sound node."""
    return Container(
        program="apptainer",
        image=str(image),
        image_stamp=read_image(image, machine=os.uname().machine).stamp,
        image_sha256="cd" * 32,
        lock_sha256=None,
        binds=(),
        writable=(),
        program_dir="/opt/xautolm",
        nv=False,
        scratch_dir=None,
        options=(),
        verify_key=None,
    )


@pytest.fixture(scope="session")
def small(place: OfflinePlace, whole: Container) -> Container:
    """Build the container of a small signed image, with its key."""
    folder = place.folder / "small"
    lines = [
        f"mkdir -p {folder}/tree/bin {folder}/tree/tmp {folder}/tree/etc && cd {folder}",
        "openssl genpkey -algorithm ed25519 -out own.pem && openssl pkey -in own.pem -pubout -out own.pub",
        "openssl genpkey -algorithm ed25519 -out other.pem && openssl pkey -in other.pem -pubout -out other.pub",
        "apptainer build small.sif tree && apptainer sign --key own.pem small.sif",
    ]
    made = place.run("sh", "-ec", "\n".join(lines))
    assert made.returncode == 0, made.stderr
    return _with_image(replace(whole, verify_key=str(folder / "own.pub")), folder / "small.sif")


def _with_image(container: Container, path: Path) -> Container:
    return replace(container, image=str(path), image_stamp=read_image(path, machine=os.uname().machine).stamp)


def run(place: OfflinePlace, container: Container, name: str) -> tuple[Exit, str]:
    """Run the wrapper of one attempt as the ordinary user; return its exit file and the worker's log."""
    folder = place.folder / name
    attempt_dir = make_attempt(folder / "a", container=container, argv=("/opt/worker/bin/python", "-c", "0"))
    members_path = submission_of(folder / "submission", attempt_dir).folder / "members.json"
    owner = place.folder.stat()
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", str(folder)], check=True)
    done = place.run(PYTHON, "-c", CALL, str(members_path), environ={"PYTHONPATH": str(ROOT_DIR)})
    assert done.returncode == 0, done.stderr
    log = attempt_dir / "stderr"
    return exit_of(attempt_dir), log.read_text() if log.exists() else ""


def test_a_sound_image_runs_and_leaves_nothing(place: OfflinePlace, whole: Container) -> None:
    ended, words = run(place, whole, "sound")

    assert (ended.returncode, ended.ended_by) == (0, None), words
    assert left_behind(place) == []


def first_bytes(container: Container, path: Path, *, architecture: bytes | None = None) -> Container:
    """Copy the beginning of an image, as a broken copy would."""
    with Path(container.image).open("rb") as file:
        raw = bytearray(file.read(2**20))
    if architecture is not None:
        raw[ARCHITECTURE_OFFSET : ARCHITECTURE_OFFSET + len(architecture)] = architecture
    path.write_bytes(raw)
    return replace(container, image=str(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated", "is cut short: it has 1048576 bytes"),
        ("foreign", "is for arm64 processors, this machine is amd64"),
        ("missing", "does not exist"),
        ("replaced", "was replaced since the driver looked at it"),
        ("bind", "`/nowhere/data`, which is to be bound into the image, does not exist on this node"),
    ],
)
def test_a_wrong_image_or_node_is_reported_and_is_no_evidence(
    place: OfflinePlace, whole: Container, name: str, message: str
) -> None:
    path = place.folder / f"{name}.sif"
    changes: dict[str, Change] = {
        "truncated": lambda c: first_bytes(c, path),
        "foreign": lambda c: first_bytes(c, path, architecture=b"04"),
        "missing": lambda c: replace(c, image=str(path)),
        "replaced": lambda c: replace(c, image_stamp="an earlier build"),
        "bind": lambda c: replace(c, binds=(Bind(source="/nowhere/data", target="/data"),)),
    }

    ended, _ = run(place, changes[name](whole), name)

    assert ended.ended_by == "launch_failure"
    assert message in (ended.message or "")
    assert origin_of(ended.ended_by) == "infrastructure"
    assert left_behind(place) == []


def test_an_unsigned_image_one_of_another_key_and_one_changed_since_are_refused(
    place: OfflinePlace, whole: Container, small: Container
) -> None:
    folder = place.folder / "small"
    changed_path = folder / "changed.sif"
    shutil.copy(small.image, changed_path)
    raw = bytearray(changed_path.read_bytes())
    raw[raw.index(b"hsqs") + 8] ^= 1  # the time of creation, in the squashfs that the image holds
    changed_path.write_bytes(raw)
    cases = {
        "unsigned": replace(whole, verify_key=small.verify_key),
        "other-key": replace(small, verify_key=str(folder / "other.pub")),
        "changed": _with_image(small, changed_path),
    }

    ends = {name: run(place, container, name)[0] for name, container in cases.items()}
    accepted, _ = run(place, small, "accepted")

    for ended in ends.values():
        assert ended.ended_by == "launch_failure"
        assert "has no valid signature of the key" in (ended.message or "")
    assert "no valid signature" not in (accepted.message or "")
    assert "/opt/worker/bin/python: no such file or directory" in (accepted.message or "")
    assert accepted.ended_by == "launch_failure"


def test_a_full_scratch_is_a_storage_failure(place: OfflinePlace, whole: Container) -> None:
    full_dir = place.folder / "full"
    mounted = f"mkdir {full_dir} && mount -t tmpfs -o size=64k,mode=777 tmpfs {full_dir}"
    subprocess.run(
        place.argv("sh", "-c", f"{mounted} && head -c 60k /dev/zero > {full_dir}/x", as_root=True), check=True
    )

    ended, _ = run(place, replace(whole, scratch_dir=str(full_dir)), "disk-full")

    assert ended.ended_by == "storage"
    assert "No space left on device" in (ended.message or "")
    assert origin_of(ended.ended_by) == "infrastructure"
