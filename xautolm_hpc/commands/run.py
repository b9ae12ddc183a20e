"""``run``: run a search, or resume one."""

import argparse
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.text import Text

from xautolm_hpc import doctor, report
from xautolm_hpc.commands.report import closing_lines
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import make_launcher
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.measured import check_measured, unmeasured_by_profile
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import ConfigError, LaunchError
from xautolm_hpc.node import SystemClock
from xautolm_hpc.run.folder import RunDir, check_run_name
from xautolm_hpc.run.resume import has_trials, open_run
from xautolm_hpc.run.run_file import began_at
from xautolm_hpc.view import Finding, FinishKind, RunFacts, Watcher

NO_SUCCESS, STOPPED, LEFT_OUT = 3, 1, 4

RAISE_BUDGET = "raise the budget in the search file or with --set, then give the same command again"
RERUN = "remove the cause, then evaluate these lines under another name"


def run(arguments: argparse.Namespace) -> int:
    """Run the search and show its report."""
    return conduct(arguments, run_search)


def conduct(
    arguments: argparse.Namespace,
    start: Callable[[Setup], RunFacts],
    *,
    adjust: Callable[[Inputs], Inputs] = lambda inputs: inputs,
    check: Callable[[Inputs, RunDir], object] = lambda inputs, run_dir: None,
) -> int:
    """Check the input, run the search with a progress display and show its report.

    Args:
        arguments: Parsed command-line arguments.
        start: Runs the search, or the evaluation of a list.
        adjust: Changes the input by what else the command line says.
        check: Raises an error for other input that is wrong, before anything is written.

    Returns:
        The exit status.
    """
    console, progress = Console(), Console(stderr=True)
    search_path = Path(arguments.search)
    if arguments.fork is not None:
        check_run_name(arguments.fork, where="--fork")
    runs_dir = Path(arguments.runs_dir)
    inputs = Inputs.load(
        search_path,
        tuple(arguments.settings),
        environ=arguments.environ,
        has_trials=lambda name: has_trials(RunDir(runs_dir / (arguments.fork or name))),
    )
    inputs = adjust(inputs)
    if arguments.fork:
        inputs = replace(inputs, search=inputs.search.model_copy(update={"name": arguments.fork}))
    clock, run_dir = SystemClock(), RunDir(runs_dir.resolve() / inputs.search.name)
    inputs = inputs.for_run(run_dir)
    inputs.check()
    check(inputs, run_dir)
    print_line = partial(progress.print, markup=False, soft_wrap=True)
    log: Callable[[str], None] = print_line if not arguments.quiet else lambda line: None
    for line in inputs.refused():
        log(f"{line}. A new search would be refused; this one has trials and goes on")
    _check_site(inputs, run_dir, skips_job=arguments.skip_job_check, log=log)
    run_dir.create()
    stale_s = inputs.profile.patience.lease_stale_s
    run_id, changes = open_run(run_dir, inputs.run_config(), source=search_path, clock=clock, lease_stale_s=stale_s)
    launcher = make_launcher(inputs.profile, arguments.environ, clock=clock, since=began_at(run_dir))
    with report.choose_view(progress, quiet=arguments.quiet) as watcher, _Interrupts(watcher, run_dir) as interrupts:
        setup = inputs.setup(
            run_dir, run_id, launcher=launcher, clock=clock, watcher=watcher, n_interrupts=interrupts.count
        )
        facts = start(replace(setup, changes=tuple(changes), final=arguments.final))
    summary = read_json(run_dir.report_dir / report.SUMMARY_NAME)
    report.print_report(summary, console)
    lines = [f"report: {run_dir.report_dir}"]
    if not arguments.quiet:
        lines += closing_lines(summary, run_dir, name=run_dir.path.name, runs_dir=arguments.runs_dir)
    report.print_lines([Text(report.escape_controls(line)) for line in lines], console)
    for line in _complaints(facts, is_quiet=arguments.quiet):
        report.print_lines([Text(report.escape_controls(f"xautolm-hpc: {line}"))], progress)
    return _exit_status(facts)


def _check_site(inputs: Inputs, run_dir: RunDir, *, skips_job: bool, log: Callable[[str], None]) -> None:
    """Check that the search can run, before it starts; once per profile, a short job checks that a node can run trials.

    A search that has started is resumed without the first check.

    Raises:
        ConfigError: The profile does not fit the cluster, or nothing can measure an objective or the budget.
        LaunchError: The short job failed.
    """
    runs_dir, key = run_dir.path.parent, doctor.job_check_key(inputs.profile)
    is_new = not run_dir.exists
    sends_job = inputs.profile.launcher == "slurm" and not skips_job and not doctor.recall_job_check(runs_dir, key)
    if not is_new and not sends_job:
        return
    if is_new:
        for line in check_measured(inputs.search, unmeasured_by_profile(inputs.profile, environ=inputs.environ)):
            log(line)
    with doctor.runs_folder(runs_dir):
        site = doctor.Site.look(inputs, runs_dir)
        if is_new:
            failed = doctor.failures(doctor.examine(site, doctor.BEFORE_A_RUN))
            if failed:
                raise ConfigError(
                    _failure_text(f"{inputs.search.profile or 'this machine'} cannot run this search", failed)
                )
        if sends_job:
            log("a short job checks a node, once for this profile (skip it with --skip-job-check)")
            failed = doctor.failures(doctor.check_job(site, log=log))
            if failed:
                raise LaunchError(_failure_text("a node cannot run trials; only this check was submitted", failed))
            doctor.remember_job_check(runs_dir, key, now=SystemClock().now())


def _failure_text(head: str, failed: Sequence[Finding]) -> str:
    return "\n".join([f"{head}:", *(f"  {f.check}: {f.found}. Remedy: {f.remedy}" for f in failed)])


def _complaints(facts: RunFacts, *, is_quiet: bool) -> list[str]:
    """List what a person must know of a run that did not do all it was asked; the progress display says some of it."""
    lines = [facts.finish.text] if is_quiet and facts.finish.kind is FinishKind.STOPPED else []
    if facts.left_out:
        remedy = RERUN if facts.finish.kind is FinishKind.STOPPED else RAISE_BUDGET
        lines.append(f"left out {report.left_out_text(facts.left_out)}; {facts.finish.text}; {remedy}")
    return lines


def _exit_status(facts: RunFacts) -> int:
    if facts.finish.kind is FinishKind.STOPPED:
        return STOPPED
    if not any(e.outcome.succeeded for e in facts.experiences):
        return NO_SUCCESS
    return LEFT_OUT if facts.left_out else 0


class _Interrupts:
    """Counts Ctrl-C: after one no job is submitted, after two the driver detaches. A cancelled run counts as one."""

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
            self.watcher.log(
                "interrupted: no more jobs are submitted; waiting for the submitted ones. Press Ctrl-C again to detach "
                "while they run on; `xautolm-hpc cancel` cancels them"
            )
