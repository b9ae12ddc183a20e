"""The display of a running search: header, table of trials and note, as high as the terminal allows."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.text import Text

from xautolm_hpc.failures import TRUNCATED
from xautolm_hpc.launcher import JobState
from xautolm_hpc.report.blocks import Table
from xautolm_hpc.report.quantities import QUANTITIES, UNKNOWN, duration_text, stopwatch_text
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.screen import harmless
from xautolm_hpc.report.table_layout import draw_table, table_width, wrap_text
from xautolm_hpc.view import (
    J_PER_KWH,
    BestTrial,
    Phase,
    RunView,
    Spent,
    TrialEnd,
    TrialView,
    charges_text,
)

STARTED = (JobState.RUNNING, JobState.COMPLETING, JobState.SUSPENDED)
ENDED = (TrialEnd.SUCCEEDED, TrialEnd.FAILED, JobState.FAILED)
STYLES: Mapping[JobState | TrialEnd, str] = {
    JobState.RUNNING: "cyan",
    JobState.COMPLETING: "cyan",
    JobState.SUSPENDED: "magenta",
    JobState.FAILED: "red",
    TrialEnd.SUCCEEDED: "green",
    TrialEnd.FAILED: "red",
}
WAITING_STYLE = "yellow"
N_TABLE_LINES = 4
"""Lines of a table of trials that are no trials: a blank one, headings, a rule, and what is not shown."""

N_MARGIN_LINES = 2
"""Lines of a terminal that a live display leaves free."""

LEAST_ROWS = 3
"""Trials shown however low the terminal is."""

NO_CONSOLE = Console(file=io.StringIO())
"""Asked by rich for the habits of a terminal where a text is broken into lines."""

BAR_WIDTH = 10
COLUMNS = ("Trial", "Model", "Method", "State", "Reason", "Node", "Elapsed", "Steps", "F1")
TO_RIGHT = frozenset({"Trial", "Elapsed", "F1"})
RANK = ("Trial", "State", "F1", "Elapsed", "Model", "Method", "Steps", "Reason", "Node")
"""Columns, those first that a narrow terminal keeps longest."""


def draw_frame(view: RunView, *, since_s: float, width: int, height: int | None = None) -> Text:
    """Draw a run at one moment.

    Args:
        view: The run at the last poll.
        since_s: Seconds since that poll; added to the elapsed time of running trials.
        width: Characters of a line.
        height: Lines of a live display: each trial gets one line, running trials are shown first, and those that do
            not fit are counted. ``None`` shows all trials whole.
    """
    head = _header(view, width)
    note = [Text(line, "yellow") for line in wrap_text(one_line(view.note), width)] if view.note else []
    if height is not None:
        head, note = _folded(head, width), _folded(note, width)
    trials = _trials(view.trials, since_s=since_s, width=width, n_lines=height and height - len(head) - len(note))
    return Text("\n", no_wrap=True, overflow="ignore").join([*head, *trials, *note])


def _folded(lines: Sequence[Text], width: int) -> list[Text]:
    """Break lines with a word that is longer than the display, which would cut it."""
    return [part for line in lines for part in (line.wrap(NO_CONSOLE, width) if line.cell_len > width else [line])]


def print_view(view: RunView, console: Console) -> None:
    """Print a run as it is now, once, with all its trials."""
    console.print(draw_frame(view, since_s=0.0, width=table_width(console)), soft_wrap=True)


def best_text(best: BestTrial | None) -> str:
    """Write the best trial so far and its value of the first objective."""
    if best is None:
        return "no trial succeeded yet"
    quantity = QUANTITIES[best.objective]
    value = quantity.text_with_unit(best.f1 if best.objective == "f1" else best.value)
    truncated = f", {TRUNCATED}" if best.truncated else ""
    return f"best {quantity.title} {value} (trial {best.trial}, {best.model}, {best.method}{truncated})"


def spent_text(spent: Spent, charged: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Write what a run has cost; energy only where it was measured, emissions and price only where rates are known.

    Args:
        spent: Time and energy.
        charged: Result of :func:`xautolm_hpc.view.charges`.
    """
    parts = [f"{duration_text(spent.wall_s)} wall", f"{duration_text(spent.trial_s)} of trials"]
    if spent.gpu_s > 0:
        parts.append(f"{spent.gpu_s / 3600:.2f} GPU-hours")
    if spent.energy_j is not None:
        parts.append(f"{spent.energy_j / J_PER_KWH:.3g} kWh")
    parts += [one_line(text) for text in charges_text(charged)]
    return ", ".join(parts)


