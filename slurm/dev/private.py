"""A private Slurm: starts, stops and queries it."""

import contextlib
import getpass
import secrets
import shutil
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from slurm.dev import cgroup, conf
from slurm.dev.collect import own_parts
from slurm.dev.daemons import wait_until
from slurm.dev.packages import install, missing_packages, program
from slurm.dev.plan import DevClusterError, Plan, Ports, free_ports, read_plan, write_plan
from slurm.dev.services import Services

READY_S = 60.0
COMMAND_S = 60.0
JOB_S = 120.0
LOOK_S = 0.1
ACCOUNT = "dev"
FOLDERS = ("etc", "run", "log", "state", "spool", "gpu", "database")
READY_STATES = ("idle", "mixed", "allocated", "completing")


@dataclass(frozen=True, kw_only=True)
class State:
    """The state of a cluster.

    Attributes:
        daemons: Daemon -> whether it runs.
        nodes: Node -> its state in Slurm; empty if the controller does not answer.
        memory: Whether memory is limited, and if not, why; text for people.
        has_sacct: Whether sacct answers.
    """

    daemons: dict[str, bool]
    nodes: dict[str, str]
    memory: str
    has_sacct: bool

    @property
    def is_up(self) -> bool:
        """Whether every daemon runs and every node accepts jobs."""
        return all(self.daemons.values()) and bool(self.nodes) and set(self.nodes.values()) <= set(READY_STATES)


