"""What a trial has done and used so far, and whether it may go on: a signal or its budget can end it between two steps.

The outcome of a failed trial is built from the same :class:`Progress` as that of a success.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

from xautolm_hpc.execution import Foretelling, StepMode
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.node import is_node_busy
from xautolm_hpc.train.costs.parts import Part, PartTimer
from xautolm_hpc.train.energy import EnergyReader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit.at_limit import HOPELESS_FACTOR, LimitPlan, LimitReachedError
from xautolm_hpc.train.limit.foreign_load import LoadMeter, no_load_meter
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
        n_steps: Planned optimiser steps.
        epochs: Planned passes over the training data.
        n_samples: Training samples seen, in all restarts.
        load: Time to import, load and tokenise.
        train: Time of training, evaluations on ``dev`` included.
        eval: Time of the evaluation on ``validation``.
        curve: Per epoch (epoch, train_loss, dev_loss, dev_f1, seconds of training so far).
        metrics: Metrics so far; those of ``dev`` are of the best epoch.
        dev_f1: Last F1 on ``dev``, 0..1, or ``None``.
        gpu_energy_before_j: Energy of earlier restarts; likewise ``cpu_energy_before_j``.
        retried_gpu_j: Energy of a first try that ran out of memory, 0 if there was none, ``None`` if unknown; likewise
            ``retried_cpu_j``.
        rss_elsewhere_bytes: Resident memory of the trial's other processes, 0 before they are asked; likewise
            ``gpu_memory_elsewhere_bytes``.
        peak_gpu_memory_bytes: Highest GPU memory of earlier restarts and this one, or ``None``.
        delay_s: Seconds by which others delayed training and evaluation, or ``None``.
        notes: What was done otherwise than a person may expect, for the outcome's message.
        step_mode: How optimiser steps were computed, ``None`` before training.
        step_reason: Why they were not captured although that was asked for, or ``None``.
        truncated: Whether training ended because the budget was used up, to evaluate the best state so far.
        load_parts_s: Part of ``load`` -> its seconds in this restart, in their order.
        parts: Measures the parts of ``train`` and ``eval``.
        epoch_parts_s: For each epoch of this restart, part -> its seconds.
    """

    phase: str = "load"
    step: int = 0
    n_steps: int = 0
    epochs: int = 0
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
    delay_s: float | None = None
    notes: list[str] = field(default_factory=list)
    step_mode: StepMode | None = None
    step_reason: str | None = None
    truncated: bool = False
    load_parts_s: dict[str, float] = field(default_factory=dict)
    parts: PartTimer = field(default_factory=PartTimer)
    epoch_parts_s: list[Mapping[Part, float]] = field(default_factory=list)

    @contextmanager
    def loading(self, part: str) -> Iterator[None]:
        """Measure a part of ``load``; one that comes again is added up."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.load_parts_s[part] = self.load_parts_s.get(part, 0.0) + time.monotonic() - began

    def load_summary(self) -> str:
        """Write a line for the log: the seconds of ``load`` and of its parts."""
        parts = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.load_parts_s.items())
        return f"load: {self.load.here_s:.2f} s ({parts})\n"

    def train_summary(self) -> str:
        """Write a line for the log: the seconds of training and of its parts, those of unfinished epochs left out."""
        parts = (f"{part} {sum(epoch.get(part, 0.0) for epoch in self.epoch_parts_s):.2f} s" for part in Part)
        return f"train: {self.train.here_s:.2f} s ({', '.join(parts)})\n"

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

    @property
    def schedule_share(self) -> float | None:
        """Share of the planned optimiser steps done, or ``None`` before they are planned."""
        return self.step / self.n_steps if self.n_steps else None

    @property
    def epochs_done(self) -> float | None:
        """Passes over the training data done, or ``None`` before they are planned."""
        return self.step * self.epochs / self.n_steps if self.n_steps else None

    @property
    def cpu_share(self) -> float | None:
        """Share of its cores that the trial got: 1 less the share of its time by which others delayed it."""
        elapsed_s = self.evaluation_time_s
        return None if self.delay_s is None or not elapsed_s else min(1.0, max(0.0, 1 - self.delay_s / elapsed_s))

    def energy_j(self, energy: EnergyReader, device: str) -> float | None:
        """Compute the energy of all restarts.

        Args:
            energy: The reader of this restart.
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
        # A checkpoint of the first try contains a part of that try's energy.
        return None if before_j is None else max(before_j, retried_j) + here_j


class Decision(IntEnum):
    """What happens after a step; where ranks differ the highest holds for all."""

    CONTINUE = 0
    FORETELL = 1
    PROBE = 2
    CUT = 3
    END = 4
    STOP = 5


