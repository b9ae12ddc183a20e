"""The ways in which a job can end, made to happen on a private Slurm."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurm.dev.daemons import wait_until
from slurm.dev.private import DevCluster
from tests.slurm.searching import STUB_OUTCOME
from tests.stub_search import SERIES
from xautolm_hpc.durable import write_json
from xautolm_hpc.jobdir import COMMAND, Command, write_members
from xautolm_hpc.launcher import Resources, Submission
from xautolm_hpc.records import to_json
from xautolm_hpc.submit.arrays import SlurmOptions

MIB = 1024**2
GIVEN_BACK = "given back"
CLOSED, SHORT = "closed", "short"
"""A partition that takes no jobs, one of a minute."""

SMALL, SHARED = "small", "shared"
"""An account whose jobs may have one core each, one whose jobs may have one core together."""

START_S = 400.0

WORKER = """#!{python} -S
# Waits until it is told to, then ends as its first argument says.
import os, signal, sys, time
if "batch" in sys.argv:
    os.execv({python!r}, [{python!r}, {series!r}, sys.argv[-1]])
way, go_path = sys.argv[1], sys.argv[2]
restart = os.environ.get("SLURM_RESTART_COUNT", "0")
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
open("started-" + restart, "w").close()
if way == "succeeds" or (way == "runs" and restart != "0"):
    with open("aside", "w") as file:
        file.write({outcome!r})
    os.link("aside", "outcome.json")
    sys.exit(0)
while way == "runs" or not os.path.exists(go_path):
    time.sleep(0.2)
if way == "fails":
    sys.exit(3)
if way == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
if way == "kills the wrapper":
    os.kill(int(os.environ.get("WRAPPER_PID", os.getppid())), signal.SIGKILL)
    time.sleep(600)  # until it goes with the wrapper; if it ended by itself, the next trial of its job could begin
if way == "takes memory":
    held = bytearray(400 << 20)
    time.sleep(600)
if way == "cuts its outcome off":
    with open("outcome.json", "w") as file:
        file.write({outcome!r}[:100])
"""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to end.

    Attributes:
        name: In words.
        kind: Failure kind it must get; ``None`` if the job succeeds after all.
        origin: The kind's origin; ``None`` if the job succeeds after all.
        worker: What the worker does, in the words of :data:`WORKER`.
        options: What the job asks Slurm for.
        python: Interpreter of the wrapper.
        n_cpus: Cores that the job asks for.
        act: Does to the job what it does not do itself; is given its id.
        starts: Whether its worker gets as far as to start.
        waits_in_vain: Whether the job ends only because it is given up.
        needs_accounts: Whether there is no such end without accounts.
        asks_accounts: Whether it is known only while they answer.
        spares_others: Whether the trials after it in a job run all the same; else the job gives them back. ``None``
            where both may be: the kernel chooses whom it kills for want of memory.
    """

    name: str
    kind: str | None
    origin: str | None = "infrastructure"
    worker: str = "runs"
    options: SlurmOptions = field(default_factory=SlurmOptions)
    python: str = sys.executable
    n_cpus: int = 1
    act: Callable[[DevCluster, str], None] | None = None
    starts: bool = True
    waits_in_vain: bool = False
    needs_accounts: bool = False
    asks_accounts: bool = False
    spares_others: bool | None = False

    @property
    def beside(self) -> list[tuple[str, str]]:
        """What may become of the trial before it in its job and of the one after it."""
        if not self.starts:
            return [(str(self.kind), str(self.kind))]
        spared, not_spared = ("succeeded", "succeeded"), ("succeeded", GIVEN_BACK)
        return {True: [spared], False: [not_spared], None: [spared, not_spared]}[self.spares_others]

    @property
    def slug(self) -> str:
        """Name for files and jobs."""
        return self.name.replace(" ", "-").replace(",", "")


def _on(node: str, **more: object) -> SlurmOptions:
    """Ask for one node, alone on it if a partition is named."""
    options = {"nodelist": node, **more}
    return SlurmOptions(options=options)  # type: ignore[arg-type]


def _preempt(cluster: DevCluster, node: str) -> None:
    cluster.run(
        "sbatch", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--wrap=sleep 3"
    )


def _preempt_and_requeue(cluster: DevCluster, job_id: str) -> None:
    _preempt(cluster, "n5")
    assert wait_until(lambda: "PENDING" in cluster.job_state(job_id), timeout_s=START_S)
    cluster.start_soon(job_id)


def _requeue_and_hold(cluster: DevCluster, job_id: str) -> None:
    cluster.run("scontrol", "requeuehold", job_id)

    def is_held() -> bool:
        return cluster.run("squeue", "--noheader", f"--jobs={job_id}", "--format=%t %Q") in ("PD 0", "RH 0", "SE 0")

    assert wait_until(is_held, timeout_s=START_S), cluster.run("squeue")


