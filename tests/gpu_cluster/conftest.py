"""Private Slurm clusters with the GPUs of this machine, or with stand-ins, where trials use the CPU.

Slurm is the one on PATH. Where there is none it is unpacked from the folder that SLURM_PACKAGES names.
"""

import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from slurm.dev.collect import unpack
from slurm.dev.packages import search_path
from slurm.dev.private import DevCluster
from xautolm_hpc.node import list_gpus, open_nvml

N_STAND_INS = 2
NULL_DEVICE = os.makedev(1, 3)


def make_stand_ins(folder: Path) -> dict[str, str]:
    """Make device files that Slurm takes for GPUs; returns them with their ids."""
    cards = {}
    for number in range(N_STAND_INS):
        path = folder / f"nvidia{number}"
        os.mknod(path, stat.S_IFCHR | 0o666, NULL_DEVICE)
        cards[str(path)] = f"GPU-stand-in-{number}"
    return cards


@pytest.fixture(scope="session")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Device file of each GPU -> its id."""
    gpus = list_gpus(None)[0]
    if not gpus:
        return make_stand_ins(tmp_path_factory.mktemp("cards"))
    with open_nvml() as nvml:
        assert nvml is not None
        handles = {gpu.uuid: nvml.nvmlDeviceGetHandleByUUID(gpu.uuid) for gpu in gpus}
        return {f"/dev/nvidia{nvml.nvmlDeviceGetMinorNumber(handle)}": uuid for uuid, handle in handles.items()}


@pytest.fixture(scope="session")
def _slurm_on_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put Slurm on PATH where it is not installed."""
    if shutil.which("slurmctld", path=search_path()) is None and "SLURM_PACKAGES" in os.environ:
        programs_dir = unpack(Path(os.environ["SLURM_PACKAGES"]), tmp_path_factory.mktemp("slurm"))
        os.environ["PATH"] = f"{programs_dir}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session", params=["a node for each GPU", "one node with all GPUs"])
def cluster(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cards: Mapping[str, str],
    _slurm_on_path: None,
) -> Iterator[DevCluster]:
    """Start a cluster with all GPUs, memory limited where the machine allows it."""
    folder, nodes = tmp_path_factory.mktemp("gpus"), len(cards) if request.param.startswith("a node") else 1
    with DevCluster(folder, nodes=nodes, gpus_per_node=len(cards) // nodes, cards=cards, cgroup=True) as started:
        yield started
