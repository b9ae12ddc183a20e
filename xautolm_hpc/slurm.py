"""Slurm's commands: the only file that starts them. A time-out on each call, typed rows out.

Every method returns ``None`` where Slurm gave no answer; an empty list is an answer. Settings that a
person made for their own squeue or sbatch (SQUEUE_FORMAT and the like), and those of a surrounding job, are removed
from the environment; only SLURM_CONF, the path of Slurm's configuration, stays.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from xautolm_hpc.errors import BusyError, LaunchError, QueueFullError
from xautolm_hpc.launcher import JobSource, JobState

CLEARED = ("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_")
KEPT = ("SLURM_CONF",)
FIXED = {"LC_ALL": "C", "SLURM_TIME_FORMAT": "%s"}
SQUEUE, SACCT = "squeue", "sacct"
SQUEUE_FORMAT = "%i|%j|%T|%N|%Q|%r"
SACCT_FORMAT = "JobID,JobName,State,ExitCode,NodeList,End,Reason"
NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
"""Commands no search on a cluster can do without."""

IDS_A_CALL = 500
"""Ids on one command line: far below the kernel's limit on its length."""

BUSY = (
    "timed out", "did not answer", "unable to contact", "zero bytes", "communication connection", "expected a job id",
    "temporarily un", "queue full", "backup controller",
)  # fmt: skip
"""Parts of an answer of sbatch after which the job may have been accepted nevertheless, or will be later."""

QUEUE_FULL = ("maxsubmitjob", "grpsubmitjob")
"""Reasons that sbatch names when an association or QOS has as many jobs as it may have."""

NOT_SET_UP = ("configuration source", "slurm.conf", "process configuration")  # it is installed, without a cluster
LOGIN_NODE = "work on a login node of the cluster"

