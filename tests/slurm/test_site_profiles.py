"""The profiles to copy from are valid, ask Slurm for what is recorded, and the README names each."""

import re
from pathlib import Path

import pytest

from xautolm_hpc.config import load_profile
from xautolm_hpc.doctor import search_of_doctor
from xautolm_hpc.driver.launchers import slurm_launcher
from xautolm_hpc.driver.setup import job_resources
from xautolm_hpc.launcher import Submission

SLURM_DIR = Path(__file__).resolve().parents[2] / "slurm"
RECORDED_DIR = Path(__file__).with_name("recorded")
PROFILES = sorted(SLURM_DIR.glob("*.toml"))
OF_HERE = {r"--export=\S+": "--export=NAMES", r"exit=1 \S+ -u": "exit=1 PYTHON -u"}
"""What of a script depends on the machine that writes it."""


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
