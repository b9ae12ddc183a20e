"""Commands as a person gives them, in this process: with what status and words they end, and what they touch."""

import contextlib
import hashlib
import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from tests.driving import SEARCH, end_attempt
from tests.fakes import JOB, FakeLauncher, end_with, failed_end
from tests.nouns import claim, succeeded
from xautolm_hpc import cli, report
from xautolm_hpc.commands import cancel, run
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import XAutoLMError
from xautolm_hpc.jobdir import (
    MEMBERS,
    PROFILE,
    PROFILE_RESULT,
    SPLITS,
    TEST,
    VERDICT,
    WEIGHTS,
    End,
    Exit,
    Heartbeat,
    claim_path,
    exit_path,
    heartbeat_path,
    read_members,
    split_path,
)  # fmt: skip
from xautolm_hpc.launcher import Submission
from xautolm_hpc.records import to_json
from xautolm_hpc.store.trust import CheckedSegments, identity_of

LONGEST_S = 10
STATUSES = {0, 1, 2, 3, 4}
"""Documented exit statuses of a command that nobody interrupts."""

SITE = """
[local]
poll_s = 0.01
[patience]
outcome_grace_s = 0.0
lease_stale_s = 0.000001
"""
TEXT = SEARCH.replace("generations = 3", "generations = 2").replace("[task]", 'profile = "site.toml"\n[task]')
NAME = "fake"


class Hang(BaseException):
    """A command took longer than a person would wait."""


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended.

    Attributes:
        status: Exit status.
        out: What it printed as its result.
        complaint: What it printed as its complaint.
    """

    status: int
    out: str
    complaint: str


def call(command: Callable[[], int]) -> Said:
    """Run a command, as long as a person would wait.

    Raises:
        Hang: It took longer.
        Exception: It ended with an error that is none of ours: a traceback.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"not over after {LONGEST_S} s")

    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = command()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return Said(status, out.getvalue(), err.getvalue())


def call_checked(check: Callable[[], object]) -> Said:
    """Run a check of input as the command line does: an error of ours is a status and a message."""

    def command() -> int:
        try:
            check()
        except XAutoLMError as error:
            sys.stderr.write(f"xautolm-hpc: {error}\n")
            return error.exit_status
        return 0

    return call(command)


def end_all(attempt_dir: Path) -> End | None:
    """End any job: the profile job, a trial, which leaves its weights, or the evaluation on test."""
    if attempt_dir.parent.name != "final":
        if attempt_dir.parent.name.startswith("trial-"):
            (attempt_dir / WEIGHTS).write_bytes(b"weights")
        ended = end_attempt(attempt_dir)
        if (attempt_dir / PROFILE_RESULT).exists():
            _add_digests(attempt_dir)
        return ended
    for member in read_members(attempt_dir / MEMBERS):
        (member / TEST).write_text('{"f1": 0.5, "loss": 0.7}\n')
    return end_with(succeeded(None))


def _add_digests(attempt_dir: Path) -> None:
    """Write into the result of a profile job the digests of the split that it made."""
    data_dir, where = Path(read_json(attempt_dir / PROFILE)["data_dir"]), attempt_dir / PROFILE_RESULT
    digests = {split: hashlib.sha256(split_path(data_dir, split).read_bytes()).hexdigest() for split in SPLITS}
    write_json(where, {**read_json(where), "sha256": digests})


@contextlib.contextmanager
def fake_jobs(launcher: Callable[[], FakeLauncher] = lambda: FakeLauncher(end_all)) -> Iterator[None]:
    """Let the commands run jobs that run by themselves, and draw no figures."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (run, cancel):
            patch.setattr(module, "make_launcher", lambda *_, **__: launcher())
        for name in ("draw_pareto", "draw_curves", "draw_others"):  # they read no file, and take half of a run's time
            patch.setattr(report, name, lambda *_: None)
        yield


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in a folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def write_search(folder: Path, *, text: str = TEXT) -> None:
    """Write a search, its data and its profile."""
    folder.mkdir(parents=True)
    (folder / "outside").mkdir()
    (folder / "site.toml").write_text(SITE)
    (folder / "search.toml").write_text(text)
    (folder / "rows.jsonl").write_text('{"text": "a", "label": "no"}\n{"text": "b", "label": "yes"}\n')


def write_runs(folder: Path) -> None:
    """Run a search to its end in ``ended``, and leave it in ``left`` while its second generation waits."""
    for name in ("ended", "left"):
        write_search(folder / name)
        launcher = FakeLauncher(end_all)
        with fake_jobs(partial(_same, launcher)), inside(folder / name):
            if name == "left":
                _leave_second_generation(launcher)
            said = call(lambda: cli.main(["run", "search.toml", "--quiet"]))
        if said.status != {"ended": 0, "left": 130}[name]:
            raise RuntimeError(f"the {name} run: {said}")
    _leave_traces(folder / "left" / "runs" / NAME)


def _same(launcher: FakeLauncher) -> FakeLauncher:
    return launcher


def _leave_second_generation(launcher: FakeLauncher) -> None:
    """Let the driver die when the jobs of its second generation have been submitted and two have ended."""
    submit = launcher.submit

    def submit_and_die(submission: Submission) -> Mapping[Path, str]:
        jobs = submit(submission)
        if "-g001-" in submission.name:
            launcher.poll(submission.attempt_dirs[:2])
            raise KeyboardInterrupt
        return jobs

    launcher.submit = submit_and_die  # type: ignore[method-assign]


def _leave_traces(run: Path) -> None:
    """Leave two attempts of the second generation without an outcome: one was killed, one has a verdict."""
    killed, judged = (run / "gen-001" / f"trial-{number:03d}" / "attempt-0" for number in (6, 7))
    for path in (killed, judged):
        write_json(path / JOB, {**read_json(path / JOB), "state": "FAILED"})
        write_json(claim_path(path, 0), to_json(claim(job_id="fake", node="fake-1", boot_id="fake")))
    write_json(heartbeat_path(killed, 0), to_json(Heartbeat(at=1_000_010.0, phase="train", step=3, n_steps=9)))
    ended = Exit(returncode=1, ended_by=None, started_at=1_000_000.0, ended_at=1_000_020.0)
    write_json(exit_path(killed, 0), to_json(ended))
    (killed / "stderr").write_text("Killed\n")
    write_json(judged / VERDICT, to_json(failed_end("node_failure")))


def copy_project(source: Path, to: Path) -> Path:
    """Copy a project; segments of its store, which nobody changes, count as checked: a copy of one never does."""
    shutil.copytree(source, to, symlinks=True)
    store = to / "store"
    if store.is_dir():
        checked = CheckedSegments(store, terms="")
        checked.record((path, identity_of(path.stat()), ()) for path in store.glob("*.h5"))
    return to


def outside_of(folder: Path) -> dict[str, str]:
    """Digest everything in a project that no command may change: all but its run and its store."""
    found = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if parts[0] == "store" or parts[:2] == ("runs", NAME) or path.name == ".profile-cache":
            continue
        is_file = path.is_file() and not path.is_symlink()
        found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest() if is_file else "-"
    return found
