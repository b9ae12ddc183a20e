"""Event files for TensorBoard: a folder a trial, with its curves, final metrics, hyperparameters and tags."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter
from tensorboardX.summary import hparams

from xautolm_hpc.report.safe_text import markdown_text
from xautolm_hpc.report.trackers.trial_logs import TrialLog

MARK = ".xautolm-"
"""Before the digest at the end of a file's name; files without it are left alone."""


def look_at(folder: Path) -> str:
    """Return the command that shows a log."""
    return f"tensorboard --logdir {shlex.quote(str(folder))}"


def write_trials(logs: Sequence[TrialLog], folder: Path, *, group: str) -> int:
    """Write the trials of a run below a folder of their own.

    Args:
        logs: The trials.
        folder: Folder of the log.
        group: Name of the run's folder in it.

    Returns:
        How many were not there already as they are now.

    Raises:
        OSError: The folder cannot be written.
    """
    return sum(_write_trial(log, folder / group / f"trial-{log.trial:04d}") for log in logs)


def _write_trial(log: TrialLog, place: Path) -> bool:
    """Write one trial in place of an earlier state of it; a file has its digest once it is whole."""
    earlier = list(place.glob(f"events.out.tfevents.*{MARK}*"))
    if any(path.name.endswith(MARK + log.digest) for path in earlier):
        return False
    for path in earlier:
        path.unlink()
    with SummaryWriter(str(place), filename_suffix=f"{MARK}part") as writer:
        _add_events(writer, log)
    (part,) = place.glob(f"events.out.tfevents.*{MARK}part")
    part.rename(part.with_name(part.name.removesuffix("part") + log.digest))
    return True


def _add_events(writer: SummaryWriter, log: TrialLog) -> None:
    """Add a trial's curves, metrics, hyperparameters and tags; the text plug-in reads Markdown."""
    for step, (so_far_s, values) in enumerate(log.curve, start=1):
        for name, value in values.items():
            writer.add_scalar(name, value, step, walltime=log.began_s + so_far_s)
    for name, value in log.metrics.items():
        writer.add_scalar(f"final/{name}", value, 0, walltime=log.ended_s)
    _, started, succeeded = hparams(dict(log.params), {})
    for part in (started, succeeded) if log.status == "succeeded" else (started,):
        writer.file_writer.add_summary(part, walltime=log.ended_s)
    rows = "".join(f"| {name} | {markdown_text(text)} |\n" for name, text in log.tags.items())
    writer.add_text("trial", f"| tag | value |\n|---|---|\n{rows}", 0, walltime=log.ended_s)
