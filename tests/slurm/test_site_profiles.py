"""The profiles to copy from are valid, and the README names each."""

from pathlib import Path

import pytest

from xautolm_hpc.config import load_profile

SLURM_DIR = Path(__file__).resolve().parents[2] / "slurm"
PROFILES = sorted(SLURM_DIR.glob("*.toml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profile_to_copy_from_is_valid_and_for_slurm(path: Path) -> None:
    profile = load_profile(path)

    assert profile.launcher == "slurm"
    assert profile.worker_python is not None


def test_the_readme_names_every_profile_and_no_other() -> None:
    text = (SLURM_DIR / "README.md").read_text()

    named = {word.rpartition("](")[2].rstrip(")") for word in text.split() if ".toml)" in word}

    assert named == {path.name for path in PROFILES}
