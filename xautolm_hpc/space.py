"""The search space: a tree of model, method and that method's parameters.

Parameters keep a distribution per method. A space is written as TOML, in ``presets.toml`` and in search files::

    learning_rate = { low = 1e-5, high = 1e-3, log = true }    # real
    epochs = { low = 1, high = 10, integer = true }            # integer, both ends included
    batch_size = [8, 16, 32]                                   # categorical
    class_weighted_loss = "bool"                               # boolean
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from xautolm_hpc.catalogue import Model, find_models
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.records import Value, from_json, to_json

LEAST_STEPS = ("min_steps", "early_stopping_min_steps")
"""Fields of :class:`Space`, and keys of a preset: least numbers of optimiser steps after the warm-up."""


@dataclass(frozen=True, slots=True)
class Categorical:
    """One of some values, in their written order.

    Attributes:
        values: At least one value, none twice.
    """

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false."""


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number between two bounds, both included.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Whether it is drawn on a logarithmic scale; then ``low`` is above 0.
        integer: Whether it is rounded to an integer.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False


Parameter = Categorical | Boolean | Numeric


@dataclass(frozen=True, slots=True)
class Method:
    """A fine-tuning method and the distributions of its parameters.

    Attributes:
        name: One of :data:`xautolm_hpc.hyperparameters.METHODS`.
        params: Parameter name -> distribution, in the order in which they are drawn.
    """

    name: str
    params: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True)
class Space:
    """All pipelines of one search.

    Attributes:
        task_kind: Kind of task, as in :class:`xautolm_hpc.records.Task`.
        models: Models, in their written order.
        methods: Methods, in their written order.
        min_steps: Optimiser steps after the warm-up of a pipeline, where the search file does not say; at least 0.
        early_stopping_min_steps: Such steps before early stopping counts epochs, where the search file does not say.
    """

    task_kind: str
    models: tuple[Model, ...]
    methods: tuple[Method, ...]
    min_steps: int = 0
    early_stopping_min_steps: int = 0

    def model(self, model_id: str) -> Model | None:
        """Look a model of this space up by its id."""
        return next((model for model in self.models if model.id == model_id), None)

    def method(self, name: str) -> Method | None:
        """Look a method of this space up by its name."""
        return next((method for method in self.methods if method.name == name), None)


def is_supported(model: Model, method: str) -> bool:
    """Check that the architecture of a model supports a method."""
    return method not in model.unsupported_methods


def contains(parameter: Parameter, value: Value) -> bool:
    """Check that a value can be drawn from a distribution; ``True`` is no number and 1 no boolean."""
    if isinstance(parameter, Boolean):
        return isinstance(value, bool)
    if isinstance(parameter, Categorical):
        return any(type(value) is type(known) and value == known for known in parameter.values)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    is_drawable = not parameter.integer or float(value).is_integer()
    return is_drawable and parameter.low <= value <= parameter.high


@lru_cache(maxsize=1)
def load_presets() -> Mapping[str, Any]:
    """Read ``presets.toml``: preset name -> ``models`` and ``methods`` as written there."""
    return tomllib.loads(resources.files("xautolm_hpc").joinpath("presets.toml").read_text())


def build_space(
    preset: str,
    *,
    task_kind: str,
    models: tuple[str, ...] | None,
    methods: tuple[str, ...] | None,
    overrides: Mapping[str, Mapping[str, Any]],
    own_models: Mapping[str, Model],
) -> Space:
    """Put a search space together from a preset and what a search file says beside it.

    Args:
        preset: ``xautolm`` (the peer's value lists) or ``default`` (ours).
        task_kind: Kind of task.
        models: Model ids, or ``None`` for the preset's.
        methods: Method names, or ``None`` for the preset's.
        overrides: Method -> parameter -> distribution as written in TOML; replaces or adds parameters.
        own_models: The search file's own models by id, beside the catalogue.

    Raises:
        SpaceError: A name is unknown or a distribution is malformed; the message lists what is valid.
    """
    presets = load_presets()
    if preset not in presets:
        raise SpaceError(f"space.preset: unknown preset {preset!r}; valid: {', '.join(presets)}")
    written = presets[preset]["methods"]
    names = tuple(written) if methods is None else methods
    model_ids = tuple(presets[preset]["models"]) if models is None else models
    for key, named in (("methods", names), ("params", tuple(overrides))):
        for name in named:
            if name not in written:
                raise SpaceError(f"space.{key}: preset {preset!r} has no method {name!r}; valid: {', '.join(written)}")
    if len(set(names)) < len(names):
        raise SpaceError(f"space.methods: one stands twice in {list(names)!r}")
    if not names or not model_ids:
        raise SpaceError(f"space.{'models' if names else 'methods'}: the list is empty; leave it out for the preset's")
    return Space(
        task_kind=task_kind,
        models=find_models(model_ids, own_models),
        methods=tuple(_build_method(name, {**written[name], **overrides.get(name, {})}) for name in names),
        **{key: presets[preset].get(key, 0) for key in LEAST_STEPS},
    )


