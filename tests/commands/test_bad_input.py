"""Bad input, from the command line to the exact message: file, key, value, and what is valid or to be done."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from tests.store.samples import experience
from xautolm_hpc import cli
from xautolm_hpc.store import FORMAT, ExperienceStore

SEARCH = """
name = "bad"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[space]
models = ["minilm-l1"]
[budget]
trials = 2
[store]
path = "store"
"""
ROWS = [{"text": f"words {n} of a text", "label": "no" if n % 3 else "yes"} for n in range(60)]

RunCommand = Callable[..., tuple[int, str]]


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_search(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Run a search with other settings; return the exit status and the message."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "search.toml").write_text(SEARCH)

    def run(*settings: str, arguments: tuple[str, ...] = (), command: str = "run") -> tuple[int, str]:
        options = [word for setting in settings for word in ("--set", setting)]
        options += ["--quiet"] if command == "run" else []
        status = cli.main([command, "search.toml", *options, *arguments])
        return status, capsys.readouterr().err.removesuffix("\n")

    return run


def test_a_missing_data_file(run_search: RunCommand, tmp_path: Path) -> None:
    message = f"xautolm-hpc: `{tmp_path}/none.csv` does not exist. Set data.path in the search file or with --set"

    assert run_search("data.path=none.csv") == (2, message)


def test_an_unknown_column_and_the_next_try_in_the_same_folder(run_search: RunCommand, tmp_path: Path) -> None:
    message = f"xautolm-hpc: `{tmp_path}/rows.jsonl`: column 'body' does not exist; columns: text, label. Set data.text"

    assert run_search("data.text=body") == (2, message)
    assert run_search("data.label=class") == (2, message.replace("body", "class").replace("data.text", "data.label"))


def test_one_class_only(run_search: RunCommand, tmp_path: Path) -> None:
    write_rows(tmp_path / "one.jsonl", [row for row in ROWS if row["label"] == "no"])
    message = (
        f"xautolm-hpc: `{tmp_path}/one.jsonl`: column 'label' holds one class only, 'no'; classification needs 2. "
        "Set data.label"
    )

    assert run_search("data.path=one.jsonl") == (2, message)


def test_an_empty_text(run_search: RunCommand, tmp_path: Path) -> None:
    write_rows(tmp_path / "empty.jsonl", [*ROWS[:7], {"text": "  ", "label": "no"}, *ROWS[7:]])
    message = f"xautolm-hpc: `{tmp_path}/empty.jsonl`: column 'text' is empty in 1 row (line 8). Fill in, mend"

    status, text = run_search("data.path=empty.jsonl")

    assert status == 2
    assert text.startswith(message)


def test_an_unknown_model(run_search: RunCommand) -> None:
    status, text = run_search('space.models=["minilm-l9"]')

    assert status == 2
    assert text == (
        "xautolm-hpc: space.models: unknown model 'minilm-l9'; near it: minilm-l1, minilm-l2, minilm-l3, minilm-l6. "
        "`xautolm-hpc models` lists the catalogue; a [[model]] table in the search file adds one by its repo or path "
        "alone. Did you mean 'minilm-l6'?\n  in `search.toml`"
    )


def test_an_unknown_key(run_search: RunCommand) -> None:
    message = "xautolm-hpc: `search.toml`: unknown key `task.nmae`; valid here: name, kind, metric"

    assert run_search("task.nmae=x") == (2, message)


def test_a_wrong_type(run_search: RunCommand) -> None:
    message = "xautolm-hpc: `search.toml`: `search.population` = 'many': expected a valid integer"

    assert run_search("search.population=many") == (2, message)


def test_a_contradictory_budget(run_search: RunCommand) -> None:
    message = (
        "xautolm-hpc: `search.toml`: budget.wall_h = 0.5 (30 min) is shorter than one trial, trial.time_limit_min = "
        "60.0: no trial could use its time"
    )

    assert run_search("budget.wall_h=0.5") == (2, message)


def test_a_run_folder_that_cannot_be_written(run_search: RunCommand, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = f"xautolm-hpc: `{tmp_path}/file` cannot be written: File exists. Give another with --runs-dir"

    assert run_search(arguments=("--runs-dir", "file")) == (2, message)


def test_a_run_folder_open_to_others(run_search: RunCommand, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "bad"
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    message = (
        f"xautolm-hpc: run folder `{folder}` can be written by others (mode 0770); jobs run what lies there. "
        f"Close it with: chmod 0700 '{folder}'"
    )

    assert run_search() == (2, message)


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("rows.jsonl", "is no store; "),
        ("rows.jsonl/store", "is no store and cannot be made, because `{0}/rows.jsonl` is a file; "),
        ("rows.jsonl/store.h5", "is no store and cannot be made, because `{0}/rows.jsonl` is a file; "),
    ],
)
def test_a_store_path_that_is_a_file(
    run_search: RunCommand, tmp_path: Path, command: str, path: str, words: str
) -> None:
    message = (
        f"xautolm-hpc: `{tmp_path}/{path}` {words.format(tmp_path)}expected a folder of segments or a file `*.h5`\n"
        "  it is store.path of the search file"
    )

    assert run_search(f"store.path={path}", command=command) == (2, message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["store", "info", "notes.txt"],
        ["store", "merge", "good", "--into", "notes.txt"],
        ["store", "merge", "notes.txt", "--into", "other"],
        ["store", "import", "none.jsonl", "--into", "notes.txt"],
        ["store", "import-xautolm", "good", "--into", "notes.txt/store"],
    ],
)
def test_a_file_that_is_given_as_a_store(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("notes\n")
    ExperienceStore(tmp_path / "good").append([experience(0)])

    status = cli.main(words)

    printed, complaint = capsys.readouterr()
    assert (status, printed) == (2, "")
    assert "expected a folder of segments or a file `*.h5`" in complaint
    assert (tmp_path / "notes.txt").read_text() == "notes\n"


@pytest.mark.parametrize("to", ["x.xlsx", "x.json", "folder/x.tsv"])
def test_an_export_of_an_unknown_form_is_refused_before_the_store_is_read(
    tmp_path: Path, to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    status = cli.main(["store", "export", "no-such-store", "--to", to])

    assert status == 2
    assert capsys.readouterr().err == (
        f"xautolm-hpc: --to {to}: unknown format {Path(to).suffix!r}; valid: .jsonl, .csv, .parquet, and a folder or "
        ".h5 for a store. Another ending needs --format: store, 1, 2, jsonl, csv, parquet\n"
    )


@pytest.mark.parametrize("is_file", [False, True])
def test_a_newer_segment_is_named_and_only_a_store_that_is_one_file_of_it_is_refused(
    run_search: RunCommand, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_file: bool
) -> None:
    store = tmp_path / ("store.h5" if is_file else "store")
    ExperienceStore(store).append([experience(0)])
    (segment,) = tmp_path.glob("store*.h5") if is_file else store.glob("*.h5")
    with h5py.File(segment, "r+") as file:
        file.attrs["format_version"] = FORMAT + 1

    status = cli.main(["plan", "search.toml", "--set", f"store.path={store.name}", "--json"])

    shown = capsys.readouterr()
    text = shown.err if is_file else "\n".join(json.loads(shown.out)["notes"])
    assert status == (2 if is_file else 0)
    assert f"{segment.name}` is format {FORMAT + 1}; this version reads 1, 2. Upgrade xautolm-hpc, or ask its" in text
    assert ("It was left out" in text) != is_file
    assert not (tmp_path / "runs" / "bad" / "profile").exists()


def test_a_model_that_is_not_in_the_offline_cache(
    run_search: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))

    status, text = run_search('space.models=["roberta-base"]')

    assert status == 2
    first, *others = text.splitlines()
    assert first == (
        f"xautolm-hpc: model 'roberta-base' is not whole in the offline cache `{tmp_path}/cache`: "
        "`xautolm-hpc prefetch` fetches it"
    )
    assert "xautolm-hpc prefetch search.toml --set 'space.models=[\"roberta-base\"]'" in others[-1]


def test_a_space_with_nothing_feasible_names_what_rejects(run_search: RunCommand) -> None:
    status, text = run_search("trial.time_limit_min=0.000001", "constraints.min_steps=0")

    assert status == 2
    assert text.startswith("xautolm-hpc: space: 0 of 10000 pipelines drawn can run (0.00%); at least 1% must\n")
    assert "time rejects 100.0%" in text
    assert text.endswith("raise trial.time_limit_min, use fewer rows or smaller models")


def test_another_users_run_folder(run_search: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    message = (
        f"xautolm-hpc: run folder `{tmp_path}/runs/bad` is owned by uid {owner}, not by you (uid {owner + 1}); use "
        "another"
    )

    assert run_search() == (2, message)
