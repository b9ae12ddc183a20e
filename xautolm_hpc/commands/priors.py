"""``priors``: show the prior of a run."""

import argparse
import json

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.priors import shown
from xautolm_hpc.run.folder import find_run


def run(arguments: argparse.Namespace) -> int:
    """Show the prior beside the uniform distribution, and the experiences that changed it most.

    Raises:
        RunFolderError: There is no such run, or it has no prior yet.
    """
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    if not run_dir.prior_path.exists():
        raise RunFolderError(f"`{run_dir.path}` has no prior yet: its profile job has not ended")
    prior = shown(read_json(run_dir.prior_path))
    if arguments.json:
        print(json.dumps(prior, indent=1))
    else:
        report.print_prior(prior, Console())
    return 0
