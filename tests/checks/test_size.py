"""Files and functions stay short enough to be read at once."""

import statistics

import pytest

from tests.checks.source import ROOT_DIR, functions, listing, n_function_lines, n_lines, python_files

FOLDERS = ("xautolm_hpc", "tests", "benchmarks", "containers", "slurm", "docs")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_MEDIAN_FILE_LINES = 200
MAX_MEDIAN_FUNCTION_LINES = 15


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {str(path.relative_to(ROOT_DIR)): n_lines(path) for path in python_files(*FOLDERS)}

    too_long = {path: n for path, n in lines.items() if n > MAX_FILE_LINES}

    assert not too_long, listing(too_long)


def test_no_function_is_longer_than_60_lines() -> None:
    lines = {f"{place} {function.name}": n_function_lines(function) for place, function in functions(*FOLDERS)}

    too_long = {name: n for name, n in lines.items() if n > MAX_FUNCTION_LINES}

    assert not too_long, listing(too_long)


@pytest.mark.parametrize("folder", ["xautolm_hpc", "tests"])
def test_the_median_file_and_function_are_short(folder: str) -> None:
    files = [n_lines(path) for path in python_files(folder)]
    bodies = [n_function_lines(function) for _, function in functions(folder)]

    assert statistics.median(files) < MAX_MEDIAN_FILE_LINES
    assert statistics.median(bodies) <= MAX_MEDIAN_FUNCTION_LINES
