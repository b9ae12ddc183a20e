"""A private Slurm that is set up as the centres are whose profiles are in slurm/: a node for each of their kinds.

Sizes, partitions, types, features, limits and accounts are those that the pages named in the profiles tell; what a
centre keeps to itself (names of features, limits of accounts) is left out.
"""

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slurm.dev.plan import Ports
from slurm.dev.private import DevCluster


@dataclass(frozen=True)
class Kind:
    """A kind of node, with the partition that has it."""

    partition: str
    cpus: int
    memory_mib: int
    gpus: int
    max_time: str
    feature: str = "none"
    options: str = ""


KINDS = (
    Kind("gpu_a100", cpus=72, memory_mib=480 * 1024, gpus=4, max_time="120:00:00"),
    Kind(
        "gpu_p13", cpus=40, memory_mib=160 * 1024, gpus=4, max_time="100:00:00", feature="v100-32g",
        options="Default=YES DefMemPerCPU=4096",
    ),
    Kind("a100", cpus=88, memory_mib=880_000, gpus=8, max_time="72:00:00"),
)  # fmt: skip
SIZE = re.compile(r"CPUs=\S+ RealMemory=\S+ Gres=\S+ ")

ACCOUNTS = ("surf-project", "abc@v100", "GROUP_gpu")
QOS: Mapping[str, str] = {"qos_gpu-t3": "20:00:00", "qos_gpu-t4": "100:00:00"}
"""QOS of Jean Zay -> its longest job."""


class Centres(DevCluster):
    """The cluster; start and stop it as any other."""

    def __init__(self, directory: Path) -> None:
        super().__init__(
            directory,
            nodes=len(KINDS),
            gpus_per_node=max(kind.gpus for kind in KINDS),
            accounting=True,
            max_submit_jobs=100,
        )

    def _configuration(self, ports: Ports) -> dict[str, str]:
        """Return the files: each node of its own size, and the partitions of the centres."""
        texts = super()._configuration(ports)
        lines = [line for line in texts["slurm.conf"].splitlines() if not line.startswith("PartitionName=")]
        gres = []
        for name, kind in zip(self.node_names, KINDS, strict=True):
            size = f"CPUs={kind.cpus} RealMemory={kind.memory_mib} Gres=gpu:{kind.gpus} Feature={kind.feature} "
            start = f"NodeName={name} "
            lines = [SIZE.sub(size, line) if line.startswith(start) else line for line in lines]
            lines.append(f"PartitionName={kind.partition} Nodes={name} MaxTime={kind.max_time} State=UP {kind.options}")
            gres.append(f"{start}Name=gpu File={self.dir}/gpu/gpu[0-{kind.gpus - 1}]")
        texts["slurm.conf"] = "\n".join(lines).replace("Enforce=limits", "Enforce=limits,qos") + "\n"
        texts["gres.conf"] = "\n".join(gres) + "\n"
        return texts

    def _limit_user(self, cluster_name: str) -> None:
        """Make the accounts and QOS of the centres; the user is in each of them."""
        user, every_qos = getpass.getuser(), ",".join(["normal", *QOS])
        self._add("cluster", cluster_name)
        for name, longest in QOS.items():
            self._add("qos", name, f"MaxWall={longest}")
        for account in ACCOUNTS:
            self._add("account", account)
            self._add("user", user, f"account={account}", f"defaultaccount={ACCOUNTS[0]}", f"qos={every_qos}")

    def _add(self, *words: str) -> None:
        self.run("sacctmgr", "--immediate", "add", *words)
