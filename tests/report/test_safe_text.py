"""Foreign text reaches neither a terminal nor a Markdown viewer as a command."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xautolm_hpc.report.safe_text import escape_controls, markdown_text, one_line, shortened


def test_terminal_sequences_and_bidi_overrides_become_visible() -> None:
    assert one_line("\x1b[31mred\x07\u202eexe.\u200b") == "\\x1b[31mred\\x07\\u202eexe.\\u200b"


def test_a_line_keeps_letters_of_every_script() -> None:
    assert one_line("Grüße 模型 модель é") == "Grüße 模型 модель é"


def test_a_log_keeps_its_lines_and_tabs_only() -> None:
    assert escape_controls("a\n\tb\rc\x9b2J") == "a\n\tb\\rc\\x9b2J"


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = one_line(text)

    assert len(line.splitlines()) <= 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line)


@given(st.text(alphabet="ab _*`|<>&#\\[]~!(){}@:/.w$"))
def test_markdown_without_its_escapes_is_the_text_again(text: str) -> None:
    shown = re.sub(r"\\([\\`*\[\]|~_])", r"\1", markdown_text(text))

    assert html.unescape(shown) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b", "a \\| b"),
        ("`rm -rf`", "\\`rm -rf\\`"),
        ("![x](http://evil)", "!\\[x\\](http&#58;//evil)"),
        ("www.evil.org", "www&#46;evil.org"),
        ("**bold** _it_ gpu_oom", "\\*\\*bold\\*\\* \\_it\\_ gpu_oom"),
        ("&lt;", "&amp;lt;"),
        ("$x$ @all", "&#36;x&#36; &#64;all"),
        ("two\nlines", "two\\\\nlines"),
    ],
)
def test_markdown_shows_markup_instead_of_interpreting_it(text: str, shown: str) -> None:
    assert markdown_text(text) == shown


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shortened("abcdef", 4) == "abc…"
    assert shortened("abcd", 4) == "abcd"
