"""A search that ended, for tests of commands whose subject is not the profile job."""

from pathlib import Path

import pytest

from tests.searching import run_command
from tests.stub_search import write_stub_search


@pytest.fixture(scope="session")
def stub_run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a stub search whose profile job is real; others repeat that job without work."""
    folder = tmp_path_factory.mktemp("stub")
    write_stub_search(folder)
    done = run_command(folder, "run", "search.toml", "--quiet")
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "stub"
