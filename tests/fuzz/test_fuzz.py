"""Seeded fuzzing: files that commands read are changed at random; the same cases in every run.

`make fuzz` goes on where this ends, for as long as one likes. A fault shows as the case that found it:
``run_case(Case(target, number, seed), ...)`` repeats it.
"""

from pathlib import Path

import pytest

from tests.fuzz.targets import Case, Templates, run_case

SEED = 1
N_CASES = {"run": 40, "search": 150, "profile": 300, "data": 150}
"""Target -> cases: of a run, every kind of file at least once; together half a minute on a core of their own."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Make the valid examples."""
    return Templates.make(tmp_path_factory.mktemp("templates") / "all")


@pytest.mark.parametrize("target", N_CASES)
def test_a_file_that_was_changed_at_random_ends_as_documented(
    tmp_path: Path, templates: Templates, target: str
) -> None:
    for number in range(N_CASES[target]):
        run_case(Case(target, number, SEED), templates, tmp_path)
