"""What a trial has done and cost so far, and the two things that may end it between steps: a signal, its budget.

Everything here survives a failure: the outcome of a failed trial is built from the same :class:`Progress`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.stop import StopFlag, StopRequestedError


class Stopwatch:
    """Seconds spent inside ``with`` blocks, readable while one is open.

    Attributes:
        before_s: Seconds of earlier restarts, from their checkpoint.
    """

    def __init__(self) -> None:
        self.before_s = 0.0
        self._closed_s = 0.0
        self._opened_at: float | None = None
        self._was_opened = False

    def __enter__(self) -> None:
        self._opened_at = time.monotonic()
        self._was_opened = True

    def __exit__(self, *_: object) -> None:
        self._closed_s = self.here_s
        self._opened_at = None

    @property
    def here_s(self) -> float:
        """Seconds in this restart."""
        return self._closed_s + (0.0 if self._opened_at is None else time.monotonic() - self._opened_at)

    @property
    def total_s(self) -> float:
        """Seconds in all restarts."""
        return self.before_s + self.here_s

    @property
    def measured_s(self) -> float | None:
        """Seconds in all restarts, or ``None`` if it never ran."""
        return self.total_s if self._was_opened or self.before_s else None


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a trial has done so far.

    Attributes:
        phase: ``load``, ``train``, ``eval`` or ``done``.
        step: Optimiser steps done, in all restarts.
        n_steps: Optimiser steps planned.
        n_samples: Training samples seen, in all restarts.
        load: Time to import, load and tokenise.
        train: Time of training, evaluations on ``dev`` included.
        eval: Time of the evaluation on ``validation``.
        curve: Per epoch (epoch, train_loss, dev_loss, dev_f1).
        metrics: Metrics so far; those of ``dev`` are of the best epoch.
        dev_f1: Last F1 on ``dev``, 0..1, or ``None``.
        gpu_energy_before_j: Energy of earlier restarts; likewise ``cpu_energy_before_j``.
        retried_gpu_j: Energy of a first try that ran out of memory, 0 if there was none, ``None`` if unknown; likewise
            ``retried_cpu_j``.
        rss_elsewhere_bytes: Resident memory of the trial's other processes, once they have told; likewise
            ``gpu_memory_elsewhere_bytes``.
        peak_gpu_memory_bytes: Highest GPU memory of earlier restarts and this one, or ``None``.
    """

    phase: str = "load"
    step: int = 0
    n_steps: int = 0
    n_samples: int = 0
    load: Stopwatch = field(default_factory=Stopwatch)
    train: Stopwatch = field(default_factory=Stopwatch)
    eval: Stopwatch = field(default_factory=Stopwatch)
    curve: list[tuple[float, ...]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    dev_f1: float | None = None
    gpu_energy_before_j: float | None = None
    cpu_energy_before_j: float | None = None
    retried_gpu_j: float | None = 0.0
    retried_cpu_j: float | None = 0.0
    rss_elsewhere_bytes: int = 0
    gpu_memory_elsewhere_bytes: int = 0
    peak_gpu_memory_bytes: int | None = None

    @property
    def all_gpu_memory_bytes(self) -> int | None:
        """Highest GPU memory of all processes together, or ``None`` without a GPU."""
        peak = self.peak_gpu_memory_bytes
        return None if peak is None else peak + self.gpu_memory_elsewhere_bytes

    @property
    def evaluation_time_s(self) -> float | None:
        """Seconds of training and evaluation, or ``None`` before training."""
        train_s = self.train.measured_s
        return None if train_s is None else train_s + self.eval.total_s

    def energy_j(self, energy: EnergyReader, device: str) -> float | None:
        """Add the energy of this restart to that of the earlier ones.

        Args:
            energy: Knows what this restart used.
            device: ``gpu`` or ``cpu``.

        Returns:
            Joules, or ``None`` if any part is unknown; the first restart has no earlier ones.
        """
        here_j = energy.energy_j(device)
        is_gpu = device == "gpu"
        before_j = self.gpu_energy_before_j if is_gpu else self.cpu_energy_before_j
        retried_j = self.retried_gpu_j if is_gpu else self.retried_cpu_j
        if here_j is None or retried_j is None:
            return None
        if self.train.before_s == 0:
            return retried_j + here_j
        # A checkpoint of the first try has counted part of what that try used.
        return None if before_j is None else max(before_j, retried_j) + here_j


GO_ON, END, STOP = range(3)
"""What a process wishes between two steps, the strongest last."""


class Watch:
    """Asked between steps whether the trial may go on.

    Attributes:
        agree: Gives the strongest wish of all processes of the trial; alone, a process's own.
    """

    def __init__(self, progress: Progress, stop: StopFlag, *, time_limit_s: float) -> None:
        """Watch a trial.

        Args:
            progress: What it has done so far.
            stop: Set by a signal.
            time_limit_s: Budget of training and evaluation together, in seconds.
        """
        self._progress = progress
        self._stop = stop
        self._time_limit_s = time_limit_s
        self.agree: Callable[[int], int] = lambda wish: wish

    def check(self) -> None:
        """Go on, or end the trial here, on all its processes alike.

        Raises:
            StopRequestedError: A signal asked to stop; the trial can be resumed.
            TrialError: The budget is used up, kind ``time_limit``.
        """
        used_s = self._progress.evaluation_time_s or 0.0
        wish = STOP if self._stop.requested else END if used_s > self._time_limit_s else GO_ON
        wish = self.agree(wish)
        if wish == STOP:
            raise StopRequestedError
        if wish == END:
            progress = self._progress
            raise TrialError(
                "time_limit",
                f"the budget of {self._time_limit_s:g} s for training and evaluation was used up after step "
                f"{progress.step} of {progress.n_steps}, in phase {progress.phase}",
            )
