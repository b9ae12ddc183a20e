"""One short job, sent the way trials are: does a node see what it must, and does one training step work?

A node that does not see the run folder cannot write there. So the batch script itself, which Slurm carries, looks
first, and its exit status is the answer; the controller passes that on.
"""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from xautolm_hpc.doctor.machine import skew_finding
from xautolm_hpc.doctor.passed import job_check_key, remember_start_s
from xautolm_hpc.doctor.site import Site
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import ImageError, InputError, LaunchError
from xautolm_hpc.gather.pending import obstacle
from xautolm_hpc.gather.traces import read_tail
from xautolm_hpc.jobdir import COMMAND, Exit, claim_path, exit_path, restarts, write_members
from xautolm_hpc.launcher import JobState, JobStatus, Launcher, Submission
from xautolm_hpc.records import from_json, to_json
from xautolm_hpc.view import Finding, failure, ok

CHECK = "check.json"
"""What ``python -m xautolm_hpc.train test`` writes: findings, and when."""

JOB_TIME_S = 300.0
STUCK_S = 60.0
"""Seconds after which a reason that does not clear by waiting is believed."""

NO_FOLDER, NO_WRITE, NO_DRIVER_PYTHON, NO_WORKER_PYTHON, NO_MODELS = 81, 82, 83, 84, 85
LONGEST_POLL_S = 5.0
LONGEST_GOODBYE_S, GOODBYE_POLL_S = 10.0, 0.5
JOB = "job check"


