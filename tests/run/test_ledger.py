"""The ledger: what a crash may do to its last line, and which lines count."""

import errno
import json
import os
import re
from pathlib import Path

import pytest

from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.run.ledger import Ledger, read_ledger


def line(event: str, lease: int) -> bytes:
    """Write a line by hand."""
    return json.dumps({"event": event, "at": 1.0, "lease": lease}).encode() + b"\n"


def events(path: Path) -> list[str]:
    """List the events that count."""
    return [found["event"] for found in read_ledger(path)]


def test_what_is_appended_is_read_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", 3)

    written = [ledger.append("begun", 5.0, trials=[1, 2]), ledger.append("finish", 6.5, why="é")]

    assert written == [
        {"event": "begun", "at": 5.0, "lease": 3, "trials": [1, 2]},
        {"event": "finish", "at": 6.5, "lease": 3, "why": "é"},
    ]
    assert read_ledger(ledger.path) == written
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_a_run_without_a_ledger_has_no_lines(tmp_path: Path) -> None:
    assert read_ledger(tmp_path / "ledger.jsonl") == []


def test_a_torn_last_line_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("begun", 1) + b'{"event":"inte')

    assert events(path) == ["begun"]


def test_a_whole_last_line_without_its_end_is_torn_too(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("begun", 1) + line("meant", 1).rstrip())

    assert events(path) == ["begun"]


def test_the_next_driver_cuts_a_torn_line_off_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("begun", 1) + b'{"event":"inte')

    Ledger(path, 2).append("meant", 7.0)

    assert events(path) == ["begun", "meant"]
    assert path.read_bytes().startswith(line("begun", 1) + b'{"event":"meant","at":7.0,"lease":2}')


def test_a_ledger_that_is_one_torn_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(b'{"ev')

    Ledger(path, 1)

    assert path.read_bytes() == b""


@pytest.mark.parametrize("damage", [b"{x}", b"", b"42", b"null", b'{"event":"end","at":1}', b"\xff\xff"])
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("begun", 1) + damage + b"\n" + line("meant", 1))

    with pytest.raises(RunFolderError, match=f"^`{path}` line 2 is damaged: .* or start again with --fork$"):
        read_ledger(path)


def test_lines_of_a_driver_whose_lease_had_passed_on_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(line("a", 1) + line("b", 2) + line("stale", 1) + line("c", 2) + line("d", 4) + line("later", 2))

    assert events(path) == ["a", "b", "c", "d"]


def test_a_line_that_was_written_in_part_is_cut_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", 1)
    ledger.append("begun", 1.0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:10]))

    with pytest.raises(RunFolderError, match="only a part of a line was written; is the disk full"):
        ledger.append("meant", 2.0)

    monkeypatch.undo()
    ledger.append("finish", 3.0)
    assert events(ledger.path) == ["begun", "finish"]


def test_a_full_disk_is_not_taken_for_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ledger = Ledger(tmp_path / "ledger.jsonl", 1)
    monkeypatch.setattr(os, "fsync", refuse)

    with pytest.raises(OSError, match="No space left"):
        ledger.append("begun", 1.0)


def test_a_number_json_has_no_word_for_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", 1)

    with pytest.raises(ValueError, match="Out of range float values"):
        ledger.append("end", float("nan"))

    assert read_ledger(ledger.path) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_ledger_that_is_a_link_is_refused_and_nothing_is_written_where_it_leads(
    tmp_path: Path, is_there: bool
) -> None:
    path, outside = tmp_path / "ledger.jsonl", tmp_path / "outside"
    if is_there:
        outside.write_bytes(line("begun", 1))
    path.symlink_to(outside)

    with pytest.raises(RunFolderError, match="is a link; a ledger is written where it lies"):
        read_ledger(path)

    assert outside.exists() is is_there


@pytest.mark.parametrize(
    ("event", "fields", "words"),
    [
        ("drawn", {"generation": "0", "plans": [], "refusals": {}, "exhausted": False}, "generation: expected int"),
        ("drawn", {"generation": 10**400, "plans": [], "refusals": {}, "exhausted": False}, "expected a number from 0"),
        ("drawn", {"generation": 0, "plans": {}, "refusals": {}, "exhausted": False}, "plans: expected"),
        (
            "drawn",
            {"generation": 0, "plans": [], "refusals": {}, "refusal_reasons": {"time": 4}, "exhausted": False},
            "expected str",
        ),
        ("submitted", {"jobs": {"0": "1"}}, "'0' is not TRIAL/ATTEMPT"),
        ("submitted", {"jobs": {"0/-1": "1"}}, "'0/-1' is not TRIAL/ATTEMPT"),
        ("intent", {"name": "x", "generation": 0, "attempts": [], "resources": {}}, "'x' is no name of a submission"),
        ("intent", {"name": "x-s0", "generation": 0, "attempts": [[1]], "resources": {}}, "pairs of trial and attempt"),
        (
            "intent",
            {"name": "x", "generation": 0, "attempts": [], "resources": {}, "folder": "../x", "attempt_dirs": []},
            "'../x' is no place within the run",
        ),
        (
            "intent",
            {"name": "x", "generation": 0, "attempts": [], "resources": {}, "folder": "x", "attempt_dirs": ["/x"]},
            "'/x' is no place within the run",
        ),
        ("end", {"trial": -2, "attempt": 0, "source": "outcome"}, "trial is -2; expected a number from 0"),
        ("stop", {"reason": None, "suspects": []}, "reason: expected str"),
        ("model_out", {"model": "m"}, "lacks 'from_trial'"),
    ],
)
def test_a_line_that_is_json_but_wrong_is_refused_with_what_is_wrong(
    tmp_path: Path, event: str, fields: dict[str, object], words: str
) -> None:
    path = tmp_path / "ledger.jsonl"
    written = json.dumps({"event": event, "at": 1.0, "lease": 1, **fields}).encode() + b"\n"
    path.write_bytes(line("begun", 1) + written)

    with pytest.raises(RunFolderError, match=f"line 2 is damaged: .*{re.escape(words)}"):
        read_ledger(path)


def test_a_line_of_a_later_version_is_read_with_what_it_adds(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    added = {"event": "commit", "at": 1.0, "lease": 1, "generation": 0, "n": 3, "later": {"x": 1}}
    path.write_bytes(json.dumps(added).encode() + b"\n" + line("unheard-of", 1))

    assert read_ledger(path)[0] == added
