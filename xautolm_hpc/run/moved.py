"""A project that was moved: a path that is written as before leads elsewhere now, and is no changed setting."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Moved:
    """A path of a search file that is written as when the run began and leads elsewhere.

    Attributes:
        key: Its dotted key.
        before: Where it led, absolute.
        after: Where it leads, absolute.
    """

    key: str
    before: str
    after: str


Settings = Mapping[str, Any]


def find_moved(stored: Settings, current: Settings, *, written: tuple[Settings, Settings]) -> list[Moved]:
    """List the paths that are written as when a run began and lead elsewhere now.

    A path that nobody wrote counts as written alike if the default has kept its name.

    Args:
        stored: The settings that the run stores, paths absolute.
        current: The settings by the search file now, paths absolute.
        written: The settings as they were written, then and now.
    """
    before, after = _paths(stored), _paths(current)
    then, now = map(_paths, written)
    return [
        Moved(key, before[key], after[key])
        for key in sorted(before.keys() & after.keys())
        if before[key] != after[key] and then.get(key) == now.get(key)
        if key in now or Path(before[key]).name == Path(after[key]).name
    ]


def follow(search: Settings, moved: list[Moved]) -> dict[str, Any]:
    """Return settings whose moved paths lead to where they are now."""
    after = {found.key: found.after for found in moved}
    followed = deepcopy(dict(search))
    _visit(followed, lambda key, path: after.get(key, path))
    return followed


def follow_models(space: Settings, moved: list[Moved]) -> dict[str, Any]:
    """Return a stored search space whose models' folders are where they are now."""
    after = {found.before: found.after for found in moved if found.key.startswith("model.")}
    own = [entry for entry in space.get("models", ()) if isinstance(entry, dict) and not entry.get("package")]
    paths = {entry["id"]: after[entry["path"]] for entry in own if entry.get("path") in after}
    if not paths:
        return dict(space)
    models = [{**entry, "path": paths[entry["id"]]} if entry["id"] in paths else entry for entry in space["models"]]
    return {**space, "models": models}


def _paths(settings: Settings) -> dict[str, str]:
    """List the paths in settings: dotted key -> path."""
    found: dict[str, str] = {}

    def note(key: str, path: str) -> str:
        found[key] = path
        return path

    _visit(deepcopy(dict(settings)), note)
    return found


def _visit(settings: dict[str, Any], change: Callable[[str, str], str]) -> None:
    """Change every path in settings, in place, by its dotted key and what stands there."""
    data, store, models = settings.get("data"), settings.get("store"), settings.get("model")
    also_read = store.get("also_read") if isinstance(store, dict) else None
    tables = enumerate(models) if isinstance(models, list) else ()
    places: list[tuple[Any, str | int, str]] = [(settings, "profile", "profile")]
    places += [(data, "path", "data.path"), (store, "path", "store.path")]
    places += [(also_read, i, f"store.also_read.{i}") for i in range(len(also_read or ()))]
    places += [(table, "path", f"model.{i}.path") for i, table in tables if "package" not in table]
    for section, name, key in places:
        is_there = isinstance(section, list) or (isinstance(section, dict) and name in section)
        if is_there and isinstance(section[name], str):
            section[name] = change(key, section[name])
