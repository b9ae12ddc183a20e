"""What the start-up of trials costs, and what several trials in a job save of it."""

from collections.abc import Sequence
from dataclasses import dataclass

ASSUMED_START_S = 8.0
"""Seconds until a worker has imported its libraries, where ``doctor --job`` has not measured them."""

WORTH_SAYING = 0.2
"""Share of the time of jobs that other settings must save to be proposed."""

PROPOSED = 10
"""Trials in a job that are proposed, at least, where a generation has as many for each slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartUp:
    """Start-up and work of the trials of a search.

    Attributes:
        start_s: Seconds that a worker's imports take.
        is_measured: Whether ``doctor --job`` measured them for this profile.
        trial_s: Estimated seconds of a trial on average, start-up not included.
        is_calibrated: Whether past trials on such nodes went into the estimate; else it is the least.
        trials_per_job: Trials that a job runs.
    """

    start_s: float
    is_measured: bool
    trial_s: float
    is_calibrated: bool
    trials_per_job: int

    def saved_share(self, n: int) -> float:
        """Compute the share of the time of jobs that n trials in each save, compared with one.

        Args:
            n: Trials in a job, at least 1.
        """
        return self.start_s * (1 - 1 / n) / (self.start_s + self.trial_s)


def plan_start_up(
    trials_s: Sequence[float], *, trials_per_job: int, start_s: float | None, is_calibrated: bool
) -> StartUp | None:
    """Describe start-up and work of the trials that a search draws first.

    Args:
        trials_s: Estimated seconds of each; 0 where the hardware is unknown.
        trials_per_job: Trials that a job runs.
        start_s: Seconds of a worker's imports, or ``None`` if nobody measured them.
        is_calibrated: Whether past trials went into the estimates.

    Returns:
        The description; ``None`` where nothing is known of the trials' durations.
    """
    if not trials_s or not all(trials_s):
        return None
    return StartUp(
        start_s=ASSUMED_START_S if start_s is None else start_s,
        is_measured=start_s is not None,
        trial_s=sum(trials_s) / len(trials_s),
        is_calibrated=is_calibrated,
        trials_per_job=trials_per_job,
    )


def start_up_notes(start_up: StartUp | None, *, has_one_process: bool, population: int, n_parallel: int) -> list[str]:
    """Write what several trials in a job save, and what more of them would if that is a fifth of the time or more.

    Args:
        start_up: What is known.
        has_one_process: Whether a trial is one process; others cannot share a job.
        population: Trials of a generation.
        n_parallel: Jobs that run at a time; trials that share a job while one of these is idle only wait.
    """
    if start_up is None or not has_one_process:
        return []
    n, up_to = start_up.trials_per_job, "" if start_up.is_calibrated else "up to "
    source = "by doctor --job" if start_up.is_measured else "not measured here: doctor --job does"
    least = "about" if start_up.is_calibrated else "at least"
    why = f"a worker starts for {start_up.start_s:.1f} s ({source}), a trial takes {least} {start_up.trial_s:.1f} s"
    saved, more = start_up.saved_share(n), min(max(PROPOSED, 2 * n), -(-population // n_parallel))
    further = (start_up.saved_share(more) - saved) / (1 - saved)
    lines = [f"job.trials_per_job = {n} saves {up_to}{saved:.0%} of the time of jobs: {why}"] if n > 1 else []
    if further >= WORTH_SAYING:
        key = f"job.trials_per_job = {more} in the cluster profile"
        lines.append(f"{key} would save {up_to}{further:.0%} of the time of jobs: {why}")
    return lines
