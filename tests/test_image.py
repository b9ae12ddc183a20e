"""What an image's header says, and what is refused before anything is started."""

import hashlib
from pathlib import Path

import pytest

from tests.sif import write_sif
from xautolm_hpc.errors import ImageError
from xautolm_hpc.image import image_sha256, read_image

LABELS = {"xautolm.lock.sha256": "ab" * 32, "org.opencontainers.image.version": "1.2.3"}


def test_a_whole_image_says_what_it_was_made_from(tmp_path: Path) -> None:
    path = write_sif(tmp_path / "worker.sif", labels=LABELS)

    image = read_image(path, machine="x86_64")

    assert (image.architecture, image.labels, image.lock_sha256) == ("amd64", LABELS, "ab" * 32)
    assert image_sha256(path, stamp=image.stamp) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_image_of_another_origin_has_no_lock(tmp_path: Path) -> None:
    assert read_image(write_sif(tmp_path / "own.sif"), machine="x86_64").lock_sha256 is None


def test_an_image_built_anew_has_another_stamp(tmp_path: Path) -> None:
    first = read_image(write_sif(tmp_path / "a.sif", labels=LABELS), machine="x86_64")
    second = read_image(write_sif(tmp_path / "a.sif", labels=LABELS), machine="x86_64")

    assert first.stamp != second.stamp


@pytest.mark.parametrize("n_bytes", [33_500, 32_768, 5_000, 4_096, 200])
def test_an_image_that_is_cut_short_is_refused(tmp_path: Path, n_bytes: int) -> None:
    path = write_sif(tmp_path / "worker.sif", labels=LABELS)
    path.write_bytes(path.read_bytes()[:n_bytes])

    with pytest.raises(ImageError, match=rf"`{path}` is cut short: it has {n_bytes} bytes, its table speaks of \d+"):
        read_image(path, machine="x86_64")


def test_an_image_for_another_processor_is_refused(tmp_path: Path) -> None:
    path = write_sif(tmp_path / "worker.sif", architecture="04")

    with pytest.raises(ImageError, match="is for arm64 processors, this machine is amd64"):
        read_image(path, machine="x86_64")
    assert read_image(path, machine="aarch64").architecture == "arm64"


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.sif").touch()
    (tmp_path / "text.sif").write_text("#!/usr/bin/env run-singularity\n" * 20)

    for name, n_bytes in (("empty.sif", 0), ("text.sif", 620)):
        with pytest.raises(ImageError, match=rf"{name}` is no SIF image \({n_bytes} bytes\)"):
            read_image(tmp_path / name, machine="x86_64")
    with pytest.raises(ImageError, match=r"nowhere.sif` does not exist; see \[container\] image"):
        read_image(tmp_path / "nowhere.sif", machine="x86_64")
    with pytest.raises(ImageError, match="cannot be read: Is a directory"):
        read_image(tmp_path, machine="x86_64")
