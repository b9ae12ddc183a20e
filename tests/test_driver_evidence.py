"""A search with the prior ``evidence``: it chooses among draws, and a resumed one goes on as if nothing had been."""

from pathlib import Path

from tests.driving import SEARCH, projection, search_in
from xautolm_hpc.durable import read_json

SECOND = SEARCH.replace('name = "fake"', 'name = "second"') + '[prior]\nkind = "evidence"\n'


def _second(folder: Path, *, generations: tuple[int, ...]) -> list[tuple[object, ...]]:
    """Run a first search, then one that learns from it, each time up to some generations."""
    search_in(folder)
    first = set(projection(folder))
    for number in generations:
        search_in(folder, text=SECOND.replace("generations = 3", f"generations = {number}"))
    return [row for row in projection(folder) if row not in first]


def test_a_resumed_search_recomputes_what_it_had_learnt(tmp_path: Path) -> None:
    for name in ("whole", "twice"):
        (tmp_path / name).mkdir()

    whole = _second(tmp_path / "whole", generations=(3,))
    twice = _second(tmp_path / "twice", generations=(1, 3))

    assert twice == whole
    assert len(whole) >= 8
    prior = read_json(tmp_path / "whole" / "runs" / "second" / "priors.json")
    assert prior["kind"] == "evidence"
    assert prior["counts"]["positives"] + prior["counts"]["negatives"] > 5


def test_the_choice_among_draws_follows_what_was_learnt(tmp_path: Path) -> None:
    for name in ("evidence", "uniform"):
        (tmp_path / name).mkdir()

    chosen = _second(tmp_path / "evidence", generations=(3,))
    search_in(tmp_path / "uniform")
    search_in(tmp_path / "uniform", text=SECOND.replace("evidence", "uniform"))

    plain = projection(tmp_path / "uniform")
    assert [row for row in chosen if row not in plain]
