"""Text files of people's programs are decoded, and search files and settings in them are read."""

from pathlib import Path

import pytest

from xautolm_hpc.config import load_search
from xautolm_hpc.durable import decode_text
from xautolm_hpc.errors import ConfigError

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
