"""Takes what identifies a person or opens a door out of text that is stored, reported or shown."""

import re
from collections.abc import Mapping, Sequence

SECRET_NAMES = ("TOKEN", "KEY", "SECRET", "PASSWORD")
MIN_SECRET_LENGTH = 6
"""Shorter values are words such as ``true``: replacing them would hide the text and protect nothing."""


def secrets_in(environ: Mapping[str, str]) -> tuple[str, ...]:
    """List the values of environment variables whose names say that they are secret.

    Args:
        environ: The environment: name -> value.

    Returns:
        Distinct values of at least :data:`MIN_SECRET_LENGTH` characters, the longest first.
    """
    values = {
        value
        for name, value in environ.items()
        if len(value) >= MIN_SECRET_LENGTH and any(part in name.upper() for part in SECRET_NAMES)
    }
    return tuple(sorted(values, key=lambda value: (-len(value), value)))


def redact(text: str, secrets: Sequence[str], *, user: str, host: str, home: str) -> str:
    """Replace secrets, the home folder, the host and the user by ``<SECRET>``, ``<HOME>``, ``<HOST>``, ``<USER>``.

    Secrets go wherever they stand, also inside a longer word; names only as words of their own. The longest value
    goes first, so that no part of it stays. An empty value, or ``/`` as home, replaces nothing.

    Args:
        text: Text to clean, for instance a traceback.
        secrets: Values to hide, for instance of :func:`secrets_in`.
        user: Login name.
        host: Name of the node; its first label is replaced too.
        home: Home folder.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "<SECRET>")
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
