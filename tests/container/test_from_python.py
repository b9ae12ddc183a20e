"""An image of an environment that is there: what is read of an interpreter, what is refused, what is copied."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from containers import environment, image
from containers.dev.apptainer import DevApptainerError
from containers.from_python import PythonEnvironment, read_pins, read_requirements

ASKED = ("torch==9.9", "transformers~=5.0")
OLD = """#!/bin/sh
case "$1" in -c) echo cpython ;; *) echo '{"python": "3.10.4", "packages": {}, "missing": {}, "unusable": {}}' ;; esac
"""


def install(site_dir: Path, name: str, *needs: str, version: str = "1.0", files: dict[str, str] | None = None) -> Path:
    """Write a package as pip does; return its folder of metadata."""
    info = site_dir / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Requires-Dist: {need}\n" for need in needs]
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{''.join(lines)}")
    contents = {f"{name.replace('-', '_')}.py": "", **(files or {})}
    for path, text in contents.items():
        (site_dir / path).write_text(text)
    (info / "RECORD").write_text("".join(f"{path},,\n" for path in contents))
    return info


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Make a virtual environment with `packaging` and small packages named like an image's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    site_dir = site_of(tmp_path / "venv/bin/python")
    packaging = distribution("packaging")
    for file in packaging.files or ():
        if ".." not in file.parts and "__pycache__" not in file.parts:
            (site_dir / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(str(packaging.locate_file(file)), site_dir / file)
    install(site_dir, "torch", "cuda-toolkit[blas]==13", 'not-here; sys_platform == "win32"', version="9.9")
    install(site_dir, "cuda-toolkit", 'nvidia-blas; extra == "blas"', 'nvidia-fft; extra == "fft"')
    install(site_dir, "nvidia-blas")
    install(site_dir, "nvidia-fft")
    install(site_dir, "transformers", "packaging")
    return tmp_path / "venv/bin/python"


def site_of(python: Path) -> Path:
    """Return the folder of an environment's packages."""
    return python.parents[1] / "lib" / environment.VERSION / "site-packages"


def test_packages_are_found_through_the_extras_and_markers_of_those_that_need_them(python: Path) -> None:
    found = PythonEnvironment.read(python, ASKED)

    assert found.packages == {
        "cuda-toolkit": "1.0",
        "nvidia-blas": "1.0",
        "packaging": distribution("packaging").version,
        "torch": "9.9",
        "transformers": "1.0",
    }
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_missing_packages_are_listed_with_who_needs_them_and_may_be_left_out_by_name(python: Path) -> None:
    shutil.rmtree(site_of(python) / "torch-9.9.dist-info")
    install(site_of(python), "peft", "hub")

    with pytest.raises(
        DevApptainerError, match=r"lacks hub \(needed by peft\), torch \(needed by the lock\)\. .*--without hub --wi"
    ):
        PythonEnvironment.read(python, [*ASKED, "peft"])
    with pytest.raises(DevApptainerError, match=r"lacks torch \(needed by the lock\)\. "):
        PythonEnvironment.read(python, [*ASKED, "peft"], without=["Hub"])
    assert "torch" not in PythonEnvironment.read(python, [*ASKED, "peft"], without=["hub", "torch"]).packages


def test_an_environment_without_any_package_is_refused(python: Path) -> None:
    shutil.rmtree(site_of(python))

    with pytest.raises(DevApptainerError, match=r"lacks packaging \(needed by transformers\)"):
        PythonEnvironment.read(python, ASKED)


@pytest.mark.parametrize("name", ["nowhere", "/bin/true", "/bin/ls", "README.md", "."])
def test_what_is_no_interpreter_is_refused(name: str) -> None:
    with pytest.raises(DevApptainerError, match=r"` is not a Python interpreter"):
        PythonEnvironment.read(image.ROOT_DIR / name, ASKED)


def test_a_python_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python3.10"
    old.write_text(OLD)
    old.chmod(0o755)

    with pytest.raises(DevApptainerError, match=r"python3.10` is Python 3.10.4; expected 3.11 or newer"):
        PythonEnvironment.read(old, ASKED)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ({"direct_url.json": '{"url": "file:///src", "dir_info": {"editable": true}}'}, "it is installed as editable"),
        ({"RECORD": None}, r"it has no list of its files \(RECORD\)"),
        ({"../to-source.pth": "/src/own\n", "RECORD": "to-source.pth,,\n"}, "its to-source.pth leads to /src/own"),
        ({"../up.pth": "import os\n../../other\n", "RECORD": "up.pth,,\n"}, r"its up.pth leads to \.\./\.\./other"),
    ],
)
def test_a_package_whose_code_lies_elsewhere_is_refused(
    python: Path, written: dict[str, str | None], reason: str
) -> None:
    info = install(site_of(python), "own")
    for name, text in written.items():
        (info / name).unlink(missing_ok=True)
        if text is not None:
            (info / name).write_text(text)

    with pytest.raises(DevApptainerError, match=rf"what cannot be copied: own: {reason}.*\. Install wheels instead"):
        PythonEnvironment.read(python, [*ASKED, "own"])


def test_paths_in_the_environment_itself_are_no_reason_to_refuse(python: Path) -> None:
    code = {"own.pth": "# the vendored ones\nvendored\nimport sys; sys.own = 1\n"}
    install(site_of(python), "own", files=code)
    (site_of(python) / "stray.pth").write_text("/src/of-no-package\n")

    assert PythonEnvironment.read(python, [*ASKED, "own"]).packages["own"] == "1.0"


