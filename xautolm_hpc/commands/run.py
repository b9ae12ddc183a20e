"""``run``: run a search, or go on with one."""

import argparse
import signal
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.clock import SystemClock
from xautolm_hpc.driver import run_search
from xautolm_hpc.driver_setup import Inputs, make_launcher
from xautolm_hpc.jobdir import RunDir
from xautolm_hpc.resume import began_at, open_run
from xautolm_hpc.view import RunFacts, Watcher

NO_SUCCESS, STOPPED = 3, 1


def run(arguments: argparse.Namespace) -> int:
    """Run the search and show its report."""
    console = Console(soft_wrap=False)
    search_path = Path(arguments.search)
    inputs = Inputs.load(search_path, tuple(arguments.settings), environ=arguments.environ)
    if arguments.fork:
        inputs = replace(inputs, search=inputs.search.model_copy(update={"name": arguments.fork}))
    inputs.check()
    search, clock = inputs.search, SystemClock()
    run_dir = RunDir((Path(arguments.runs_dir) / search.name).resolve())
    run_dir.create()
    stale_s = inputs.profile.patience.lease_stale_s
    settings = search.model_dump(mode="json")
    run_id, changes = open_run(run_dir, settings, source=search_path, clock=clock, lease_stale_s=stale_s)
    launcher = make_launcher(inputs.profile, arguments.environ, clock=clock, since=began_at(run_dir))
    with report.choose_view(console, quiet=arguments.quiet) as watcher, _Interrupts(watcher, run_dir) as interrupts:
        setup = inputs.setup(
            run_dir, run_id, launcher=launcher, clock=clock, watcher=watcher, n_interrupts=interrupts.count
        )
        facts = run_search(replace(setup, changes=tuple(changes)))
    report.print_report(report.summarise(facts), console)
    console.print(f"report: {run_dir.report_dir}", markup=False)
    return _exit_status(facts)


def _exit_status(facts: RunFacts) -> int:
    if facts.finish.startswith("stopped"):
        return STOPPED
    succeeded = any(e.outcome.status == "succeeded" for e in facts.experiences)
    return 0 if succeeded else NO_SUCCESS


class _Interrupts:
    """Counts Ctrl-C: once submits nothing more, twice detaches. A cancelled run counts as once."""

    def __init__(self, watcher: Watcher, run_dir: RunDir) -> None:
        self.watcher = watcher
        self.run_dir = run_dir
        self.n = 0

    def count(self) -> int:
        return self.n or int(self.run_dir.cancel_path.exists())

    def __enter__(self) -> "_Interrupts":
        self.before = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self.before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.n += 1
        if self.n == 1:
            self.watcher.say(
                "interrupted: nothing more is submitted, the jobs that were are waited for. Ctrl-C again detaches and "
                "lets them run on; `xautolm-hpc cancel` cancels them"
            )
