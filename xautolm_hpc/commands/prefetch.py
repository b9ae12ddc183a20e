"""``prefetch``: download a search's models and data into the offline cache, on a machine with network access."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.text import Text

from xautolm_hpc import report
from xautolm_hpc.dataset import declare_whole
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.durable import write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.model_check import MODELS, NotCheckedError, ask_worker, refuse_unfit, request_check
from xautolm_hpc.prefetch import RepositoryPlan, fetch_repository, plan_data, plan_models
from xautolm_hpc.records import to_json
from xautolm_hpc.submit.environment import worker_environment

NOTHING = "nothing to fetch: all models and data of the search lie here without the hub"


def run(arguments: argparse.Namespace) -> int:
    """Show the size of models and data, then download and verify them, and check that each model fits together.

    Raises:
        InputError: ``HF_HUB_OFFLINE`` is set, or the files of a model do not fit together, or its ``[[model]]`` table.
    """
    environ = arguments.environ
    if environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        raise InputError("HF_HUB_OFFLINE is set, and prefetch needs the network: unset HF_HUB_OFFLINE")
    load = partial(Inputs.load, Path(arguments.search), tuple(arguments.settings), environ=environ)
    inputs = load(is_to_fetch=True)
    endpoint, token = environ.get("HF_ENDPOINT") or None, environ.get("HF_TOKEN") or None
    models = plan_models(inputs.space.models, endpoint=endpoint, token=token)
    data = plan_data(inputs.search.data, endpoint=endpoint, token=token)
    plans = [*models, *([data[0]] if data else ())]
    console = Console(stderr=arguments.json)
    report.print_lines([Text(f"in {inputs.hf_home}")], console)
    if plans:
        report.print_table(_table(plans), console)
    else:
        report.print_lines([Text(NOTHING)], console)
    if not arguments.dry_run:
        _fetch(plans, inputs.hf_home, endpoint=endpoint, token=token)
        if data:
            declare_whole(inputs.hf_home, inputs.search.data, files=data[1])
    if arguments.json:
        found = {"models": [to_json(plan) for plan in models], "data": to_json(data[0]) if data else None}
        print(json.dumps({"hf_home": str(inputs.hf_home), **found}, indent=1))
    elif plans and not arguments.dry_run:
        report.print_lines([Text(f"{len(plans)} repositories verified in {inputs.hf_home}")], console)
    if not arguments.dry_run and models:
        _check_models(load(), log=partial(Console(stderr=True).print, markup=False, highlight=False))
    return 0


def _check_models(inputs: Inputs, *, log: Callable[[str], None]) -> None:
    """Check the fetched models with the worker's interpreter, if it starts here; else the run's first job does so.

    Raises:
        InputError: The files of a model do not fit together.
    """
    profile = inputs.profile
    hub_models = [model for model in inputs.space.models if model.hub_repo is not None]
    request = request_check(inputs.search.task.kind, hub_models, hf_home=str(inputs.hf_home))
    if profile.container is not None:
        log("the models were not checked here, the worker is in an image: the run's first job checks them")
        return
    environ = worker_environment(n_threads=1, hf_home=str(inputs.hf_home), environ=inputs.environ)
    with tempfile.TemporaryDirectory(prefix="xautolm-models-") as folder:
        write_json(Path(folder) / MODELS, to_json(request))
        try:
            answer = ask_worker([profile.worker_python or sys.executable], Path(folder), environ=environ)
        except NotCheckedError as error:
            log(f"{error}; the run's first job checks them")
            return
    refuse_unfit(answer.findings)
    for note in [note for finding in answer.findings for note in finding.notes]:
        log(note)


def _fetch(plans: list[RepositoryPlan], hf_home: Path, *, endpoint: str | None, token: str | None) -> None:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for plan in plans:
            task = progress.add_task(plan.id, total=plan.n_bytes)
            advance = partial(progress.advance, task)
            fetch_repository(plan, hf_home, endpoint=endpoint, token=token, on_verified=advance)


def _table(plans: list[RepositoryPlan]) -> report.Table:
    rows = [(plan.id, plan.repo, plan.commit, str(len(plan.files)), f"{plan.n_bytes / 1e6:,.1f}") for plan in plans]
    rows.append(("all", "", "", "", f"{sum(plan.n_bytes for plan in plans) / 1e6:,.1f}"))
    columns = ("Model or data", "Repository", "Commit", "Files", "MB")
    return report.Table(columns, tuple(rows), right=frozenset({"Files", "MB"}), rank=("Model or data", "MB"))
