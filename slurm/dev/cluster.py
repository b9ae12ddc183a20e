"""A private Slurm on one machine: ``python slurm/dev/cluster.py up|down|status``; ``slurm/README.md`` says more."""

import argparse
import os
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from slurm.dev.plan import DevClusterError, Plan
from slurm.dev.private import DevCluster


def default_dir() -> Path:
    """Return the default folder of a cluster: a short local path, one for each user."""
    return Path(tempfile.gettempdir()) / f"slurm-dev-{os.geteuid()}"


def up(options: argparse.Namespace) -> int:
    """Start a cluster and print the environment to use."""
    names = {field.name for field in fields(Plan)} - {"dir"}
    cluster = DevCluster(options.dir, **{name: value for name, value in vars(options).items() if name in names})
    cluster.up()
    if cluster.cgroup and not cluster.limits_memory:
        print(f"# memory is {cluster.state().memory}", file=sys.stderr)
    print(f"export SLURM_CONF={cluster.slurm_conf_path}")
    return 0


def down(options: argparse.Namespace) -> int:
    """Stop a cluster; it is no error if it does not run."""
    if DevCluster(options.dir).mark_path.exists():
        DevCluster.open(options.dir).down(remove=options.remove)
    return 0


def status(options: argparse.Namespace) -> int:
    """Print what runs; status 1 if not everything does."""
    cluster = DevCluster.open(options.dir)
    state = cluster.state()
    for name, is_running in state.daemons.items():
        print(f"{name:10} {'runs' if is_running else 'DOES NOT RUN'}{_node_words(state.nodes.get(name))}")
    print(f"memory     {state.memory}")
    print(f"sacct      {'answers' if state.has_sacct else 'does not answer'}")
    print(f"export SLURM_CONF={cluster.slurm_conf_path}")
    return 0 if state.is_up else 1


def _node_words(node_state: str | None) -> str:
    return f", {node_state}" if node_state else ""


def parser() -> argparse.ArgumentParser:
    """Build the parser of the command line; the defaults are those of :class:`slurm.dev.plan.Plan`."""
    top = argparse.ArgumentParser(description=__doc__)
    verbs = top.add_subparsers(required=True)
    for act in (up, down, status):
        verb = verbs.add_parser(act.__name__, help=act.__doc__, description=act.__doc__)
        verb.add_argument("--dir", type=Path, default=default_dir(), help="its folder (%(default)s)")
        verb.set_defaults(act=act)
        if act is down:
            verb.add_argument("--remove", action="store_true", help="remove the folder, too")
        if act is up:
            _add_plan(verb)
    return top


def _add_plan(verb: argparse.ArgumentParser) -> None:
    helps = {
        "nodes": "nodes, n1, n2 ...",
        "gpus_per_node": "GPUs of each node (none of them exists)",
        "min_job_age_s": "seconds after its end at which squeue forgets a job",
        "max_array_size": "highest index of an array, plus 1",
        "kill_wait_s": "seconds between SIGTERM and SIGKILL",
        "max_submit_jobs": "jobs you may have in the queue, 0 for any number; needs --accounting",
        "accounting": "run slurmdbd and MariaDB, so that sacct answers",
        "cgroup": "hold jobs to their memory, where this machine allows it",
    }
    defaults = {field.name: field.default for field in fields(Plan)}
    for name, words in helps.items():
        option = "--" + name.removesuffix("_s").replace("_", "-")
        if defaults[name] is False:
            verb.add_argument(option, dest=name, action="store_true", help=words)
        else:
            verb.add_argument(option, dest=name, type=int, default=defaults[name], help=f"{words} (%(default)s)")


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; return status 2 with a message on standard error if it fails."""
    options = parser().parse_args(arguments)
    try:
        done: int = options.act(options)
    except DevClusterError as error:
        print(f"slurm/dev: {error}", file=sys.stderr)
        return 2
    return done


if __name__ == "__main__":
    sys.exit(main())
