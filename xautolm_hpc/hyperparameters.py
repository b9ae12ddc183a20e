"""Hyperparameters of every method: their names, what each may be, and what it is where nothing is said.

To add one, add it here, to ``Recipe`` in ``train/recipe.py``, and use it in ``train/``. To add an optimiser, add it to
:data:`OPTIMIZERS`, and how it is built to ``train/optim.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Value

METHODS = ("full", "partial", "lora", "dora", "ia3", "bitfit", "head")
"""Ways to fine-tune."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerTraits:
    """What is known of an optimiser without building it.

    Attributes:
        state_bytes: Bytes of state for each trained parameter, in single precision.
    """

    state_bytes: int


OPTIMIZERS: Mapping[str, OptimizerTraits] = {
    "adamw": OptimizerTraits(state_bytes=8),
    "adam": OptimizerTraits(state_bytes=8),
    "sgd": OptimizerTraits(state_bytes=0),
    "adagrad": OptimizerTraits(state_bytes=4),
    "adafactor": OptimizerTraits(state_bytes=0),  # a row and a column of each matrix: next to nothing
}
SCHEDULES = ("linear", "cosine", "cosine_with_restarts", "polynomial", "constant")

IGNORED = ("num_workers", "model_save", "fan_in_fan_out")
"""The reference's parameters that change nothing here: all data is in memory, the head is always trained and saved,
and the layout of a weight is the layer's own business."""


@dataclass(frozen=True, slots=True)
class ParamRule:
    """What a hyperparameter must be.

    Attributes:
        accepts: Checks whether a value is valid.
        expected: What is valid, in words.
        default: What it is where nothing is said; ``None`` where that depends on the model, or it is switched off.
        is_required: Whether something must be said.
    """

    accepts: Callable[[Value], bool]
    expected: str
    default: Value | None = None
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """Why a method cannot be trained with some hyperparameters.

    Attributes:
        name: Hyperparameter; "" if the method itself is unknown.
        text: What is wrong, the value, and what is valid.
        nearest: The valid name most like an unknown one, or ``None``.
    """

    name: str
    text: str
    nearest: str | None = None


def _whole(least: int, *, default: int | None = None, is_required: bool = False) -> ParamRule:
    def accepts(value: Value) -> bool:
        return type(value) is int and value >= least

    return ParamRule(accepts, f"a whole number of at least {least}", default, is_required)


def _real(
    low: float, high: float, *, open_low: bool = False, default: float | None = None, is_required: bool = False
) -> ParamRule:
    def accepts(value: Value) -> bool:
        if isinstance(value, bool | str):
            return False
        return low <= value <= high and not (open_low and value == low)

    return ParamRule(accepts, f"a number {'above' if open_low else 'from'} {low:g} to {high:g}", default, is_required)


def _one_of(*choices: str) -> ParamRule:
    """Accept some words; the first one is the default."""
    return ParamRule(lambda value: value in choices, f"one of {', '.join(choices)}", choices[0])


def _switch(*, default: bool) -> ParamRule:
    return ParamRule(lambda value: type(value) is bool, "true or false", default)


COMMON: Mapping[str, ParamRule] = {
    "learning_rate": _real(0, 1e3, open_low=True, is_required=True),
    "batch_size": _whole(1, is_required=True),
    "gradient_accumulation_steps": _whole(1, default=1),
    "max_length": _whole(4, is_required=True),
    "epochs": _whole(1, is_required=True),
    "warmup_ratio": _real(0, 1, default=0.0),
    "warmup_steps": _whole(0),
    "lr_scheduler": _one_of(*SCHEDULES),
    "optimizer": _one_of(*OPTIMIZERS),
    "weight_decay": _real(0, 1e3, default=0.0),
    "dropout_rate": _real(0, 0.99),
    "max_grad_norm": _real(0, 1e9, open_low=True, default=1.0),
    "use_gradient_clipping": _switch(default=True),
    "gradient_clipping_max_norm": _real(0, 1e9, open_low=True),
    "early_stopping_patience": _whole(1, default=2),
    "early_stopping_delta": _real(0, 1, default=0.001),
    "class_weighted_loss": _switch(default=False),
    "train_share": _real(0, 1, open_low=True, default=1.0),
    "use_mixed_precision": _switch(default=True),
}
"""Hyperparameters of every method."""

