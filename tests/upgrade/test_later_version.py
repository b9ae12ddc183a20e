"""A run resumes as it started under a version with other settings, defaults, presets and catalogue entries."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.driving import ledger_of, make_setup, search_in
from tests.stub_search import write_stub_search
from tests.train.families import write_model
from tests.upgrade.old_run import OLD, RECORDED_PATH, launcher, rows_of, unpack
from xautolm_hpc import catalogue, cli, config, space
from xautolm_hpc.config import SearchFile, SearchSection, TrialSection, load_search
from xautolm_hpc.driver import proposal
from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InterruptedSearchError, RunFolderError
from xautolm_hpc.run import resume
from xautolm_hpc.space import space_to_json

TEXT = """
name = "fake"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[search]
population = 5
seed = 7
[budget]
generations = 3
[trial]
time_limit_min = 600.0
[prior]
kind = "evidence"
[store]
path = "store"
"""


class LaterTrial(TrialSection):
    """``[trial]`` with a key that this version does not have."""

    rehearse: str = "often"


class LaterSearch(SearchSection):
    """``[search]`` with another default."""

    epsilon: float = 0.6


class WithNewKey(SearchFile):
    """A search file of a version with a new key."""

    trial: LaterTrial = LaterTrial()


class WithOtherDefault(SearchFile):
    """A search file of a version with another default."""

    search: LaterSearch = LaterSearch()


def add_key(patch: pytest.MonkeyPatch) -> None:
    """Add a key, with another value in runs that started before."""
    patch.setattr(config, "SearchFile", WithNewKey)
    patch.setattr(resume, "ADDED_KEYS", {**resume.ADDED_KEYS, "trial.rehearse": "never"})


def change_default(patch: pytest.MonkeyPatch) -> None:
    """Change a default."""
    patch.setattr(config, "SearchFile", WithOtherDefault)


def change_preset(patch: pytest.MonkeyPatch) -> None:
    """Change a preset's value lists, and leave one of its models out."""
    presets: Any = deepcopy(space.load_presets())
    presets["default"]["models"].pop(0)
    for method in presets["default"]["methods"].values():
        method.update(batch_size=[16, 24], warmup_ratio={"low": 0.0, "high": 0.5})
    patch.setattr(space, "load_presets", lambda: presets)


def change_catalogue(patch: pytest.MonkeyPatch) -> None:
    """Change every entry of the catalogue."""
    known = catalogue.load_catalogue().items()
    changed = {name: replace(m, n_layers=2 * m.n_layers, context_length=128) for name, m in known}
    for module in (catalogue, proposal):
        patch.setattr(module, "load_catalogue", lambda: changed)


def change_list(patch: pytest.MonkeyPatch) -> None:
    """Change the models that the name of a list stands for."""
    patch.setattr(catalogue, "load_lists", lambda: {"small": ("gpt2", "albert-base-v2")})


Change = Callable[[pytest.MonkeyPatch], None]
EVERY_CHANGE = [add_key, change_default, change_preset, change_catalogue]
THAT_MOVE_DRAWS = [change_default, change_preset, change_catalogue]


def plans_of(folder: Path) -> list[Any]:
    """List what was drawn: pipelines, their models as the catalogue has them, and seeds."""
    drawn: list[Any] = [line for line in ledger_of(folder) if line["event"] == "drawn"]
    return [plan for line in drawn for plan in line["plans"]]