def test_what_differs_from_the_lock_is_named_and_hashed(tmp_path: Path) -> None:
    lock = tmp_path / "part.txt"
    lock.write_text(
        "torch==2.13.0 \\\n    --hash=sha256:00\n    # via peft\nnumpy==2.4.6 \\\n    --hash=sha256:11\n"
        "Peft==1 ; sys_platform == 'linux' \\\n    --hash=sha256:22\ncolorama==1 ; sys_platform == 'win32'\n"
    )
    pins = read_pins([lock])
    same = PythonEnvironment(Path("/python"), (), python="3.11.2", packages={**pins})
    other = PythonEnvironment(
        Path("/python"), (), python="3.12.3", packages={"torch": "2.11", "peft": "1", "dill": "2"}
    )

    assert pins == {"torch": "2.13.0", "numpy": "2.4.6", "peft": "1"}
    assert same.differences(pins) == []
    assert other.differences(pins) == ["python=3.12.3", "dill=2", "numpy=none", "torch=2.11"]
    assert other.sha256 != same.sha256


def test_the_definition_keeps_the_sections_of_the_released_one_and_claims_no_lock_that_is_not_in_it() -> None:
    packages = {**read_pins(image.lock_parts("cuda")), "torch": "2.11.0+cu130"}
    other = PythonEnvironment(Path("/opt/own/python"), (), python="3.12.3", packages=packages)

    text = image.render_from_python("cuda", other, root=Path("/stage/root"))

    released = image.render("cuda", image.build_arguments("cuda", mirror="", wheels_dir=""))
    assert text.startswith("Bootstrap: localimage\nFrom: /stage/root\n\n%environment\n")
    for section, following in [("%environment", "%test"), ("%test", "%labels"), ("%runscript", "%help")]:
        assert released[released.index(section) : released.index(following)] in text
    assert "xautolm.lock.differs python=3.12.3,torch=2.11.0+cu130\n" in text
    assert f"xautolm.lock.compared {image.lock_sha256('cuda')}\n" in text
    assert f"xautolm.lock.sha256 {other.sha256}\n" in text
    assert "Python 3.12.3 and every package" in text
    assert not {"%post", "%files", "3.11", "debian-packages"} & set(text.replace(" ", "\n").split("\n"))


def test_an_image_is_named_by_what_the_environment_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XAUTOLM_IMAGE_DIR", str(tmp_path))
    one = PythonEnvironment(Path("/python"), (), python="3.11.2", packages={"torch": "1"})
    updated = PythonEnvironment(Path("/python"), (), python="3.11.2", packages={"torch": "2"})

    paths = {image.image_path("cpu"), *(image.image_path("cpu", environment=each) for each in (one, updated))}

    assert len(paths) == 3
    assert all(path.name.startswith("worker-cpu-") for path in paths)


def test_the_lock_asks_for_what_the_self_test_imports() -> None:
    asked = read_requirements(image.lock_parts("cuda"))

    assert {"datasets", "psutil", "nvidia-ml-py", "torch==2.13.0"} <= set(asked)
    assert not [line for line in asked if "#" in line]


def test_the_base_of_a_virtual_environment_is_copied_and_runs_from_where_it_was_copied_to(tmp_path: Path) -> None:
    root = tmp_path / "root"

    copied = environment.copy_interpreter(root)
    environment.copy_system(root, copied)

    program = root / "opt/python/bin" / environment.VERSION
    code = "import sys, ctypes, hashlib, sqlite3; print(sys.prefix, sys.base_prefix, *sys.path[1:])"
    done = subprocess.run(
        [str(program), "-I", "-c", code],
        env={"LD_LIBRARY_PATH": str(root / environment.OWN_LIBRARIES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert {word for word in done.stdout.split() if not word.startswith(str(root / "opt/python"))} == set()
    assert (root / "opt/worker/bin/python").readlink() == Path(f"/opt/python/bin/{environment.VERSION}")
    for library in environment.libraries_of([Path(os.path.realpath(sys.executable))]):
        here = root / Path(os.path.realpath(library.parent)).relative_to("/") / library.name
        assert here.exists() or (root / environment.OWN_LIBRARIES / library.name).exists(), library
    assert (root / "etc/ld.so.cache").stat().st_size > 0
    assert not list(root.rglob("libcuda.so*"))


def test_files_of_packages_are_copied_without_scripts_and_readable_for_all(tmp_path: Path) -> None:
    site_dir, target = tmp_path / "site", tmp_path / "target"
    info = install(site_dir, "own", files={"data.txt": "x"})
    (tmp_path / "script").touch()
    (info / "RECORD").write_text("own.py,,\ndata.txt,,\n../script,,\ngone.py,,\n")
    (site_dir / "data.txt").chmod(0o600)
    (found,) = Distribution.discover(path=[str(site_dir)])

    copied = environment.copy_packages({"own": found}, target)

    assert sorted(path.name for path in copied) == ["data.txt", "own.py"]
    assert sorted(path.name for path in tmp_path.rglob("target/**/*")) == ["data.txt", "own.py"]
    assert (target / "data.txt").stat().st_mode & 0o777 == 0o644


def test_options_for_an_interpreter_are_refused_for_the_drivers_image(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        image.main(["path", "--driver", "--from-python", sys.executable])
    assert "--from-python is for the worker's image" in capsys.readouterr().err
    assert image.main(["path", "--from-python", "nowhere"]) == 2
    assert "nowhere` is not a Python interpreter" in capsys.readouterr().err
