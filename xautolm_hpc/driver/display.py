"""What the driver shows of its run while it works."""

from collections.abc import Mapping
from pathlib import Path

from xautolm_hpc import gather
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.jobdir import End
from xautolm_hpc.launcher import JobState
from xautolm_hpc.run.journal import Journal
from xautolm_hpc.run.overview import fill_view
from xautolm_hpc.view import Phase, RunView, charges


class Display:
    """Shows a run as its driver sees it: the phase it is in, and the states of its jobs.

    Args:
        setup: What the search is run with.
        journal: What happened so far.

    Attributes:
        tracker: Knows the state of every job; gathering asks it and keeps it up to date.
        phase: What the driver is doing.
    """

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self.setup = setup
        self.journal = journal
        self.tracker = gather.JobTracker(
            outcome_grace_s=setup.outcome_grace_s(),
            pending_timeout_s=setup.profile.patience.pending_patience_h * 3600,
            redact=setup.redact,
            check=check_end,
        )
        self.phase = Phase.PROFILE
        self._unknown: set[Path] = set()

    def enter(self, phase: Phase) -> None:
        """Show that the driver begins something else."""
        self.phase = phase
        self.show({})

    def show(self, polled: Mapping[Path, End | None]) -> None:
        """Show the run as it is now.

        Args:
            polled: Attempts that were just looked at -> how they ended, ``None`` if they have not.
        """
        history, spent = self.journal.history, self.journal.spent()
        view = RunView(
            name=self.setup.search.name,
            phase=self.phase,
            generation=len(history.committed),
            n_generations=self.setup.search.budget.generations,
            spent=spent,
            charges=charges(self.setup.profile.cost.model_dump(), spent),
            objectives=self.setup.search.search.objectives,
        )
        now = self.setup.clock.now()
        self.setup.watcher.show(fill_view(view, history, states=self.tracker.states, now=now, polled=polled))
        self._warn_of_unknown(polled)

    def _warn_of_unknown(self, polled: Mapping[Path, End | None]) -> None:
        """Write a warning where jobs are waited for that Slurm does not know any more, as after a loss of its state."""
        states = {path: self.tracker.states.get(path) for path, end in polled.items() if end is None}
        unknown = {path: state for path, state in states.items() if state and state.state is JobState.UNKNOWN}
        new = [state for path, state in unknown.items() if path not in self._unknown]
        self._unknown = set(unknown)
        if new and self.setup.profile.launcher == "slurm":
            grace_s = self.tracker.outcome_grace_s
            self.setup.watcher.warn(
                f"{len(new)} {'job' if len(new) == 1 else 'jobs'} that should be there: {new[0].reason or 'unknown'}. "
                f"The outcome is waited for, {grace_s:g} s or while a heartbeat moves; without one the attempt is lost "
                "and tried again. Slurm's controller may have lost its state"
            )
