"""A series of trials in one worker: the failure of one does not reach the others."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.nouns import claim
from tests.train.attempts import command
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, OUTCOME, Claim, Command, Exit, claim_path, exit_path, write_members
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.train.series import run_series
from xautolm_hpc.train.stop import StopFlag

LIMITS = command(time_limit_s=60.0, wall_limit_s=60.0, n_threads=1)
CLAIM = claim(job_id="j", node="n", claimed_at=1.0)


def _series(tmp_path: Path, n: int, limits: Command = LIMITS) -> list[Path]:
    dirs = [tmp_path / f"trial-{i}" for i in range(n)]
    for path in dirs:
        path.mkdir()
        write_json(path / COMMAND, to_json(limits))
    write_members(tmp_path / "series", dirs)
    write_json(claim_path(tmp_path / "series", 0), to_json(CLAIM))
    return dirs


def _exit(path: Path) -> Exit:
    return from_json(Exit, read_json(exit_path(path, 0)), where=str(path))


def test_a_trial_that_crashes_ends_no_other(tmp_path: Path) -> None:
    dirs = _series(tmp_path, 4)

    def run_one(attempt_dir: Path) -> int:
        os.write(1, f"from {attempt_dir.name}\n".encode())
        if attempt_dir.name == "trial-1":
            os.kill(os.getpid(), signal.SIGKILL)
        if attempt_dir.name == "trial-2":
            raise ValueError("broken")
        (attempt_dir / OUTCOME).write_text(str(os.getpid()))
        return 0

    status = run_series(tmp_path / "series", run_one, stop=StopFlag())

    assert status == 0
    assert [_exit(path).returncode for path in dirs] == [0, -signal.SIGKILL, 1, 0]
    assert "ValueError: broken" in (dirs[2] / "stderr").read_text()
    assert (dirs[3] / "stdout").read_text() == "from trial-3\n"
    pids = {(path / OUTCOME).read_text() for path in (dirs[0], dirs[3])}
    assert len(pids) == 2
    assert str(os.getpid()) not in pids
    claims = [from_json(Claim, read_json(claim_path(path, 0)), where="claim") for path in dirs]
    assert {claim.job_id for claim in claims} == {"j"}


@pytest.mark.parametrize(
    ("limits", "ended_by"),
    [({"wall_limit_s": 0.5}, "time_limit"), ({"memory_bytes": 2**20}, "host_oom")],
)
def test_the_limits_of_a_trial_are_enforced(tmp_path: Path, limits: dict[str, float], ended_by: str) -> None:
    dirs = _series(tmp_path, 2, replace(LIMITS, **limits))  # type: ignore[arg-type]

    def run_one(attempt_dir: Path) -> int:
        if attempt_dir.name == "trial-0":
            signal.pause()
        return 0

    run_series(tmp_path / "series", run_one, stop=StopFlag())

    first = _exit(dirs[0])
    assert (first.returncode, first.ended_by) == (-signal.SIGKILL, ended_by)
    assert "limit was" in str(first.message)
    assert exit_path(dirs[1], 0).exists()


def test_what_has_ended_or_begun_is_left_alone(tmp_path: Path) -> None:
    dirs = _series(tmp_path, 3)
    (dirs[0] / OUTCOME).write_text("ended")
    write_json(claim_path(dirs[1], 0), to_json(CLAIM))

    def run_one(attempt_dir: Path) -> int:
        (attempt_dir / OUTCOME).write_text("ran")
        return 0

    run_series(tmp_path / "series", run_one, stop=StopFlag())

    assert (dirs[0] / OUTCOME).read_text() == "ended"
    assert not (dirs[1] / OUTCOME).exists()
    assert (dirs[2] / OUTCOME).read_text() == "ran"


def test_a_series_that_is_asked_to_stop_begins_no_further_trial(tmp_path: Path) -> None:
    dirs = _series(tmp_path, 2)

    def run_one(attempt_dir: Path) -> int:
        signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(85))
        (attempt_dir / "begun").touch()
        signal.pause()
        return 0

    class WhenBegun(StopFlag):
        """Is set once the first trial has begun."""

        @property
        def requested(self) -> bool:
            return (dirs[0] / "begun").exists()

        @requested.setter
        def requested(self, value: bool) -> None:
            del value

    status = run_series(tmp_path / "series", run_one, stop=WhenBegun())

    assert status == 85
    assert not claim_path(dirs[1], 0).exists()
