"""Every file of a run, damaged in every way that there is: a command says which file it is, or does without it."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import JOB
from tests.fuzz.targets import READS, RUN, call_or_found, check_said
from tests.fuzz.workplace import NAME, fake_jobs, inside, outside_of, write_runs
from xautolm_hpc import cli


def other_type(value: Any) -> Any:
    """Replace every value in plain data by one of another type."""
    if isinstance(value, dict):
        return {key: other_type(item) for key, item in value.items()}
    if isinstance(value, list):
        return [other_type(item) for item in value] or {"x": 1}
    return "x" if isinstance(value, int | float) or value is None else 7


def with_other_types(path: Path) -> None:
    """Give every value of a file another type; of JSON Lines in the first line."""
    text = path.read_text()
    first, newline, rest = text.partition("\n") if path.suffix == ".jsonl" else (text, "", "")
    path.write_text(json.dumps(other_type(json.loads(first))) + newline + rest)


def with_text(text: str) -> Callable[[Path], None]:
    """Make what writes a text into a file."""
    return lambda path: (path.unlink(), path.write_text(text))[0]


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
    "a number": with_text("5\n"),
    "other types": with_other_types,
    "deep": with_text("[" * 100_000 + "\n"),
    "nested": with_text('{"x": ' * 500 + "1" + "}" * 500 + "\n"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00\x01\n\n"),
    "a pipe": as_pipe,
    "a folder": as_folder,
    "a loop": as_loop,
}
NEEDED = {"run.json", "priors.json", "ledger.jsonl"}
"""Files that nothing can replace once there are trials: the search stops, and says which."""


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


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_run_is_named_or_not_needed(tmp_path: Path, runs: Path, damage: str) -> None:
    for template in ("ended", "left"):
        names = [path.relative_to(runs / template) for path in json_files(runs / template / "runs" / NAME)]
        assert {path.name for path in names} >= {*NEEDED, "profile-result.json", "outcome.json", "claim-0.json"}
        for name in names:
            project = Path(shutil.copytree(runs / template, tmp_path / "project"))
            DAMAGES[damage](project / name)
            before = outside_of(project)

            with fake_jobs(), inside(project):
                label = f"{template}: {name} is {damage}"
                for words in (*READS, RUN):
                    said = call_or_found(lambda words=words: cli.main(words), label=f"{label}: {words}")  # type: ignore[misc]
                    check_said(said, label=f"{label}: {words}")
                    if said.status == 2:
                        assert name.name in said.complaint, f"{label}: {words}: {said.complaint}"

            assert outside_of(project) == before, label
            assert (said.status == 2) is (name.name in NEEDED), f"{label}: {said}"
            shutil.rmtree(project)
