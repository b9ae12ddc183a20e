"""``evaluate``: run the trials of a given list of pipelines."""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from xautolm_hpc.commands.run import conduct
from xautolm_hpc.driver.evaluation import read_list_of_run, run_evaluation
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.errors import InputError
from xautolm_hpc.run.folder import RunDir


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the list and show the report.

    Raises:
        InputError: ``--per-process`` is less than 1, or more where a trial has several processes.
    """
    path = Path(arguments.pipelines).resolve()

    def check(inputs: Inputs, run_dir: RunDir) -> None:
        read_list_of_run(path, inputs.space, run_dir=run_dir, search_seed=inputs.search.search.seed)

    together = partial(_with_trials_per_job, n=arguments.per_process)
    return conduct(arguments, partial(run_evaluation, path=path), adjust=together, check=check)


def _with_trials_per_job(inputs: Inputs, *, n: int | None) -> Inputs:
    """Return the inputs with another ``job.trials_per_job`` in the profile; ``None`` leaves it."""
    if n is None:
        return inputs
    given = inputs.profile.model_dump()
    try:
        profile = type(inputs.profile).model_validate(given | {"job": given["job"] | {"trials_per_job": n}})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ").replace("Input", "the number of trials")
        raise InputError(f"--per-process {n}: {problem}") from error
    return replace(inputs, profile=profile)
