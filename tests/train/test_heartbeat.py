"""Heartbeats say how far a trial is and what it has used, from the first moment of each phase."""

import time
from pathlib import Path

from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import Heartbeat
from xautolm_hpc.records import from_json
from xautolm_hpc.train.energy import Counter, EnergyReader
from xautolm_hpc.train.heartbeat import HeartbeatWriter
from xautolm_hpc.train.limit.trial_budget import Progress

NEVER_S = 3600.0


def _read(path: Path) -> Heartbeat:
    return from_json(Heartbeat, read_json(path), where=path.name)


def test_a_phase_is_on_disk_as_soon_as_it_begins(tmp_path: Path) -> None:
    progress = Progress(step=4, n_steps=9, dev_f1=0.5)
    readings = iter([10.0, 13.0])
    energy = EnergyReader([Counter(device="gpu", read_j=lambda: next(readings))])
    energy.begin()
    energy.end()
    before_at = time.time()
    progress.train.before_s = 1000.0  # of earlier restarts: their own heartbeats record it

    with HeartbeatWriter(tmp_path / "beat.json", progress, energy=energy, interval_s=NEVER_S) as heartbeat_writer:
        heartbeat_writer.enter("eval")

    beat = _read(tmp_path / "beat.json")
    assert before_at <= beat.at <= time.time()
    assert (beat.phase, beat.step, beat.n_steps, beat.dev_f1, beat.train_s) == ("eval", 4, 9, 0.5, 0.0)
    assert (beat.gpu_energy_j, beat.cpu_energy_j) == (3.0, None)
    assert [path.name for path in tmp_path.iterdir()] == ["beat.json"]
    assert "delay_s" not in read_json(tmp_path / "beat.json")  # earlier versions refuse the key


def test_heartbeats_go_on_during_a_phase_with_time_running(tmp_path: Path) -> None:
    progress = Progress()
    path = tmp_path / "beat.json"
    deadline = time.monotonic() + 20

    with HeartbeatWriter(path, progress, energy=EnergyReader([]), interval_s=0.01), progress.train:
        while time.monotonic() < deadline and not (path.exists() and _read(path).train_s > 0):
            time.sleep(0.005)

    assert _read(path).train_s > 0


def test_a_file_system_that_refuses_costs_a_heartbeat_not_the_trial(tmp_path: Path) -> None:
    with HeartbeatWriter(
        tmp_path / "gone" / "beat.json", Progress(), energy=EnergyReader([]), interval_s=NEVER_S
    ) as heartbeat_writer:
        heartbeat_writer.enter("train")

    assert list(tmp_path.iterdir()) == []
