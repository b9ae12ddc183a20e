"""``status``: show the state of a run."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.config import ClusterProfile, load_profile
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import ConfigError, InputError
from xautolm_hpc.node import Clock, SystemClock
from xautolm_hpc.run.folder import RunDir, find_run
from xautolm_hpc.run.inspect import RunSnapshot, inspect_run
from xautolm_hpc.run.overview import fill_view
from xautolm_hpc.run.run_file import profile_path, read_run_file
from xautolm_hpc.slurm import Slurm
from xautolm_hpc.view import Phase, RunView, charges, is_unfinished

LEAST_POLL_S = 1.0


def run(arguments: argparse.Namespace) -> int:
    """Show the present generation, the best trial and the cost so far; on a terminal until the run is over."""
    run_dir = find_run(arguments.run_name, arguments.runs_dir)
    profile = profile_of(run_dir)
    console, clock, rates = Console(), SystemClock(), profile.cost.model_dump()
    snapshot = take_snapshot(run_dir, profile, environ=arguments.environ)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(_view(run_dir, snapshot, rates=rates, now=clock.now())), indent=1))
    elif not snapshot.is_over and (arguments.watch or (console.is_terminal and not arguments.once)):
        _watch(run_dir, profile, environ=arguments.environ, console=console, clock=clock)
    else:
        report.print_view(_view(run_dir, snapshot, rates=rates, now=clock.now()), console)
    return 0


def profile_of(run_dir: RunDir) -> ClusterProfile:
    """Read the cluster profile that a run was last started with.

    Args:
        run_dir: The run folder.

    Raises:
        RunFolderError: The run folder does not say which.
        ConfigError: It is missing or no longer valid.
    """
    try:
        return load_profile(profile_path(run_dir))
    except ConfigError as error:
        error.add_note("the run was last started with this profile; `run` with another one notes where it lies")
        raise


def take_snapshot(run_dir: RunDir, profile: ClusterProfile, *, environ: Mapping[str, str]) -> RunSnapshot:
    """Read the state of a run, whether or not its driver is alive.

    Args:
        run_dir: The run folder.
        profile: Its cluster profile.
        environ: Environment variables of the user.
    """
    slurm = Slurm(environ) if profile.launcher == "slurm" else None
    return inspect_run(run_dir, slurm=slurm, stale_s=profile.patience.lease_stale_s)


def _watch(
    run_dir: RunDir, profile: ClusterProfile, *, environ: Mapping[str, str], console: Console, clock: Clock
) -> None:
    """Show the run at every poll until it is over or Ctrl-C is pressed; its jobs are not affected."""
    rates = profile.cost.model_dump()
    try:
        with report.choose_view(console, quiet=False) as watcher:
            while True:
                snapshot = take_snapshot(run_dir, profile, environ=environ)
                watcher.show(_view(run_dir, snapshot, rates=rates, now=clock.now()))
                if snapshot.is_over:
                    return
                clock.sleep(max(LEAST_POLL_S, profile.poll_s))
    except KeyboardInterrupt:
        return


def _view(run_dir: RunDir, snapshot: RunSnapshot, *, rates: Mapping[str, Any], now: float) -> RunView:
    """Build the view of the run."""
    history, search = snapshot.history, read_run_file(run_dir).search
    generation = max(history.n_generations() - 1, 0)
    finish = _finish(run_dir) if snapshot.is_over else None
    spent = history.spent(now, snapshot.lease_number if snapshot.holder else 0)
    view = RunView(
        name=search["name"],
        phase=Phase.DONE if finish else _phase(run_dir, snapshot, generation=generation),
        generation=generation,
        n_generations=search["budget"]["generations"],
        spent=spent,
        charges=charges(rates, spent),
        note=finish or _note(snapshot),
        objectives=tuple(search["search"]["objectives"]),
    )
    return fill_view(view, history, states=snapshot.states, now=now)


def _phase(run_dir: RunDir, snapshot: RunSnapshot, *, generation: int) -> Phase:
    """Return the phase of the run, as its driver would name it."""
    if not snapshot.history.trials:
        return Phase.PROFILE
    if any(run_dir.final_dir in path.parents for path in snapshot.states):
        return Phase.TEST
    return Phase.COMMIT if generation in snapshot.history.committed else Phase.GENERATION


def _finish(run_dir: RunDir) -> str | None:
    """Read why the search ended, and why no trial is above the baseline; ``None`` if it has not ended."""
    try:
        return _finish_in(read_json(run_dir.report_dir / "report.json"))
    except (OSError, InputError, LookupError, TypeError, ValueError, AttributeError):  # damaged: `run` writes it anew
        return None


def _finish_in(summary: Any) -> str | None:
    run, shortfall = summary["run"], summary.get("shortfall")  # older reports have none
    if is_unfinished(run):
        return None
    return f"{run['finish']}. {report.shortfall_text(shortfall)}" if shortfall else str(run["finish"])


def _note(snapshot: RunSnapshot) -> str:
    """Write whether a driver is running and, before the first trial, the state of the profile job."""
    holder = snapshot.holder
    driver = f"driver: pid {holder.pid} on {holder.node}" if holder else "no driver is running; `run` resumes it"
    if snapshot.history.trials or not snapshot.states:
        return driver
    state = next(iter(snapshot.states.values()))
    return f"{driver}; profile job: {state.state} {state.reason}".strip()
