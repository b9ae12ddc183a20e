"""A Slurm for the tests of what calls it."""

from pathlib import Path

import pytest

from tests.submit.fake_slurm import FakeSlurm


@pytest.fixture
def cluster(tmp_path: Path) -> FakeSlurm:
    return FakeSlurm(tmp_path)
