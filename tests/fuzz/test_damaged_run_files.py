"""Every file of a run, damaged in every way that there is: a command says which file it is, or does without it."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import JOB
from tests.fuzz.targets import READS, RUN, call_or_found, check_said
from tests.fuzz.workplace import NAME, copy_project, fake_jobs, inside, outside_of, write_runs
from xautolm_hpc import cli


def other_type(value: Any) -> Any:
    """Replace every value in plain data by one of another type."""
    if isinstance(value, dict):
        return {key: other_type(item) for key, item in value.items()}
    if isinstance(value, list):
        return [other_type(item) for item in value] or {"x": 1}
    return "x" if isinstance(value, int | float) or value is None else 7


def with_other_types(path: Path) -> None:
    """Write every value of a file another type; of JSON Lines in the first line."""
    text = path.read_text()
    first, newline, rest = text.partition("\n") if path.suffix == ".jsonl" else (text, "", "")
    path.write_text(json.dumps(other_type(json.loads(first))) + newline + rest)


def with_text(text: str) -> Callable[[Path], object]:
    """Make what writes a text into a file."""
    return lambda path: path.write_text(text)


def as_pipe(path: Path) -> None:
    """Put a pipe that nobody writes to in its place."""
    path.unlink()
    os.mkfifo(path)


def as_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def as_loop(path: Path) -> None:
    """Put a link to itself in its place."""
    path.unlink()
    path.symlink_to(path.name)


DAMAGES: Mapping[str, Callable[[Path], Any]] = {
    "empty": with_text(""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a list": with_text("[]\n"),
    "an object": with_text("{}\n"),
    "other types": with_other_types,
    "deep": with_text("[" * 100_000 + "\n"),
    "nested": with_text('{"x": ' * 500 + "1" + "}" * 500 + "\n"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00\x01\n\n"),
    "a pipe": as_pipe,
    "a folder": as_folder,
    "a loop": as_loop,
}
NEEDED = ("run.json", "priors.json", "ledger.jsonl")
"""Files that nothing can replace once there are trials: the search stops, and says which."""

MADE_AGAIN = {("ledger.jsonl", "empty"), ("ledger.jsonl", "truncated")}
"""What was drawn is drawn again, and what ended lies in the folders."""

OTHERS = {
    "claim-0.json", "command.json", "exit-0.json", "heartbeat-0.json", "lease-1", "members.json", "models.json",
    "outcome.json", "pipeline.json", "profile.json", "report.json", "task.json", "verdict.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a run that ended, and one that was left."""
    folder = tmp_path_factory.mktemp("runs")
    write_runs(folder)
    return folder


def json_files(run: Path) -> Iterator[Path]:
    """List the JSON files of a run, one of each kind; not that of the fake that runs its jobs."""
    kinds: dict[str, Path] = {}
    for path in sorted(run.rglob("*"), reverse=True):  # the newest generation and lease first
        is_json = path.suffix in (".json", ".jsonl") or re.fullmatch(r"lease-\d+", path.name)
        if path.is_file() and is_json and path.name != JOB:
            kinds.setdefault(f"{path.parent.parent.name[:3]}/{re.sub('[0-9]+', 'N', path.name)}", path)
    return iter(kinds.values())


ALONE = (*NEEDED, "profile-result.json")
"""Files of which each is damaged alone; all others are damaged together."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_named_or_not_needed(tmp_path: Path, runs: Path, damage: str) -> None:
    files = [path.relative_to(runs / "left") for path in json_files(runs / "left" / "runs" / NAME)]
    alone = [[path] for path in files if path.name in ALONE]
    together = [path for path in files if path.name not in ALONE]
    assert {path.name for (path,) in alone} == set(ALONE)
    assert {path.name for path in together} >= OTHERS
    for damaged in (*alone, together):
        project = copy_project(runs / "left", tmp_path / "project")
        for name in damaged:
            DAMAGES[damage](project / name)
        before, label = outside_of(project), f"{damaged[0].name} is {damage}"

        with fake_jobs(), inside(project):
            for words in (*READS[:5], RUN):
                said = call_or_found(partial(cli.main, words), label=f"{label}: {words}")
                check_said(said, label=f"{label}: {words}")
                assert said.status != 2 or any(name.name in said.complaint for name in damaged), f"{label}: {said}"

        assert outside_of(project) == before, label
        is_lost = damaged[0].name in NEEDED and (damaged[0].name, damage) not in MADE_AGAIN
        assert said.status == (2 if is_lost else 0), f"{label}: {said}"
        shutil.rmtree(project)
