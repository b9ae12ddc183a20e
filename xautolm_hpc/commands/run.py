"""``run``: run a search, or go on with one."""

import argparse
import getpass
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from rich.console import Console

from xautolm_hpc import report
from xautolm_hpc.catalogue import missing_weights
from xautolm_hpc.clock import SystemClock
from xautolm_hpc.config import ClusterProfile, SearchFile, load_profile, load_search
from xautolm_hpc.driver import run_search
from xautolm_hpc.driver_setup import Setup, make_launcher
from xautolm_hpc.errors import DataError, InputError
from xautolm_hpc.jobdir import RunDir
from xautolm_hpc.node import node_name
from xautolm_hpc.redact import redact, secrets_in
from xautolm_hpc.resume import open_run
from xautolm_hpc.space import Space
from xautolm_hpc.submit.environment import worker_environment
from xautolm_hpc.view import RunFacts, Watcher

NO_SUCCESS, STOPPED = 3, 1


def run(arguments: argparse.Namespace) -> int:
    """Run the search and show its report."""
    console = Console(soft_wrap=False)
    search_path = Path(arguments.search)
    search = load_search(search_path, tuple(arguments.settings))
    if arguments.fork:
        search = search.model_copy(update={"name": arguments.fork})
    profile = load_profile(Path(search.profile) if search.profile else None)
    space = search.build_space()
    hf_home = _hf_home(profile, arguments.environ)
    _check_inputs(search, space, profile=profile, hf_home=hf_home)
    clock = SystemClock()
    run_dir = RunDir((Path(arguments.runs_dir) / search.name).resolve())
    run_dir.create()
    run_id, changes = open_run(run_dir, search.model_dump(mode="json"), source=search_path, clock=clock)
    with report.choose_view(console, quiet=arguments.quiet) as watcher, _Interrupts(watcher, run_dir) as interrupts:
        for change in changes:
            watcher.say(f"changed since the search began: {change}")
        setup = Setup(
            search=search,
            profile=profile,
            space=space,
            run_dir=run_dir,
            run_id=run_id,
            launcher=make_launcher(profile, arguments.environ, clock=clock, since=run_dir.run_path.stat().st_mtime),
            clock=clock,
            watcher=watcher,
            worker=(profile.worker_python or sys.executable,),
            worker_environment=worker_environment(
                n_threads=profile.job.n_cpus,
                hf_home=str(hf_home),
                allow=profile.environment.allow,
                settings=profile.environment.set,
                environ=arguments.environ,
            ),
            hf_home=str(hf_home),
            redact=_redactor(arguments.environ),
            n_interrupts=interrupts.count,
        )
        facts = run_search(setup)
    report.print_report(report.summarise(facts), console)
    console.print(f"report: {run_dir.report_dir}", markup=False)
    return _exit_status(facts)


def _exit_status(facts: RunFacts) -> int:
    if facts.finish.startswith("stopped"):
        return STOPPED
    succeeded = any(e.outcome.status == "succeeded" for e in facts.experiences)
    return 0 if succeeded else NO_SUCCESS


def _hf_home(profile: ClusterProfile, environ: Mapping[str, str]) -> Path:
    named = profile.hf_home or environ.get("HF_HOME")
    return Path(named).expanduser() if named else Path(environ.get("HOME", "/")) / ".cache" / "huggingface"


def _check_inputs(search: SearchFile, space: Space, *, profile: ClusterProfile, hf_home: Path) -> None:
    """Find out before anything is submitted what can be known before."""
    if profile.container is not None:
        raise InputError("[container] in the cluster profile: images are not started yet; name a worker_python")
    if not Path(search.data.path).exists():
        raise DataError(f"`{search.data.path}` does not exist. Set data.path in the search file or with --set")
    worker_is_here = profile.worker_python in (None, sys.executable)
    missing = missing_weights(space.models, hf_home, has_package=find_spec if worker_is_here else None)
    if missing:
        raise InputError("\n".join(missing))


def _redactor(environ: Mapping[str, str]) -> Callable[[str], str]:
    return partial(
        redact,
        secrets=secrets_in(environ),
        user=getpass.getuser(),
        host=node_name(),
        home=environ.get("HOME", ""),
    )


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
