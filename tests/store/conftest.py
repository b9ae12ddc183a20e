"""A store of this site, and the experiences of it that claims of others would hide."""

from pathlib import Path

import pytest

from tests.store.claims import make_ours
from tests.store.samples import experience


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Write a store of this site."""
    return make_ours(tmp_path / "ours")


@pytest.fixture
def victims() -> list[str]:
    """List the experiences of it that claims name."""
    return [experience(number).id for number in range(4)]
