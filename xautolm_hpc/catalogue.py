"""The catalogue of pretrained models: their sizes, licences and where their weights lie."""

import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from xautolm_hpc.errors import InputError, SpaceError
from xautolm_hpc.hyperparameters import nearest_name
from xautolm_hpc.records import from_json
from xautolm_hpc.task_kinds import TASK_KINDS

FAMILIES = ("encoder", "decoder", "seq2seq")

SIZES = ("family", "n_parameters", "n_layers", "hidden_size", "vocab_size", "context_length")
"""Fields of a model that its files say, where a ``[[model]]`` table does not."""

SizeReader = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Reads from a model's files what its ``[[model]]`` table leaves out: the table -> fields of the model."""

STAND_IN: Mapping[str, Any] = {"family": "encoder", **dict.fromkeys(SIZES[1:], 1)}
"""Sizes of :func:`stand_in`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One pretrained model.

    Attributes:
        id: Name in search files, experiences and reports; by default also the hub repository.
        family: ``encoder``, ``decoder`` or ``seq2seq``.
        n_parameters: Parameters, embeddings included.
        n_layers: Transformer blocks; for seq2seq those of encoder and decoder together.
        hidden_size: Width of the residual stream.
        vocab_size: Tokens in the vocabulary.
        context_length: Longest input in tokens.
        licence: SPDX identifier, or the name of the model's own licence; empty where nobody said, which only an export
            needs.
        repo: Hub repository if it differs from ``id``.
        revision: Commit of the hub repository; ``None`` takes what the cache has.
        package: Installed Python package that carries the weights, instead of a hub repository.
        path: Folder of the weights: inside ``package``, or absolute.
        keep_layers: Use only the first so many blocks of the weights; ``None`` uses all.
        unsupported_methods: Methods this architecture cannot be trained with.
        unsupported_tasks: Kinds of task this architecture has no head for.
        keeps_attention_scores: Whether it computes attention score by score, as DeBERTa does, and so keeps them all.
        trust_remote_code: Run code that comes with the weights; off unless the user says so.
        allow_pickle: Load weights that are not safetensors; off unless the user says so.

    Raises:
        SpaceError: The family is unknown, or a size is not positive.
    """

    id: str
    family: str
    n_parameters: int
    n_layers: int
    hidden_size: int
    vocab_size: int
    context_length: int
    licence: str = ""
    repo: str | None = None
    revision: str | None = None
    package: str | None = None
    path: str | None = None
    keep_layers: int | None = None
    unsupported_methods: tuple[str, ...] = ()
    unsupported_tasks: tuple[str, ...] = ()
    keeps_attention_scores: bool = False
    trust_remote_code: bool = False
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise SpaceError(f"model {self.id!r}: unknown family {self.family!r}; valid: {', '.join(FAMILIES)}")
        for name in ("n_parameters", "n_layers", "hidden_size", "vocab_size", "context_length"):
            if getattr(self, name) < 1:
                raise SpaceError(f"model {self.id!r}: {name} = {getattr(self, name)}: expected 1 or more")
        if self.keep_layers is not None and self.keep_layers < 1:
            raise SpaceError(f"model {self.id!r}: keep_layers = {self.keep_layers}: expected 1 or more")

    @property
    def hub_repo(self) -> str | None:
        """Hub repository of the weights, or ``None`` for a packaged or local model."""
        return None if self.package or self.path else self.repo or self.id


@lru_cache(maxsize=1)
def load_catalogue() -> Mapping[str, Model]:
    """Read the models of ``models.toml``: model id -> model, in the order of the file."""
    models = [from_json(Model, entry, where="models.toml") for entry in _read_models_toml()["model"]]
    return {model.id: model for model in models}


def load_lists() -> Mapping[str, tuple[str, ...]]:
    """Read the lists of ``models.toml`` by the memory of a GPU: name -> ids of models, in their order."""
    return {name: tuple(ids) for name, ids in _read_models_toml()["lists"].items()}


def is_gated(model: Model) -> bool:
    """Check whether the owner of a model's repository asks those who download it to accept terms first."""
    return model.hub_repo in _read_models_toml()["gated"]


def can_learn(model: Model, task_kind: str) -> bool:
    """Check whether a model's architecture can learn a kind of task."""
    return model.family in TASK_KINDS[task_kind].families and task_kind not in model.unsupported_tasks


def list_models(name: str, task_kind: str) -> tuple[str, ...]:
    """List the models that the name of a list stands for: those of it that can learn a kind of task.

    Args:
        name: Name of a list.
        task_kind: Kind of task.

    Raises:
        SpaceError: There is no such list.
    """
    lists, catalogue = load_lists(), load_catalogue()
    if name not in lists:
        nearest = nearest_name(name, lists)
        raise SpaceError(
            f"space.models = {name!r}: expected an array of models' ids, or the name of a list: {', '.join(lists)}"
            + ("" if nearest is None else f". Did you mean {nearest!r}?")
        )
    return tuple(model_id for model_id in lists[name] if can_learn(catalogue[model_id], task_kind))


