"""A test that is skipped without a listed reason makes the run fail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SKIPS_PATH, accepted_skips

SKIPPING = 'import pytest\n\n\ndef test_nothing() -> None:\n    pytest.skip("no scale")\n'


@pytest.fixture
def suite_dir(tmp_path: Path) -> Path:
    """Give a suite of one test that skips itself, under this project's conftest.py."""
    shutil.copy(SKIPS_PATH.with_name("conftest.py"), tmp_path / "conftest.py")
    (tmp_path / "test_weight.py").write_text(SKIPPING)
    return tmp_path


def _run(suite_dir: Path, skips: str) -> subprocess.CompletedProcess[str]:
    (suite_dir / "skips.toml").write_text(skips)
    command = [sys.executable, "-m", "pytest", "--rootdir", str(suite_dir), "-c", "/dev/null", str(suite_dir)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _entry(**keys: str) -> str:
    return "[[skip]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


def test_a_skip_that_is_not_listed_fails_the_run_and_is_named(suite_dir: Path) -> None:
    done = _run(suite_dir, "")

    assert done.returncode == 1
    assert re.search(r"test_weight.py::test_nothing: .*no scale", done.stdout)


def test_a_skip_that_is_listed_with_a_reason_passes(suite_dir: Path) -> None:
    done = _run(suite_dir, _entry(tests="test_weight.py::*", reason="scales are rare"))

    assert done.returncode == 0


def test_a_skip_for_want_of_a_folder_fails_where_the_folder_is(suite_dir: Path) -> None:
    here = str(suite_dir)

    done = _run(suite_dir, _entry(tests="test_weight.py::*", reason="no folder", only_if_absent=here))

    assert done.returncode == 1


def test_a_skip_for_want_of_a_folder_passes_where_it_is_absent(suite_dir: Path) -> None:
    gone = str(suite_dir / "gone")

    done = _run(suite_dir, _entry(tests="test_weight.py::*", reason="no folder", only_if_absent=gone))

    assert done.returncode == 0


def test_a_module_skipped_as_a_whole_counts_as_a_skip(suite_dir: Path) -> None:
    (suite_dir / "test_weight.py").write_text('import pytest\n\npytest.importorskip("no_such_module")\n')

    done = _run(suite_dir, "")

    assert "test_weight.py: " in done.stdout
    assert "does not list" in done.stdout
    assert done.returncode != 0


def test_an_entry_without_a_reason_is_refused(tmp_path: Path) -> None:
    (tmp_path / "skips.toml").write_text(_entry(tests="tests/gpu/*"))

    with pytest.raises(ValueError, match="needs tests and reason"):
        accepted_skips(tmp_path / "skips.toml")