def _header(view: RunView, width: int) -> list[Text]:
    """Write name and phase of the run, its counts and cost, the best trial so far."""
    planned = "" if view.n_generations is None else f" ({view.generation + 1} of {view.n_generations})"
    is_search = view.phase in (Phase.GENERATION, Phase.COMMIT)
    phase = f"generation {view.generation}{planned}" if is_search else view.phase
    title = harmless(view.name, "bold").append(f"  {phase}", style="bold cyan")
    title.append(", committing" if view.phase == Phase.COMMIT else "")
    counts = Text(f"{view.n_succeeded} succeeded", style="green").append(", ", style="default")
    counts.append(f"{view.n_failed} failed", style="red")
    spent = [Text(line, "dim") for line in wrap_text(spent_text(view.spent, view.charges), width)]
    if counts.cell_len + 3 + spent[0].cell_len <= width:
        spent[0] = counts.append("   ").append_text(spent[0])
    else:
        spent.insert(0, counts)
    style = "bold green" if view.best else "dim"
    return [title, *spent, *(Text(line, style) for line in wrap_text(one_line(best_text(view.best)), width))]


def _trials(trials: Sequence[TrialView], *, since_s: float, width: int, n_lines: int | None) -> list[Text]:
    """Draw the table of trials; if not all fit, running ones come first and the last line counts the others."""
    if not trials:
        return []
    n_rows = len(trials) if n_lines is None else max(LEAST_ROWS, n_lines - N_MARGIN_LINES - N_TABLE_LINES)
    shown = _select_trials(trials, n_rows)
    rest = Counter(trial.state for trial in trials) - Counter(trial.state for trial in shown)
    rows = tuple(_cells(trial, since_s=since_s) for trial in shown)
    table = Table(COLUMNS, rows, right=TO_RIGHT, wraps=frozenset({"Reason"}), rank=RANK)
    styles = {(n, "State"): STYLES.get(trial.state, WAITING_STYLE) for n, trial in enumerate(shown)}
    lines = draw_table(table, width, is_live=n_lines is not None, styles=styles)
    counted = "not shown: " + ", ".join(f"{n} {state}" for state, n in sorted(rest.items()))
    return [Text(), *lines, *([Text(line) for line in wrap_text(counted, width)] if rest else [])]


def _select_trials(trials: Sequence[TrialView], n_rows: int) -> list[TrialView]:
    if len(trials) <= n_rows:
        return list(trials)
    by_interest = sorted(trials, key=lambda t: (t.state not in STARTED, t.state in ENDED, t.trial))
    return sorted(by_interest[:n_rows], key=lambda trial: trial.trial)


def _cells(trial: TrialView, *, since_s: float) -> tuple[str, ...]:
    """Write one trial's cells, in the order of :data:`COLUMNS`."""
    elapsed_s = trial.elapsed_s
    if elapsed_s is not None and trial.state is JobState.RUNNING:
        elapsed_s += since_s
    return (
        f"{trial.trial}.{trial.attempt}" if trial.attempt else str(trial.trial),
        trial.model.rpartition("/")[2],
        trial.method,
        trial.state,
        trial.reason,
        trial.node or UNKNOWN,
        UNKNOWN if elapsed_s is None else stopwatch_text(elapsed_s),
        _progress(trial),
        QUANTITIES["f1"].text(trial.f1),
    )


def _progress(trial: TrialView) -> str:
    """Draw the steps done as a bar with both numbers; empty for a trial that has ended."""
    if trial.n_steps <= 0 or trial.state not in STARTED:
        return ""
    n_done = BAR_WIDTH * min(trial.step, trial.n_steps) // trial.n_steps
    return f"{'━' * n_done}{'┄' * (BAR_WIDTH - n_done)} {trial.step}/{trial.n_steps}"
