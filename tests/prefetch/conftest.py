"""What the tests of prefetch share: a hub that serves the repository of the test's module over loopback."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.prefetch.hub import Hub, serve


@pytest.fixture
def hub(_repository: Path, tmp_path: Path) -> Iterator[Hub]:
    """Serve the files that the module's own fixture ``_repository`` made."""
    shutil.copytree(_repository, tmp_path / "served")
    with serve(tmp_path / "served") as running:
        yield running
