"""Heartbeats: the progress of an attempt, written at intervals, so that it is known even if the attempt is killed."""

import contextlib
import json
import threading
import time
from pathlib import Path

from xautolm_hpc.jobdir import Heartbeat, to_wire
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.limit.foreign_load import LoadMeter, no_load_meter
from xautolm_hpc.train.limit.trial_budget import Progress


class HeartbeatWriter:
    """Writes heartbeats from a thread while its ``with`` block is open."""

    def __init__(
        self,
        path: Path | None,
        progress: Progress,
        *,
        energy: EnergyReader,
        interval_s: float,
        load: LoadMeter | None = None,
    ) -> None:
        """Prepare to write heartbeats.

        Args:
            path: File to replace each time; ``None`` writes none.
            progress: What the trial has done so far.
            energy: What it has used so far.
            interval_s: Seconds between two heartbeats.
            load: Measures how long others have delayed it; ``None`` leaves that unknown.
        """
        self._path = path
        self._progress = progress
        self._energy = energy
        self._interval_s = interval_s
        self._load = load or no_load_meter()
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)

    def __enter__(self) -> "HeartbeatWriter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.beat()  # the last one counts where the job is killed before it writes its outcome

    def enter(self, phase: str) -> None:
        """Begin a phase and write a heartbeat at once."""
        self._progress.phase = phase
        self.beat()

    def beat(self) -> None:
        """Write a heartbeat now; if the file system refuses, the trial goes on without this one.

        The file is renamed into place without fsync. A crash of the machine may lose one heartbeat; an fsync would load
        the shared file system in every interval of every trial.
        """
        if self._path is None:
            return
        progress = self._progress
        heartbeat = Heartbeat(
            at=time.time(),
            phase=progress.phase,
            step=progress.step,
            n_steps=progress.n_steps,
            train_s=progress.train.here_s,
            gpu_energy_j=self._energy.energy_j("gpu"),
            cpu_energy_j=self._energy.energy_j("cpu"),
            dev_f1=progress.dev_f1,
            delay_s=self._load.delay_s(),
        )
        aside = self._path.with_name(f".{self._path.name}.tmp")
        with self._writing, contextlib.suppress(OSError):
            aside.write_text(json.dumps(to_wire(heartbeat)))
            aside.replace(self._path)

    def _beat_on(self) -> None:
        while not self._ended.wait(self._interval_s):
            self.beat()
