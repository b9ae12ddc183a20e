"""The command that runs a worker inside an image, its environment, and its scratch."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.sif import write_sif
from tests.submit.jobs import make_attempt
from tests.submit.test_wrapper import exit_of, run_wrapper
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import ImageError
from xautolm_hpc.failures import origin_of
from xautolm_hpc.image import Bind, Container, read_image
from xautolm_hpc.jobdir import COMMAND, Command
from xautolm_hpc.records import from_json
from xautolm_hpc.submit.apptainer import container_argv, container_environment, find_driver, scratch

CONTAINER = Container(
    program="apptainer",
    image="/images/worker.sif",
    image_stamp="1",
    image_sha256="cd" * 32,
    lock_sha256="ab" * 32,
    binds=(Bind(source="/src/xautolm_hpc", target="/opt/xautolm/xautolm_hpc"), Bind(source="/hf", target="/hf")),
    writable=(),
    program_dir="/opt/xautolm",
    nv=False,
    scratch_dir=None,
    options=("--no-mount", "bind-paths"),
    verify_key=None,
)


def argv_of(container: Container) -> list[str]:
    return container_argv(container, ["python", "-m", "m"], attempt_dir="/runs/a", scratch_dir="/local/x")


def test_only_the_attempt_and_scratch_are_bound_for_writing() -> None:
    assert " ".join(argv_of(CONTAINER)) == (
        "apptainer exec --containall --cleanenv --home /local/x/home:/scratch/home --workdir /local/x/work "
        "--bind /local/x/caches:/scratch/caches:rw --bind /src/xautolm_hpc:/opt/xautolm/xautolm_hpc:ro "
        "--bind /hf:/hf:ro --bind /runs/a:/runs/a:rw --pwd /runs/a --no-mount bind-paths /images/worker.sif "
        "python -m m /runs/a"
    )
    assert "/split:/split:rw" in argv_of(replace(CONTAINER, writable=("/split",)))
    assert "--nv" in argv_of(replace(CONTAINER, nv=True))


def test_the_worker_gets_the_allowed_variables_and_none_of_the_hosts_places() -> None:
    inside = {
        "PATH": "/host/bin",
        "HOME": "/home/me",
        "TMPDIR": "/local",
        "LD_LIBRARY_PATH": "/host/lib",
        "HF_HUB_OFFLINE": "1",
        "SLURM_JOB_ID": "7",
        "CUDA_VISIBLE_DEVICES": "0",
    }

    assert container_environment(CONTAINER, inside, scratch_dir="/local/x") == {
        "PATH": "/local/x/bin:/host/bin",
        "HOME": "/home/me",
        "APPTAINERENV_HF_HUB_OFFLINE": "1",
        "APPTAINERENV_SLURM_JOB_ID": "7",
        "APPTAINERENV_CUDA_VISIBLE_DEVICES": "0",
        "APPTAINERENV_PYTHONPATH": "/opt/xautolm",
        "APPTAINERENV_XAUTOLM_SCRATCH": "/scratch/caches",
        "APPTAINERENV_XAUTOLM_IMAGE_DIGEST": "cd" * 32,
        "APPTAINERENV_XAUTOLM_LOCK_HASH": "ab" * 32,
    }


def test_the_drivers_own_place_is_the_library_path_inside() -> None:
    inside = {"LD_LIBRARY_PATH": "/host/lib"}
    container = replace(CONTAINER, nv=True, driver_path="/opt/driver")

    passed = container_environment(container, inside, scratch_dir="/local/x")

    assert passed["APPTAINERENV_LD_LIBRARY_PATH"] == "/opt/driver"


def test_a_driver_is_found_by_the_library_path_then_where_sites_put_it_but_not_beside_the_c_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, system, known = (tmp_path / name for name in ("own", "system", "known"))
    for folder in (own, system, known):
        folder.mkdir()
        (folder / "libcuda.so.1").touch()
    (system / "libc.so.6").touch()
    monkeypatch.setattr("xautolm_hpc.submit.apptainer.DRIVER_DIRS", ("/nowhere", str(known)))

    assert find_driver({"LD_LIBRARY_PATH": f"/nowhere::{system}:{own}"}) == str(own)
    assert find_driver({"LD_LIBRARY_PATH": str(system)}) == str(known)
    assert find_driver({}) == str(known)
    (known / "libcuda.so.1").unlink()
    assert find_driver({}) is None


def command_with(folder: Path, container: Container) -> Command:
    attempt_dir = make_attempt(folder, container=container)
    return from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND)


def test_scratch_lies_where_the_profile_or_tmpdir_says_and_goes(tmp_path: Path) -> None:
    for name in ("local", "named", "job"):
        (tmp_path / name).mkdir()
    environ = {"TMPDIR": str(tmp_path / "local"), "JOB_DIR": str(tmp_path / "job")}
    plain = command_with(tmp_path / "a", CONTAINER)
    named = command_with(tmp_path / "b", replace(CONTAINER, scratch_dir=str(tmp_path / "named")))
    variable = command_with(tmp_path / "c", replace(CONTAINER, scratch_dir="$JOB_DIR"))

    for command, place in ((plain, "local"), (named, "named"), (variable, "job")):
        with scratch(command, tmp_path / "a", environ=environ) as folder:
            assert folder.parent == tmp_path / place
            assert (folder / "work" / "tmp" / (tmp_path / "a").relative_to("/tmp")).is_dir()
        assert not folder.exists()
    unset = command_with(tmp_path / "d", replace(CONTAINER, scratch_dir="$NOT_SET/x"))
    with (
        pytest.raises(ImageError, match=r"\$NOT_SET is not set on this node"),
        scratch(unset, tmp_path / "a", environ={}),
    ):
        pass


def test_a_worker_with_the_nodes_driver_is_told_where_the_node_has_it(tmp_path: Path) -> None:
    image = read_image(write_sif(tmp_path / "worker.sif"), machine="x86_64")
    program = tmp_path / "apptainer"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    program.chmod(0o700)
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "libcuda.so.1").touch()
    environments = {}

    for nv in (True, False):
        container = replace(
            CONTAINER, image=str(image.path), image_stamp=image.stamp, program=str(program), binds=(), nv=nv
        )
        attempt_dir = make_attempt(tmp_path / f"nv-{nv}", container=container)
        run_wrapper(tmp_path, attempt_dir, slurm={"SLURM_JOB_ID": "7", "LD_LIBRARY_PATH": str(tmp_path / "driver")})
        environments[nv] = (tmp_path / "environment").read_text().splitlines()

    line = f"APPTAINERENV_XAUTOLM_NODE_DRIVER={tmp_path}/driver"
    assert [line in environments[nv] for nv in (True, False)] == [True, False]
    assert not any(word.startswith("APPTAINERENV_LD_LIBRARY_PATH=") for word in environments[True])


def test_a_driver_path_without_a_driver_or_with_the_c_library_ends_the_job(tmp_path: Path) -> None:
    image = read_image(write_sif(tmp_path / "worker.sif"), machine="x86_64")
    ends = {}
    for name, files in {"empty": [], "system": ["libcuda.so.1", "libc.so.6"]}.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).touch()
        container = replace(
            CONTAINER,
            image=str(image.path),
            image_stamp=image.stamp,
            program="false",
            binds=(),
            driver_path=str(tmp_path / name),
        )
        attempt_dir = make_attempt(tmp_path / f"of-{name}", container=container)
        run_wrapper(tmp_path, attempt_dir)
        ends[name] = exit_of(attempt_dir)

    assert "[container] driver_path, holds no libcuda.so.1 on this node" in (ends["empty"].message or "")
    assert "[container] driver_path, holds this node's libc.so.6 too" in (ends["system"].message or "")
    assert {ended.ended_by for ended in ends.values()} == {"launch_failure"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "/nowhere/worker.sif"}, "image `/nowhere/worker.sif` does not exist"),
        ({"image_stamp": "another"}, "was replaced since the driver looked at it"),
        ({"program": "no-such-apptainer"}, "`no-such-apptainer` is not on PATH of this node"),
        ({"binds": (Bind(source="/nowhere/x", target="/x"),)}, "`/nowhere/x`, which is to be bound into the image"),
        ({"scratch_dir": "/nowhere/scratch"}, "No such file or directory: '/nowhere/scratch/"),
        ({"verify_key": "/nowhere/key.pem"}, "has no valid signature of the key `/nowhere/key.pem`"),
    ],
)
def test_what_is_wrong_with_an_image_is_an_infrastructure_failure_in_clear_words(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    image = read_image(write_sif(tmp_path / "worker.sif"), machine="x86_64")
    whole = replace(CONTAINER, image=str(image.path), image_stamp=image.stamp, program="false", binds=())
    attempt_dir = make_attempt(tmp_path / "a", container=replace(whole, **change))  # type: ignore[arg-type]

    run_wrapper(tmp_path, attempt_dir)

    ended = exit_of(attempt_dir)
    assert ended.ended_by == "launch_failure"
    assert message in (ended.message or "")
    assert origin_of(ended.ended_by) == "infrastructure"
    assert not (attempt_dir / "stdout").exists()
