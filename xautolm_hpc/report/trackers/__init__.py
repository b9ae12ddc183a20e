"""Offline logs of a run for trackers, written through their own libraries, which are extras of this package."""

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xautolm_hpc.errors import InputError
from xautolm_hpc.report.quantities import counted
from xautolm_hpc.report.trackers.trial_logs import trial_logs

TRACKERS: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboardX",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
}
"""Tracker -> the modules that its extra installs and its writer needs."""


def write_log(tracker: str, summary: Mapping[str, Any], *, folder: Path) -> str:
    """Write every trial of a run to a tracker's log; one that is there already and has not changed is left alone.

    Args:
        tracker: One of :data:`TRACKERS`.
        summary: The content of ``report.json``.
        folder: Folder of the log, which may hold other runs; made if it is not there.

    Returns:
        What was written, and how to look at it, as one line.

    Raises:
        InputError: The tracker is unknown, its extra is not installed or broken, or the folder is none.
        OSError: The folder cannot be written.
    """
    if tracker not in TRACKERS:
        raise InputError(f"--to {tracker}: no such tracker; these are known: {', '.join(TRACKERS)}")
    missing = [name for name in TRACKERS[tracker] if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"--to {tracker} needs {', '.join(missing)}, not installed here: pip install 'xautolm_hpc[{tracker}]'"
        )
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--to {tracker} {folder}: it is no folder; give a folder, new or with logs of other runs")
    folder.mkdir(parents=True, exist_ok=True)
    run, logs = summary["run"], trial_logs(summary)
    group = f"{run['name']}-{run['run_id'][:8]}"
    try:
        writer = importlib.import_module(f"{__package__}.{tracker}_writer")
        n_written: int = writer.write_trials(logs, folder, group=group)
    except (ImportError, AttributeError, TypeError) as error:
        raise InputError(
            f"--to {tracker}: its library does not work here ({error}): pip install 'xautolm_hpc[{tracker}]'"
        ) from error
    kept = f", {len(logs) - n_written:,} there already" if n_written < len(logs) else ""
    return f"{tracker}: {counted(n_written, 'trial')} written{kept}; to look: {writer.look_at(folder)}"
