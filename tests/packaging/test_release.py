"""What ``make release-check`` finds, on a repository whose changes are those of a version and on one whose are not."""

from pathlib import Path

import pytest
import yaml

from tests.checks.source import ROOT_DIR
from tests.packaging.built import Built, build
from tests.packaging.release import find_problems
from xautolm_hpc import __version__


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "CHANGELOG.md").write_text(
        f"# Changelog\n\n## Unreleased\n\n## {__version__} - 2026-12-24\n\n- First.\n"
    )
    (tmp_path / "CITATION.cff").write_text((ROOT_DIR / "CITATION.cff").read_text())
    return tmp_path


def test_a_version_with_its_changes_can_be_released(built: Built, repository: Path) -> None:
    assert list(find_problems(built, version=__version__, root_dir=repository)) == []


def test_changes_without_a_version_and_another_citation_are_found(built: Built, repository: Path) -> None:
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n- A change.\n")
    (repository / "CITATION.cff").write_text("version: 0.0.9\n")

    assert list(find_problems(built, version=__version__, root_dir=repository)) == [
        f"CHANGELOG.md: no heading `## {__version__} - YYYY-MM-DD`",
        "CHANGELOG.md: changes stand under Unreleased",
        f"CITATION.cff: version is 0.0.9, expected {__version__}",
    ]


def test_another_version_than_that_of_the_files_is_found(built: Built, repository: Path) -> None:
    problems = list(find_problems(built, version="9.9.9", root_dir=repository))

    assert f"metadata: version is {__version__}, expected 9.9.9" in problems
    assert f"{built.wheel.name}: expected version 9.9.9" in problems


def test_the_citation_is_whole() -> None:
    citation = yaml.safe_load((ROOT_DIR / "CITATION.cff").read_text())

    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)
    assert citation["version"] == __version__
