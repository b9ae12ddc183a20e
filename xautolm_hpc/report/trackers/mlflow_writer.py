"""A store for MLflow, one SQLite file: an experiment a search, a run a trial."""

import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from xautolm_hpc.errors import InputError
from xautolm_hpc.report.safe_text import one_line
from xautolm_hpc.report.trackers.trial_logs import TrialLog

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before the import, which would start it
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

STORE_NAME, DIGEST = "mlflow.db", "digest"
"""Name of the file; tag by which a trial is found again. Runs without it are left alone."""

UNFIT = re.compile(r"[?#%]")
"""What means something else in the address of a store."""

MOST_METRICS = 1000
"""Metrics that MLflow takes at once."""

ENDS: Mapping[str, str] = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
"""Status of a trial -> that of a run."""


def look_at(folder: Path) -> str:
    """Return the command that shows a store."""
    return f"mlflow ui --backend-store-uri {shlex.quote(_uri(folder))}"


def write_trials(logs: Sequence[TrialLog], folder: Path, *, group: str) -> int:
    """Write the trials of a run into an experiment of their own.

    Args:
        logs: The trials.
        folder: Folder of the store.
        group: Name of the experiment.

    Returns:
        How many were not there already as they are now.

    Raises:
        InputError: The file is no store of MLflow, is of another version of it, or cannot be written.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if odd := UNFIT.findall(str(folder.resolve())):
        raise InputError(f"--to mlflow {folder}: MLflow reads no path with {' or '.join(odd)}; give another folder")
    try:
        _check_writable(folder / STORE_NAME)
        return _write(MlflowClient(tracking_uri=_uri(folder)), logs, folder=folder, group=group)
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        raise InputError(
            f"`{folder / STORE_NAME}` cannot be used: {one_line(str(error))}. Give another folder: --to mlflow FOLDER"
        ) from error


def _check_writable(path: Path) -> None:
    """Check at once that a file can be written and is none of another kind; MLflow tries again for minutes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("begin immediate")


def _write(client: MlflowClient, logs: Sequence[TrialLog], *, folder: Path, group: str) -> int:
    """Write the trials that are not there, and delete what is there in their place."""
    experiment = _experiment_id(client, folder, name=group)
    wanted, kept = {log.digest: log for log in logs}, set()
    for run in _runs(client, experiment):
        digest = run.data.tags.get(DIGEST)
        if digest in wanted and run.info.status in ENDS.values():
            kept.add(digest)
        elif digest is not None:  # an earlier state of a trial, or half of it
            client.delete_run(run.info.run_id)
    for digest, log in wanted.items():
        if digest not in kept:
            _write_trial(client, log, experiment=experiment)
    return len(wanted) - len(kept)


def _uri(folder: Path) -> str:
    return f"sqlite:///{folder.resolve() / STORE_NAME}"


def _experiment_id(client: MlflowClient, folder: Path, *, name: str) -> str:
    """Return the id of an experiment, which is made if it is not there."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=(folder.resolve() / "artifacts").as_uri()))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _runs(client: MlflowClient, experiment: str) -> list[Run]:
    """List the runs of an experiment."""
    page = client.search_runs([experiment])
    found = list(page)
    while page.token:
        page = client.search_runs([experiment], page_token=page.token)
        found += page
    return found


def _write_trial(client: MlflowClient, log: TrialLog, *, experiment: str) -> None:
    """Write one trial; until its end is written it counts as running."""
    tags = {**log.tags, DIGEST: log.digest}
    run = client.create_run(
        experiment, start_time=_ms(log.began_s), run_name=f"trial {log.trial}", tags=tags
    ).info.run_id
    params = [Param(name, str(value)) for name, value in log.params.items()]
    client.log_batch(run, params=params)
    metrics = list(_metrics(log))
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run, metrics=metrics[start : start + MOST_METRICS])
    client.set_terminated(run, ENDS[log.status], end_time=_ms(log.ended_s))


def _metrics(log: TrialLog) -> Iterator[Metric]:
    """Iterate over the points of a trial's curves, then its final metrics."""
    for step, (so_far_s, values) in enumerate(log.curve, start=1):
        for name, value in values.items():
            yield Metric(name, value, _ms(log.began_s + so_far_s), step)
    for name, value in log.metrics.items():
        yield Metric(name, value, _ms(log.ended_s), 0)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
