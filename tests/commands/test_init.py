"""``init``: the search file it writes is one that ``run`` takes as it is."""

import csv
import json
import os
import shutil
import stat
import tomllib
from pathlib import Path

import pytest

from tests.checks.source import ROOT_DIR
from xautolm_hpc import cli
from xautolm_hpc.commands.init_settings import EFFORTS
from xautolm_hpc.config import load_search
from xautolm_hpc.driver.inputs import Inputs

N_ROWS = 120


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the present folder, with the tickets as a CSV of a German office."""
    tickets = [json.loads(line) for line in (ROOT_DIR / "examples/data/tickets.jsonl").read_text().splitlines()]
    with (tmp_path / "Anfragen 2026.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["nr", "nachricht", "abteilung"])
        writer.writerows([number, row["text"], row["label"]] for number, row in enumerate(tickets[:N_ROWS]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_it_writes_is_checked_as_run_checks_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["init", "Anfragen 2026.csv"])

    printed = capsys.readouterr().out.splitlines()
    inputs = Inputs.load(Path("Anfragen-2026.toml"), (), environ={"HOME": str(folder)})
    inputs.check()
    assert status == 0
    assert printed[-4:] == [
        "wrote Anfragen-2026.toml",
        "next: xautolm-hpc run Anfragen-2026.toml",
        "next: xautolm-hpc report Anfragen-2026",
        "next: xautolm-hpc export-model Anfragen-2026 best --to Anfragen-2026-model",
    ]
    assert "text = nachricht, label = abteilung; 6 classes: access, allocation" in printed[0]
    assert inputs.search.data.path == str(folder / "Anfragen 2026.csv")
    assert (inputs.search.data.text, inputs.search.data.label) == ("nachricht", "abteilung")
    assert inputs.search.data.delimiter == ";"


def test_the_search_begins_with_the_evidence_of_the_packaged_store(folder: Path) -> None:
    cli.main(["init", "Anfragen 2026.csv"])

    search = load_search(Path("Anfragen-2026.toml"))
    assert search.prior.kind == "evidence"
    assert search.store.also_read == ("package:seed",)
    assert search.store.path == str(folder / "experience-store")


def test_the_settings_fit_few_short_texts(folder: Path) -> None:
    cli.main(["init", "Anfragen 2026.csv"])

    written = tomllib.loads(Path("Anfragen-2026.toml").read_text())
    full = written["space"]["params"]["full"]
    assert written["space"]["models"] == ["minilm-l3", "minilm-l6"]
    assert full["max_length"] == [32, 64]
    assert full["batch_size"] == [8, 16]
    assert full["epochs"] == {"low": 6, "high": 20, "integer": True}  # of 62 rows, 4 steps of 16 an epoch
    assert written["constraints"]["min_steps"] == 16


def test_the_file_begins_with_its_schema(folder: Path) -> None:
    cli.main(["init", "Anfragen 2026.csv"])

    first = Path("Anfragen-2026.toml").read_text().splitlines()[0]
    schema = json.loads(Path(first.removeprefix("#:schema file://")).read_text())
    assert schema["title"] == "The search file"


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_effort_is_said_in_minutes_on_the_screen_and_in_the_file(
    effort: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["init", "Anfragen 2026.csv", "--effort", effort])

    minutes = {"quick": 5, "normal": 60, "thorough": 480}[effort]
    search = load_search(Path("Anfragen-2026.toml"))
    assert f"effort {effort}: ends after {minutes} minutes or" in capsys.readouterr().out
    assert f"ends after {minutes} minutes" in Path("Anfragen-2026.toml").read_text()
    assert search.budget.wall_h is not None
    assert round(search.budget.wall_h * 60, 1) == minutes


def test_an_existing_file_is_overwritten_only_by_force(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "Anfragen-2026.toml"
    path.write_text("mine")

    refused = cli.main(["init", "Anfragen 2026.csv"])

    assert refused == 2
    assert path.read_text() == "mine"
    assert "`Anfragen-2026.toml` exists; --force overwrites it" in capsys.readouterr().err
    assert cli.main(["init", "Anfragen 2026.csv", "--force"]) == 0
    assert "[budget]" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_data_in_another_folder_is_named_relative_to_the_file(folder: Path) -> None:
    (folder / "searches").mkdir()

    cli.main(["init", "Anfragen 2026.csv", "--to", "searches/one.toml", "--name", "one"])

    written = tomllib.loads((folder / "searches/one.toml").read_text())
    assert (written["name"], written["data"]["path"]) == ("one", "../Anfragen 2026.csv")
    assert load_search(folder / "searches/one.toml").data.path == str(folder / "Anfragen 2026.csv")


def test_a_search_for_a_cluster_names_its_profile_and_waits_longer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = (ROOT_DIR / "slurm/site-gpu-partition.toml").read_text()
    (folder / "site.toml").write_text(profile)

    cli.main(["init", "Anfragen 2026.csv", "--cluster", "site.toml"])

    search = load_search(folder / "Anfragen-2026.toml")
    assert search.profile == str(folder / "site.toml")
    assert search.budget.wall_h == 1.0
    assert search.space.models == tuple(
        tomllib.loads((ROOT_DIR / "xautolm_hpc/models.toml").read_text())["lists"]["large"][:4]
    )
    assert "to be fetched: 4 models, about 7.7 GB" in capsys.readouterr().out.splitlines()
    assert "prefetch Anfragen-2026.toml" in (folder / "Anfragen-2026.toml").read_text()


def test_what_is_no_data_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["init", "nothing.csv"])

    assert status == 2
    assert "`nothing.csv` does not exist; give a file, a folder, or a data set of the hub" in capsys.readouterr().err


def test_a_data_set_of_the_hub_is_not_asked_for_offline(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(folder / "cache"))

    status = cli.main(["init", "owner/name"])

    assert status == 2
    assert "`owner/name` is no file here and not in the offline cache" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["init"], "give the data, a file, a folder or a data set of the hub; or --profile"),
        (["init", "Anfragen 2026.csv", "--profile"], "give the data or --profile, not both"),
    ],
)
def test_either_data_or_profile_is_given(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "to", "message"),
    [
        ("Anfragen 2026.csv", "Anfragen 2026.csv", "is what this command reads, and would be lost"),
        (".", "Anfragen 2026.csv", "is what this command reads, and would be lost"),
        ("Anfragen 2026.csv", "kept", "`kept` is a folder; give a file"),
        ("Anfragen 2026.csv", ".", "`.` is a folder; give a file"),
        ("Anfragen 2026.csv", "", "`` is a folder; give a file"),
        ("Anfragen 2026.csv", "new/", "`new/` names a folder; give a file"),
        ("Anfragen 2026.csv", "gone/x.toml", "`gone/x.toml` cannot be written: `gone` does not exist; make it first"),
        ("Anfragen 2026.csv", "kept/a/x.toml", "`kept/a/x.toml` cannot be written: `kept/a` is no folder"),
        ("Anfragen 2026.csv", "pipe", "`pipe` is no regular file"),
    ],
)
def test_what_must_not_be_written_is_refused_even_by_force(
    data: str, to: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "kept").mkdir()
    (folder / "kept" / "a").write_text("mine")
    os.mkfifo(folder / "pipe")
    before = contents(folder)

    status = cli.main(["init", data, "--to", to, "--force"])

    assert status == 2
    assert message in capsys.readouterr().err
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Read all that lies in a folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("data/reveiws.csv", "`data/reveiws.csv` does not exist; its folder `data` holds: reviews.csv"),
        ("data/reveiws", "`data/reveiws` does not exist; its folder `data` holds: reviews.csv"),
        ("./reveiws", "`./reveiws` does not exist; its folder `.` holds: Anfragen 2026.csv, data, kept"),
        ("date/reviews.csv", "`date/reviews.csv` does not exist; nor does its folder `date`"),
        ("kept/link", "`kept/link` is a link to `gone.csv`, where there is nothing"),
    ],
)
def test_a_mistyped_path_is_not_asked_of_the_hub(
    data: str,
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xautolm_hpc.commands.init_data.plan_data", lambda *_, **__: pytest.fail("the hub was asked"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("data", "kept"):
        (folder / name).mkdir()
    (folder / "data" / "reviews.csv").write_text("text,label\n")
    (folder / "kept" / "link").symlink_to("gone.csv")

    status = cli.main(["init", data])

    assert status == 2
    assert message in capsys.readouterr().err


def test_the_commands_to_type_next_quote_the_name_of_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init", "Anfragen 2026.csv", "--to", "my search.toml", "--name", "mine"]) == 0
    assert cli.main(["init", "--profile", "--to", "my cluster.toml"]) == 0

    printed = capsys.readouterr().out.splitlines()
    assert "next: xautolm-hpc run 'my search.toml'" in printed
    assert "next: xautolm-hpc doctor 'my cluster.toml'" in printed


def test_one_class_is_said_with_the_option_that_names_another_column(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"text number {number},spam\n" for number in range(30))
    (folder / "oneclass.csv").write_text("text,label\n" + rows)

    status = cli.main(["init", "oneclass.csv"])

    error = capsys.readouterr().err
    assert status == 2
    assert "column 'label' holds one class only, 'spam'" in error
    assert error.rstrip().endswith("Set data.label (here: --label)")


def test_a_file_that_is_no_split_is_said_on_the_screen_and_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "set").mkdir()
    for name in ("train", "eval"):
        shutil.copy(folder / "Anfragen 2026.csv", folder / f"set/{name}.csv")

    cli.main(["init", "set"])

    note = "not read: eval.csv; a split is called train, validation or test"
    assert note in capsys.readouterr().out.splitlines()
    assert f"# {note}" in Path("set.toml").read_text().splitlines()


def test_a_second_column_of_text_is_said_on_the_screen_and_in_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{number},a man plays chess at table {number},nobody is at table {number}" for number in range(60)]
    labelled = [f"{row},{'yes' if number % 2 else 'no'}\n" for number, row in enumerate(rows)]
    (folder / "pairs.csv").write_text("id,premise,hypothesis,label\n" + "".join(labelled))

    cli.main(["init", "pairs.csv"])

    line = "one column is read; join premise and hypothesis into one to use both"
    assert line in capsys.readouterr().out.splitlines()
    assert f"# {line}" in Path("pairs.toml").read_text().splitlines()
