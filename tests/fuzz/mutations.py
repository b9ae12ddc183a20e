"""Ways in which a file goes wrong: as bytes, as JSON, as TOML, and as something that is no file at all."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rng = random.Random
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**400), 0.5, -0.0, 1e300, float("nan"), float("inf"),
    "", "x", "../../x", "/etc/x", "a\nb", "\x00", "\ud800", "%", "\U0001d7d9", "x" * 70_000,
    [], {}, [[]], {"x": 1}, [None],
)  # fmt: skip
"""Values that stand in the place of others."""


def flip_bytes(content: bytes, rng: Rng) -> bytes:
    """Change one to eight bytes."""
    changed = bytearray(content or b"\0")
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def truncate(content: bytes, rng: Rng) -> bytes:
    """Keep the beginning, or nothing."""
    return content[: rng.choice([0, 1, rng.randrange(len(content) + 1), max(0, len(content) - 1)])]


def repeat(content: bytes, rng: Rng) -> bytes:
    """Write a part of it once more."""
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[rng.randrange(len(content) + 1) :]


def insert(content: bytes, rng: Rng) -> bytes:
    """Put something odd into it."""
    odd = (b"\0", b"\xff\xfe", b'"', b"\n", b"\r", b"[" * 100_000, b"{}" * 9, b"\xef\xbb\xbf", b"9" * 5_000, b"NaN")
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(odd) + content[at:]


def replace_whole(content: bytes, rng: Rng) -> bytes:
    """Write something else in its place."""
    del content
    deep = b"[" * 200_000
    return rng.choice([b"", b"null", b"[]", b"{}", b"0", b'"x"', b"{", deep, deep + b"]" * 200_000, b"\x89PNG\r\n"])


BYTES: tuple[Callable[[bytes, Rng], bytes], ...] = (flip_bytes, truncate, repeat, insert, replace_whole)


def mutate_bytes(path: Path, rng: Rng) -> str:
    """Change the bytes of a file; returns what was done."""
    change = rng.choice(BYTES)
    path.write_bytes(change(path.read_bytes(), rng))
    return change.__name__


def mutate_value(value: Any, rng: Rng) -> Any:
    """Change something somewhere in plain data: a value, a key, or that they are there."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        return _mutate_entry(value, key, rng)
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], mutate_value(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int | float) and rng.random() < 0.3:
        return rng.choice([-value, value * 10**9, value + 1, str(value)])
    return rng.choice(ODD_VALUES)


def _mutate_entry(value: dict[str, Any], key: str, rng: Rng) -> dict[str, Any]:
    """Change, remove, rename or nest one entry of an object."""
    kind, rest = rng.random(), {name: item for name, item in value.items() if name != key}
    if kind < 0.12:
        return rest
    if kind < 0.2:
        return {**rest, f"{key}_x": value[key]}
    if kind < 0.25:
        nested: Any = value[key]
        for _ in range(rng.choice([2, 70, 900])):
            nested = [nested]
        return {**value, key: nested}
    return {**value, key: mutate_value(value[key], rng)}


def mutate_json(path: Path, rng: Rng) -> str:
    """Change one value of a JSON file; of JSON Lines, of one line."""
    text = path.read_text()
    if path.suffix != ".jsonl":
        path.write_text(json.dumps(mutate_value(json.loads(text), rng)))
        return "mutate_json"
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    changed = mutate_value(json.loads(lines[at]), rng)
    pieces = {0: [], 1: [lines[at], json.dumps(changed)]}.get(rng.randrange(8), [json.dumps(changed)])
    path.write_text("\n".join([*lines[:at], *pieces, *lines[at + 1 :]]) + "\n")
    return f"mutate_json line {at + 1}"


def replace_by_other(path: Path, rng: Rng, *, outside: Path) -> str:
    """Put something that is no file of its own in its place; returns what.

    Args:
        path: The file.
        rng: Draws.
        outside: Folder outside the run, to which links lead.
    """
    kind = rng.choice(["fifo", "folder", "full folder", "nothing", "dangling link", "link", "device", "loop"])
    content = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "x").write_bytes(content)
    elif kind == "link":
        (outside / path.name).write_bytes(content)
        path.symlink_to(outside / path.name)
    elif kind != "nothing":
        path.symlink_to({"dangling link": outside / "none", "device": Path("/dev/zero"), "loop": path}[kind])
    return kind


def remove(path: Path) -> None:
    """Remove whatever lies there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
