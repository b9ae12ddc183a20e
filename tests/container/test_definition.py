"""The definition of the image and what it is made from; nothing here needs Apptainer."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from containers import image
from containers.dev.apptainer import DevApptainerError
from xautolm_hpc import __version__

NOT_THE_WORKERS = {"h5py", "submitit", "matplotlib"}
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==", flags=re.MULTILINE)


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_the_definition_renders_with_version_lock_and_torch(torch: str) -> None:
    arguments = image.build_arguments(torch, mirror="http://archive.example/debian", wheels_dir="/w")

    text = image.render(torch, arguments)

    assert "{{" not in text
    assert f"lock/torch-{torch}.txt /opt/lock/torch.txt" in text
    assert f"org.opencontainers.image.version {__version__}" in text
    assert f"xautolm.lock.sha256 {image.lock_sha256(torch)}" in text
    assert "MirrorURL: http://archive.example/debian" in text


def test_the_definition_of_the_drivers_image_renders_and_its_lock_has_no_torch() -> None:
    arguments = image.build_arguments("driver", mirror="http://archive.example/debian", wheels_dir="/w")

    text = image.render("driver", arguments)

    names = {name for path in image.lock_parts("driver") for name in PIN.findall(path.read_text())}
    assert "{{" not in text
    assert {"submitit", "h5py"} <= names
    assert not names & {"torch", "transformers"}


@pytest.mark.parametrize("torch", ["cpu", "cuda"])
def test_the_lock_of_an_image_has_torch_and_nothing_of_the_driver(torch: str) -> None:
    names = {name for path in image.lock_parts(torch) for name in PIN.findall(path.read_text())}

    assert {"torch", "transformers", "peft", "accelerate", "datasets"} <= names
    assert not names & NOT_THE_WORKERS


def test_the_image_for_gpus_pins_the_cuda_libraries_that_torch_brings() -> None:
    names = set(PIN.findall(image.lock_parts("cuda")[-1].read_text()))

    assert any(name.startswith("nvidia-") for name in names)
    assert "triton" in names


def test_an_image_is_named_by_definition_and_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAUTOLM_IMAGE_DIR", str(tmp_path))
    cpu, cuda = image.image_path("cpu"), image.image_path("cuda")
    changed = tmp_path / "worker.def"
    recipe = image.RECIPES["cpu"]
    changed.write_text(recipe.definition_path.read_text() + "\n# changed\n")

    monkeypatch.setitem(image.RECIPES, "cpu", replace(recipe, definition_path=changed))

    assert cpu.parent == tmp_path
    assert len({cpu, cuda, image.image_path("cpu")}) == 3


def test_an_argument_without_a_value_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "worker.def"
    path.write_text("From: {{ base }}\n")
    monkeypatch.setitem(image.RECIPES, "cpu", replace(image.RECIPES["cpu"], definition_path=path))

    with pytest.raises(DevApptainerError, match=r"worker.def: there is no value for base"):
        image.render("cpu", {"mirror": "m"})


def test_no_archive_is_written_down() -> None:
    for path in (image.ROOT_DIR / "containers").rglob("*"):
        if path.suffix in {".def", ".py", ".md"}:
            assert not re.search(r"https?://", path.read_text()), path
