"""Sites for checks, with what Slurm said made up."""

from pathlib import Path
from typing import Any

from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.doctor import Site, search_of_doctor
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.slurm import Partition, Slurm

GPU_NODES = Partition(
    name="gpu", is_default=True, is_up=True, time_limit="1-00:00:00", n_nodes=8, n_cpus=32, memory_mib=256_000,
    gres="gpu:a100:4(S:0-1),lscratch:100,localtmp:2T,shard:8",
)  # fmt: skip
CPU_NODES = Partition(
    name="cpu", is_default=False, is_up=False, time_limit="30:00", n_nodes=2, n_cpus=16, memory_mib=64_000, gres=""
)


def make_site(folder: Path, *, time_limit_min: float = 60.0, **profile: Any) -> Site:
    """Make a site of two partitions, whose profile differs from the default in some sections."""
    written = {"launcher": "slurm", "worker_python": "python3", **profile}
    inputs = Inputs.of(search_of_doctor(time_limit_min), ClusterProfile.model_validate(written), environ={"PATH": ""})
    return Site(
        inputs=inputs,
        runs_dir=folder,
        slurm=Slurm({"PATH": str(folder)}),
        settings={"MinJobAge": "300 sec", "MaxArraySize": "1001", "SLURM_VERSION": "22.05.8"},
        partitions=[GPU_NODES, CPU_NODES],
    )
