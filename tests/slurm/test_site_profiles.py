"""The profiles to copy from are valid, ask Slurm for what is recorded, and the README names each.

Those of real centres also stand the test of `doctor` on a private Slurm that is set up as their documentation says.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.centres import Centres
from xautolm_hpc.config import ClusterProfile, load_profile
from xautolm_hpc.doctor import REQUEST_CHECKS, Site, examine, search_of_doctor
from xautolm_hpc.driver.inputs import Inputs
from xautolm_hpc.driver.launchers import slurm_launcher
from xautolm_hpc.driver.setup import job_resources
from xautolm_hpc.launcher import Submission
from xautolm_hpc.view import Finding

SLURM_DIR = Path(__file__).resolve().parents[2] / "slurm"
RECORDED_DIR = Path(__file__).with_name("recorded")
PROFILES = sorted(SLURM_DIR.glob("*.toml"))
OF_HERE = {r"--export=\S+": "--export=NAMES", r"exit=1 \S+ -u": "exit=1 PYTHON -u"}
"""What of a script depends on the machine that writes it."""


CENTRES = ("snellius-a100", "jean-zay-v100", "dsai-a100")


@pytest.fixture(scope="module")
def centres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centres]:
    with Centres(tmp_path_factory.mktemp("centres")) as started:
        yield started


def findings_of(
    centres: Centres, name: str, *, folder: Path, minutes: float = 60.0, **changed: Any
) -> dict[str, Finding]:
    """Let doctor compare a profile, some of its sections changed, with the cluster; return its findings by check."""
    profile = load_profile(SLURM_DIR / f"{name}.toml").model_dump()
    for section, values in changed.items():
        profile[section] |= values
    inputs = Inputs.of(search_of_doctor(minutes), ClusterProfile.model_validate(profile), environ=centres.environ)
    return {finding.check: finding for finding in examine(Site.look(inputs, folder), REQUEST_CHECKS)}


@pytest.mark.slurm
@pytest.mark.parametrize("name", CENTRES)
def test_doctor_finds_nothing_against_a_centres_profile_on_a_cluster_set_up_alike(
    centres: Centres, name: str, tmp_path: Path
) -> None:
    found = findings_of(centres, name, folder=tmp_path)

    assert {check: finding.level for check, finding in found.items()} == dict.fromkeys(
        ("partition", "time limit", "GPUs", "node size", "account's limits", "sbatch"), "ok"
    )
    assert "a job exceeds none" in found["account's limits"].found


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("name", "change", "check", "words"),
    [
        (
            "snellius-a100",
            {"job": {"n_gpus": 5}},
            "GPUs",
            "nodes of partition 'gpu_a100' have gpu:4",
        ),
        ("snellius-a100", {"job": {"memory_gb": 500}}, "node size", "500"),
        ("snellius-a100", {"slurm": {"account": "abc"}}, "sbatch", "Invalid account"),
        ("jean-zay-v100", {"minutes": 1300}, "account's limits", "QOS qos_gpu-t3 allows 1200 for a job (MaxWall)"),
        ("jean-zay-v100", {"slurm": {"constraint": "v100-64g"}}, "sbatch", "feature"),
        ("dsai-a100", {"minutes": 4400}, "time limit", "partition 'a100' allows 4320 min"),
        ("dsai-a100", {"slurm": {"gres": "gpu:16"}}, "GPUs", "nodes of partition 'a100' have gpu:8"),
    ],
)
def test_doctor_names_what_a_centre_would_refuse(
    centres: Centres, name: str, change: dict[str, Any], check: str, words: str, tmp_path: Path
) -> None:
    found = findings_of(centres, name, folder=tmp_path, **change)

    assert found[check].level == "failure"
    assert words in found[check].found


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_to_copy_from_is_valid_and_for_slurm(path: Path) -> None:
    profile = load_profile(path)

    assert profile.launcher == "slurm"
    assert profile.worker_python is not None
    assert profile.system.gpu_memory_gb is not None


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_asks_slurm_for_what_is_recorded(path: Path) -> None:
    profile = load_profile(path)
    folder = Path("/runs/search/gen-000")
    submission = Submission(
        name="xa-00000000-g000-s0",
        folder=folder / "submission-0",
        attempt_dirs=tuple(folder / f"trial-{n:03d}" / "attempt-0" for n in range(20)),
        resources=job_resources(search_of_doctor(60.0), profile),
    )

    text = slurm_launcher(profile, since=0.0).sbatch_text(submission)

    recorded = RECORDED_DIR / f"{path.stem}.sh"
    for pattern, name in OF_HERE.items():
        text = re.sub(pattern, name, text, count=1)
    assert text == recorded.read_text()


def test_the_readme_names_every_profile_and_no_other() -> None:
    text = (SLURM_DIR / "README.md").read_text()

    named = {word.rpartition("](")[2].rstrip(")") for word in text.split() if ".toml)" in word}

    assert named == {path.name for path in PROFILES}