def begin(folder: Path, *, text: str = TEXT) -> None:
    """Start a search, and interrupt it once its first generation is committed."""

    def n_interrupts() -> int:
        return int((folder / "runs" / "fake" / "report").exists())

    with pytest.raises(InterruptedSearchError, match="between two generations"):
        search_in(folder, text=text, launcher=launcher(), n_interrupts=n_interrupts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Draw the whole search with this version, uninterrupted."""
    folder = tmp_path_factory.mktemp("whole")
    search_in(folder, text=TEXT, launcher=launcher())
    return plans_of(folder)


@pytest.mark.parametrize("change", EVERY_CHANGE)
def test_a_run_started_before_the_change_draws_as_it_would_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[object], change: Change
) -> None:
    begin(tmp_path)
    change(monkeypatch)

    search_in(tmp_path, text=TEXT, launcher=launcher())

    assert len(whole) == 15
    assert plans_of(tmp_path) == whole
    assert not [line for line in ledger_of(tmp_path) if line["event"] == "changed"]


NAMED = TEXT.replace("[search]", '[space]\nmodels = "small"\n[search]')
OWN = TEXT.replace("[search]", '[space]\nmodels = ["mine", "gpt2"]\n[search]') + "[[model]]\npath = 'mine'\n"


def test_a_run_goes_on_with_the_models_that_its_list_stood_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    search_in(whole, text=NAMED, launcher=launcher())
    begin(cut, text=NAMED)
    change_list(monkeypatch)

    search_in(cut, text=NAMED, launcher=launcher())

    assert plans_of(cut) == plans_of(whole)
    assert len(plans_of(cut)) == 15


def test_a_run_goes_on_with_the_sizes_that_its_own_model_had(tmp_path: Path) -> None:
    write_model(tmp_path / "mine", "bert")
    path = tmp_path / "mine" / "config.json"
    path.write_text(json.dumps({**read_json(path), "max_position_embeddings": 128}))
    begin(tmp_path, text=OWN)
    path.write_text(json.dumps({**read_json(path), "max_position_embeddings": 512}))

    search_in(tmp_path, text=OWN, launcher=launcher())

    models = [plan["model"] for plan in plans_of(tmp_path)]
    assert len(models) == 15
    assert {model["context_length"] for model in models if model["id"] == "mine"} == {128}


@pytest.mark.parametrize("change", THAT_MOVE_DRAWS)
def test_a_run_started_after_the_change_draws_differently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[object], change: Change
) -> None:
    change(monkeypatch)

    search_in(tmp_path, text=TEXT, launcher=launcher())

    assert plans_of(tmp_path) != whole


@pytest.mark.parametrize("change", [add_key, change_default])
def test_a_frozen_run_draws_as_it_would_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    unpack(tmp_path)
    change(monkeypatch)

    search_in(tmp_path, text=OLD, launcher=launcher())

    assert rows_of(tmp_path, "old") == read_json(RECORDED_PATH)["old"]


def test_the_first_resumption_of_a_frozen_run_stores_its_space(tmp_path: Path) -> None:
    unpack(tmp_path)
    path = tmp_path / "runs" / "old" / "run.json"
    before = read_json(path)

    search_in(tmp_path, text=OLD, launcher=launcher())

    search = load_search(tmp_path / "search.toml")
    added = {
        "written": config.read_written(tmp_path / "search.toml"),
        "space": space_to_json(search.build_space()),
        "path": str(path.parent),
    }
    for key, value in resume.ADDED_KEYS.items():
        section, name = key.split(".")
        before["search"].setdefault(section, {})[name] = value
    assert read_json(path) == {**before, **added}


def test_a_new_key_has_its_earlier_value_in_a_run_started_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)
    add_key(monkeypatch)

    assert make_setup(tmp_path, text=TEXT).search.model_dump()["trial"]["rehearse"] == "never"
    with pytest.raises(RunFolderError, match=r"trial\.rehearse = 'never'; the search file now says 'often'"):
        make_setup(tmp_path, text=TEXT.replace("[trial]", '[trial]\nrehearse = "often"'))


def test_what_the_user_writes_differently_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path)
    change_default(monkeypatch)

    message = re.escape("search.epsilon = 0.1; the search file now says 0.3. Put it back, or begin a new search")
    with pytest.raises(RunFolderError, match=message):
        make_setup(tmp_path, text=TEXT.replace("seed = 7", "seed = 7\nepsilon = 0.3"))
    with pytest.raises(RunFolderError, match=r"search\.population = 5; the search file now says 20"):
        make_setup(tmp_path, text=TEXT.replace("population = 5\n", ""))
    assert make_setup(tmp_path, text=TEXT.replace("seed = 7", "seed = 7\nepsilon = 0.1")).changes == ()


def test_a_setting_that_a_frozen_run_was_begun_with_is_refused_when_changed(tmp_path: Path) -> None:
    unpack(tmp_path)

    with pytest.raises(RunFolderError, match=r"search\.seed = 11; the search file now says 12"):
        make_setup(tmp_path, text=OLD.replace("seed = 11", "seed = 12"))
    with pytest.raises(RunFolderError, match=r"space\.models = None; the search file now says \['minilm-l1'\]"):
        make_setup(tmp_path, text=OLD.replace("[search]", '[space]\nmodels = ["minilm-l1"]\n[search]'))


@pytest.mark.parametrize("name", ["fake", "old"])
def test_budget_attempts_and_profile_may_still_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "old":
        unpack(tmp_path)
    else:
        begin(tmp_path)
    change_default(monkeypatch)
    (tmp_path / "site.toml").write_text("[job]\nn_cpus = 2\n")
    text = {"fake": TEXT, "old": OLD}[name]
    text = text.replace("generations =", "trials = 9\ngenerations =").replace("[trial]", "[trial]\nmax_attempts = 5")

    setup = make_setup(tmp_path, text='profile = "site.toml"\n' + text)

    assert setup.changes == (
        "budget.trials: None -> 9",
        f"profile: None -> '{tmp_path}/site.toml'",
        "trial.max_attempts: 3 -> 5",
    )
    assert setup.search.search.epsilon == 0.1


def test_the_commands_take_settings_and_space_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(write_stub_search(tmp_path, generations=1)), "--runs-dir", str(tmp_path / "runs")]
    assert cli.main(["run", *words, "--quiet"]) == 0
    begun = read_json(tmp_path / "runs" / "stub" / "run.json")
    change_default(monkeypatch)
    change_preset(monkeypatch)
    capsys.readouterr()

    assert cli.main(["plan", *words, "--json", "--set", "budget.generations=2"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert cli.main(["run", *words, "--quiet", "--set", "budget.generations=2"]) == 0

    resumed, ledger = read_json(tmp_path / "runs" / "stub" / "run.json"), ledger_of(tmp_path, "stub")
    assert {key for key in begun if resumed[key] != begun[key]} == {"search", "written"}
    assert resume.changed_keys(begun["search"], resumed["search"]) == [("budget.generations", 1, 2)]
    assert resumed["written"]["budget"] == {"generations": 2}
    assert [line["settings"] for line in ledger if line["event"] == "changed"] == [["budget.generations: 1 -> 2"]]
    drawn: list[Any] = [line["plans"] for line in ledger if line["event"] == "drawn"]
    assert [{"trial": number, **planned} for number, planned in enumerate(drawn[0])] == plan["trials"]
    assert 24 not in {plan["pipeline"]["params"]["batch_size"] for plans in drawn for plan in plans}


def test_every_setting_is_one_of_the_frozen_runs_or_has_its_value_before_it_existed(tmp_path: Path) -> None:
    unpack(tmp_path)
    frozen = set(leaves(read_json(tmp_path / "runs" / "old" / "run.json")["search"]))

    present = set(keys_of(SearchFile))

    assert present - frozen == set(resume.ADDED_KEYS), "a new key needs its old value in ADDED_KEYS"
    assert frozen <= present, "a run in progress may have set a key that is no more"


def keys_of(section: type[BaseModel], *, prefix: str = "") -> Iterator[str]:
    """List the dotted keys of a section's settings."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys_of(inner, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def leaves(data: Mapping[str, Any], *, prefix: str = "") -> Iterator[str]:
    """List the dotted keys of plain data; an empty table is a value."""
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
