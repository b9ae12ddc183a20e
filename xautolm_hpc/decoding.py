"""Decodes text files that people write: UTF-8, or UTF-16 and UTF-32 as Windows programs save them."""

import codecs

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order mark at the start of a file -> its encoding, which takes the mark off."""


def encoding_of(content: bytes) -> str:
    """Find the encoding of a text: by its byte order mark, else by where its first character has a zero byte.

    Args:
        content: The bytes of the file. Without a mark its first character is taken to be ASCII, as it is in CSV with
            such column names, in JSON and in TOML.
    """
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return encoding
    zeros = [byte == 0 for byte in content[:2]]
    if zeros == [False, True]:
        return "utf-16-le"
    return "utf-16-be" if zeros == [True, False] else "utf-8"


def decode_text(content: bytes) -> str:
    """Decode the bytes of a text file; a byte order mark is taken off.

    Raises:
        UnicodeDecodeError: The bytes are no text in the encoding that :func:`encoding_of` finds.
    """
    return content.decode(encoding_of(content))