def read_own_models(
    tables: Iterable[Mapping[str, Any]], read_sizes: SizeReader, *, searched: Collection[str]
) -> Mapping[str, Model]:
    """Build the models that ``[[model]]`` tables describe.

    Args:
        tables: The tables as written. A model without ``id`` is called by its repository, or by the name of its folder.
        read_sizes: Reads what a table leaves out.
        searched: Ids of the models of the search; the files of others are not read.

    Returns:
        Model id -> model, in their order.

    Raises:
        InputError: A table names no model, has an unknown key, repeats an id, or its files cannot be read or say
            something else; there is a line for each table.
    """
    models, problems = [], []
    for table in tables:
        try:
            whole = named(table)
            read = read_sizes if whole["id"] in searched else stand_in
            models.append(from_json(Model, {**read(table), **whole}, where="[[model]]"))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    if len({model.id for model in models}) < len(models):
        raise InputError(f"[[model]]: one id stands twice in {[model.id for model in models]}")
    return {model.id: model for model in models}


def stand_in(table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return sizes for a model whose files are still to be read, where only its names and its place matter."""
    del table
    return STAND_IN


def named(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a ``[[model]]`` table with its id: that which is given, else its repository or the name of its folder.

    Raises:
        InputError: It has none of them.
    """
    folder = None if "package" in table else table.get("path")
    repo, name = table.get("repo"), Path(folder).name if isinstance(folder, str) else ""
    if "id" not in table and not (repo or name):
        raise InputError("[[model]]: the table names no model; give repo, a hub repository, path, a folder, or id")
    return {"id": repo or name, **table}


@lru_cache(maxsize=1)
def _read_models_toml() -> Mapping[str, Any]:
    return tomllib.loads(resources.files("xautolm_hpc").joinpath("models.toml").read_text())


def find_models(ids: Iterable[str], own_models: Mapping[str, Model]) -> tuple[Model, ...]:
    """Find models by id, the user's own before the catalogue's.

    Raises:
        SpaceError: An id is neither the user's nor in the catalogue, or stands twice.
    """
    known = {**load_catalogue(), **own_models}
    found: dict[str, Model] = {}
    problems = []
    for model_id in ids:
        if model_id not in known:
            near = [name for name in known if model_id.lower()[:5] in name.lower()] or list(known)
            nearest = nearest_name(model_id, known)
            problems.append(
                f"space.models: unknown model {model_id!r}; near it: {', '.join(near[:6])}. `xautolm-hpc models` "
                "lists the catalogue; a [[model]] table in the search file adds one by its repo or path alone"
                + ("" if nearest is None else f". Did you mean {nearest!r}?")
            )
        elif model_id in found:
            problems.append(f"space.models: {model_id!r} stands twice")
        else:
            found[model_id] = known[model_id]
    if problems:
        raise SpaceError("\n".join(problems))
    return tuple(found.values())


def missing_weights(
    models: Iterable[Model], hf_home: Path, *, has_package: Callable[[str], object] | None
) -> list[str]:
    """List, for each model whose weights are not at hand, how to get them.

    Args:
        models: Models of a search space.
        hf_home: Offline cache of hub models, as in HF_HOME.
        has_package: Finds an installed package, or ``None`` when the worker's packages cannot be seen from here.
    """
    texts = []
    for model in models:
        if model.package:
            if has_package is not None and has_package(model.package) is None:
                name = model.package.replace("_", "-")
                texts.append(f"model {model.id!r}: the package {name} is not installed; install it: pip install {name}")
        elif model.path:
            if not Path(model.path, "config.json").exists():
                texts.append(f"model {model.id!r}: `{model.path}` holds no config.json")
        elif cached_snapshot(model, hf_home) is None:
            texts.append(
                f"model {model.id!r} is not whole in the offline cache `{hf_home}`: `xautolm-hpc prefetch` fetches it"
                + (f"; {access_text(model.hub_repo or '')}" if is_gated(model) else "")
            )
    return texts


def access_text(repo: str) -> str:
    """Write how access to a gated repository is obtained."""
    return f"its owner grants access on request. Ask for it on its page, huggingface.co/{repo}, then set HF_TOKEN"


def cached_snapshot(model: Model, hf_home: Path) -> Path | None:
    """Find a hub model's folder in the offline cache; ``None`` if it is not there."""
    repo = hf_home / "hub" / f"models--{(model.hub_repo or '').replace('/', '--')}"
    main = repo / "refs" / "main"
    revision = model.revision or (main.read_text().strip() if main.exists() else None)
    folder = repo / "snapshots" / (revision or "-")
    return folder if (folder / "config.json").exists() and _has_weights(folder) else None


def _has_weights(folder: Path) -> bool:
    """Check that the weights are there, all parts of them: an interrupted download leaves the small files first."""
    for index in sorted(folder.glob("*.index.json")):
        try:
            parts = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, AttributeError):
            return False
        return all((folder / part).exists() for part in parts)
    return any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
