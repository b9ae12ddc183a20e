"""A store that comes with the program is read by its name, and never written."""

from collections.abc import Callable
from pathlib import Path

import pytest

import xautolm_hpc
from tests.store.samples import experience, experiences
from xautolm_hpc.cli import main
from xautolm_hpc.errors import InputError, NoStoreError
from xautolm_hpc.store import ExperienceStore, locate_store, merge
from xautolm_hpc.store.packaged import PACKAGED_STORES

SEED = "package:seed"


@pytest.fixture
def seed_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a store of four experiences that takes the place of the one that comes with the program."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "program" / "seed"
    ExperienceStore(folder).append(experiences(4))
    monkeypatch.setitem(PACKAGED_STORES, SEED, folder)
    return folder


WAYS: dict[str, Callable[[ExperienceStore], object]] = {
    "append": lambda store: store.append([experience(9)]),
    "amend": lambda store: store.amend([experience(9)]),
    "forget": lambda store: store.forget([experience(0).id], experience(0).system.site),
    "compact": lambda store: store.compact(),
    "merge": lambda store: merge([store.path.parent / "other"], store.path),
    "python": lambda store: xautolm_hpc.Store.open(SEED).merge(store.path.parent / "other"),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_written_to_it(seed_dir: Path, way: str) -> None:
    ExperienceStore(seed_dir.parent / "other").append([experience(9)])
    before = {path.name: path.read_bytes() for path in seed_dir.glob("seg-*")}

    with pytest.raises(NoStoreError, match="comes with this program and is only read"):
        WAYS[way](ExperienceStore(seed_dir))

    assert {path.name: path.read_bytes() for path in seed_dir.glob("seg-*")} == before


def test_a_link_to_it_is_not_written_either(seed_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(seed_dir)

    with pytest.raises(NoStoreError, match="only read"):
        ExperienceStore(tmp_path / "link").append([experience(9)])


def test_it_is_merged_by_its_name(seed_dir: Path, tmp_path: Path) -> None:
    store = xautolm_hpc.Store.open(tmp_path / "mine")

    store.merge(SEED)

    assert len(store) == len(ExperienceStore(seed_dir).ids()) == 4


def test_its_name_as_a_target_makes_no_folder(
    seed_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ExperienceStore(tmp_path / "other").append([experience(9)])

    status = main(["store", "merge", "--into", SEED, str(tmp_path / "other")])

    assert status == 2
    assert f"`{seed_dir}` comes with this program" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "program"]


def test_a_name_of_none_is_refused_with_those_that_are_valid() -> None:
    with pytest.raises(InputError, match="`package:sed` does not come with this program; valid: package:seed"):
        locate_store("package:sed")
