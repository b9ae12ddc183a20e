"""The display of a running search: header, table of trials and note, as high as the terminal allows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from xautolm_hpc.launcher import JobState
from xautolm_hpc.report.quantities import J_PER_KWH, UNKNOWN, duration_text, stopwatch_text
from xautolm_hpc.report.screen import harmless
from xautolm_hpc.view import BestTrial, RunView, Spent, TrialView

STARTED = (JobState.RUNNING, JobState.COMPLETING, JobState.SUSPENDED)
ENDED = ("SUCCEEDED", "FAILED")
STYLES: Mapping[str, str] = {
    JobState.RUNNING: "cyan",
    JobState.COMPLETING: "cyan",
    JobState.SUSPENDED: "magenta",
    "SUCCEEDED": "green",
    "FAILED": "red",
}
WAITING_STYLE = "yellow"
N_OTHER_LINES = 9
"""Lines of a frame that are not trials: header, the table's head and rules, and a margin for the terminal."""

BAR_WIDTH = 10
COLUMNS = {"Trial": 5, "Model": 8, "Method": 6, "State": 9, "Node": 5, "Elapsed": 7, "Steps": 4, "F1": 6}
"""Column heading -> least width on a narrow terminal, in characters."""

TO_RIGHT = ("Trial", "Elapsed", "F1")


def draw_frame(view: RunView, *, since_s: float, height: int) -> Group:
    """Build the display of a run at one moment.

    Args:
        view: The run at the last poll.
        since_s: Seconds since that poll; added to the elapsed time of running trials.
        height: Lines of the terminal. Running trials are shown first; trials that do not fit are counted.
    """
    parts: list[RenderableType] = [_header(view)]
    if view.trials:
        parts.append(_trials(view.trials, since_s=since_s, n_rows=max(3, height - N_OTHER_LINES)))
    if view.note:
        parts.append(harmless(view.note, "yellow"))
    return Group(*parts)


def print_view(view: RunView, console: Console) -> None:
    """Print a run as it is now, once, with all its trials."""
    console.print(draw_frame(view, since_s=0.0, height=N_OTHER_LINES + len(view.trials)))


def best_text(best: BestTrial | None) -> str:
    """Write the best trial so far and its F1."""
    if best is None:
        return "no trial succeeded yet"
    return f"best F1 {best.f1:.4f} (trial {best.trial}, {best.model}, {best.method})"


def spent_text(spent: Spent) -> str:
    """Write what a run has cost; energy only where it was measured."""
    parts = [f"{duration_text(spent.wall_s)} wall", f"{duration_text(spent.trial_s)} of trials"]
    if spent.gpu_s > 0:
        parts.append(f"{spent.gpu_s / 3600:.2f} GPU-hours")
    if spent.energy_j is not None:
        parts.append(f"{spent.energy_j / J_PER_KWH:.3g} kWh")
    return ", ".join(parts)


def _header(view: RunView) -> Text:
    """Write three lines: name and phase of the run, its counts and cost, the best trial so far."""
    planned = "" if view.n_generations is None else f" ({view.generation + 1} of {view.n_generations})"
    is_search = view.phase in ("generation", "commit")
    phase = f"generation {view.generation}{planned}" if is_search else view.phase
    text = harmless(view.name, "bold").append(f"  {phase}", style="bold cyan")
    text.append(", committing" if view.phase == "commit" else "")
    text.append("\n").append(f"{view.n_succeeded} succeeded", style="green").append(", ")
    text.append(f"{view.n_failed} failed", style="red").append(f"   {spent_text(view.spent)}", style="dim")
    return text.append("\n").append_text(harmless(best_text(view.best), "bold green" if view.best else "dim"))


def _trials(trials: Sequence[TrialView], *, since_s: float, n_rows: int) -> Table:
    """Build the table of trials; if not all fit, running ones come first and the caption counts the others."""
    shown = _select_trials(trials, n_rows)
    rest = Counter(trial.state for trial in trials) - Counter(trial.state for trial in shown)
    caption = None if not rest else Text("not shown: " + ", ".join(f"{n} {state}" for state, n in sorted(rest.items())))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for heading, least in COLUMNS.items():
        justify: Literal["left", "right"] = "right" if heading in TO_RIGHT else "left"
        table.add_column(heading, justify=justify, min_width=least, no_wrap=True, overflow="ellipsis")
    for trial in shown:
        table.add_row(*_cells(trial, since_s=since_s))
    return table


def _select_trials(trials: Sequence[TrialView], n_rows: int) -> list[TrialView]:
    if len(trials) <= n_rows:
        return list(trials)
    by_interest = sorted(trials, key=lambda t: (t.state not in STARTED, t.state in ENDED, t.trial))
    return sorted(by_interest[:n_rows], key=lambda trial: trial.trial)


def _cells(trial: TrialView, *, since_s: float) -> tuple[Text | Table, ...]:
    """Write one trial's cells, in the order of :data:`COLUMNS`."""
    number = f"{trial.trial}.{trial.attempt}" if trial.attempt else str(trial.trial)
    state = f"{trial.state} {trial.reason}".strip()
    elapsed_s = trial.elapsed_s
    if elapsed_s is not None and trial.state == JobState.RUNNING:
        elapsed_s += since_s
    return (
        Text(number),
        harmless(trial.model.rpartition("/")[2]),
        harmless(trial.method),
        harmless(state, STYLES.get(trial.state, WAITING_STYLE)),
        harmless(trial.node or UNKNOWN),
        Text(UNKNOWN if elapsed_s is None else stopwatch_text(elapsed_s)),
        _progress(trial),
        Text(UNKNOWN if trial.f1 is None else f"{trial.f1:.4f}"),
    )


def _progress(trial: TrialView) -> Text | Table:
    """Draw the steps done as a bar with both numbers; empty for a trial that has ended."""
    if trial.n_steps <= 0 or trial.state in ENDED:
        return Text("")
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(no_wrap=True)
    bar = ProgressBar(total=trial.n_steps, completed=min(trial.step, trial.n_steps), width=BAR_WIDTH)
    grid.add_row(bar, Text(f"{trial.step}/{trial.n_steps}"))
    return grid
