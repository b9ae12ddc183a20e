"""The worker's environment is looked at without a job."""

import json
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.doctor.sites import make_site
from tests.stub_search import write_stub_search
from xautolm_hpc import cli
from xautolm_hpc.doctor import Site
from xautolm_hpc.doctor.packages import PACKAGES, check_worker_packages

ROOT_DIR = Path(__file__).parents[2]


def site_with(folder: Path, launcher: str, script: str) -> Site:
    """Make a site whose worker's Python is a script."""
    python = folder / "python"
    python.write_text(script)
    python.chmod(0o755)
    site = make_site(folder, launcher=launcher, worker_python=str(python))
    return replace(site, inputs=replace(site.inputs, environ={"PATH": "/usr/bin:/bin"}))


def lacking(*names: str) -> str:
    return f"#!/bin/sh\necho '{json.dumps({'python': [3, 12], 'missing': names})}'\n"


@pytest.mark.parametrize(("launcher", "level"), [("local", "failure"), ("slurm", "warning")])
def test_a_worker_without_torch_is_named_with_what_to_install(tmp_path: Path, launcher: str, level: str) -> None:
    (finding,) = check_worker_packages(site_with(tmp_path, launcher, lacking("torch", "sklearn")))

    assert (finding.level, finding.check) == (level, "worker's packages")
    assert finding.found.startswith(f"`{tmp_path}/python` lacks torch, scikit-learn")
    assert "pip install 'xautolm-hpc[worker]'" in finding.remedy


def test_a_worker_that_lacks_what_only_energy_needs_can_run_trials(tmp_path: Path) -> None:
    (finding,) = check_worker_packages(site_with(tmp_path, "local", lacking("pynvml")))

    assert (finding.level, "energy of GPUs stays unknown" in finding.found) == ("warning", True)


def test_a_python_without_site_packages_lacks_them_really(tmp_path: Path) -> None:
    (finding,) = check_worker_packages(site_with(tmp_path, "local", f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n'))

    assert finding.level == "failure"
    assert "torch, transformers" in finding.found


def test_an_old_python_is_named(tmp_path: Path) -> None:
    script = '#!/bin/sh\necho \'{"python": [3, 9], "missing": ["torch"]}\'\n'

    (finding,) = check_worker_packages(site_with(tmp_path, "local", script))

    assert finding.found == f"`{tmp_path}/python` is Python 3.9, older than 3.11"


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho hello\n", "#!/bin/sh\necho '[1]'\n"])
def test_a_program_that_is_no_python_is_a_warning(tmp_path: Path, script: str) -> None:
    (finding,) = check_worker_packages(site_with(tmp_path, "local", script))

    assert finding.level == "warning"


def test_the_command_says_so_without_a_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site_with(tmp_path, "local", lacking("torch"))
    (tmp_path / "site.toml").write_text('worker_python = "./python"\n')

    status = cli.main(["doctor", str(tmp_path / "site.toml"), "--runs-dir", str(tmp_path / "runs")])

    assert status == 4
    assert "lacks torch" in capsys.readouterr().out


def test_the_packages_are_those_of_the_worker_extra() -> None:
    project = tomllib.loads((ROOT_DIR / "pyproject.toml").read_text())["project"]
    extra = {line.partition(">")[0] for line in project["optional-dependencies"]["worker"]}

    assert set(PACKAGES.values()) == extra | {"xautolm-hpc"}


def test_a_run_on_this_machine_does_not_begin_without_torch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = write_stub_search(tmp_path)
    (tmp_path / "worker").write_text(lacking("torch"))

    status = cli.main(["run", str(search), "--runs-dir", str(tmp_path / "runs")])

    assert status == 2
    assert capsys.readouterr().err.count("lacks torch") == 1
    assert not (tmp_path / "runs").exists()
