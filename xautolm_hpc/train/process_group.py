"""The process group of a trial: its ranks and where they meet. Read from Slurm's variables, no command is run."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from xautolm_hpc.errors import InputError

FIRST_PORT, N_PORTS = 12_000, 16_000
"""Ports to meet at, below those that the kernel hands out by itself (32,768 and above)."""

HERE = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessGroup:
    """The processes of a trial, as the leader of one node sees them.

    Attributes:
        n_local: Processes on this node, the same on all nodes.
        n_nodes: Number of nodes.
        node: Number of this node, from 0.
        address: Name or address of node 0, where the processes meet.
        port: Port there.
    """

    n_local: int
    n_nodes: int = 1
    node: int = 0
    address: str = HERE
    port: int

    def variables(self, local: int) -> dict[str, str]:
        """Return the environment variables that tell torch and accelerate which rank a process is.

        Args:
            local: Number of the process on this node, from 0.
        """
        return {
            "RANK": str(self.node * self.n_local + local),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(self.n_local * self.n_nodes),
            "LOCAL_WORLD_SIZE": str(self.n_local),
            "GROUP_RANK": str(self.node),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One process among those of a trial.

    Attributes:
        index: Number among all processes, from 0.
        n_ranks: Number of processes.
        local_index: Number on its node, from 0; also the number of its GPU.
        n_local: Processes on its node.
        node: Number of its node, from 0.
    """

    index: int = 0
    n_ranks: int = 1
    local_index: int = 0
    n_local: int = 1
    node: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it writes the files of the trial."""
        return self.index == 0

    @property
    def reads_energy(self) -> bool:
        """Whether it reads its node's energy counters: one process of each node does."""
        return self.local_index == 0


ALONE = Rank()
"""The rank of a process that runs its trial alone."""


def read_rank(environ: Mapping[str, str]) -> Rank:
    """Read the rank of this process from the variables that its leader set; :data:`ALONE` without them."""
    if "RANK" not in environ:
        return ALONE
    return Rank(
        index=int(environ["RANK"]),
        n_ranks=int(environ["WORLD_SIZE"]),
        local_index=int(environ["LOCAL_RANK"]),
        n_local=int(environ["LOCAL_WORLD_SIZE"]),
        node=int(environ["GROUP_RANK"]),
    )


def read_process_group(environ: Mapping[str, str], n_local: int) -> ProcessGroup:
    """Read the process group from the variables of a leader, which is one Slurm task on each node.

    Args:
        environ: Variables of the job.
        n_local: Processes on each node.

    Raises:
        InputError: Slurm's list of nodes cannot be read.
    """
    n_nodes = int(environ.get("SLURM_STEP_NUM_NODES") or 1)
    if n_nodes == 1:
        return ProcessGroup(n_local=n_local, port=free_port())
    nodes = expand_nodes(environ.get("SLURM_STEP_NODELIST", ""))
    if len(nodes) != n_nodes:
        raise InputError(f"SLURM_STEP_NODELIST names {len(nodes)} nodes, SLURM_STEP_NUM_NODES is {n_nodes}")
    return ProcessGroup(
        n_local=n_local,
        n_nodes=n_nodes,
        node=int(environ["SLURM_NODEID"]),
        address=_resolvable(nodes[0], launched_from=environ.get("SLURM_LAUNCH_NODE_IPADDR")),
        port=port_of(environ["SLURM_JOB_ID"]),
    )


def port_of(job_id: str) -> int:
    """Derive a port from a job id, so that two jobs on one node use different ports."""
    return FIRST_PORT + int(job_id) % N_PORTS


def free_port() -> int:
    """Find a free port on this node."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def expand_nodes(text: str) -> list[str]:
    """Expand Slurm's notation of node names: ``gpu[01-03,7],login`` becomes five names.

    Raises:
        InputError: A bracket is not closed, or a range is not one of numbers.
    """
    names = []
    for entry in re.findall(r"(?:[^,\[]|\[[^\]]*\]?)+", text):
        names += _expand(entry)
    return names


def _expand(entry: str) -> list[str]:
    """Expand the first bracket of an entry, then the rest."""
    head, bracket, rest = entry.partition("[")
    if not bracket:
        return [entry]
    ranges, closed, tail = rest.partition("]")
    if not closed:
        raise InputError(f"node list {entry!r}: a bracket is not closed")
    numbers = [number for part in ranges.split(",") for number in _count(part, entry)]
    return [head + number + end for number in numbers for end in _expand(tail)]


def _count(part: str, entry: str) -> list[str]:
    """List the numbers of a range, zero-padded like its first one."""
    first, _, last = part.partition("-")
    if not first.isdecimal() or not (last or first).isdecimal():
        raise InputError(f"node list {entry!r}: {part!r} is not a range of numbers")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last or first) + 1)]


def _resolvable(node: str, *, launched_from: str | None) -> str:
    """Return the first node's name if it can be resolved, else the address where srun was started: the same node."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        return launched_from or node
    return node
