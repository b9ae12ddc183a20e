"""Pipelines encoded as numbers that hold for other tasks, other GPUs and models that were never tried.

A model is encoded by its sizes, not its name, so a new model is predicted from similar ones. Beside the plain values
stand the quantities that memory and time depend on (batch x length x layers, arithmetic of a whole training), on a
logarithmic scale.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xautolm_hpc.catalogue import FAMILIES, Model
from xautolm_hpc.hyperparameters import METHODS, UNSAID
from xautolm_hpc.priors.similarity import SYSTEM_FEATURES, system_features
from xautolm_hpc.records import Pipeline, System, Task
from xautolm_hpc.space import Categorical, Space
from xautolm_hpc.table import ExperienceTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


DEFAULT_LENGTH, DEFAULT_RATE = 512.0, 5e-5
BLOCK_SQUARES = 12
"""Weights of a transformer block, in squares of its width."""

ACTIVATION_BYTES = 34
"""Bytes kept for the backward pass per token, block and unit of width (Korthikanti et al. 2022, equation 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configurations:
    """n pipelines with their tasks and systems, as columns.

    Attributes:
        models: Distinct models, ``None`` for one of unknown sizes; likewise ``methods``, ``tasks``, ``systems``.
        model: Index into ``models``, (n,); likewise ``method``, ``task``, ``system``.
        numbers: Parameter -> value, a boolean's 0 or 1, NaN where absent or text, (n,).
        texts: Parameter -> text value, empty elsewhere, (n,).
    """

    models: Sequence[Model | None]
    methods: Sequence[str]
    tasks: Sequence[Task]
    systems: Sequence[System]
    model: Ints
    method: Ints
    task: Ints
    system: Ints
    numbers: Mapping[str, Floats]
    texts: Mapping[str, NDArray[np.object_]]

    def __len__(self) -> int:
        """Count the pipelines."""
        return len(self.model)

    def number(self, name: str, default: float) -> Floats:
        """Return a parameter's numbers, with a default where there is none; (n,)."""
        column = self.numbers.get(name)
        return np.full(len(self), default) if column is None else np.where(np.isnan(column), default, column)


def rows_of(table: ExperienceTable, rows: Ints, *, models: Mapping[str, Model]) -> Configurations:
    """Read the pipelines of rows of an experience table.

    Args:
        table: All experiences.
        rows: Rows wanted, (n,).
        models: Known models by id.
    """
    texts = np.array(
        ["", *table.texts], dtype=object
    )  # as long as each is, where a row of str is as long as the longest
    return Configurations(
        models=[models.get(model_id) for model_id, _ in table.models],
        methods=table.methods,
        tasks=table.tasks,
        systems=table.systems,
        model=table.model[rows].astype(np.int64),
        method=table.method[rows].astype(np.int64),
        task=table.task[rows].astype(np.int64),
        system=table.system[rows].astype(np.int64),
        numbers={name: column.number[rows] for name, column in table.params.items()},
        texts={name: texts[column.text[rows] + 1] for name, column in table.params.items()},
    )


def pipelines_of(
    pipelines: Sequence[Pipeline], *, models: Mapping[str, Model], task: Task, system: System
) -> Configurations:
    """Turn pipelines of one task on one system into columns."""
    ids = sorted({p.model_id for p in pipelines})
    names = sorted({name for p in pipelines for name in p.params})
    zeros = np.zeros(len(pipelines), dtype=np.int64)
    values = {name: [p.params.get(name) for p in pipelines] for name in names}
    return Configurations(
        models=[models.get(model_id) for model_id in ids],
        methods=METHODS,
        tasks=(task,),
        systems=(system,),
        model=np.array([ids.index(p.model_id) for p in pipelines], dtype=np.int64),
        method=np.array([METHODS.index(p.method) for p in pipelines], dtype=np.int64),
        task=zeros,
        system=zeros,
        numbers={
            name: np.array([np.nan if v is None or isinstance(v, str) else float(v) for v in column])
            for name, column in values.items()
        },
        texts={
            name: np.array([v if isinstance(v, str) else "" for v in column], dtype=object)
            for name, column in values.items()
        },
    )


def layout(space: Space) -> tuple[str, ...]:
    """List the columns of a space's pipelines: parameters, one column for each text value, then :data:`DERIVED`."""
    columns: list[str] = []
    for name in sorted({name for method in space.methods for name in method.params}):
        found = [method.params[name] for method in space.methods if name in method.params]
        values = [value for p in found if isinstance(p, Categorical) for value in p.values]
        texts = sorted({value for value in values if isinstance(value, str)})
        columns += [f"{name}={text}" for text in texts]
        columns += [] if texts and all(isinstance(value, str) for value in values) else [name]
    return (*columns, *DERIVED)


def encode(configurations: Configurations, columns: Sequence[str]) -> Floats:
    """Encode pipelines as numbers.

    Args:
        configurations: The pipelines.
        columns: Names of the columns, of :func:`layout`.

    Returns:
        Values, NaN where unknown, shape (n, n_columns).
    """
    if not len(configurations):
        return np.zeros((0, len(columns)))
    derived = _derive(configurations)
    return np.column_stack([_column(configurations, name, derived=derived) for name in columns])


def _column(configurations: Configurations, name: str, *, derived: Mapping[str, Floats]) -> Floats:
    if name in derived:
        return derived[name]
    parameter, is_text, text = name.partition("=")
    if is_text:
        texts = configurations.texts.get(parameter, np.full(len(configurations), ""))
        is_unsaid = (texts == "") & (UNSAID.get(parameter) == text)
        return np.asarray((texts == text) | is_unsaid, dtype=np.float64)
    return configurations.numbers.get(name, np.full(len(configurations), np.nan))


def _derive(c: Configurations) -> dict[str, Floats]:
    """Compute the columns of :data:`DERIVED`."""
    size = {name: _of_models(c, name) for name in MODEL_SIZES}
    task = {name: _of_tasks(c, name) for name in TASK_SIZES}
    share = _trained_share(c, size)
    families = [model.family if model else "" for model in c.models]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # what is not finite is unknown
        columns = {
            **{f"family={name}": _equal(families, name)[c.model] for name in FAMILIES},
            **{f"method={name}": _equal(c.methods, name)[c.method] for name in METHODS},
            **{f"log_{name}": np.log(values) for name, values in {**size, **task}.items()},
            **{name: _of_systems(c, name) for name in SYSTEM_FEATURES},
            "trained_share": share,
            **_cost_columns(c, size, task=task, share=share),
            **_learning_columns(c, task),
        }
    return {name: np.where(np.isfinite(column), column, np.nan) for name, column in columns.items()}


def _cost_columns(
    c: Configurations, size: Mapping[str, Floats], *, task: Mapping[str, Floats], share: Floats
) -> dict[str, Floats]:
    """Compute what memory and time depend on, up to factors that the surrogate learns."""
    max_length, batch = c.number("max_length", DEFAULT_LENGTH), c.number("batch_size", 1.0)
    length = np.fmin(max_length, size["context_length"])
    tokens = np.fmin(length, task["text_length"])
    units = size["n_layers"] * size["hidden_size"]
    activations = batch * length * units
    weights = BLOCK_SQUARES * size["hidden_size"] * units
    n_samples = task["n_train"] * c.number("epochs", 1.0) * (1 + share)  # the backward pass counts by its share
    states = 4 * size["n_parameters"] * (1 + 3 * share)
    return {
        "log_padded_tokens": np.log(batch * length),
        "log_activations": np.log(activations),
        "log_memory": np.log(states + ACTIVATION_BYTES * activations * (0.2 + 0.8 * share)),
        "log_flops": np.log(weights * length * n_samples),
        "log_token_flops": np.log(weights * tokens * n_samples),
        "over_context": max_length / size["context_length"],
    }


def _learning_columns(c: Configurations, task: Mapping[str, Floats]) -> dict[str, Floats]:
    """Compute how far the weights can move: steps, share of warm-up, and the learning rate summed over them."""
    samples = c.number("batch_size", 1.0) * c.number("gradient_accumulation_steps", 1.0)
    n_steps = c.number("epochs", 1.0) * np.ceil(task["n_train"] / samples)
    warm = c.number("warmup_ratio", np.nan)
    warm = np.where(np.isnan(warm), c.number("warmup_steps", 0.0) / n_steps, warm)
    log_rate = np.log(c.number("learning_rate", DEFAULT_RATE))
    travel = log_rate + np.log(np.fmax(n_steps * (1 - 0.5 * np.fmin(warm, 1.0)), 1.0))
    optimizer = c.texts.get("optimizer")
    is_adaptive = np.ones(len(c)) if optimizer is None else (optimizer != "sgd").astype(np.float64)
    return {
        "log_n_steps": np.log(n_steps),
        "warm_share": np.fmin(warm, 3.0),
        "log_rate": log_rate,
        "log_travel": travel,
        "is_adaptive": is_adaptive,
        "adaptive_travel": is_adaptive * (travel + 6.0),
    }


MODEL_SIZES = ("n_parameters", "n_layers", "hidden_size", "context_length")
TASK_SIZES = ("n_train", "n_labels", "text_length")
_FAMILY_AND_METHOD = (*(f"family={name}" for name in FAMILIES), *(f"method={name}" for name in METHODS))
_COST = ("log_padded_tokens", "log_activations", "log_memory", "log_flops", "log_token_flops", "over_context")
_LEARNING = ("log_n_steps", "warm_share", "log_rate", "log_travel", "is_adaptive", "adaptive_travel")
DERIVED = (
    *_FAMILY_AND_METHOD,
    *(f"log_{name}" for name in (*MODEL_SIZES, *TASK_SIZES)),
    *SYSTEM_FEATURES,
    *("trained_share", *_COST, *_LEARNING),
)
"""Columns beside the parameters."""

COST_COLUMNS = frozenset((
    *_FAMILY_AND_METHOD,
    *(f"log_{name}" for name in (*MODEL_SIZES, "n_train", "n_labels")),
    *("gpu_memory_gib", "gpu_capability", "trained_share", *_COST, "log_n_steps", "log_rate", "log_travel"),
    *("epochs", "use_mixed_precision", "early_stopping_patience"),
))  # fmt: skip
"""Columns that memory and time depend on."""

LEARNING_COLUMNS = frozenset((
    *_FAMILY_AND_METHOD,
    *("log_n_parameters", "log_n_layers", "log_hidden_size", "trained_share", *_LEARNING),
    *("epochs", "batch_size", "max_length", "dropout_rate", "lora_r", "lora_alpha", "lora_targets", "optimizer"),
    *("class_weighted_loss", "lr_scheduler", "early_stopping_patience", "log_flops"),
))  # fmt: skip
"""Columns that divergence and the quality of a trained model depend on."""

IGNORED_COLUMNS = frozenset(("num_workers", "log_text_length", *SYSTEM_FEATURES))
"""Columns used only where they are named: they identify a site or a data set rather than a pipeline."""


def column_indices(columns: Sequence[str], wanted: frozenset[str] | None) -> Ints:
    """Find columns by name; a text parameter stands for all its values. ``None``: all but :data:`IGNORED_COLUMNS`."""

    def is_wanted(column: str) -> bool:
        names = {column, column.partition("=")[0]}
        return not names & IGNORED_COLUMNS if wanted is None else bool(names & wanted)

    return np.array([index for index, column in enumerate(columns) if is_wanted(column)], dtype=np.int64)


def _trained_share(c: Configurations, size: Mapping[str, Floats]) -> Floats:
    """Estimate the share of the weights that is trained, in 0..1; (n,)."""
    blocks = np.fmin(c.number("n_trainable_blocks", np.nan), size["n_layers"])
    blocks = np.where(np.isnan(blocks), np.fmin(c.number("num_trainable_layers", 1.0), size["n_layers"]), blocks)
    by_method = {
        "full": np.ones(len(c)),
        "partial": blocks / size["n_layers"],
        "lora": c.number("lora_r", 8.0) / size["hidden_size"],
        "dora": c.number("lora_r", 8.0) / size["hidden_size"],
    }
    share = np.zeros(len(c))
    for name, values in by_method.items():
        mask = _equal(c.methods, name)[c.method] > 0
        share[mask] = values[mask]
    return share


def _equal(names: Sequence[str], name: str) -> Floats:
    return np.array([known == name for known in names], dtype=np.float64)


def _of_models(c: Configurations, name: str) -> Floats:
    return np.array([np.nan if m is None else float(getattr(m, name)) for m in c.models])[c.model]


def _of_tasks(c: Configurations, name: str) -> Floats:
    values = {
        "n_train": [float(t.n_train) for t in c.tasks],
        "n_labels": [float(len(t.labels) or 1) for t in c.tasks],
        "text_length": [np.nan if t.length_tokens is None else t.length_tokens[1] for t in c.tasks],
    }
    return np.array(values[name])[c.task]


def _of_systems(c: Configurations, name: str) -> Floats:
    columns = dict(zip(SYSTEM_FEATURES, zip(*map(system_features, c.systems), strict=True), strict=True))
    return np.array([np.nan if value is None else value for value in columns[name]])[c.system]
