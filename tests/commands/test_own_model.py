"""A search with a model of one's own, named by its folder alone, from search file to export."""

import json
from pathlib import Path

import pytest

from tests.searching import run_command
from tests.train.families import labelled_rows, write_model

SEARCH = """
name = "own"
[task]
name = "towns"
[data]
path = "rows.jsonl"
[space]
models = ["mine"]
methods = ["head"]
[space.params.head]
max_length = [32]
[search]
population = 1
[budget]
generations = 1
[constraints]
min_steps = 1
[store]
path = "store"
[[model]]
path = "mine"
"""


@pytest.mark.slow
def test_a_model_named_by_its_folder_is_searched_and_its_licence_asked_for_by_the_export(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")
    rows = [{"text": f"{row['text']} {n}", "label": row["label"]} for n in range(3) for row in labelled_rows()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "search.toml").write_text(SEARCH)

    ended = run_command(tmp_path, "run", "search.toml", "--quiet")
    refused = run_command(tmp_path, "export-model", "own", "0", "--to", "exported")
    exported = run_command(tmp_path, "export-model", "own", "0", "--to", "exported", "--licence", "CC-BY-4.0")

    assert ended.returncode == 0, ended.stderr
    assert refused.returncode == 2
    assert refused.stderr.startswith(
        "xautolm-hpc: model 'mine' has no licence in its [[model]] table, and the model card names it: give --licence"
    )
    assert exported.returncode == 0, exported.stderr
    card = (tmp_path / "exported" / "README.md").read_text()
    assert 'license: "cc-by-4.0"' in card
    assert "The base model is published under CC-BY-4.0" in card
