"""What is a secret, and how secrets and names of people and machines are taken out of stored and shown text."""

import re
from collections.abc import Mapping, Sequence

SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD", "JWT")
"""A variable with one of these in its name, in upper or lower case, holds a secret."""

NOT_SECRET = ("TOKENIZERS_PARALLELISM",)
SECRET_SHAPES = re.compile(r"\bhf_[A-Za-z0-9]{30,}|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+")
"""Secrets that are known by their shape, whatever holds them: tokens of the Hugging Face Hub and JSON Web Tokens."""

LONGEST_MESSAGE = 16_384
"""Most characters of a message that is written: beginning and end of a longer one, and how much was left out."""

MIN_SECRET_LENGTH = 6
"""Shorter values are words such as ``true``; replacing them would damage the text and protect nothing."""


def is_secret(name: str) -> bool:
    """Check whether a variable's name marks its value as a secret."""
    return name not in NOT_SECRET and any(part in name.upper() for part in SECRET_NAMES)


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """List the values of environment variables whose names mark them as secret.

    Args:
        environ: The environment: name -> value.

    Returns:
        Distinct values of at least :data:`MIN_SECRET_LENGTH` characters, the longest first.
    """
    values = {value for name, value in environ.items() if len(value) >= MIN_SECRET_LENGTH and is_secret(name)}
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def redact(text: str, secrets: Sequence[str], *, user: str, host: str, home: str) -> str:
    """Replace secrets, the home folder, the host and the user by ``<SECRET>``, ``<HOME>``, ``<HOST>``, ``<USER>``.

    A secret is replaced also inside a longer word; a name only where it is a word of its own. The longest value is
    replaced first, so that no part of it stays. An empty value, or ``/`` as home, replaces nothing.

    Args:
        text: Text to clean, for instance a traceback.
        secrets: Values to hide, for instance of :func:`secrets_in`.
        user: Login name.
        host: Name of the node; its first label is replaced too.
        home: Home folder.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "<SECRET>")
    text = SECRET_SHAPES.sub("<SECRET>", text)
    names = [
        (home.rstrip("/"), "<HOME>"),
        (host, "<HOST>"),
        (host.partition(".")[0], "<HOST>"),
        (user, "<USER>"),
    ]
    for name, label in names:
        if name:
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", label, text)
    return text


def cut_message(text: str, *, longest: int = LONGEST_MESSAGE) -> str:
    """Cut a long message in the middle: what ended a trial stands at its beginning or at its end.

    Args:
        text: The message.
        longest: Most characters to keep, at least 100.

    Returns:
        The message, or its beginning and end with a line between them that counts the characters left out.
    """
    if len(text) <= longest:
        return text
    kept = (longest - 100) // 2
    return f"{text[:kept]}\n... {len(text) - 2 * kept:,} characters left out ...\n{text[-kept:]}"