def _never_starts(name: str, options: SlurmOptions, **more: Any) -> Way:
    """Describe a job that waits for what cannot come."""
    return Way(name=name, kind="launch_failure", options=options, starts=False, waits_in_vain=True, **more)


WAYS = (
    Way(name="exit status 3", kind="error", origin="pipeline", worker="fails", spares_others=True),
    Way(name="SIGKILL of the worker", kind="lost", worker="is killed", spares_others=True),
    Way(name="SIGKILL of the wrapper", kind="lost", worker="kills the wrapper"),
    Way(name="host out of memory", kind="host_oom", origin="pipeline", worker="takes memory", spares_others=None),
    Way(name="time limit", kind="wall_limit", options=SlurmOptions(options={"time": "1"})),
    Way(name="scancel", kind="cancelled", act=lambda cluster, job_id: _run(cluster, "scancel", job_id)),
    Way(
        name="node down",
        kind="node_failure",
        options=_on("n3", **{"no-requeue": True}),
        act=lambda cluster, _: cluster.kill_node("n3"),
    ),
    Way(
        name="preempted, cancelled",
        kind="preempted",
        options=_on("n4", partition="preempt-cancel"),
        act=lambda cluster, _: _preempt(cluster, "n4"),
    ),
    Way(
        name="preempted, requeued",
        kind=None,
        origin=None,
        options=_on("n5", partition="preempt-requeue"),
        act=_preempt_and_requeue,
        spares_others=True,
    ),
    Way(name="launch failure", kind="launch_failure", python="/nowhere/python", starts=False),
    Way(name="outcome missing", kind="lost", worker="writes nothing", spares_others=True),
    Way(name="outcome cut off", kind="lost", worker="cuts its outcome off", spares_others=True),
    _never_starts("held", SlurmOptions(options={"hold": True})),
    _never_starts(
        "held by its user",
        SlurmOptions(options={"begin": "now+1hour"}),
        act=lambda cluster, job_id: _run(cluster, "scontrol", "uhold", job_id),
    ),
    Way(name="put back and held", kind="launch_failure", act=_requeue_and_hold, waits_in_vain=True),
    _never_starts("partition down", SlurmOptions(partition=CLOSED)),
    _never_starts("longer than its partition allows", SlurmOptions(partition=SHORT)),
    _never_starts("more cores than its account allows", SlurmOptions(account=SMALL), n_cpus=2, needs_accounts=True),
    _never_starts(
        "more cores than an account shares",
        SlurmOptions(account=SHARED),
        n_cpus=2,
        needs_accounts=True,
        asks_accounts=True,
    ),
)


def _run(cluster: DevCluster, *command: str) -> None:
    cluster.run(*command)


def write_attempts(folder: Path, way: Way, *, has_others: bool = False) -> Submission:
    """Write an attempt that ends in some way, ready to be submitted.

    Args:
        folder: Folder of all ways.
        way: How it ends.
        has_others: Whether its job runs two more, which succeed: one before it and one after it.
    """
    words = ["succeeds", way.worker, "succeeds"] if has_others else [way.worker]
    dirs = tuple(folder / way.slug / f"trial-{i}" / "attempt-0" for i in range(len(words)))
    worker = folder / "worker"
    if not worker.exists():
        (folder / "series.py").write_text(SERIES)
        given = {"python": sys.executable, "outcome": STUB_OUTCOME, "series": str(folder / "series.py")}
        worker.write_text(WORKER.format(**given))
        worker.chmod(0o755)
    for attempt_dir, word in zip(dirs, words, strict=True):
        attempt_dir.mkdir(parents=True)
        write_json(attempt_dir / COMMAND, to_json(_command(worker, word, go_path=folder / "go")))
    submission_dir = folder / way.slug / "submission-0"
    write_members(submission_dir, dirs)
    return Submission(
        name=f"dies-{way.slug}",
        folder=submission_dir,
        attempt_dirs=dirs,
        resources=Resources(n_cpus=way.n_cpus, memory_bytes=200 * MIB, time_limit_s=1800.0),
        trials_per_job=len(dirs),
    )


def _command(worker: Path, word: str, *, go_path: Path) -> Command:
    return Command(
        argv=(str(worker), word, str(go_path)),
        time_limit_s=1800.0,
        wall_limit_s=1800.0,
        memory_bytes=200 * MIB,
        n_threads=1,
        heartbeat_s=30.0,
        deterministic=False,
        enforce_limits=False,
        environment={"PATH": "/usr/bin:/bin"},
        site="here",
        cluster="dev",
    )


def dying_dir(submission: Submission) -> Path:
    """Return the attempt of a submission that ends in its way: the one in the middle."""
    return submission.attempt_dirs[len(submission.attempt_dirs) // 2]


def has_started(submissions: Mapping[str, Submission], ways: Sequence[Way]) -> Callable[[], bool]:
    """Tell whether every worker that can start has started."""
    waited_for = [dying_dir(submissions[way.name]) for way in ways if way.starts]
    return lambda: all((path / "started-0").exists() for path in waited_for)
