"""The search file that is written for a search from Python."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from xautolm_hpc.api.search_files import search_text
from xautolm_hpc.errors import InputError

NAMES = ("text", "text \U0001f600", 'a "b" \\ c', "\x7f\x00\t\n", "été\u2028", "\U00020000")


def written(folder: Path, settings: dict[str, dict[str, Any]]) -> dict[str, Any]:
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


def test_half_of_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no text that a file holds"):
        written(tmp_path, {"model": {"path": "a\ud800"}})