class TrialBudget:
    """Decides between two steps whether the trial may go on.

    Attributes:
        agree: Returns the highest decision of all ranks of the trial; with one process its own.
        plan: What the trial does at its limit, and what it has measured to foresee it.
    """

    def __init__(
        self,
        progress: Progress,
        stop: StopFlag,
        *,
        time_limit_s: float,
        load: LoadMeter | None = None,
        delay_before_s: float = 0.0,
        plan: LimitPlan | None = None,
    ) -> None:
        """Keep what a decision depends on.

        Args:
            progress: What the trial has done so far.
            stop: Set by a signal.
            time_limit_s: Budget of training and evaluation together, in seconds.
            load: Measures how long others have delayed the trial; ``None`` leaves that unknown.
            delay_before_s: Seconds by which they delayed it in earlier restarts.
            plan: What the trial does at its limit; ``None`` lets it fail there.
        """
        self._progress = progress
        self._stop = stop
        self._time_limit_s = time_limit_s
        self._load = load or no_load_meter()
        self._delay_before_s = delay_before_s
        self._loading_delay_s = 0.0
        self.plan = plan or LimitPlan()
        self.agree: Callable[[int], int] = lambda decision: decision

    def begin(self) -> None:
        """Begin to count the delay: that of loading is not part of the budget."""
        self._loading_delay_s = self._load.delay_s() or 0.0

    def delay_s(self) -> float | None:
        """Return by how many seconds others have delayed training and evaluation, ``None`` if that is unknown."""
        here_s = self._load.delay_s()
        if here_s is None:
            return None
        return here_s - self._loading_delay_s + min(self._delay_before_s, self._progress.train.before_s)

    def check(self, *, ahead_s: float = 0.0) -> Decision:
        """Return if the trial may go on; all its ranks decide the same.

        Args:
            ahead_s: Foreseen seconds of what comes next and is of use as a whole alone.

        Returns:
            ``CONTINUE``, or what has to be foreseen first: ``FORETELL`` or ``PROBE``; an evaluation ignores that.

        Raises:
            StopRequestedError: A signal asked to stop; the trial can be resumed.
            LimitReachedError: What is left of the budget is kept for the evaluation of the best state so far.
            TrialError: The budget is used up, kind ``time_limit``; ``node_busy`` if others took much of it.
        """
        used_s = self._used_s()
        decision = Decision(self.agree(self._decide(used_s, ahead_s)))
        if decision is Decision.STOP:
            raise StopRequestedError
        if decision is Decision.END:
            raise self._used_up(used_s)
        if decision is Decision.CUT:
            raise self._used_up(used_s) if self._is_busy(used_s) else LimitReachedError(self._cut_text(used_s))
        return decision

    def foretell(self, n_left: int) -> None:
        """Forecast once whether the rest of the first epoch fits into what is left of the budget.

        Args:
            n_left: Optimiser steps that are left of it.

        Raises:
            TrialError: It needs twice as long, and others did not delay the trial; kind ``time_limit``.
        """
        self.plan.has_foretold = True
        used_s, step_s = self._used_s(), self.plan.step_timer.step_s or 0.0
        needed_s, left_s = n_left * step_s, self._time_limit_s - used_s
        is_hopeless = self.agree(int(needed_s > HOPELESS_FACTOR * max(left_s, 0.0)))
        text = (
            f"the rest of the first epoch was foretold to take {needed_s:.1f} s after step {self._progress.step}, "
            f"{left_s:.1f} s were left of the budget of {self._time_limit_s:g} s"
        )
        sys.stderr.write(f"{text}\n")
        if not is_hopeless or self._is_busy(used_s):
            return
        if self.plan.foretell is Foretelling.OBEY:
            raise TrialError(FailureKind.TIME_LIMIT, text)
        self._progress.notes.append(text)

    def _used_s(self) -> float:
        """Return what is used of the budget: an evaluation that a restart cut off, and that begins anew, is not."""
        progress = self._progress
        return (progress.evaluation_time_s or 0.0) - progress.eval.before_s

    def _decide(self, used_s: float, ahead_s: float) -> Decision:
        """Decide for this rank alone."""
        progress, plan = self._progress, self.plan
        if self._stop.requested:
            return Decision.STOP
        if plan.evaluates and progress.step and progress.phase != "eval":
            if used_s + ahead_s + plan.kept_s(self._time_limit_s) > self._time_limit_s:
                return Decision.CUT
        elif used_s > self._time_limit_s:
            return Decision.END
        if progress.step == 0 or progress.phase == "eval":
            return Decision.CONTINUE
        is_first = not progress.curve and not progress.train.before_s  # a restart has foretold before
        if is_first and plan.may_foretell(used_s, time_limit_s=self._time_limit_s):
            return Decision.FORETELL
        return Decision.PROBE if plan.must_probe(used_s, time_limit_s=self._time_limit_s) else Decision.CONTINUE

    def _is_busy(self, used_s: float) -> bool:
        return self._is_delayed(self.delay_s(), used_s)

    def _is_delayed(self, delay_s: float | None, used_s: float) -> bool:
        """Check whether others delayed the trial much; if one of the ranks was delayed, all were."""
        return bool(self.agree(int(is_node_busy(delay_s, used_s))))

    def _cut_text(self, used_s: float) -> str:
        progress = self._progress
        return (
            f"truncated: {used_s:.1f} of {self._time_limit_s:g} s were used after step {progress.step} of "
            f"{progress.n_steps}; the rest was kept for the evaluation"
        )

    def _used_up(self, used_s: float) -> TrialError:
        """Describe a budget that is used up."""
        progress, delay_s = self._progress, self.delay_s()
        is_busy = self._is_delayed(delay_s, used_s)
        text = (
            f"the budget of {self._time_limit_s:g} s for training and evaluation was used up after step "
            f"{progress.step} of {progress.n_steps}, in phase {progress.phase}"
        )
        if is_busy:
            text += f"; {describe_delay(delay_s, used_s)}"
        elif self.plan.evaluates and progress.phase == "eval":
            kept_s = self.plan.kept_s(self._time_limit_s)
            text += f"; the evaluation took longer than the {kept_s:.1f} s that were kept for it"
        return TrialError(FailureKind.NODE_BUSY if is_busy else FailureKind.TIME_LIMIT, text)


def describe_delay(delay_s: float | None, elapsed_s: float) -> str:
    """Describe how long others delayed a trial."""
    share = "on another node" if delay_s is None else f"by {delay_s:.1f} of {elapsed_s:.1f} s"
    return f"other processes of the node kept the trial from running {share}"
