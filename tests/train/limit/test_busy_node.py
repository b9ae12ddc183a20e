"""Real trials beside busy processes: what the time limit says then, and what their times are worth."""

from pathlib import Path

from tests.train.attempts import command, read_end, write_attempt
from tests.train.families import worker_job
from tests.train.limit.busy import busy_processes
from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import Heartbeat, heartbeat_path
from xautolm_hpc.records import from_json
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import run_trial


def test_a_time_limit_beside_busy_processes_is_no_evidence_on_the_pipeline(tmp_path: Path) -> None:
    endless = {"epochs": 100_000, "early_stopping_patience": 100_000}
    attempt_dir = write_attempt(tmp_path, params=endless, limits=command(time_limit_s=4.0))

    with busy_processes():
        run_trial(worker_job(attempt_dir), StopFlag())

    outcome = read_end(attempt_dir).outcome
    assert (outcome.kind, outcome.origin) == ("node_busy", "infrastructure"), outcome.message
    assert outcome.time_scope == "train+eval on a busy node"
    beat = from_json(Heartbeat, read_json(heartbeat_path(attempt_dir, 0)), where="heartbeat")
    assert beat.delay_s is not None
    assert beat.delay_s > 0.2


def test_the_times_of_a_success_beside_busy_processes_are_marked(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path, "full", params={"epochs": 4, "early_stopping_patience": 4})

    with busy_processes():
        run_trial(worker_job(attempt_dir), StopFlag())

    outcome = read_end(attempt_dir).outcome
    assert (outcome.status, outcome.time_scope) == ("succeeded", "train+eval on a busy node")
    assert outcome.message is None
    assert outcome.evaluation_time_s is not None
