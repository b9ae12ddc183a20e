"""``evaluate``: run the trials of a given list of pipelines."""

import argparse
from functools import partial
from pathlib import Path

from xautolm_hpc.commands.run import conduct
from xautolm_hpc.driver.evaluation import read_list_of_run, run_evaluation
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.errors import InputError
from xautolm_hpc.run.folder import RunDir
from xautolm_hpc.submit.series_launcher import SeriesLauncher


def run(arguments: argparse.Namespace) -> int:
    """Evaluate the list and show the report.

    Raises:
        InputError: ``--per-process`` is less than 1.
    """
    n = arguments.per_process
    if n < 1:
        raise InputError(f"--per-process {n}: expected 1 or more trials")
    path = Path(arguments.pipelines).resolve()
    wrap = (lambda launcher: launcher) if n == 1 else partial(SeriesLauncher, n_together=n)

    def check(inputs: Inputs, run_dir: RunDir) -> None:
        read_list_of_run(path, inputs.space, run_dir=run_dir, search_seed=inputs.search.search.seed)

    return conduct(arguments, partial(run_evaluation, path=path), wrap=wrap, check=check)
