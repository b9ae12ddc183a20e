"""The search space: a tree of model, method and that method's parameters.

Parameters keep a distribution per method. A space is written as TOML, in ``presets.toml`` and in search files::

    learning_rate = { low = 1e-5, high = 1e-3, log = true }    # real
    epochs = { low = 1, high = 10, integer = true }            # integer, both ends included
    batch_size = [8, 16, 32]                                   # categorical
    class_weighted_loss = "bool"                               # boolean
"""

import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict

from xautolm_hpc.catalogue import Model, find_models, list_models
from xautolm_hpc.errors import SpaceError
from xautolm_hpc.hyperparameters import (
    ANYTHING,
    ParamProblem,
    ValueKind,
    find_doubles,
    find_ignored_warmup,
    find_name_problem,
    find_value_problem,
    nearest_name,
    rules_of,
)
from xautolm_hpc.records import Value, from_json, to_json

LEAST_QUANTISED = 1_000_000_000
"""Parameters of a decoder from which on ``quantization`` is drawn: smaller models fit without, and lose accuracy."""

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
        """Find a model of this space by its id."""
        return next((model for model in self.models if model.id == model_id), None)

    def method(self, name: str) -> Method | None:
        """Find a method of this space by its name."""
        return next((method for method in self.methods if method.name == name), None)


def is_supported(model: Model, method: str) -> bool:
    """Check that the architecture of a model supports a method."""
    return method not in model.unsupported_methods


def is_quantisable(model: Model) -> bool:
    """Check whether ``quantization`` is drawn for a model: a large decoder, the only case in which it pays."""
    return model.family == "decoder" and model.n_parameters >= LEAST_QUANTISED


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