class DevCluster(Plan):
    """A private Slurm on this machine: ``with DevCluster(path, nodes=2) as cluster:`` starts and stops it.

    Args and attributes are those of :class:`slurm.dev.plan.Plan`.
    """

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *error: object) -> None:
        self.down()

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open the cluster that was started in a folder.

        Raises:
            DevClusterError: There is none.
        """
        plan, _ = read_plan(directory)
        options = {field.name: getattr(plan, field.name) for field in fields(Plan) if field.name != "dir"}
        return cls(plan.dir, **options)

    @property
    def environ(self) -> dict[str, str]:
        """The environment for Slurm's commands: that of this process, with this cluster and no other."""
        return {name: value for name, value in self._services.environ.items() if name != "MYSQL_UNIX_PORT"}

    @property
    def limits_memory(self) -> bool:
        """Whether a job that uses more memory than it requested ends as OUT_OF_MEMORY."""
        return self._cgroup_version is not None

    @property
    def _cgroup_version(self) -> int | None:
        """Version of the control groups that hold jobs to their memory; ``None`` if none do."""
        return cgroup.version() if self.cgroup and cgroup.reason_against() is None else None

    @property
    def _services(self) -> Services:
        return Services(self, read_plan(self.dir)[1])

    def up(self) -> None:
        """Start everything and wait until every node is idle; root installs missing packages first.

        Raises:
            DevClusterError: The folder is in use, a package is missing, or a daemon failed; with the end of its log.
        """
        install(missing_packages(accounting=self.accounting))
        self._prepare_folder()
        with contextlib.ExitStack() as undo:
            undo.callback(self._stop_all)
            self._start_all()
            self._wait_for_nodes()
            undo.pop_all()

    def down(self, *, remove: bool = False) -> None:
        """Stop what was started, jobs included; safe to repeat.

        Args:
            remove: Whether to remove the folder, too.
        """
        if self.mark_path.exists():
            self._stop_all()
            if remove:
                shutil.rmtree(self.dir)

    def state(self) -> State:
        """Query daemons and nodes."""
        reason = cgroup.reason_against()
        unlimited = f"not limited: {reason}" if reason else "not limited; it can be here: up --cgroup"
        return State(
            daemons={daemon.name: daemon.is_running for daemon in self._services.all},
            nodes=self._node_states(),
            memory="limited: a job that takes more ends as OUT_OF_MEMORY" if self.limits_memory else unlimited,
            has_sacct=self.has_sacct(),
        )

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command against the cluster, in its folder, where the output of jobs is written.

        Returns:
            Its standard output, stripped.

        Raises:
            DevClusterError: It failed, and ``check`` holds.
        """
        completed = subprocess.run(
            command,
            env=self.environ,
            cwd=self.dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if check and completed.returncode != 0:
            words = completed.stderr.strip() or completed.stdout.strip()
            raise DevClusterError(f"`{' '.join(command)}` failed with status {completed.returncode}: {words}")
        return completed.stdout.strip()

    def has_sacct(self) -> bool:
        """Check whether sacct answers."""
        is_there = self.accounting and self._services.daemon("slurmdbd").is_running
        return is_there and self._answers("sacct", "--noheader")

    def job_state(self, job_id: str) -> str:
        """Return the state of a job in Slurm; "" once the controller has forgotten it."""
        return self.run("squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T", check=False)

    def wait_for_job(self, job_id: str, *states: str, timeout_s: float = JOB_S) -> str:
        """Wait until a job is in one of some states.

        Returns:
            Its state.

        Raises:
            DevClusterError: It was in none of them in time; with the output of ``scontrol show job``.
        """
        if not wait_until(lambda: self.job_state(job_id) in states, timeout_s=timeout_s, poll_s=LOOK_S):
            words = self.run("scontrol", "show", "job", job_id, check=False)
            raise DevClusterError(f"job {job_id} was not {' or '.join(states)} within {timeout_s:g} s:\n{words}")
        return self.job_state(job_id)

    def start_soon(self, job_id: str) -> None:
        """Start a requeued job in two seconds; by default Slurm waits two minutes.

        Not at once: a node refuses a job in the second in which it killed it, and the job fails.
        """
        self.run("scontrol", "update", f"jobid={job_id}", "starttime=now+2")

    def kill_node(self, name: str) -> None:
        """Kill a node with all its processes, and set it down in the controller, as a site's health check would."""
        self._services.daemon(self._known(name)).kill()
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=killed by slurm/dev")

    def cut_off_node(self, name: str) -> None:
        """Cut a node off: its processes are suspended, and the controller sets it down."""
        self._services.daemon(self._known(name)).pause()
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=cut off by slurm/dev")

    def rejoin_node(self, name: str) -> None:
        """Resume a node that was cut off, its old jobs included."""
        self._services.daemon(self._known(name)).go_on()
        # Slurm refuses this if the node has registered already; it matters only that the node accepts jobs.
        self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self._wait_for_nodes(name)

    def resume_node(self, name: str) -> None:
        """Start a node that was killed and wait until it accepts jobs.

        Raises:
            DevClusterError: It does not within a minute; with the end of its log.
        """
        self._services.start_node(self._known(name))
        self._wait_for_nodes(name)

    def stop_dbd(self) -> None:
        """Stop the accounting daemon: jobs continue, sacct fails."""
        self._services.daemon("slurmdbd").stop()

    def start_dbd(self) -> None:
        """Start the accounting daemon again."""
        self._services.start_slurmdbd()

    def _known(self, name: str) -> str:
        if name not in self.node_names:
            raise DevClusterError(f"no node {name!r}; there are {', '.join(self.node_names)}")
        return name

    def _prepare_folder(self) -> None:
        """Create an empty folder: files of an earlier cluster are removed, any other folder is refused."""
        if self.mark_path.exists():
            running = [daemon.name for daemon in self._services.all if daemon.is_running]
            if running:
                raise DevClusterError(f"`{self.dir}`: {', '.join(running)} run already; `down --dir {self.dir}` first")
            shutil.rmtree(self.dir)
        elif self.dir.exists() and any(self.dir.iterdir()):
            raise DevClusterError(f"`{self.dir}` is neither empty nor a cluster's; name another folder with --dir")
        self.dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        for name in FOLDERS:
            (self.dir / name).mkdir()
        ports = free_ports(self.nodes)
        write_plan(self, ports)
        for number in range(self.gpus_per_node):
            (self.dir / "gpu" / f"gpu{number}").touch()
        for name, text in self._configuration(ports).items():
            self._write_private(name, text.encode())
        self.slurm_conf_path.chmod(0o644)
        self._write_private("munge.key", secrets.token_bytes(128))
        if self.cards:
            self.task_prolog_path.write_text(conf.task_prolog(self))
            self.task_prolog_path.chmod(0o755)

    def _configuration(self, ports: Ports) -> dict[str, str]:
        """Return the text of each file of the configuration."""
        version, parts = self._cgroup_version, own_parts(program("slurmd"))
        plugin_dir = None if parts is None else parts[0]
        return {
            "slurm.conf": conf.slurm_conf(self, ports, cgroup_version=version, plugin_dir=plugin_dir),
            "gres.conf": conf.gres_conf(self),
            "cgroup.conf": "" if version is None else conf.cgroup_conf(version),
            "slurmdbd.conf": conf.slurmdbd_conf(self, ports) if self.accounting else "",
        }

    def _write_private(self, name: str, content: bytes) -> None:
        path = self.dir / "etc" / name
        path.touch(mode=0o600)
        path.write_bytes(content)

    def _start_all(self) -> None:
        services = self._services
        if self.limits_memory:
            cgroup.delegate()
        services.start_munged()
        if self.accounting:
            services.start_database()
            services.start_slurmdbd()
        if self.max_submit_jobs:
            self._limit_user(services.ports.cluster_name)
        services.start_slurmctld()
        for name in self.node_names:
            services.start_node(name)

    def _limit_user(self, cluster_name: str) -> None:
        """Create an account with the user's limits, before the controller reads it."""
        user, limit = getpass.getuser(), f"MaxSubmitJobs={self.max_submit_jobs}"
        for words in (
            ("cluster", cluster_name),
            ("account", ACCOUNT),
            ("user", user, f"account={ACCOUNT}", f"defaultaccount={ACCOUNT}", limit),
        ):
            self.run("sacctmgr", "--immediate", "add", *words)

    def _stop_all(self) -> None:
        """Stop all daemons; the jobs of a node are stopped with it."""
        services = self._services
        for daemon in services.all:
            daemon.stop()
        if self.cgroup:
            cgroup.remove_groups(self.node_names, services.ports.job_ids)

    def _wait_for_nodes(self, *names: str) -> None:
        """Wait until nodes, by default all, accept jobs."""
        expected = names or tuple(self.node_names)
        daemons = [self._services.daemon(name) for name in ("slurmctld", *expected)]

        def is_settled() -> bool:
            return is_ready() or not all(daemon.is_running for daemon in daemons)

        def is_ready() -> bool:
            states = self._node_states()
            return all(states.get(name) in READY_STATES for name in expected)

        wait_until(is_settled, timeout_s=READY_S, poll_s=LOOK_S)
        if not is_ready():
            tails = "\n".join(daemon.log_tail() for daemon in daemons)
            raise DevClusterError(f"not ready after at most {READY_S:g} s; nodes: {self._node_states()}\n{tails}")

    def _node_states(self) -> dict[str, str]:
        if not self._services.daemon("slurmctld").is_running:
            return {}  # sinfo would try for ten seconds
        text = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", check=False)
        return dict(line.split(maxsplit=1) for line in text.splitlines())

    def _answers(self, *command: str) -> bool:
        try:
            self.run(*command)
        except DevClusterError:
            return False
        return True
