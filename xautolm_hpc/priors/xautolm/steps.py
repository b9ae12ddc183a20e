"""Steps of a replay: the order of the experiences, and the model, method and parameters that each one updates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.distribution import (
    BooleanMarginal,
    CategoricalMarginal,
    Distribution,
    Marginal,
    NumericMarginal,
    scale_bounds,
    to_scale,
)
from xautolm_hpc.hyperparameters import UNSAID
from xautolm_hpc.priors.xautolm.alpha import Weighed
from xautolm_hpc.priors.xautolm.replay import (
    CategoricalReplay,
    MeanReplay,
    WeightReplay,
    replay_boolean,
    replay_categorical,
    replay_numeric,
    replay_weights,
)
from xautolm_hpc.records import Value
from xautolm_hpc.space import Boolean, Categorical, Numeric, Parameter, Space
from xautolm_hpc.table import ABSENT, BOOL, FLOAT, INT, TEXT, ExperienceTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The n experiences that update something, in the order of their replay.

    Attributes:
        index: Index into the experiences selected, (n,).
        row: Row of the experience table, (n,).
        alpha: Learning rate, descending, (n,).
        model: Index of the model in the space, (n,).
        method: Index of the method in the space, (n,).
    """

    index: Ints
    row: Ints
    alpha: Floats
    model: Ints
    method: Ints

    def only(self, kept: NDArray[np.bool_]) -> "Steps":
        """Return the steps that a mask selects, (n,) bool."""
        return Steps(
            index=self.index[kept],
            row=self.row[kept],
            alpha=self.alpha[kept],
            model=self.model[kept],
            method=self.method[kept],
        )


def order_steps(table: ExperienceTable, weighed: Weighed, *, space: Space) -> Steps:
    """Order experiences by descending learning rate, ties by id.

    An experience whose model or method is not in the space updates nothing and is left out.
    """
    models = {model.id: index for index, model in enumerate(space.models)}
    methods = {method.name: index for index, method in enumerate(space.methods)}
    model_of = np.array([models.get(model_id, -1) for model_id, _ in table.models], dtype=np.int64)
    method_of = np.array([methods.get(name, -1) for name in table.methods], dtype=np.int64)
    index = np.argsort(-weighed.alpha, kind="stable").astype(np.int64)
    row = weighed.row[index]
    model, method = model_of[table.model[row]], method_of[table.method[row]]
    steps = Steps(index=index, row=row, alpha=weighed.alpha[index], model=model, method=method)
    return steps.only((model >= 0) & (method >= 0))


def replay_models(steps: Steps, start: Distribution) -> CategoricalReplay:
    """Replay the steps into p(model)."""
    return replay_categorical(list(start.models.values()), alpha=steps.alpha, code=steps.model)


def replay_methods(steps: Steps, start: Distribution) -> WeightReplay:
    """Replay the steps into the weights of the methods."""
    return replay_weights(list(start.methods.values()), alpha=steps.alpha, code=steps.method)


def replay_params(
    table: ExperienceTable, steps: Steps, *, space: Space, start: Distribution
) -> dict[str, dict[str, Marginal]]:
    """Replay the steps into every method's parameters: method -> parameter -> marginal."""
    params: dict[str, dict[str, Marginal]] = {}
    for index, method in enumerate(space.methods):
        of_method = steps.only(steps.method == index)
        params[method.name] = {
            name: _replay_marginal(
                table, of_method, parameter=method.params[name], name=name, start=start.params[method.name][name]
            )
            for name in method.params
        }
    return params


def replay_parameter(
    table: ExperienceTable, steps: Steps, *, name: str, parameter: Parameter, start: Marginal
) -> tuple[Steps, CategoricalReplay | MeanReplay]:
    """Replay a method's steps into one of its parameters; values outside the space are skipped.

    Args:
        table: All experiences.
        steps: Steps of the method.
        name: Name of the parameter.
        parameter: What the space says about it.
        start: Its marginal at the start.

    Returns:
        The steps that have a value of the parameter, and the parameter's replay.

    Raises:
        TypeError: The marginal does not fit the parameter.
    """
    if name not in table.params and name not in UNSAID:
        steps = steps.only(np.zeros(len(steps.row), dtype=np.bool_))
        value = np.zeros(0)
    else:
        value = _values_on_scale(table, name, rows=steps.row, parameter=parameter)
        steps, value = steps.only(~np.isnan(value)), value[~np.isnan(value)]
    if isinstance(start, CategoricalMarginal):
        return steps, replay_categorical(start.probabilities, alpha=steps.alpha, code=value.astype(np.int64))
    if isinstance(start, BooleanMarginal):
        return steps, replay_boolean(start.p_true, alpha=steps.alpha, value=value)
    if not isinstance(parameter, Numeric):
        raise TypeError(f"{type(start).__name__} is no marginal of a {type(parameter).__name__}")
    bounds = scale_bounds(parameter)
    return steps, replay_numeric(start.mean, start.dev, alpha=steps.alpha, value=value, bounds=bounds)


def _replay_marginal(
    table: ExperienceTable, steps: Steps, *, name: str, parameter: Parameter, start: Marginal
) -> Marginal:
    """Replay a method's steps into one parameter; a number that no step moves stays uniform."""
    steps, outcome = replay_parameter(table, steps, name=name, parameter=parameter, start=start)
    if isinstance(outcome, CategoricalReplay):
        return CategoricalMarginal(outcome.probabilities)
    if not np.any(steps.alpha):  # nothing moves it: it stays as it is drawn now
        return start
    mean = float(outcome.path[-1])
    if isinstance(start, BooleanMarginal):
        return BooleanMarginal(mean)
    return NumericMarginal(mean, outcome.dev, uniform=False)


def _values_on_scale(table: ExperienceTable, name: str, *, rows: Ints, parameter: Parameter) -> Floats:
    """Compute each row's value of a parameter for the replay, (n,); NaN where the space does not hold it.

    It is the index of the value for a categorical parameter, 0 or 1 for a boolean, the number on its scale for a
    number.
    """
    if isinstance(parameter, Categorical):
        index = np.full(len(rows), np.nan)
        for position, value in enumerate(parameter.values):
            index[_equals(table, name, rows=rows, value=value)] = position
        return index
    column = table.params[name]
    type_code, number = column.type_code[rows], column.number[rows]
    if isinstance(parameter, Boolean):
        return np.where(type_code == BOOL, number, np.nan)
    is_number = (type_code == INT) | (type_code == FLOAT)
    inside = is_number & (number >= parameter.low) & (number <= parameter.high)
    scaled = np.full(len(rows), np.nan)
    scaled[inside] = [to_scale(parameter, value) for value in number[inside].tolist()]
    return scaled


def _equals(table: ExperienceTable, name: str, *, rows: Ints, value: Value) -> NDArray[np.bool_]:
    """Find the rows that have a value; 1, 1.0 and True are three values, as in :func:`xautolm_hpc.space.contains`."""
    if name not in table.params:
        return np.full(len(rows), UNSAID.get(name) == value)
    column = table.params[name]
    type_code = column.type_code[rows]
    if isinstance(value, str):
        text = table.texts.index(value) if value in table.texts else -2
        is_unsaid = (type_code == ABSENT) & (UNSAID.get(name) == value)
        return np.asarray(((type_code == TEXT) & (column.text[rows] == text)) | is_unsaid)
    code = BOOL if isinstance(value, bool) else INT if isinstance(value, int) else FLOAT
    return np.asarray((type_code == code) & (column.number[rows] == float(value)))
