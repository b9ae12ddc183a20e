"""What a killed attempt of several nodes has used: every node's last heartbeat, progress of the first alone."""

from pathlib import Path

from tests.nouns import claim
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.durable import write_json
from xautolm_hpc.gather.traces import Evidence, read_evidence
from xautolm_hpc.gather.verdict import verdict
from xautolm_hpc.jobdir import Heartbeat, claim_path, heartbeat_path
from xautolm_hpc.launcher import JobState, JobStatus
from xautolm_hpc.records import to_json


def _killed(folder: Path, *beats: tuple[int, int, Heartbeat]) -> Path:
    """Leave what an attempt leaves that was killed: a claim for each restart, and heartbeats of its nodes."""
    for restart, node, beat in beats:
        write_json(claim_path(folder, restart), to_json(claim(job_id="7", restart=restart)))
        write_json(heartbeat_path(folder, restart, node=node), to_json(beat))
    return folder


def test_energy_of_all_nodes_and_restarts_is_added_up_and_time_counted_once(tmp_path: Path) -> None:
    first = Heartbeat(at=5.0, phase="train", step=3, train_s=20.0, gpu_energy_j=100.0, cpu_energy_j=7.0)
    other = Heartbeat(at=5.0, phase="load", gpu_energy_j=60.0, cpu_energy_j=3.0)
    again = Heartbeat(at=9.0, phase="train", step=5, train_s=4.0, gpu_energy_j=10.0, cpu_energy_j=1.0)

    attempt_dir = _killed(tmp_path, (0, 0, first), (0, 1, other), (1, 0, again))

    outcome = verdict(_evidence(attempt_dir), now=10.0).outcome
    assert (outcome.kind, outcome.train_s) == ("node_failure", 24.0)
    assert (outcome.gpu_energy_j, outcome.cpu_energy_j) == (170.0, 11.0)


def test_delays_of_restarts_add_up_and_the_most_delayed_node_counts(tmp_path: Path) -> None:
    beats = [
        Heartbeat(at=5.0, phase="train", delay_s=1.0),
        Heartbeat(at=5.0, phase="load", delay_s=4.0),
        Heartbeat(at=9.0, phase="train", delay_s=0.5),
        Heartbeat(at=9.0, phase="load"),
    ]

    attempt_dir = _killed(tmp_path, *zip((0, 0, 1, 1), (0, 1, 0, 1), beats, strict=True))

    assert _evidence(attempt_dir).delay_s == 4.5


def test_a_delay_that_nobody_measured_is_unknown(tmp_path: Path) -> None:
    attempt_dir = _killed(tmp_path, (0, 0, Heartbeat(at=5.0, phase="train", train_s=20.0)))

    assert _evidence(attempt_dir).delay_s is None


def test_energy_no_heartbeat_tells_is_unknown(tmp_path: Path) -> None:
    attempt_dir = _killed(tmp_path, (0, 0, Heartbeat(at=5.0, phase="train", train_s=20.0)))

    outcome = verdict(_evidence(attempt_dir), now=10.0).outcome

    assert (outcome.gpu_energy_j, outcome.cpu_energy_j, outcome.energy_source) == (None, None, "none")


def _evidence(attempt_dir: Path) -> Evidence:
    return read_evidence(attempt_dir, JobStatus(state=JobState.NODE_FAIL), redact=str, check=check_end)
