"""A search with the prior ``evidence``: it chooses among draws, and a resumed one goes on as if nothing had been."""

import shutil
from pathlib import Path

import pytest

from tests.driving import SEARCH, projection, search_in
from xautolm_hpc.durable import read_json

SECOND = (
    SEARCH.replace('name = "fake"', 'name = "second"').replace("seed = 7", "seed = 8") + '[prior]\nkind = "evidence"\n'
)


@pytest.fixture(scope="module")
def first_store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the store of a first search: the same experiences, ids included, for all that learn from it."""
    folder = tmp_path_factory.mktemp("first")
    search_in(folder)
    return folder / "store"


def _second(folder: Path, *, store_dir: Path, generations: tuple[int, ...]) -> list[tuple[object, ...]]:
    """Run a search that learns from a first one, each time up to some generations."""
    folder.mkdir()
    shutil.copytree(store_dir, folder / "store")
    first = set(projection(folder))
    for number in generations:
        search_in(folder, text=SECOND.replace("generations = 3", f"generations = {number}"))
    return [row for row in projection(folder) if row not in first]


def test_a_resumed_search_recomputes_what_it_had_learnt(tmp_path: Path, first_store_dir: Path) -> None:
    whole = _second(tmp_path / "whole", store_dir=first_store_dir, generations=(3,))
    twice = _second(tmp_path / "twice", store_dir=first_store_dir, generations=(1, 3))

    assert twice == whole
    assert len(whole) >= 8
    prior = read_json(tmp_path / "whole" / "runs" / "second" / "priors.json")
    assert prior["kind"] == "evidence"
    assert prior["counts"]["positives"] + prior["counts"]["negatives"] > 5


def test_the_choice_among_draws_follows_what_was_learnt(tmp_path: Path, first_store_dir: Path) -> None:
    chosen = _second(tmp_path / "evidence", store_dir=first_store_dir, generations=(3,))
    (tmp_path / "uniform").mkdir()
    search_in(tmp_path / "uniform", text=SECOND.replace("evidence", "uniform"))

    plain = projection(tmp_path / "uniform")
    assert [row for row in chosen if row not in plain]
