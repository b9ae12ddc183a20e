"""Durable files: one creator wins, a failed write changes nothing, and nothing is left lying about."""

import errno
import json
import math
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xautolm_hpc.config import load_search
from xautolm_hpc.durable import (
    LARGEST_JSON_BYTES,
    create_bytes,
    create_json,
    decode_text,
    fsync_dir,
    read_json,
    write_bytes,
    write_json,
)
from xautolm_hpc.errors import ConfigError, InputError

N_RACERS = 8
RACER = """
import sys
from pathlib import Path
from xautolm_hpc.durable import create_json
sys.stdin.readline()
print(create_json(Path(sys.argv[1]), {"racer": int(sys.argv[2])}))
"""
Refusal = Callable[..., Any]


def refuse(number: int) -> Refusal:
    """Make a system call that fails as the file system would."""

    def call(*arguments: object, **options: object) -> None:
        del arguments, options
        raise OSError(number, os.strerror(number))

    return call


def race(path: Path) -> list[bool]:
    """Let threads create one file at the same moment; says for each whether it did."""
    start, created = threading.Barrier(N_RACERS), [False] * N_RACERS

    def run(racer: int) -> None:
        start.wait(timeout=10)
        created[racer] = create_json(path, {"racer": racer})

    threads = [threading.Thread(target=run, args=(racer,)) for racer in range(N_RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return created


def test_one_of_eight_threads_creates_a_file(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"claim-{number}.json"

        created = race(path)

        assert sum(created) == 1
        assert read_json(path) == {"racer": created.index(True)}
    assert len(list(tmp_path.iterdir())) == 20


def test_one_of_four_processes_creates_a_file(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), str(racer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for racer in range(4)
    ]

    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    created = [racer.communicate(timeout=60)[0].strip() for racer in racers]

    assert sorted(created) == ["False", "False", "False", "True"]
    assert read_json(path) == {"racer": created.index("True")}
    assert list(tmp_path.iterdir()) == [path]


def test_without_hard_links_one_of_eight_threads_creates_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))

    created = race(tmp_path / "claim.json")

    assert sum(created) == 1
    assert read_json(tmp_path / "claim.json") == {"racer": created.index(True)}
    assert [path.name for path in tmp_path.iterdir()] == ["claim.json"]


def test_creating_never_changes_a_file_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    assert create_bytes(path, b"new") is False

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_whose_answer_the_file_server_lost_counts_as_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)

    assert create_bytes(tmp_path / "a.json", b"{}") is True
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_writing_replaces_the_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": "x" * 1000})

    write_json(path, {"a": 1})

    assert path.read_bytes() == b'{\n "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_written_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {})
    create_json(tmp_path / "b.json", {})

    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a.json", "b.json")] == [0o600, 0o600]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"state": "old"})
    monkeypatch.setattr(Path if call == "replace" else os, call, refuse(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device"):
        write_json(path, {"state": "new"})

    assert read_json(path) == {"state": "old"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("without_links", [False, True])
def test_a_creation_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_links: bool
) -> None:
    calls: list[int] = []
    fsync = os.fsync

    def fsync_until_full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > int(without_links):  # without links the file beside was written first
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    if without_links:
        monkeypatch.setattr(os, "link", refuse(errno.EOPNOTSUPP))
    monkeypatch.setattr(os, "fsync", fsync_until_full)

    with pytest.raises(OSError, match="No space left on device"):
        create_json(tmp_path / "a.json", {"a": 1})

    assert list(tmp_path.iterdir()) == []


def test_a_link_refused_for_another_reason_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse(errno.EDQUOT))

    with pytest.raises(OSError, match="quota"):
        create_json(tmp_path / "a.json", {})

    assert list(tmp_path.iterdir()) == []


def test_a_number_json_has_no_word_for_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for write in (write_json, create_json):
        with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
            write(tmp_path / "a.json", {"f1": math.nan})

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)

    with pytest.raises(InputError, match=f"^`{path}` is not valid JSON: "):
        read_json(path)


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_json(tmp_path / "a.json")


def test_what_was_written_is_flushed_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    fsync = os.fsync

    def remember(descriptor: int) -> None:
        flushed.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)

    write_bytes(tmp_path / "a", b"1")
    create_bytes(tmp_path / "b", b"2")
    fsync_dir(tmp_path)

    assert flushed == ["file", "folder", "file", "folder", "folder"]


def test_json_is_written_in_an_order_a_person_can_follow(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1, "é"]})

    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": [1, "é"]}
    assert list(read_json(tmp_path / "a.json")) == ["b", "a"]


SEARCH = """name = "one"
[task]
name = "größe"
[data]
path = "rows.csv"
[budget]
trials = 3
"""


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_search_file_of_every_unicode_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "one.toml").write_bytes(SEARCH.replace("\n", "\r\n").encode(encoding))

    assert load_search(tmp_path / "one.toml").task.name == "größe"


@pytest.mark.parametrize("content", [b"", b"a", "ä".encode()])
def test_short_texts_are_utf8(content: bytes) -> None:
    assert decode_text(content) == content.decode()


@pytest.mark.parametrize(
    ("setting", "delimiter"),
    [
        ("data.delimiter=;", ";"),
        ("data.delimiter=tab", "\t"),
        (r"data.delimiter=\t", "\t"),
        ("data.delimiter='|'", "|"),
    ],
)
def test_a_delimiter_is_a_character_or_a_word_for_it(tmp_path: Path, setting: str, delimiter: str) -> None:
    (tmp_path / "one.toml").write_text(SEARCH)

    assert load_search(tmp_path / "one.toml", (setting,)).data.delimiter == delimiter


@pytest.mark.parametrize("value", [",;", "", "space"])
def test_a_delimiter_of_several_characters_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "one.toml").write_text(SEARCH)

    with pytest.raises(
        ConfigError, match=f"data.delimiter = '{value}': expected one character that is neither a quote"
    ):
        load_search(tmp_path / "one.toml", (f"data.delimiter='{value}'",))


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    n_open = len(list(Path("/proc/self/fd").iterdir()))

    with pytest.raises(IsADirectoryError, match="Is a directory") as caught:
        read_json(tmp_path)

    assert caught.value.filename == str(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == n_open


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")

    with pytest.raises(InputError, match=r"pipe\.json` is no regular file"):
        read_json(tmp_path / "pipe.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 200_000, "not valid JSON"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ('{"a": ' * 65 + "0" + "}" * 65, "nested more than 64 deep"),
        ('{"f1": NaN}', "not valid JSON: NaN is no number"),
        ("[-Infinity]", "not valid JSON: -Infinity is no number"),
        ("1" * 5_000, "not valid JSON"),
        (" " * 100 + "1", "has 101 bytes; expected at most 100"),
    ],
)
def test_json_that_no_program_of_ours_writes_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "odd.json").write_text(content)

    with pytest.raises(InputError, match=re.escape(reason)):
        read_json(tmp_path / "odd.json", largest_bytes=100 if content.startswith(" ") else LARGEST_JSON_BYTES)


def test_json_of_others_may_hold_infinities_where_the_caller_says_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"a": Infinity}')

    assert read_json(tmp_path / "config.json", allow_nan=True) == {"a": math.inf}
    assert read_json(tmp_path / "config.json", allow_nan=True) != {"a": 0}


def test_nested_json_within_the_limit_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep.json").write_text("[" * 64 + "]" * 64)

    value = read_json(tmp_path / "deep.json")

    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 63  # the innermost list is empty
