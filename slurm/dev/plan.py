"""The plan of a private cluster, the paths of its files, and its ports."""

import json
import random
import socket
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from pathlib import Path

FIRST_PORT, LAST_PORT = 10_000, 32_000
"""Below the ports that Linux uses for outgoing connections, so that a free port stays free."""

JOBS_A_PORT = 1000

LONGEST_SOCKET_PATH = 107
"""Linux's limit on the path of a Unix socket, in bytes."""


class DevClusterError(RuntimeError):
    """The private cluster cannot be started or queried; the text says why and what to do."""


@dataclass(frozen=True)
class Plan:
    """A private cluster.

    Attributes:
        dir: Its folder, which holds all its files.
        nodes: Number of nodes, named n1, n2 ...
        gpus_per_node: GPUs of each node; without ``cards`` they do not exist, but Slurm allocates them.
        accounting: Whether there is a database, so that sacct answers.
        cgroup: Whether memory is to be limited; ``slurm/dev/cgroup.py`` says where that is possible.
        min_job_age_s: Seconds after its end at which the controller forgets a job.
        max_array_size: Highest index of an array, plus 1.
        kill_wait_s: Seconds between SIGTERM and SIGKILL.
        max_submit_jobs: Jobs that the user may have in the queue, running ones included; 0 for any number. Needs
            ``accounting``.
        cards: Real GPUs: device file -> id for CUDA_VISIBLE_DEVICES; divided among the nodes in this order, so there
            must be ``gpus_per_node`` for each node.
    """

    dir: Path
    _: KW_ONLY
    nodes: int = 2
    gpus_per_node: int = 2
    accounting: bool = False
    cgroup: bool = False
    min_job_age_s: int = 10
    max_array_size: int = 1001
    kill_wait_s: int = 5
    max_submit_jobs: int = 0
    cards: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dir", self.dir.resolve())
        longest = len(str(self.database_socket).encode())
        if longest > LONGEST_SOCKET_PATH:
            raise DevClusterError(
                f"`{self.dir}` is too long a path: sockets in it would have {longest} bytes, "
                f"Linux allows {LONGEST_SOCKET_PATH}. Choose a shorter one with --dir"
            )
        for name, least in {"nodes": 1, "gpus_per_node": 0, "min_job_age_s": 2, "max_array_size": 2}.items():
            if getattr(self, name) < least:
                raise DevClusterError(f"{name} = {getattr(self, name)}: expected at least {least}")
        if self.max_submit_jobs and not self.accounting:
            raise DevClusterError("max_submit_jobs: Slurm keeps this limit in the accounts; add --accounting")
        n_cards = self.nodes * self.gpus_per_node
        if self.cards and len(self.cards) != n_cards:
            raise DevClusterError(f"cards: {len(self.cards)}; expected nodes * gpus_per_node = {n_cards}")

    @property
    def node_names(self) -> list[str]:
        """Names of the nodes."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    def cards_of(self, node: str) -> dict[str, str]:
        """List the real GPUs of a node: device file -> id."""
        first = self.node_names.index(node) * self.gpus_per_node
        return dict(list(self.cards.items())[first : first + self.gpus_per_node])

    @property
    def mark_path(self) -> Path:
        """The file with plan and ports; it marks a folder as that of a cluster."""
        return self.dir / "cluster.json"

    @property
    def slurm_conf_path(self) -> Path:
        """The value of SLURM_CONF."""
        return self.dir / "etc" / "slurm.conf"

    @property
    def task_prolog_path(self) -> Path:
        """The program that Slurm runs before each task where there are real GPUs."""
        return self.dir / "etc" / "task-prolog"

    @property
    def munge_socket(self) -> Path:
        """Socket of munged."""
        return self.dir / "run" / "munge.socket"

    @property
    def database_socket(self) -> Path:
        """Socket of MariaDB."""
        return self.dir / "run" / "mariadb.socket"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports of one cluster, on 127.0.0.1.

    Attributes:
        slurmctld: Port of the controller.
        slurmdbd: Port of the accounting daemon.
        slurmd: A port for each node, in their order.
    """

    slurmctld: int
    slurmdbd: int
    slurmd: tuple[int, ...]

    @property
    def cluster_name(self) -> str:
        """A name that no other running cluster of this machine has."""
        return f"dev{self.slurmctld}"

    @property
    def job_ids(self) -> range:
        """Job ids of this cluster only: clusters share control groups, named by node and job."""
        first = (self.slurmctld - FIRST_PORT) * JOBS_A_PORT + 1
        return range(first, first + JOBS_A_PORT)


def free_ports(n_nodes: int) -> Ports:
    """Choose free ports at random, so that clusters started at the same time get different ones.

    Raises:
        DevClusterError: There are not enough free ports.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT), 20 * (n_nodes + 2)):
        if _is_free(port):
            found.append(port)
        if len(found) == n_nodes + 2:
            return Ports(slurmctld=found[0], slurmdbd=found[1], slurmd=tuple(found[2:]))
    raise DevClusterError(f"no {n_nodes + 2} free ports between {FIRST_PORT} and {LAST_PORT}")


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_plan(plan: Plan, ports: Ports) -> None:
    """Write plan and ports to the cluster's folder, for later commands."""
    values = {one.name: getattr(plan, one.name) for one in fields(Plan)} | {"dir": str(plan.dir)}
    plan.mark_path.write_text(json.dumps({"plan": values, "ports": asdict(ports)}, indent=2) + "\n")


def read_plan(directory: Path) -> tuple[Plan, Ports]:
    """Read what :func:`write_plan` wrote.

    Raises:
        DevClusterError: The folder is not that of a cluster.
    """
    mark_path = Plan(dir=directory).mark_path
    if not mark_path.exists():
        raise DevClusterError(f"`{directory}` holds no cluster (no {mark_path.name}); start one with `up --dir`")
    read = json.loads(mark_path.read_text())
    ports = read["ports"] | {"slurmd": tuple(read["ports"]["slurmd"])}
    return Plan(**(read["plan"] | {"dir": directory})), Ports(**ports)
