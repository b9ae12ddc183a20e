"""A run whose driver left while all its jobs waited."""

from pathlib import Path

import pytest

from tests.driving import end_attempt, make_setup
from tests.fakes import FakeLauncher
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.errors import InterruptedSearchError
from xautolm_hpc.run.folder import RunDir


def leave_run(folder: Path) -> RunDir:
    """Begin a search, detach once its 4 trials are submitted, and take back whatever they wrote."""
    launcher = FakeLauncher(end_attempt)
    setup = make_setup(folder, launcher=launcher, n_interrupts=lambda: 2 * (len(launcher.submissions) > 1))
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(setup)
    for path in setup.run_dir.path.glob("gen-000/trial-*/attempt-0/*.json"):
        if path.name.startswith(("claim-", "outcome")):
            path.unlink()
    return setup.run_dir