def check_job(site: Site, *, log: Callable[[str], None]) -> list[Finding]:
    """Send a job of at most five minutes through the queue and return what it found; its folder is removed after.

    Args:
        site: What checks are given.
        log: Is called with short lines on where the job is.

    Raises:
        InputError: The profile wants Slurm and there is none.
    """
    folder = Path(tempfile.mkdtemp(prefix=".doctor-", dir=site.runs_dir))
    try:
        return _send(site, folder, log=log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _send(site: Site, folder: Path, *, log: Callable[[str], None]) -> list[Finding]:
    """Submit the job, wait for its end, cancel it if we are interrupted."""
    attempt_dir = folder / "attempt-0"
    launcher = site.launcher(node_checks=_node_checks(site, folder))
    try:
        submission = _prepare(site, launcher, attempt_dir=attempt_dir)
    except ImageError as error:
        return [failure(JOB, f"not sent: {error}", remedy="see [container] and hf_home in the profile")]
    try:
        job_id = launcher.submit(submission)[attempt_dir]
    except LaunchError as error:
        return [failure(JOB, str(error), remedy="see [slurm] in the profile and `doctor` without --job")]
    log(f"job {job_id} submitted")
    try:
        return _wait(site, launcher, submission=submission, job_id=job_id, log=log)
    finally:
        launcher.cancel([attempt_dir])
        _see_off(launcher, attempt_dir)


def _see_off(launcher: Launcher, attempt_dir: Path) -> None:
    """Wait a moment until the job writes nothing more, so that its folder can go."""
    deadline = time.monotonic() + LONGEST_GOODBYE_S
    while launcher.poll([attempt_dir])[attempt_dir].is_alive and time.monotonic() < deadline:
        time.sleep(GOODBYE_POLL_S)


def _prepare(site: Site, launcher: Launcher, *, attempt_dir: Path) -> Submission:
    """Write what the job needs: the worker of a search here, which tests itself instead of training a trial."""
    setup = site.setup(attempt_dir.parent, launcher)
    setup.run_dir.data_dir.mkdir()
    attempt_dir.mkdir()
    command = replace(setup.command("xautolm_hpc.train", "test"), time_limit_s=JOB_TIME_S, wall_limit_s=JOB_TIME_S)
    write_json(attempt_dir / COMMAND, to_json(command))
    submission = Submission(
        name=f"xautolm-hpc-doctor-{attempt_dir.parent.name.removeprefix('.doctor-')}",
        folder=attempt_dir.parent / "submission-0",
        attempt_dirs=(attempt_dir,),
        resources=replace(setup.one_node(), time_limit_s=JOB_TIME_S),
    )
    write_members(submission.folder, submission.attempt_dirs)
    return submission


def _node_checks(site: Site, folder: Path) -> tuple[str, ...]:
    """Write the lines of shell that look on the node, before anything is started there."""
    profile, quoted = site.profile, shlex.quote(str(folder))
    lines = [f"[ -d {quoted} ] || exit {NO_FOLDER}", f"[ -w {quoted} ] || exit {NO_WRITE}"]
    lines.append(f"command -v {shlex.quote(profile.driver_python)} >/dev/null || exit {NO_DRIVER_PYTHON}")
    if profile.worker_python is not None:
        lines.append(f"command -v {shlex.quote(profile.worker_python)} >/dev/null || exit {NO_WORKER_PYTHON}")
    if profile.hf_home is not None:
        lines.append(f"[ -d {shlex.quote(profile.hf_home)} ] || exit {NO_MODELS}")
    return tuple(lines)


class _Held:
    """How long conditions have held without a break."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}

    def seconds(self, name: str, holds: bool) -> float:
        if not holds:
            self._began.pop(name, None)
            return 0.0
        now = time.monotonic()
        return now - self._began.setdefault(name, now)


def _wait(
    site: Site, launcher: Launcher, *, submission: Submission, job_id: str, log: Callable[[str], None]
) -> list[Finding]:
    """Wait until the job has written what it found, or cannot any more."""
    attempt_dir, last_message, held = submission.attempt_dirs[0], "", _Held()
    while True:
        found = _read_findings(attempt_dir)
        if found is not None:
            _remember_start(site, attempt_dir)
            return found
        state = launcher.poll([attempt_dir])[attempt_dir]
        message = f"{state.state} {state.reason}".strip()
        if message != last_message:
            log(f"job {job_id}: {message}")
            last_message = message
        given_up = _give_up(site, submission, state=state, job_id=job_id, held=held)
        if given_up is not None:
            return [given_up]
        time.sleep(min(LONGEST_POLL_S, site.profile.poll_s))


def _give_up(site: Site, submission: Submission, *, state: JobStatus, job_id: str, held: _Held) -> Finding | None:
    """Return why nothing is to be expected of the job any more; ``None`` while something is."""
    grace_s, stuck = site.profile.patience.outcome_grace_s, obstacle(state)
    gone_s = held.seconds("gone", not state.is_alive)
    if not state.is_alive:
        ended = _explain_end(site, submission, state=state, job_id=job_id)
        return _unexplained(submission, state) if ended is None and gone_s >= grace_s else ended
    if held.seconds("stuck", stuck is not None) >= STUCK_S and stuck is not None:
        return failure(JOB, f"the job waits for {state.reason!r}", remedy=stuck.remedy)
    if held.seconds("runs", state.state is JobState.RUNNING) >= JOB_TIME_S + grace_s:
        found = f"the job runs on {state.node or 'a node'} and has said nothing for {JOB_TIME_S + grace_s:g} s"
        return failure(JOB, found, remedy="look at that node, or ask the cluster's support")
    return None


def _read_findings(attempt_dir: Path) -> list[Finding] | None:
    """Read what the job found; the folder is opened again, past a file server's cache."""
    if CHECK not in os.listdir(attempt_dir):  # noqa: PTH208 - opens the folder now
        return None
    path = attempt_dir / CHECK
    content = read_json(path)
    findings = [from_json(Finding, row, where=str(path)) for row in content["findings"]]
    node = read_json(claim_path(attempt_dir, restarts(attempt_dir)[-1]))["node"]  # as Slurm calls it
    where = ok(JOB, f"ran on node {node}, which sees the run folder and the interpreters")
    skew = skew_finding("clock of the node", content["at"] - path.stat().st_mtime, other="the file server")
    return [where, skew, *findings]


def _remember_start(site: Site, attempt_dir: Path) -> None:
    """Remember how long the worker took to import its libraries, for ``plan``; it is no harm if that fails."""
    start_s = read_json(attempt_dir / CHECK).get("start_s")
    if start_s is not None:
        with suppress(OSError):
            remember_start_s(site.runs_dir, job_check_key(site.profile), start_s=start_s)


def _explain_end(site: Site, submission: Submission, *, state: JobStatus, job_id: str) -> Finding | None:
    """Return why a job ended without a finding, as soon as that is known."""
    attempt_dir = submission.attempt_dirs[0]
    claimed = restarts(attempt_dir)
    if claimed and exit_path(attempt_dir, claimed[-1]).exists():
        return _worker_failure(site, attempt_dir, restart=claimed[-1])
    if not site.is_slurm:
        return None
    status = site.slurm.exit_status(job_id) if state.exit_code is None else state.exit_code
    return _node_failure(site, submission, status=status, node=state.node)


def _node_failure(site: Site, submission: Submission, *, status: int | None, node: str | None) -> Finding | None:
    """Return what the batch script did not find on the node."""
    profile, where = site.profile, f"node {node}" if node else "the node"
    shared = "must lie on a file system that the nodes share"
    reasons = {
        NO_FOLDER: (
            "run folder",
            f"`{site.runs_dir}` is not there on {where}",
            f"it {shared}: give another --runs-dir",
        ),
        NO_WRITE: ("run folder", f"`{site.runs_dir}` cannot be written on {where}", "give another with --runs-dir"),
        NO_DRIVER_PYTHON: (
            "driver_python",
            f"`{profile.driver_python}` cannot be run on {where}",
            f"driver_python in the profile {shared}, readable for you there",
        ),
        NO_WORKER_PYTHON: (
            "worker_python",
            f"`{profile.worker_python}` cannot be run on {where}",
            f"worker_python in the profile {shared}, readable for you there",
        ),
        NO_MODELS: ("hf_home", f"`{profile.hf_home}` is not there on {where}", f"hf_home in the profile {shared}"),
    }
    if status not in reasons:
        return None
    check, found, remedy = reasons[status]
    return failure(check, found, remedy=remedy)


def _worker_failure(site: Site, attempt_dir: Path, *, restart: int) -> Finding | None:
    """Return the worker's last lines as a finding; ``None`` while its findings may still come."""
    path = exit_path(attempt_dir, restart)
    try:
        ended = from_json(Exit, read_json(path), where=str(path))
    except (OSError, InputError):
        return None
    if ended.returncode == 0:
        return None
    lines = read_tail(attempt_dir / "stderr").splitlines()[-3:]
    node = read_json(claim_path(attempt_dir, restart))["node"]
    why = ended.message or f"ended with status {ended.returncode}: {' / '.join(lines) or 'without a word'}"
    remedy = "install the worker's environment again: pip install 'xautolm-hpc[worker]'"
    if site.profile.container is not None:
        remedy = "see [container] in the profile, or build the image again"
    return failure("worker", f"on node {node}: {why}", remedy=remedy)


def _unexplained(submission: Submission, state: JobStatus) -> Finding:
    logs = sorted(submission.folder.glob("*.err"))
    lines: Sequence[str] = [line for path in logs for line in read_tail(path).splitlines()][-3:]
    found = f"the job ended as {state.state} {state.reason}".strip() + f": {' / '.join(lines) or 'its log is empty'}"
    return failure(JOB, found, remedy="the node could not start the job: look at driver_python and at the job's node")
