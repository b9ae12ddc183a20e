"""Files that a person names and that are none, or hold what no file of theirs would: named, and never waited for."""

import os
import time
from pathlib import Path

import pytest

from tests.driving import SEARCH
from tests.fuzz.workplace import call_checked
from xautolm_hpc.config import load_profile, load_search, read_written
from xautolm_hpc.durable import (
    TORN_AFTER_S,
    check_depth,
    parse_json,
    read_toml_file,
    remove_torn,
    set_aside,
    write_bytes,
)
from xautolm_hpc.errors import ConfigError, DataError, InputError
from xautolm_hpc.profile.formats import read_file
from xautolm_hpc.profile.source import read_content

COLUMNS = {"text": "text", "label": "label"}


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "loop"])
def test_a_search_file_that_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "search.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path.name)

    said = call_checked(lambda: load_search(path))

    assert said.status == 2
    assert str(path) in said.complaint


def test_data_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.csv")

    with pytest.raises(DataError, match=r"rows.csv` is no regular file; expected a file of data"):
        read_content(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('[data]\npath = "a\\u0000b"', "data.path"),
        ('[data]\npath = "~nobody-of-this-name/x"', "data.path"),
        ('[data]\npath = "loop/x"', "data.path"),
    ],
)
def test_a_path_that_is_none_is_refused_with_its_key(tmp_path: Path, line: str, key: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    path = tmp_path / "search.toml"
    path.write_text(SEARCH.replace('[data]\npath = "rows.jsonl"', line))

    with pytest.raises(ConfigError, match=f"`{path}`: {key} = .* is no path: "):
        load_search(path)


def test_a_profiles_path_that_is_none_is_refused_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text('hf_home = "a\\u0000b"\n')

    with pytest.raises(ConfigError, match=r"hf_home = .* is no path: embedded null byte"):
        load_profile(path)


@pytest.mark.parametrize("text", ["[" + "a." * 500 + "a]", "x = " + "[" * 900 + "]" * 900])
def test_toml_that_is_nested_too_deep_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "search.toml"
    path.write_text(text)

    with pytest.raises(InputError, match=r"nested more than 64 deep|cannot be read as TOML"):
        read_toml_file(path)


def test_a_setting_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "search.toml"
    path.write_text("")

    with pytest.raises(InputError, match="nested more than 64 deep"):
        read_written(path, ("a." * 500 + "a=1",))

    assert read_written(path, ("x=" + "[" * 100_000,)) == {"x": "[" * 100_000}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.arrow"])
def test_damaged_data_is_refused_by_name(tmp_path: Path, name: str) -> None:
    content = b'{"text": ' + b"[" * 100_000 if name.endswith("jsonl") else b"ARROW1\0\0" + b"\xff" * 64

    with pytest.raises(DataError, match=name):
        read_file(tmp_path / name, content, columns=COLUMNS)


def test_plain_data_is_parsed_up_to_a_depth() -> None:
    deep = "[" * 64 + "]" * 64

    check_depth(parse_json(deep.encode(), where="it"), where="it")

    with pytest.raises(InputError, match=r"^it: lists and objects are nested more than 64 deep$"):
        parse_json(f"[{deep}]".encode(), where="it")


def test_a_folder_in_the_place_of_a_file_is_set_aside_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.mkdir()
    (path / "mine").write_text("x")

    write_bytes(path, b"{}")

    (aside,) = tmp_path.glob("run.json.damaged-*")
    assert path.read_bytes() == b"{}"
    assert (aside / "mine").read_text() == "x"
    assert set_aside(path).read_bytes() == b"{}"


def test_what_killed_writers_left_goes_and_what_others_are_writing_stays(tmp_path: Path) -> None:
    names = [".run.json.0123456789ab.tmp", ".run.json.fedcba987654.tmp", ".mine.tmp"]
    for name in names:
        (tmp_path / name).write_text("")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (time.time() - 2 * TORN_AFTER_S,) * 2)

    remove_torn(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
