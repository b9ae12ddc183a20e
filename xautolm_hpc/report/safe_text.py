"""Escaping of foreign text before it is shown.

Messages of failed trials, model names and node names come from other programs and other sites. Neither a terminal nor a
Markdown viewer may interpret them.
"""

import html
import re
import unicodedata

INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that move the cursor, reorder or hide text: control, format (bidi overrides), surrogate, line."""

MARKDOWN_SPECIAL = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
AUTOMATIC = re.compile(r"(?<=\w):(?=//)|(?<=\bwww)\.|[@$]", flags=re.IGNORECASE)
"""Text that Markdown viewers turn into links, mentions and formulas without markup."""


def escape_controls(text: str) -> str:
    """Escape every control, bidi and other invisible character except line ends and tabs, as logs need.

    ESC, for example, becomes a backslash and ``x1b``. The result can always be encoded as UTF-8.
    """
    return "".join(_escaped(c) if c not in "\n\t" and unicodedata.category(c) in INVISIBLE else c for c in text)


def one_line(text: str) -> str:
    """Escape like :func:`escape_controls`, and line ends and tabs too: the result is one line."""
    return escape_controls(text).replace("\n", "\\n").replace("\t", "\\t")


def shortened(text: str, max_chars: int) -> str:
    """Shorten a text to at most ``max_chars`` characters, between two words if it has several; an ellipsis says so."""
    if len(text) <= max_chars:
        return text
    start = text[: max_chars - 1]
    is_inside_a_word = not text[max_chars - 1].isspace()
    return (start.rpartition(" ")[0].rstrip() or start if is_inside_a_word else start.rstrip()) + "…"


def markdown_text(text: str) -> str:
    """Escape a text so that Markdown shows it literally, without markup, HTML, links or table cells."""
    entities = html.escape(one_line(text), quote=False)
    literal = MARKDOWN_SPECIAL.sub(lambda found: "\\" + found[0], entities)
    return AUTOMATIC.sub(lambda found: f"&#{ord(found[0])};", literal)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return "\\r" if character == "\r" else f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
