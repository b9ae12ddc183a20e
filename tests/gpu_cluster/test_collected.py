"""Slurm from collected packages runs without being installed, and names the GPUs of each node by their ids."""

import os
from pathlib import Path

import pytest

from slurm.dev.collect import PACKAGES, collect, unpack
from slurm.dev.plan import DevClusterError
from slurm.dev.private import DevCluster
from tests.gpu_cluster.conftest import make_stand_ins
from tests.gpu_cluster.searching import UNTIL_ALL_RUN, let_all_end

pytestmark = pytest.mark.gpu_cluster

SAYS_DEVICES = (
    "echo batch $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES; srun sh -c 'echo step $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
)


@pytest.fixture(scope="module")
def packages_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Take the carried packages, or collect them."""
    if "SLURM_PACKAGES" in os.environ:
        return Path(os.environ["SLURM_PACKAGES"])
    folder = tmp_path_factory.mktemp("packages")
    assert len(collect(folder)) == len(PACKAGES)
    return folder


@pytest.fixture
def unpacked(packages_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Unpack them, and put them first on PATH."""
    programs_dir = unpack(packages_dir, tmp_path / "root")
    monkeypatch.setenv("PATH", f"{programs_dir}{os.pathsep}{os.environ['PATH']}")
    return programs_dir.parent


def loaded(pid: int) -> set[str]:
    """List the shared libraries of a process."""
    words = (line.split() for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
    return {word[-1] for word in words if ".so" in word[-1]}


@pytest.mark.parametrize(("nodes", "gpus_per_node"), [(2, 1), (1, 2)])
def test_an_unpacked_slurm_grants_each_job_one_card_by_its_id(
    unpacked: Path, tmp_path: Path, nodes: int, gpus_per_node: int
) -> None:
    cards = make_stand_ins(tmp_path)

    with DevCluster(tmp_path / "own", nodes=nodes, gpus_per_node=gpus_per_node, cards=cards) as cluster:
        submit = ["sbatch", "--parsable", "--gres=gpu:1", "--output=said-%j"]
        job_ids = [cluster.run(*submit, f"--wrap={SAYS_DEVICES}; {UNTIL_ALL_RUN}") for _ in cards]
        let_all_end(cluster, job_ids)
        for job_id in job_ids:
            cluster.wait_for_job(job_id, "COMPLETED")
        said = [(cluster.dir / f"said-{job_id}").read_text().split() for job_id in job_ids]
        pids = [int((cluster.dir / "run" / f"{name}.pid").read_text().split()[1]) for name in ("slurmctld", "n1")]
        used = [path for pid in pids for path in loaded(pid) if "slurm" in path or "munge" in path]

    places = dict.fromkeys(cluster.node_names[n // gpus_per_node] for n in range(2))
    assert {words[2] for words in said} == set(cards.values())
    assert {words[1] for words in said} == set(places)
    assert all(words[1:3] == words[4:6] for words in said)  # a step keeps what its job was granted
    assert used
    assert all(path.startswith(str(unpacked)) for path in used), used


def test_a_folder_without_a_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "munge_1_amd64.deb").touch()

    with pytest.raises(DevClusterError, match=r"lacks libdbus-1-3, .*python -m slurm.dev.collect"):
        unpack(tmp_path, tmp_path / "root")


def test_cards_that_do_not_fill_the_nodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DevClusterError, match=r"cards: 1; expected nodes \* gpus_per_node = 4"):
        DevCluster(tmp_path, nodes=2, gpus_per_node=2, cards={"/dev/nvidia0": "GPU-0"})
