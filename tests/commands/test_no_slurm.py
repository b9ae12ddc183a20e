"""Commands on a machine that is no login node: what is missing, and what to do; never to try again later."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands.left_run import leave_run
from xautolm_hpc import cli
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.slurm import NEEDED, Slurm

PROFILE = 'launcher = "slurm"\nworker_python = "/bin/sh"\n'
MISSING = "there is no sbatch, squeue, scancel, scontrol, sinfo on PATH"
UNSET = "Slurm is not set up on this machine: scontrol: fatal: Could not establish a configuration source"
LOGIN_NODE = "work on a login node of the cluster"
Command = Callable[..., tuple[int, str]]


def write_commands(folder: Path, text: str) -> None:
    """Write Slurm's commands as programs that fail with some words."""
    folder.mkdir()
    for name in NEEDED:
        (folder / name).write_text(f"#!/bin/sh\necho '{name}: error: x\n{name}: {text}' >&2\nexit 1\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return commands for a run on a cluster, with nothing of Slurm on PATH, or what a folder has."""
    run_dir = leave_run(tmp_path)
    (tmp_path / "site.toml").write_text(PROFILE)
    stored = read_json(run_dir.run_path)
    stored["search"]["profile"] = str(tmp_path / "site.toml")
    write_json(run_dir.run_path, stored)
    search_path = tmp_path / "search.toml"
    search_path.write_text('profile = "site.toml"\n' + search_path.read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def call(*words: str) -> tuple[int, str]:
        status = cli.main(words)
        printed, complaint = capsys.readouterr()
        return status, printed + complaint

    return call


@pytest.mark.parametrize(
    "words",
    [
        ["run", "search.toml", "--skip-job-check"],
        ["run", "search.toml", "--fork", "new"],
        ["plan", "search.toml"],
        ["evaluate", "rows.jsonl", "search.toml"],
        ["cancel", "fake"],
    ],
)
def test_without_slurms_commands_what_needs_them_says_which_are_missing(command: Command, words: list[str]) -> None:
    status, said = command(*words)

    if words[0] == "evaluate":  # the list is read first
        assert status == 2
        return
    assert status == 2
    assert MISSING in said
    assert LOGIN_NODE in said
    assert "later" not in said


def test_without_slurms_commands_status_and_logs_show_what_is_known(command: Command) -> None:
    status, shown = command("status", "fake", "--json")

    assert status == 0
    reasons = {trial["reason"] for trial in json.loads(shown)["trials"]}
    assert reasons == {f"{MISSING}; {LOGIN_NODE}, or load the site's Slurm module"}
    assert command("logs", "fake", "0")[0] == 0


def test_without_slurms_commands_doctor_says_which_are_missing(command: Command) -> None:
    status, said = command("doctor", "site.toml", "--json")

    (found,) = [finding for finding in json.loads(said) if finding["check"] == "Slurm's commands"]
    assert status == 4
    assert (found["found"], found["remedy"]) == (MISSING, f"{LOGIN_NODE}, or load the site's Slurm module")


def test_commands_without_a_cluster_say_that_slurm_is_not_set_up(tmp_path: Path) -> None:
    write_commands(tmp_path / "bin", "fatal: Could not establish a configuration source")

    found, remedy = Slurm({"PATH": str(tmp_path / "bin")}).why_silent()

    assert (found, remedy) == (UNSET, f"{LOGIN_NODE}, or set SLURM_CONF to its slurm.conf")


def test_a_controller_that_is_away_is_asked_later(tmp_path: Path) -> None:
    write_commands(tmp_path / "bin", "error: Unable to contact slurm controller (connect failure)")

    found, remedy = Slurm({"PATH": str(tmp_path / "bin")}).why_silent()

    assert found == "Slurm does not answer: scontrol: error: Unable to contact slurm controller (connect failure)"
    assert remedy.startswith("try again later")