_LORA: Mapping[str, ParamRule] = {
    "lora_r": _whole(1, default=8),
    "lora_alpha": _whole(1, default=16),
    "lora_dropout": _real(0, 0.99, default=0.0),
    "lora_bias": _one_of("none", "lora_only", "all"),
    "lora_targets": _one_of("attention", "all-linear"),
    "init_lora_weights": _one_of("default", "gaussian", "pissa", "none"),
}
_OWN: Mapping[str, Mapping[str, ParamRule]] = {
    "partial": {"n_trainable_blocks": _whole(1, default=1), "num_trainable_layers": _whole(1)},
    "lora": _LORA,
    "dora": _LORA,
}

SAME_AS: Mapping[str, str] = {
    "num_trainable_layers": "n_trainable_blocks",
    "gradient_clipping_max_norm": "max_grad_norm",
}
"""The reference's names -> ours."""


def rules_of(method: str) -> Mapping[str, ParamRule]:
    """Return the rules of a method's hyperparameters: those of every method first, then its own."""
    return {**COMMON, **_OWN.get(method, {})}


def default_of(name: str, *, method: str = "full") -> Value:
    """Return what a hyperparameter is where nothing is said.

    Raises:
        ValueError: It has no default of its own.
    """
    default = rules_of(method)[name].default
    if default is None:
        raise ValueError(f"{name} has no default of its own")
    return default


def n_warmup_steps(warmup_steps: int | None, warmup_ratio: float, *, n_steps: int) -> int:
    """Return the optimiser steps of a warm-up: those that are given, else a share of all.

    Args:
        warmup_steps: Steps that are given, or ``None``.
        warmup_ratio: Share of all steps, 0..1.
        n_steps: Optimiser steps of the whole training.
    """
    return round(warmup_ratio * n_steps) if warmup_steps is None else warmup_steps


def find_problems(method: str, params: Mapping[str, Value]) -> list[ParamProblem]:
    """Find what keeps a method from being trained with some hyperparameters.

    Args:
        method: One of :data:`METHODS`.
        params: Name -> value, under our names or the reference's.

    Returns:
        The problems: unknown names and values that are not valid in the order of ``params``, then what is missing.
    """
    if method not in METHODS:
        return [_problem("", f"unknown method {method!r}; valid: {', '.join(METHODS)}", word=method, valid=METHODS)]
    rules = rules_of(method)
    problems = []
    for name, value in params.items():
        if name in IGNORED:
            continue
        if name not in rules:
            valid = (*rules, *IGNORED)
            text = f"method {method} has no parameter {name!r}; valid: {', '.join(valid)}"
            problems.append(_problem(name, text, word=name, valid=valid))
        elif not rules[name].accepts(value):
            text = f"{name} = {value!r} is not supported; expected {rules[name].expected}"
            problems.append(ParamProblem(name=name, text=text))
    given = {SAME_AS.get(name, name) for name in params}
    missing = [name for name, rule in rules.items() if rule.is_required and name not in given]
    if missing:
        text = f"method {method} lacks the parameters {', '.join(missing)}"
        problems.append(ParamProblem(name=missing[0], text=text))
    return problems


def check_params(method: str, params: Mapping[str, Value], *, where: str) -> None:
    """Refuse hyperparameters that a method cannot be trained with.

    Args:
        method: One of :data:`METHODS`.
        params: Name -> value.
        where: File or place they come from, for the message.

    Raises:
        InputError: A name or a value is not valid, or one that is needed is missing; the message lists them all.
    """
    problems = find_problems(method, params)
    if problems:
        raise InputError("\n".join(f"{where}: {problem.text}{_hint(problem)}" for problem in problems))


def optimizer_state_bytes(name: str) -> int:
    """Return the bytes of state that an optimiser keeps for each trained parameter.

    Raises:
        InputError: The optimiser is not known, so that its memory cannot be estimated.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"optimizer = {name!r}: its state is not known; valid: {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[name].state_bytes


def _problem(name: str, text: str, *, word: str, valid: tuple[str, ...]) -> ParamProblem:
    return ParamProblem(name=name, text=text, nearest=next(iter(get_close_matches(word, valid, n=1)), None))


def _hint(problem: ParamProblem) -> str:
    return "" if problem.nearest is None else f". Did you mean {problem.nearest!r}?"