class SpaceSection(BaseModel):
    """``[space]``: a preset and the changes to it.

    Attributes:
        preset: ``default``, or ``xautolm`` for the value lists of the paper.
        models: Ids of models, or the name of a list (``small``, ``medium``, ``large``); the preset's when absent.
        methods: Methods of fine-tuning; the preset's when absent.
        params: Method -> hyperparameter -> distribution, instead of the preset's or beside it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    preset: str = "default"
    models: tuple[str, ...] | str | None = None
    methods: tuple[str, ...] | None = None
    params: dict[str, dict[str, Any]] = {}


@lru_cache(maxsize=1)
def load_presets() -> Mapping[str, Any]:
    """Read ``presets.toml``: preset name -> ``models`` and ``methods`` as written there."""
    return tomllib.loads(resources.files("xautolm_hpc").joinpath("presets.toml").read_text())


def searched_models(preset: str, *, task_kind: str, models: tuple[str, ...] | str | None) -> tuple[str, ...]:
    """List the ids of the models of a search.

    Args:
        preset: Name of a preset; of an unknown one there are none.
        task_kind: Kind of task.
        models: Model ids, the name of a list of them, or ``None`` for the preset's.

    Raises:
        SpaceError: There is no such list.
    """
    if isinstance(models, str):
        return list_models(models, task_kind)
    return tuple(load_presets().get(preset, {}).get("models", ())) if models is None else models


def build_space(
    preset: str,
    *,
    task_kind: str,
    models: tuple[str, ...] | str | None,
    methods: tuple[str, ...] | None,
    overrides: Mapping[str, Mapping[str, Any]],
    own_models: Mapping[str, Model],
) -> Space:
    """Build a search space from a preset and what a search file says beside it.

    Args:
        preset: ``xautolm`` (the reference's value lists) or ``default`` (ours).
        task_kind: Kind of task.
        models: Model ids, the name of a list of them, or ``None`` for the preset's.
        methods: Method names, or ``None`` for the preset's.
        overrides: Method -> parameter -> distribution as written in TOML; replaces or adds parameters.
        own_models: The search file's own models by id, beside the catalogue.

    Raises:
        SpaceError: A name is unknown or a distribution is malformed; the message lists what is valid.
    """
    presets = load_presets()
    if preset not in presets:
        raise SpaceError(
            f"space.preset: unknown preset {preset!r}; valid: {', '.join(presets)}{_hint(preset, presets)}"
        )
    written = presets[preset]["methods"]
    names = tuple(written) if methods is None else methods
    model_ids = searched_models(preset, task_kind=task_kind, models=models)
    for key, named in (("methods", names), ("params", tuple(overrides))):
        for name in named:
            if name not in written:
                raise SpaceError(
                    f"space.{key}: preset {preset!r} has no method {name!r}; valid: {', '.join(written)}"
                    f"{_hint(name, written)}"
                )
    if len(set(names)) < len(names):
        raise SpaceError(f"space.methods: one stands twice in {list(names)!r}")
    if not names or not model_ids:
        raise SpaceError(f"space.{'models' if names else 'methods'}: the list is empty; leave it out for the preset's")
    found = find_models(model_ids, own_models)
    # A dimension that no model of the space has would only make searches longer.
    left_out = () if any(is_quantisable(model) for model in found) else ("quantization",)
    kept = {name: {key: value for key, value in written[name].items() if key not in left_out} for name in names}
    return Space(
        task_kind=task_kind,
        models=found,
        methods=tuple(_build_method(name, {**kept[name], **overrides.get(name, {})}) for name in names),
        **{key: presets[preset].get(key, 0) for key in LEAST_STEPS},
    )


def find_refused(written: Any) -> list[str]:
    """Find what a search file says of parameters that no trial could be trained with.

    A value is refused exactly where the worker would refuse it: search file and worker share one table of rules.

    Args:
        written: ``[space]`` as written in TOML; of what has the wrong type, or names no preset, nothing is found.

    Returns:
        A line for each problem: key, value, what is valid and the nearest name.
    """
    space = written if isinstance(written, dict) else {}
    overrides, preset = space.get("params"), space.get("preset", SpaceSection().preset)
    known = load_presets()[preset]["methods"] if preset in [*load_presets()] else {}
    searched = space.get("methods", list(known))
    lines = []
    for method, params in overrides.items() if isinstance(overrides, dict) else ():
        if method not in known or not isinstance(params, dict):
            continue
        if isinstance(searched, list) and method not in searched:
            lines.append(
                f"space.params.{method}: {method} is not searched, space.methods = {searched!r}; add it there or "
                "remove the table"
            )
        refused = [line for name, written in params.items() for line in _refused_lines(method, name, written=written)]
        lines += refused
        doubles = find_doubles([*known[method], *params])
        lines += [f"space.params.{method}: {double.text}, by the name that the preset has" for double in doubles]
        if refused:
            continue
        ratios = {**known[method], **params}.get("warmup_ratio")
        ignored = find_ignored_warmup([*known[method], *params], ratios=ratios if isinstance(ratios, list) else None)
        lines += [f"space.params.{method}: {problem.text}: [0.0]" for problem in ignored]
    return lines


def _refused_lines(method: str, name: str, *, written: Any) -> list[str]:
    """Write a line for each thing that is wrong with one distribution."""
    key = f"space.params.{method}.{name}"
    unknown = find_name_problem(method, name)
    if unknown is not None:
        return [f"{key}: {unknown.full_text}"]
    try:
        parameter = parse_parameter(f"{method}.{name}", written)
    except SpaceError as error:
        return [str(error)]
    rule = rules_of(method).get(name, ANYTHING)
    if isinstance(parameter, Boolean) and rule.kind not in (ValueKind.SWITCH, ValueKind.ANY):
        return [f"{key}: {written!r} draws true and false; expected {rule.expected}"]
    if isinstance(parameter, Numeric) and rule.kind in (ValueKind.SWITCH, ValueKind.WORD):
        return [f"{key}: {written!r} is a range of numbers; expected {rule.expected}"]
    if isinstance(parameter, Numeric) and rule.kind is ValueKind.WHOLE and not parameter.integer:
        return [f"{key}: {written!r} draws fractions; expected {rule.expected}: add integer = true"]
    if isinstance(parameter, Categorical) and len(set(parameter.values)) < len(parameter.values):
        return [f"{key}: a value stands twice in {written!r:.200}"]
    problems = [(end, find_value_problem(method, name, value=value)) for end, value in _extremes(parameter)]
    return [f"{key}{end}: {problem.full_text}" for end, problem in problems if problem is not None]


def _extremes(parameter: Parameter) -> list[tuple[str, Value]]:
    """List values that are valid only if all are: those of a list, or the ends of a range with their keys."""
    if isinstance(parameter, Boolean):
        return []
    if isinstance(parameter, Categorical):
        return [("", value) for value in parameter.values]
    ends = {".low": parameter.low, ".high": parameter.high}
    return [(end, int(value) if parameter.integer else value) for end, value in ends.items()]


def _hint(word: str, valid: Iterable[str]) -> str:
    return ParamProblem(name="", text="", nearest=nearest_name(word, valid)).full_text


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
            raise SpaceError(f"space.params.{name}: a value stands twice in {written!r}")
        return Categorical(tuple(written))
    if isinstance(written, dict) and {"low", "high"} <= set(written) <= {"low", "high", "log", "integer"}:
        return _parse_numeric(name, written)
    hint = f". For this value alone write {[written]!r}" if _is_value(written) else ""
    raise SpaceError(
        f'space.params.{name}: {written!r:.200} is no distribution; valid: a list of values, "bool", '
        f"or {{ low = …, high = …, log = true|false, integer = true|false }}{hint}"
    )


def _is_value(written: object) -> bool:
    """Check whether something may be a value: a finite number that a float holds, a truth value or a text."""
    return isinstance(written, str) or (isinstance(written, int | float) and abs(written) <= sys.float_info.max)


def _parse_numeric(name: str, written: Mapping[str, Any]) -> Numeric:
    """Read a range; its bounds are finite, and whole where only whole numbers are drawn."""
    low, high = written["low"], written["high"]
    numbers = all(_is_value(v) and not isinstance(v, bool | str) for v in (low, high))
    if not numbers or not low < high:
        raise SpaceError(f"space.params.{name}: low = {low!r} must be a number below high = {high!r}")
    log, integer = written.get("log", False), written.get("integer", False)
    if not isinstance(log, bool) or not isinstance(integer, bool):
        raise SpaceError(f"space.params.{name}: log and integer must be true or false")
    if integer and not (float(low).is_integer() and float(high).is_integer()):
        raise SpaceError(f"space.params.{name}: low = {low!r} and high = {high!r} must be whole where integer = true")
    if log and low <= 0:
        raise SpaceError(f"space.params.{name}: low = {low!r} must be above 0 on a log scale")
    return Numeric(float(low), float(high), log=log, integer=integer)


def _as_written(parameter: Parameter) -> Any:
    if isinstance(parameter, Boolean):
        return "bool"
    return list(parameter.values) if isinstance(parameter, Categorical) else to_json(parameter)


def _build_method(name: str, written: Mapping[str, Any]) -> Method:
    return Method(name, {key: parse_parameter(f"{name}.{key}", value) for key, value in written.items()})