NO_NODES = ("node configuration is not available", "invalid node name")
"""Parts of an answer of sbatch when no node is left, or when it does not know one that is to be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A row of squeue or sacct: one job or array element.

    Attributes:
        job_id: ``123`` or ``123_4``.
        name: Job name.
        state: Its state.
        reason: Why it is pending or how it ended; "" if Slurm gives no reason.
        is_held: Whether it waits and has no priority, so that Slurm does not start it; known to squeue alone.
        node: Node list, or ``None``.
        exit_code: Exit status, 128 + signal if one ended it; ``None`` in a row of squeue.
        ended_at: Seconds since the epoch, or ``None``.
        source: Which of squeue and sacct wrote it.
    """

    job_id: str
    name: str
    state: JobState
    reason: str
    node: str | None
    exit_code: int | None
    ended_at: float | None
    source: JobSource
    is_held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A row of sinfo: one kind of node in a partition.

    Attributes:
        name: Partition.
        is_default: Whether jobs that name none go there.
        is_up: Whether it takes jobs.
        time_limit: Longest job, in Slurm's notation.
        n_nodes: Nodes of this kind.
        n_cpus: Cores of each.
        memory_mib: Memory of each, in MiB.
        gres: Generic resources of each, for instance ``gpu:a100:4``; "" if none.
    """

    name: str
    is_default: bool
    is_up: bool
    time_limit: str
    n_nodes: int
    n_cpus: int
    memory_mib: int
    gres: str


class Slurm:
    """Slurm as its commands show it.

    Args:
        environ: Environment of the commands before cleaning; this process's by default.
        timeout_s: Seconds after which a command that does not answer is given up.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, *, timeout_s: float = 100.0) -> None:
        self.environ = clean_environment(os.environ if environ is None else environ)
        self.timeout_s = timeout_s

    def missing_commands(self) -> list[str]:
        """List the commands a search needs that are not on PATH."""
        return [name for name in NEEDED if shutil.which(name, path=self.environ.get("PATH")) is None]

    def why_silent(self) -> tuple[str, str]:
        """Find out why Slurm gives no answer; returns what is wrong, and what to do."""
        if missing := self.missing_commands():
            return f"there is no {', '.join(missing)} on PATH", f"{LOGIN_NODE}, or load the site's Slurm module"
        completed = self._run(["scontrol", "show", "config"], {})
        words = completed if isinstance(completed, str) else "".join(completed.stderr.strip().splitlines()[-1:])
        if any(sign in words.lower() for sign in NOT_SET_UP):
            return f"Slurm is not set up on this machine: {words}", f"{LOGIN_NODE}, or set SLURM_CONF to its slurm.conf"
        remedy = "try again later or ask the cluster's support; SLURM_CONF says which cluster is asked"
        return f"Slurm does not answer: {words or 'no reason given'}", remedy

    def squeue(self, names: Iterable[str]) -> list[JobRow] | None:
        """List the jobs of some names that the controller remembers, ended ones included (a few minutes)."""
        text = self._ask(
            [SQUEUE, "--noheader", "--array", "--states=all", f"--name={','.join(names)}", f"--format={SQUEUE_FORMAT}"]
        )
        return None if text is None else [_squeue_row(line) for line in text.splitlines() if line.count("|") >= 5]

    def sacct(self, names: Iterable[str], *, since: float) -> list[JobRow] | None:
        """List the jobs of some names from the accounting database, the last run of each.

        A job one of whose steps ran out of memory counts as OUT_OF_MEMORY, whatever its batch script made of it.

        Args:
            names: Job names.
            since: Start of the window, seconds since the epoch; without one sacct looks back to midnight only.
        """
        text = self._ask(
            [
                SACCT, "--noheader", "--parsable2", "--duplicates", f"--starttime={_local_time(since)}",
                f"--name={','.join(names)}", f"--format={SACCT_FORMAT}",
            ]
        )  # fmt: skip
        return None if text is None else _sacct_rows(text)

    def scancel(self, job_ids: Sequence[str], *, only: JobState | None = None, name: str | None = None) -> bool:
        """Cancel jobs or array elements; returns whether Slurm answered.

        Args:
            job_ids: The jobs.
            only: State they must be in to be cancelled; any by default.
            name: Name they must have to be cancelled; any by default.
        """
        options = ["--quiet", *([f"--state={only}"] if only else []), *([f"--name={name}"] if name else [])]
        parts = [job_ids[start : start + IDS_A_CALL] for start in range(0, len(job_ids), IDS_A_CALL)]
        return all([self._ask(["scancel", *options, *part]) is not None for part in parts])

    def requeue(self, job_id: str) -> bool:
        """Return a running job to the queue; returns whether Slurm agreed."""
        return self._ask(["scontrol", "requeue", job_id]) is not None

    def job_end(self, job_id: str) -> float | None:
        """Read when a running job's time is over, seconds since the epoch; ``None`` if unknown, or never.

        Args:
            job_id: ``123`` or ``123_4``.
        """
        text = (self._ask([SQUEUE, "--noheader", f"--jobs={job_id}", "--format=%e"]) or "").strip()
        return float(text) if text.isdecimal() else None

    def charged_to(self, job_id: str) -> tuple[str, str, str] | None:
        """Read which account, QOS and partition a job in the queue is counted in; ``None`` without an answer.

        Args:
            job_id: ``123`` or ``123_4``.
        """
        text = self._ask([SQUEUE, "--noheader", "--array", f"--jobs={job_id}", "--format=%a|%q|%P"]) or ""
        account, qos, partition = [*text.strip().partition("\n")[0].split("|"), "", ""][:3]
        return (account, qos, partition) if partition else None

    def settings(self) -> dict[str, str] | None:
        """Read the controller's configuration: MaxArraySize, KillWait and so on."""
        text = self._ask(["scontrol", "show", "config"])
        if text is None:
            return None
        pairs = (line.partition("=") for line in text.splitlines() if " = " in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    def partition_settings(self, name: str) -> dict[str, str] | None:
        """Read the controller's settings of one partition: MaxTime, MaxMemPerNode and so on."""
        text = self._ask(["scontrol", "--oneliner", "show", "partition", name])
        pairs = None if text is None else [word.partition("=") for word in text.split()]
        return None if pairs is None else {key: value for key, _, value in pairs}

    def sacctmgr(self, entity: str, fields: Sequence[str], *, where: Sequence[str]) -> list[dict[str, str]] | None:
        """List what the accounting database says of an ``association``, a ``user`` or a ``qos``.

        Args:
            entity: What is asked about.
            fields: Names of columns.
            where: Conditions, for instance ``account=dev``.
        """
        question = ["show", entity, "where", *where, f"format={','.join(fields)}"]
        text = self._ask(["sacctmgr", "--noheader", "--parsable2", "--readonly", *question])
        rows = None if text is None else [line.split("|") for line in text.splitlines()]
        return None if rows is None else [dict(zip(fields, row, strict=False)) for row in rows]

    def sinfo(self) -> list[Partition] | None:
        """List partitions and the kinds of nodes in them."""
        text = self._ask(["sinfo", "--noheader", "--format=%P|%a|%l|%D|%c|%m|%G"])
        return None if text is None else [_partition(line) for line in text.splitlines() if line.count("|") >= 6]

    def sbatch(self, script_path: Path, exports: Mapping[str, str]) -> str:
        """Submit a batch script.

        Args:
            script_path: The script.
            exports: Variables for sbatch itself, from which ``--export=NAMES`` takes its values.

        Returns:
            The job id.

        Raises:
            BusyError: sbatch did not answer, or not clearly.
            QueueFullError: A limit on jobs in the queue is reached.
            LaunchError: sbatch refused; the message holds its answer.
        """
        completed = self._run(["sbatch", "--parsable", str(script_path)], exports)
        if isinstance(completed, str):
            raise submission_error(f"sbatch {completed}")
        if completed.returncode != 0:
            raise submission_error(f"sbatch refused: {completed.stderr.strip() or completed.stdout.strip()}")
        job_id = completed.stdout.strip().splitlines()[-1:]
        if not job_id or not re.fullmatch(r"\d+(;.*)?", job_id[0]):
            raise submission_error(f"sbatch answered {completed.stdout!r}, expected a job id")
        return job_id[0].partition(";")[0]

    def test_only(self, script_path: Path, exports: Mapping[str, str]) -> tuple[bool, str]:
        """Check whether Slurm would take a batch script, and when it would start; submits nothing.

        Args:
            script_path: The script.
            exports: Variables for sbatch itself, as in :meth:`sbatch`.

        Returns:
            Whether it would be taken, and Slurm's message.
        """
        completed = self._run(["sbatch", "--test-only", str(script_path)], exports)
        if isinstance(completed, str):
            return False, f"sbatch {completed}"
        message = completed.stderr.strip() or completed.stdout.strip()
        return completed.returncode == 0, message.removeprefix("sbatch: ")

    def exit_status(self, job_id: str) -> int | None:
        """Read from the controller how a job's script ended; ``None`` if it runs, was forgotten, or was killed.

        Args:
            job_id: ``123`` or ``123_4``.
        """
        found = re.search(r"\bExitCode=(\d+):(\d+)", self._ask(["scontrol", "show", "job", job_id]) or "")
        return int(found[1]) if found and found[2] == "0" else None

    def _ask(self, argv: list[str]) -> str | None:
        completed = self._run(argv, {})
        return None if isinstance(completed, str) or completed.returncode != 0 else completed.stdout

    def _run(self, argv: list[str], more: Mapping[str, str]) -> subprocess.CompletedProcess[str] | str:
        """Run a command; a text instead of a result is the reason why there is none."""
        program = shutil.which(argv[0], path=self.environ.get("PATH"))
        if program is None:
            return f"could not be started: it is not on PATH; {LOGIN_NODE}"
        try:
            return subprocess.run(
                [program, *argv[1:]],
                env={**self.environ, **more, **FIXED},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.timeout_s,
                check=False,
                start_new_session=True,  # Ctrl-C in the terminal must not cut a submission in half
            )
        except subprocess.TimeoutExpired:
            return f"did not answer within {self.timeout_s:g} s"
        except OSError as error:
            return f"could not be started: {error.strerror}"


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Remove variables that would change the meaning or the output of Slurm's commands."""
    return {name: value for name, value in environ.items() if name in KEPT or not name.startswith(CLEARED)}


def submission_error(message: str) -> LaunchError:
    """Build the error that an answer of sbatch means: busy, a full queue, or a refusal of the script itself."""
    found = message.lower()
    if any(sign in found for sign in QUEUE_FULL):
        return QueueFullError(message)
    return BusyError(message) if any(sign in found for sign in BUSY) else LaunchError(message)


def lacks_nodes(error: LaunchError) -> bool:
    """Check whether Slurm refused because no node is left, or because it does not know an excluded node."""
    return any(sign in str(error).lower() for sign in NO_NODES)


def _squeue_row(line: str) -> JobRow:
    """Read a line in :data:`SQUEUE_FORMAT`; the reason comes last, since it may hold any character."""
    job_id, name, word, node, priority, reason = (field.strip() for field in line.split("|", 5))
    state = JobState.from_slurm(word)
    return JobRow(
        job_id=job_id,
        name=name,
        state=state,
        reason="" if reason == "None" else reason,
        node=node or None,
        exit_code=None,
        ended_at=None,
        source=JobSource.SQUEUE,
        is_held=state is JobState.PENDING and priority == "0",  # which Slurm keeps for jobs that are held
    )


def _sacct_rows(text: str) -> list[JobRow]:
    """Read sacct's lines: the last run of a job counts, and a step may show that memory ran out."""
    rows: dict[str, JobRow] = {}
    for line in text.splitlines():
        if line.count("|") < 6:
            continue
        row = _sacct_row(line)
        job_id, _, step = row.job_id.partition(".")
        if not step:
            rows.pop(job_id, None)  # an earlier run, before a requeue
            rows[job_id] = row
        elif row.state is JobState.OUT_OF_MEMORY and job_id in rows:
            rows[job_id] = replace(rows[job_id], state=row.state)
    return list(rows.values())


def _sacct_row(line: str) -> JobRow:
    """Read a line in :data:`SACCT_FORMAT`."""
    job_id, name, state, code, nodes, ended, reason = (field.strip() for field in line.split("|", 6))
    status, _, by_signal = code.partition(":")
    return JobRow(
        job_id=job_id,
        name=name,
        state=JobState.from_slurm(state),
        reason="" if reason == "None" else reason,
        node=None if nodes in ("", "None assigned") else nodes,
        exit_code=_exit_code(status, by_signal),
        ended_at=float(ended) if ended.isdecimal() else None,
        source=JobSource.SACCT,
    )


def _exit_code(status: str, by_signal: str) -> int | None:
    if by_signal.isdecimal() and int(by_signal):
        return 128 + int(by_signal)
    return int(status) if status.isdecimal() else None


def _partition(line: str) -> Partition:
    """Read a line of sinfo: a star marks the default partition, a plus the least of several sizes."""
    name, available, time_limit, n_nodes, n_cpus, memory_mib, gres = (f.strip() for f in line.split("|", 6))
    return Partition(
        name=name.rstrip("*"),
        is_default=name.endswith("*"),
        is_up=available == "up",
        time_limit=time_limit,
        n_nodes=int(n_nodes),
        n_cpus=int(n_cpus.rstrip("+")),
        memory_mib=int(memory_mib.rstrip("+")),
        gres="" if gres == "(null)" else gres,
    )


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
