"""The search file that is written for a search from Python."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xautolm_hpc.api.search_files import search_text
from xautolm_hpc.errors import InputError

NAMES = ("text", "text \U0001f600", 'a "b" \\ c', "\x7f\x00\t\n", "été\u2028", "\U00020000")


def written(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Write the search file for some rows, and read it."""
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f'{{"text": "row {n}", "label": "{"ab"[n % 2]}"}}\n' for n in range(40)))
    return tomllib.loads(search_text(rows, "x", profile=None, effort="quick", settings=settings))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_stands_in_the_search_file_as_it_was_given(tmp_path: Path, name: str) -> None:
    model = {"id": name, "path": name, "sizes": {name: 1.5}}

    read = written(tmp_path, {"prior": {"sites": {name: 0.5}}, "a": model})

    assert read["prior"]["sites"] == {name: 0.5}
    assert read["a"] == model


def test_numbers_of_numpy_and_tables_of_models_are_written(tmp_path: Path) -> None:
    read = written(tmp_path, {"budget": {"wall_h": np.float64(1.5)}, "model": [{"id": "a", "path": "b"}]})

    assert read["budget"] == {"wall_h": 1.5}
    assert read["model"] == [{"id": "a", "path": "b"}]


def test_a_key_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a setting is \{1: 2\}; expected text, "):
        written(tmp_path, {"budget": {"limits": {1: 2}}})


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text that a file holds"):
        written(tmp_path, {"model": {"path": "a\ud800"}})
