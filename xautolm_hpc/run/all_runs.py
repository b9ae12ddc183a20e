"""The runs of a folder, each in a few numbers; what cannot be read of one is said in its place."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import XAutoLMError
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.run.history import History
from xautolm_hpc.run.lease import live_holder
from xautolm_hpc.run.ledger import read_ledger
from xautolm_hpc.run.overview import best_trial
from xautolm_hpc.run.run_file import began_at
from xautolm_hpc.view import BestTrial, is_unfinished

DAMAGES = (XAutoLMError, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What reading a damaged run may end with: its files may hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run at one moment.

    Attributes:
        name: Name of its folder.
        state: ``running``, ``ended``, ``unfinished`` (nobody works on it, and it can go on) or ``damaged``.
        note: Why it ended, who works on it, or what is damaged.
        n_trials: Trials that were drawn.
        best: The best trial so far, or ``None``.
        began_at: When it began, seconds since the epoch; ``None`` where that cannot be read.
        changed_at: When its driver last recorded something, likewise.
        n_bytes: Size of its files.
    """

    name: str
    state: str
    note: str
    n_trials: int
    best: BestTrial | None
    began_at: float | None
    changed_at: float | None
    n_bytes: int


def list_runs(runs_dir: Path, *, stale_s: float) -> list[RunRow]:
    """List the runs of a folder, the last to begin first, damaged ones at the end.

    No cluster is asked and no outcome is opened that the ledger knows.

    Args:
        runs_dir: The folder; none has no runs.
        stale_s: Seconds of silence after which a driver on another node counts as dead.
    """
    folders = [path for path in sorted(runs_dir.iterdir()) if _is_run(path)] if runs_dir.is_dir() else []
    rows = [read_row(RunDir(path), stale_s=stale_s) for path in folders]
    return sorted(rows, key=lambda row: -(row.began_at or 0))


def _is_run(path: Path) -> bool:
    run_dir = RunDir(path)
    return path.is_dir() and (os.path.lexists(run_dir.run_path) or os.path.lexists(run_dir.ledger_path))


def read_row(run_dir: RunDir, *, stale_s: float) -> RunRow:
    """Read one run; a damage becomes its state.

    Args:
        run_dir: The run folder.
        stale_s: Seconds of silence after which a driver on another node counts as dead.
    """
    n_bytes = sum(_sizes(run_dir.path))
    try:
        search = read_json(run_dir.run_path)["search"]
        history, lines = History(run_dir), read_ledger(run_dir.ledger_path)
        for line in lines:
            history.apply(line)
        state, note = _state(run_dir, stale_s=stale_s)
        return RunRow(
            name=run_dir.path.name,
            state=state,
            note=note,
            n_trials=len(history.trials),
            best=best_trial(history, tuple(search["search"]["objectives"])),
            began_at=began_at(run_dir),
            changed_at=lines[-1]["at"] if lines else None,
            n_bytes=n_bytes,
        )
    except DAMAGES as error:
        said = str(error) if isinstance(error, XAutoLMError | OSError) else f"{type(error).__name__}: {error}"
        return RunRow(
            name=run_dir.path.name, state="damaged", note=said, n_trials=0, best=None, began_at=None, changed_at=None,
            n_bytes=n_bytes,
        )  # fmt: skip


def _state(run_dir: RunDir, *, stale_s: float) -> tuple[str, str]:
    """Find out whether somebody works on a run, or why it ended."""
    holder = live_holder(run_dir.path, stale_s=stale_s)
    if holder is not None:
        return "running", f"driver: pid {holder.pid} on {holder.node}"
    path = run_dir.report_dir / "report.json"
    run: dict[str, Any] = read_json(path)["run"] if path.exists() else {}
    if is_unfinished(run):
        return "unfinished", "the same run command resumes it"
    return "ended", str(run["finish"])


def _sizes(folder: Path) -> Iterator[int]:
    """Walk the sizes of files; what vanishes or may not be read meanwhile counts nothing."""
    for inner, _, names in os.walk(folder):
        for name in names:
            try:
                yield Path(inner, name).lstat().st_size
            except OSError:
                yield 0
