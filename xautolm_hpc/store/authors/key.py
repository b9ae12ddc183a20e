"""The author key of a store: what its own marks are signed with.

It lies in the store, goes along when the store is moved or copied whole, and is neither exported nor merged.
"""

import hashlib
import hmac
import re
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xautolm_hpc import durable
from xautolm_hpc.errors import StoreError
from xautolm_hpc.node import Clock
from xautolm_hpc.store.columns import line
from xautolm_hpc.store.files import GROUP_MODE, OWN_MODE, follow_folder, read_small
from xautolm_hpc.store.marks import StoredMark

KEY_BYTES = 32
CONTENT = re.compile(rb"[0-9a-f]{64}\n")
MOST_BYTES = 4096
PAUSES_S = (0.0, 0.05, 0.2)
"""Pauses before a file is taken as odd: on file systems without hard links, it can be read while it is written."""


@dataclass(frozen=True, slots=True)
class AuthorKey:
    """A key that marks are signed with.

    Attributes:
        secret: The key, 32 bytes.
    """

    secret: bytes

    @property
    def id(self) -> str:
        """Its id, 16 hex digits, which does not tell the key."""
        return hashlib.sha256(b"author of marks\n" + self.secret).hexdigest()[:16]

    def sign(self, body: Sequence[Any]) -> bytes:
        """Encode a mark of format 2: what it says, the id of this key, and the HMAC-SHA256 over both."""
        signed = [*body, self.id]
        return line([*signed, self._hmac(signed)])

    def has_signed(self, mark: StoredMark, *, found: Sequence[Any]) -> bool:
        """Check whether a mark, given decoded and as plain JSON, was signed with this key."""
        return mark.author == self.id and hmac.compare_digest(mark.hmac or "", self._hmac(found[:-1]))

    def _hmac(self, signed: Sequence[Any]) -> str:
        return hmac.digest(self.secret, line(list(signed)), "sha256").hex()


class KeyFile:
    """The file that holds the author key of a store.

    Args:
        path: The file; it may not exist.
        clock: Time.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def read(self) -> AuthorKey | None:
        """Read the key; ``None`` if there is none, or this user may not read it.

        Raises:
            StoreError: The file holds no key.
        """
        for pause_s in PAUSES_S:
            if pause_s:
                self._clock.sleep(pause_s)
            try:
                content = read_small(self.path, most_bytes=MOST_BYTES)
            except (FileNotFoundError, PermissionError):
                return None
            except OSError as error:
                raise StoreError(f"`{self.path}`: the key of the store's marks cannot be read: {error}") from error
            if CONTENT.fullmatch(content):
                follow_folder(self.path, mode=self._mode())
                return AuthorKey(bytes.fromhex(content.decode()))
        raise StoreError(
            f"`{self.path}` is no key for marks: it has {len(content)} bytes, expected 64 hex digits and a newline. "
            "Copy it from a backup of the store; or remove it, and the next mark makes a new one. "
            "`store verify` then lists the marks of the old key that wait to be accepted"
        )

    def made(self) -> AuthorKey:
        """Read the key, or make it if there is none; of two processes that make it at once, one does.

        Raises:
            StoreError: It could not be made, this user may not read it, or the file holds no key.
        """
        found = self.read()
        if found is not None:
            return found
        key = AuthorKey(secrets.token_bytes(KEY_BYTES))
        try:
            is_made = durable.create_bytes(self.path, key.secret.hex().encode() + b"\n", mode=self._mode())
        except OSError as error:
            raise StoreError(
                f"`{self.path}`: the key that signs marks could not be made: {error}. Nothing was marked; see to the "
                "permissions and the space of the store, then run again"
            ) from error
        found = key if is_made else self.read()
        if found is None:
            raise StoreError(
                f"`{self.path}`: you may not read the key that signs this store's marks. Ask the owner of the store: "
                "the group may read it where the group may write in the store's folder"
            )
        return found

    def _mode(self) -> int:
        """Return the permissions of the key: whoever may write in the folder may also set marks."""
        return GROUP_MODE if self.path.parent.stat().st_mode & stat.S_IWGRP else OWN_MODE
