"""The parts of the lock are one resolution, and hold what the package says it needs."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from tests.checks.source import ROOT_DIR
from xautolm_hpc.report.trackers import TRACKERS

LOCK_DIR = ROOT_DIR / "lock"
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;+\\]+)", flags=re.MULTILINE)
PROJECT = tomllib.loads((ROOT_DIR / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("part", sorted(LOCK_DIR.glob("*.in")), ids=lambda path: path.stem)
def test_every_input_is_resolved_with_a_hash_for_every_package(part: Path) -> None:
    text = part.with_suffix(".txt").read_text()

    pinned = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]

    assert _wanted(part) <= {name for name, _ in PIN.findall(text)}
    assert all(line.endswith("\\") and "==" in line for line in pinned), "a package without a hash"


def test_a_package_has_the_same_version_in_every_part() -> None:
    versions = defaultdict(set)
    for part in LOCK_DIR.glob("*.txt"):
        for name, version in PIN.findall(part.read_text()):
            versions[name].add(version)

    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_the_lock_holds_what_the_package_depends_on() -> None:
    worker = _wanted(LOCK_DIR / "common.in") | {"torch"}

    assert {_name(requirement) for requirement in PROJECT["dependencies"]} == _wanted(LOCK_DIR / "driver.in")
    extras = {extra: {_name(each) for each in found} for extra, found in PROJECT["optional-dependencies"].items()}
    assert extras == {"worker": worker, **{name: _wanted(LOCK_DIR / f"{name}.in") for name in TRACKERS}}


def _wanted(part: Path) -> set[str]:
    lines = part.read_text().splitlines()
    return {_name(line) for line in lines if line and not line.startswith("#")}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def test_make_says_what_takes_minutes_before_pip_which_prints_nothing() -> None:
    recipe = (ROOT_DIR / "Makefile").read_text().partition("\n$(LOCKED):\n")[2]

    assert 0 < recipe.index("echo 'installing the lock, about 0.5 GB: 2 to 10 minutes'") < recipe.index("pip install")
