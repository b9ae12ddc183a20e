"""The ledger: what a crash may do to its last line, and which lines count."""

import errno
import json
import os
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
