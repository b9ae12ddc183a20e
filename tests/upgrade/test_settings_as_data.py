"""Settings in ``run.json``: what comes back from there is what was read, and what is written is told from defaults."""

import json
from pathlib import Path

from tests.nouns import OWN_MODEL
from xautolm_hpc.config import load_search, read_written, rebuild_search

TEXT = """
name = "one"
[task]
name = "tickets"
[data]
path = "rows.csv"
[space.params.lora]
lora_r = [4, 8]
lora_dropout = { low = 0.0, high = 0.2 }
[budget]
trials = 3
[prior]
weights = { f1 = 2, evaluation_time_s = 1.5 }
[store]
also_read = ["a"]
"""


def test_a_search_comes_back_from_json_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(TEXT + OWN_MODEL)
    read = load_search(tmp_path / "one.toml")

    back = rebuild_search(json.loads(json.dumps(read.model_dump(mode="json"))), path=tmp_path / "run.json")

    assert back == read
    assert back.build_space() == read.build_space()


def test_what_is_written_is_file_and_settings_without_defaults(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text("name = 'one'\n[search]\nseed = 1\n")

    assert read_written(path, ("search.seed=2", "trial.max_attempts=4")) == {
        "name": "one",
        "search": {"seed": 2},
        "trial": {"max_attempts": 4},
    }
