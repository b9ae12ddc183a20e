"""The user's own models: a ``[[model]]`` table need only name one, its files say the rest and check what is given."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xautolm_hpc.catalogue import SIZES, STAND_IN, Model, SizeReader, access_text, cached_snapshot, is_gated, named
from xautolm_hpc.container import find_package
from xautolm_hpc.driver.model_files import CONFIG, ModelFiles
from xautolm_hpc.errors import InputError
from xautolm_hpc.records import from_json

N_TOLERATED = 0.1
"""Share by which a given number of parameters may be off: heads are counted or not."""


def size_reader(hf_home: Path, *, fetch: str = "xautolm-hpc prefetch") -> SizeReader:
    """Return what reads the sizes of a user's models, to build a search space with.

    Args:
        hf_home: Offline cache of hub models.
        fetch: Command that fetches the models, for the message where they are not there.
    """
    return lambda table: _read_sizes(table, hf_home, fetch=fetch)


def _read_sizes(table: Mapping[str, Any], hf_home: Path, *, fetch: str) -> Mapping[str, Any]:
    """Read the fields of a model that its files say, and compare those that its table gives.

    Raises:
        InputError: The files are not there and the table leaves out a size; or they cannot be read, or say otherwise.
    """
    model = from_json(Model, {**STAND_IN, **named(table)}, where="[[model]]")
    folder, left_out = _find_folder(model, hf_home), [name for name in SIZES if name not in table]
    if folder is None:
        if left_out:
            raise InputError(_where_to_read(model, hf_home, left_out=left_out, fetch=fetch))
        return {}
    files = ModelFiles.read(folder, model.id)
    found = files.describe(keep_layers=model.keep_layers)
    unread = [name for name in left_out if name not in found]
    if unread:
        raise InputError(
            f"model {model.id!r}: `{folder / CONFIG}` and the weights beside it do not say {', '.join(unread)}; give "
            f"{'it' if len(unread) == 1 else 'them'} in its [[model]] table"
        )
    wrong = [
        f"{name} = {table[name]!r}, which is {found[name]!r}"
        for name in SIZES
        if name in table and name in found and _contradicts(name, given=table[name], read=found[name], files=files)
    ]
    if wrong:
        raise InputError(
            f"model {model.id!r}: its [[model]] table says {', '.join(wrong)} in `{folder}`. Leave out what its files "
            "say, or correct it"
        )
    return found


def _find_folder(model: Model, hf_home: Path) -> Path | None:
    """Find the folder of a model's files; ``None`` if it holds no ``config.json`` on this machine."""
    if model.hub_repo is not None:
        return cached_snapshot(model, hf_home)
    package = find_package(model.package) if model.package and find_spec(model.package) else None
    if model.package and package is None:
        return None
    folder = (package or Path()) / (model.path or "")
    return folder if (folder / CONFIG).is_file() else None


def _where_to_read(model: Model, hf_home: Path, *, left_out: list[str], fetch: str) -> str:
    """Write where the files of a model would be read, and how they come there."""
    given = f"or give {', '.join(left_out)} in its [[model]] table"
    if model.hub_repo is None:
        place = f"the package {model.package}" if model.package else f"`{model.path}`"
        return f"model {model.id!r}: {place} holds no config.json to read its sizes from; correct the path, {given}"
    return (
        f"model {model.id!r}: its sizes are read from its config.json, and {model.hub_repo} is not whole in the "
        f"offline cache `{hf_home}`: `{fetch}` fetches it, {given}"
        + (f"; {access_text(model.hub_repo)}" if is_gated(model) else "")
    )


def _contradicts(name: str, *, given: Any, read: Any, files: ModelFiles) -> bool:
    """Check whether a size that is given cannot be so by the model's files."""
    if name == "family":  # a model such as BERT can be made to write; only this is certain
        return (given == "seq2seq") is not (read == "seq2seq")
    if name == "n_parameters":
        return bool(abs(given - read) > N_TOLERATED * read)
    if name == "context_length":
        return files.is_bounded and bool(given > read)
    return bool(given != read)
