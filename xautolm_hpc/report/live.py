"""Progress displays of a running search: a live table on a terminal, lines in a log file, or nothing."""

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO, Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from xautolm_hpc.node import Clock, SystemClock
from xautolm_hpc.report.frame import STARTED, best_text, draw_frame, spent_text
from xautolm_hpc.report.quantities import counted
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.screen import harmless
from xautolm_hpc.view import RunView, TrialView, Watcher

PHASES = {
    "profile": "profile: measuring the task and the system",
    "priors": "priors: weighing past experiences",
    "test": "test: evaluating the Pareto set",
    "report": "report: writing tables and figure",
    "done": "done",
}
"""Phase -> its line in a log; generations and commits have their own lines."""


class OpenView(Watcher, Protocol):
    """Progress display for a ``with`` block; leaves the terminal as it was."""

    def __enter__(self) -> Self:
        """Start the display."""
        ...

    def __exit__(self, *details: object) -> None:
        """Stop the display, also after an error."""
        ...


class _View:
    """Base of the displays: nothing to start or stop."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        return None


class QuietView(_View):
    """Progress display that shows nothing but warnings."""

    def show(self, view: RunView) -> None:
        """Show nothing."""

    def log(self, text: str) -> None:
        """Show nothing."""

    def warn(self, text: str) -> None:
        """Print a warning to standard error."""
        sys.stderr.write(f"xautolm-hpc: {one_line(text)}\n")
        sys.stderr.flush()


class NotedView(QuietView):
    """Progress display that shows nothing and keeps what is logged.

    Attributes:
        lines: The lines, in their order.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.lines.append(text)


class LiveView(_View):
    """Live table of the present generation on a terminal; log lines scroll above it.

    Args:
        console: A terminal.
        clock: Time; elapsed times advance between two polls.
    """

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._view: RunView | None = None
        self._shown_at = 0.0
        self._live = Live(console=console, get_renderable=self._frame, refresh_per_second=1, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._live.stop()

    def show(self, view: RunView) -> None:
        """Show the run as it is now."""
        self._shown_at, self._view = self._clock.now(), view
        if self._live.is_started:
            self._live.refresh()

    def log(self, text: str) -> None:
        """Print one line above the table."""
        self._live.console.print(harmless(text))

    def warn(self, text: str) -> None:
        """Print a warning above the table."""
        self.log(text)

    def _frame(self) -> Text:
        """Build the display; called at every poll and, from a thread of rich, once a second."""
        view, since_s = self._view, self._clock.now() - self._shown_at
        if view is None:
            return Text()
        size = self._live.console.size
        return draw_frame(view, since_s=max(0.0, since_s), width=size.width, height=size.height)


class PlainView(_View):
    """Prints each change once, as a line, for log files and pipes.

    The search itself logs how each trial ended and which generation was committed. This display adds the phases, the
    trials that started, and counts and cost after each commit.

    Args:
        stream: Output; flushed after every line.
        clock: Time, for the timestamp of each line.
    """

    def __init__(self, stream: IO[str], clock: Clock | None = None) -> None:
        self._stream = stream
        self._clock = clock or SystemClock()
        self._phase = ""
        self._note = ""
        self._n_generations: int | None = None
        self._started: set[tuple[int, int]] = set()

    def show(self, view: RunView) -> None:
        """Print what changed since the last call."""
        if view.phase != self._phase and view.phase in PHASES:
            self.log(PHASES[view.phase])
        if view.note and view.note != self._note:
            self.log(view.note)
        self._log_committed(view)
        self._log_started(view.trials)
        self._phase, self._note = view.phase, view.note

    def log(self, text: str) -> None:
        """Print one line with a timestamp in UTC."""
        at = datetime.fromtimestamp(self._clock.now(), UTC)
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        known = one_line(text).encode(encoding, "backslashreplace").decode(encoding)
        self._stream.write(f"{at:%Y-%m-%dT%H:%M:%SZ}  {known}\n")
        self._stream.flush()

    def warn(self, text: str) -> None:
        """Print a warning as any other line."""
        self.log(text)

    def _log_committed(self, view: RunView) -> None:
        """Print counts and cost after a commit, and once when a resumed run starts."""
        n_committed = view.spent.n_generations
        if n_committed != (self._n_generations or 0):
            planned = view.n_generations
            generations = counted(n_committed if planned is None else planned, "generation")
            done = generations if planned is None else f"{n_committed} of {generations}"
            self.log(
                f"{done} done: {counted(view.n_succeeded, 'trial')} succeeded, {view.n_failed} failed; "
                f"{best_text(view.best)}; {spent_text(view.spent)}"
            )
        self._n_generations = n_committed

    def _log_started(self, trials: Iterable[TrialView]) -> None:
        """Print a line for each attempt seen running for the first time."""
        for trial in trials:
            key = (trial.trial, trial.attempt)
            if trial.state in STARTED and key not in self._started:
                self._started.add(key)
                attempt = f" (attempt {trial.attempt})" if trial.attempt else ""
                where = f" on {trial.node}" if trial.node else ""
                self.log(f"trial {trial.trial}{attempt} {trial.model} {trial.method}: started{where}")


def choose_view(console: Console, *, quiet: bool) -> OpenView:
    """Return the display that fits: a live table on a terminal, lines elsewhere, nothing when ``quiet``.

    Args:
        console: Output.
        quiet: Whether to show nothing.
    """
    if quiet:
        return QuietView()
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else PlainView(console.file)
