"""``priors``: show the prior of a run."""

import argparse
import json

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.priors import shown
from xautolm_hpc.records import to_json
from xautolm_hpc.run.folder import find_run
from xautolm_hpc.run.resume import read_prior


def run(arguments: argparse.Namespace) -> int:
    """Show the prior beside the uniform distribution, and the experiences that changed it most.

    Raises:
        RunFolderError: There is no such run, or it has no prior yet.
    """
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    frozen = read_prior(run_dir)
    if frozen is None:
        raise RunFolderError(f"`{run_dir.path}` has no prior yet: its profile job has not ended")
    prior = shown(to_json(frozen))
    if arguments.json:
        print(json.dumps(prior, indent=1))
    else:
        report.print_prior(prior, Console())
    return 0