def space_to_json(space: Space) -> dict[str, Any]:
    """Turn a space into plain data, its distributions as they are written in TOML."""
    methods = {m.name: {key: _as_written(parameter) for key, parameter in m.params.items()} for m in space.methods}
    least = {key: getattr(space, key) for key in LEAST_STEPS}
    return {"task_kind": space.task_kind, "models": to_json(space.models), "methods": methods, **least}


def space_from_json(data: Mapping[str, Any], *, where: str) -> Space:
    """Rebuild a space from what :func:`space_to_json` gave; no preset and no catalogue is read.

    Args:
        data: The plain data.
        where: File it comes from, for the message.

    Raises:
        InputError: A model has a key that this version does not know.
        SpaceError: A distribution is malformed.
    """
    return Space(
        task_kind=data["task_kind"],
        models=tuple(from_json(Model, entry, where=where) for entry in data["models"]),
        methods=tuple(_build_method(name, written) for name, written in data["methods"].items()),
        **{key: data.get(key, 0) for key in LEAST_STEPS},
    )


def parse_parameter(name: str, written: Any) -> Parameter:
    """Read one distribution as written in TOML.

    Raises:
        SpaceError: It has none of the four forms, or its bounds make no sense.
    """
    if written == "bool":
        return Boolean()
    if isinstance(written, list) and written and all(_is_value(v) for v in written):
        if len({(type(v), v) for v in written}) < len(written):
            raise SpaceError(f"space.params: {name}: a value stands twice in {written!r}")
        return Categorical(tuple(written))
    if isinstance(written, dict) and {"low", "high"} <= set(written) <= {"low", "high", "log", "integer"}:
        return _parse_numeric(name, written)
    raise SpaceError(
        f'space.params: {name}: {written!r} is no distribution; valid: a list of values, "bool", '
        "or { low = …, high = …, log = true|false, integer = true|false }"
    )


def _is_value(written: object) -> bool:
    return isinstance(written, bool | int | str) or (isinstance(written, float) and math.isfinite(written))


def _parse_numeric(name: str, written: Mapping[str, Any]) -> Numeric:
    """Read a range; its bounds are finite, and whole where only whole numbers are drawn."""
    low, high = written["low"], written["high"]
    numbers = all(_is_value(v) and not isinstance(v, bool | str) for v in (low, high))
    if not numbers or not low < high:
        raise SpaceError(f"space.params: {name}: low = {low!r} must be a number below high = {high!r}")
    log, integer = written.get("log", False), written.get("integer", False)
    if not isinstance(log, bool) or not isinstance(integer, bool):
        raise SpaceError(f"space.params: {name}: log and integer must be true or false")
    if integer and not (float(low).is_integer() and float(high).is_integer()):
        raise SpaceError(f"space.params: {name}: low = {low!r} and high = {high!r} must be whole where integer = true")
    if log and low <= 0:
        raise SpaceError(f"space.params: {name}: low = {low!r} must be above 0 on a log scale")
    return Numeric(float(low), float(high), log=log, integer=integer)


def _as_written(parameter: Parameter) -> Any:
    if isinstance(parameter, Boolean):
        return "bool"
    return list(parameter.values) if isinstance(parameter, Categorical) else to_json(parameter)


def _build_method(name: str, written: Mapping[str, Any]) -> Method:
    return Method(name, {key: parse_parameter(f"{name}.{key}", value) for key, value in written.items()})
