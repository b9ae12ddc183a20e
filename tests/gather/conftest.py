"""An attempt, time, and what remembers both between two looks."""

from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.gather.looking import DAY_S, GRACE_S
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.gather import JobTracker
from xautolm_hpc.jobdir import PIPELINE


@pytest.fixture
def attempt_dir(tmp_path: Path) -> Path:
    path = tmp_path / "attempt-0"
    path.mkdir()
    (path / PIPELINE).write_text("{}")
    return path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def tracker() -> JobTracker:
    return JobTracker(
        outcome_grace_s=GRACE_S,
        pending_timeout_s=DAY_S,
        redact=lambda text: text.replace("hf_me", "***"),
        check=check_end,
    )
