"""What a search believes: how probable every model, method and value is.

A distribution is never changed, an update gives a new one. A numeric parameter is truly uniform (log-uniform on
a logarithmic scale) until a prior or an update touches it; from then on it is a normal cut off at the bounds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xautolm_hpc.errors import InputError
from xautolm_hpc.space import Boolean, Categorical, Method, Numeric, Parameter, Space


@dataclass(frozen=True, slots=True)
class CategoricalMarginal:
    """How probable each value of a categorical parameter is.

    Attributes:
        probabilities: One per value, in the order of the space; their sum is 1.
    """

    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BooleanMarginal:
    """How probable ``True`` is.

    Attributes:
        p_true: In 0..1.
    """

    p_true: float


@dataclass(frozen=True, slots=True)
class NumericMarginal:
    """A number on its scale: the logarithm where the space says so, else the number itself.

    Attributes:
        mean: Mean of the normal, on the scale.
        dev: Standard deviation of the normal, on the scale.
        uniform: Whether nothing touched it yet, so that it is drawn uniformly and not from the normal.
    """

    mean: float
    dev: float
    uniform: bool


Marginal = CategoricalMarginal | BooleanMarginal | NumericMarginal


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution over the pipelines of one space.

    Attributes:
        models: Model id -> probability, in the order of the space; their sum is 1.
        methods: Method -> weight, in the order of the space; normalised only when drawn.
        params: Method -> parameter -> marginal.
    """

    models: Mapping[str, float]
    methods: Mapping[str, float]
    params: Mapping[str, Mapping[str, Marginal]]

    def probabilities(self) -> dict[str, dict[str, float]]:
        """Return p(model) and p(method) for a report: ``models`` and ``methods``, name -> probability."""
        return {"models": _normalised(self.models), "methods": _normalised(self.methods)}

    def to_json(self, space: Space) -> dict[str, Any]:
        """Turn it into plain data that says which value every probability belongs to.

        Floats are kept whole: :meth:`from_json` gives an equal distribution back.
        """
        params = {
            method.name: {
                name: _marginal_to_json(self.params[method.name][name], parameter)
                for name, parameter in method.params.items()
            }
            for method in space.methods
        }
        return {"models": dict(self.models), "methods": dict(self.methods), "params": params}

    @classmethod
    def from_json(cls, data: Any, space: Space, *, where: str = "priors.json") -> "Distribution":
        """Rebuild what :meth:`to_json` gave, after a trip through JSON; a resumed search starts from it.

        Args:
            data: The plain data.
            space: The space it belongs to.
            where: File the data comes from, for the message.

        Raises:
            InputError: The data is malformed or belongs to another space.
        """
        try:
            distribution = cls(
                models={model.id: float(data["models"][model.id]) for model in space.models},
                methods={method.name: float(data["methods"][method.name]) for method in space.methods},
                params={m.name: _params_from_json(data["params"][m.name], m) for m in space.methods},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{where}: is no distribution over this search space: {error!r}") from error
        if distribution.to_json(space) != data:
            raise InputError(f"{where}: is a distribution over another search space; start a new run for it")
        return distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPrior:
    """``priors.json``: the prior a search began with; stores may grow while it goes on.

    Attributes:
        kind: Kind of prior.
        counts: What was counted as evidence, and what was left out.
        distribution: The distribution, as :meth:`Distribution.to_json` writes it.
        models: Model id -> its probability under ``uniform`` and ``prior``.
        methods: Method -> likewise.
        top: ``models`` and ``methods`` -> name -> experiences that moved it most.
        forecast: ``models`` and ``methods`` -> name -> what is forecast -> 0..1; of the kind ``evidence``.
        lessons: What the surrogate of the kind ``evidence`` is fitted to, or ``None``.
        slowness: How much longer than estimated trials take on such nodes, or ``None`` if nobody knows.
        explores: How trials are chosen that are drawn uniformly: ``share``, the first of each generation, or ``rate``,
            each with a probability, and what is foretold to fail is accepted more rarely.
        memory: ``MODEL METHOD`` -> factor on the memory that is planned for it; that of ``*`` is for all others.
        additions: Dotted key of a search file -> its value, of what the search adds to XAutoLM as it was published;
            ``None`` in runs of earlier versions.
    """

    kind: str
    counts: Mapping[str, Any]
    distribution: Mapping[str, Any]
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    top: Mapping[str, Any] = field(default_factory=dict)
    forecast: Mapping[str, Any] = field(default_factory=dict)
    lessons: Mapping[str, Any] | None = None
    slowness: float | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    explores: str = "share"
    additions: Mapping[str, str | int] | None = None


def uniform(space: Space) -> Distribution:
    """Build the distribution of a search that knows nothing: every model, method and value alike."""
    return Distribution(
        models={model.id: 1 / len(space.models) for model in space.models},
        methods={method.name: 1.0 for method in space.methods},
        params={m.name: {name: _uniform_marginal(p) for name, p in m.params.items()} for m in space.methods},
    )


def to_scale(parameter: Numeric, value: float) -> float:
    """Convert a number to its parameter's scale; for a logarithmic one the value is above 0."""
    return math.log(value) if parameter.log else float(value)


def scale_bounds(parameter: Numeric) -> tuple[float, float]:
    """Return a parameter's lowest and highest value on its scale."""
    return to_scale(parameter, parameter.low), to_scale(parameter, parameter.high)


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _uniform_marginal(parameter: Parameter) -> Marginal:
    if isinstance(parameter, Categorical):
        return CategoricalMarginal((1 / len(parameter.values),) * len(parameter.values))
    if isinstance(parameter, Boolean):
        return BooleanMarginal(0.5)
    low, high = scale_bounds(parameter)
    return NumericMarginal(mean=(low + high) / 2, dev=high - low, uniform=True)


def _marginal_to_json(marginal: Marginal, parameter: Parameter) -> dict[str, Any]:
    if isinstance(marginal, CategoricalMarginal) and isinstance(parameter, Categorical):
        return {"values": list(parameter.values), "probabilities": list(marginal.probabilities)}
    if isinstance(marginal, BooleanMarginal):
        return {"p_true": marginal.p_true}
    if isinstance(marginal, NumericMarginal) and isinstance(parameter, Numeric):
        scale = "log" if parameter.log else "linear"
        return {"scale": scale, "mean": marginal.mean, "dev": marginal.dev, "uniform": marginal.uniform}
    raise TypeError(f"{type(marginal).__name__} is no marginal of a {type(parameter).__name__}")


def _params_from_json(data: Any, method: Method) -> dict[str, Marginal]:
    return {name: _marginal_from_json(data[name], parameter) for name, parameter in method.params.items()}


def _marginal_from_json(data: Any, parameter: Parameter) -> Marginal:
    if isinstance(parameter, Categorical):
        return CategoricalMarginal(tuple(float(p) for p in data["probabilities"]))
    if isinstance(parameter, Boolean):
        return BooleanMarginal(float(data["p_true"]))
    return NumericMarginal(float(data["mean"]), float(data["dev"]), uniform=bool(data["uniform"]))
