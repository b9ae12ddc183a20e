"""Hyperparameters of every method: their names, what each may be, and what it is where nothing is said.

To add one, add it here, to ``Recipe`` in ``train/recipe.py``, and use it in ``train/``. To add an optimiser, add it to
:data:`OPTIMIZERS`, and how it is built to ``train/optim.py``.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, auto

from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Value

METHODS = ("full", "partial", "lora", "dora", "ia3", "bitfit", "head")
"""Ways to fine-tune."""

ADAPTER_METHODS = ("lora", "dora", "ia3")
"""Those that add parameters, and train none of the model's own but a new head."""

LEAST_FOR_IMPORTANCE = 20
"""Trials that succeeded below which nothing is said of what mattered: a forest learns next to nothing from fewer."""


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

UNTRAINED: Mapping[str, Mapping[Value, str]] = {"init_lora_weights": {"loftq": "needs a quantised model"}}
"""Parameter -> value -> why it is not trained: values of the preset ``xautolm`` that are drawn, as published, and
rejected before they are submitted."""

UNSAID: Mapping[str, Value] = {"quantization": "none"}
"""Hyperparameter -> what a pipeline that does not say it has. It is never drawn into one: what does not quantise keeps
the canonical form, and its records the ids, from before the hyperparameter existed."""

OTHER_NAMES: Mapping[str, str] = {
    "lr": "learning_rate",
    "bs": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "grad_accum": "gradient_accumulation_steps",
    "accumulation_steps": "gradient_accumulation_steps",
    "max_len": "max_length",
    "seq_len": "max_length",
    "seq_length": "max_length",
    "max_seq_length": "max_length",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "warmup": "warmup_ratio",
    "schedule": "lr_scheduler",
    "scheduler": "lr_scheduler",
    "lr_scheduler_type": "lr_scheduler",
    "optim": "optimizer",
    "optimiser": "optimizer",
    "wd": "weight_decay",
    "decay": "weight_decay",
    "dropout": "dropout_rate",
    "clip": "max_grad_norm",
    "grad_clip": "max_grad_norm",
    "patience": "early_stopping_patience",
    "class_weights": "class_weighted_loss",
    "amp": "use_mixed_precision",
    "bf16": "use_mixed_precision",
    "fp16": "use_mixed_precision",
    "r": "lora_r",
    "rank": "lora_r",
    "lora_rank": "lora_r",
    "alpha": "lora_alpha",
    "bias": "lora_bias",
    "target_modules": "lora_targets",
    "n_layers": "n_trainable_blocks",
    "num_layers": "n_trainable_blocks",
}
"""Names that other programs use -> ours; for the hint in an error, none of them is accepted."""

LARGEST_WHOLE = 2**31 - 1
LONGEST_TEXT = 200


class ValueKind(Enum):
    """What values a hyperparameter has."""

    WHOLE = auto()
    REAL = auto()
    WORD = auto()
    SWITCH = auto()
    ANY = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamRule:
    """What a hyperparameter must be.

    Attributes:
        kind: Kind of its values.
        low: Least number.
        high: Greatest number.
        is_low_excluded: Whether it must be above ``low``.
        choices: The valid words.
        default: What it is where nothing is said; ``None`` where that depends on the model, or it is switched off.
        is_required: Whether something must be said.
    """

    kind: ValueKind
    low: float = -math.inf
    high: float = math.inf
    is_low_excluded: bool = False
    choices: tuple[str, ...] = ()
    default: Value | None = None
    is_required: bool = False

    def accepts(self, value: Value) -> bool:
        """Check whether a value is valid; ``8.0`` is no whole number and ``True`` no number."""
        match self.kind:
            case ValueKind.SWITCH:
                return isinstance(value, bool)
            case ValueKind.WORD:
                return isinstance(value, str) and value in self.choices
            case ValueKind.ANY:
                return _is_storable(value)
            case ValueKind.WHOLE if type(value) is not int:
                return False
        if isinstance(value, bool | str):
            return False
        return self.low <= value <= self.high and not (self.is_low_excluded and value == self.low)

    @property
    def expected(self) -> str:
        """What is valid, in words."""
        match self.kind:
            case ValueKind.SWITCH:
                return "true or false"
            case ValueKind.WORD:
                return f"one of {', '.join(self.choices)}"
            case ValueKind.ANY:
                return "true, false, a finite number or a short text"
            case ValueKind.WHOLE:
                return f"a whole number of at least {self.low:g}"
        return f"a number {'above' if self.is_low_excluded else 'from'} {self.low:g} to {self.high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """Why a method cannot be trained with some hyperparameters.

    Attributes:
        name: Hyperparameter; "" if the method itself is unknown.
        text: What is wrong, the value, and what is valid.
        nearest: The valid name or word most like an unknown one, or ``None``.
    """

    name: str
    text: str
    nearest: str | None = None

    @property
    def full_text(self) -> str:
        """The text, and the nearest valid name as a question."""
        return self.text if self.nearest is None else f"{self.text}. Did you mean {self.nearest!r}?"


def _whole(least: int, *, default: int | None = None, is_required: bool = False) -> ParamRule:
    return ParamRule(kind=ValueKind.WHOLE, low=least, high=LARGEST_WHOLE, default=default, is_required=is_required)


def _real(
    low: float, high: float, *, open_low: bool = False, default: float | None = None, is_required: bool = False
) -> ParamRule:
    return ParamRule(
        kind=ValueKind.REAL, low=low, high=high, is_low_excluded=open_low, default=default, is_required=is_required
    )


def _one_of(*choices: str) -> ParamRule:
    """Accept some words; the first one is the default."""
    return ParamRule(kind=ValueKind.WORD, choices=choices, default=choices[0])


def _switch(*, default: bool) -> ParamRule:
    return ParamRule(kind=ValueKind.SWITCH, default=default)


def _is_storable(value: Value) -> bool:
    """Check whether a value can be kept in a record as it is."""
    if isinstance(value, str):
        return len(value) <= LONGEST_TEXT and value.isprintable()
    return abs(value) <= LARGEST_WHOLE  # false for NaN and infinity


ANYTHING = ParamRule(kind=ValueKind.ANY)
"""ParamRule of the parameters that are ignored."""

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
    "lora": {**_LORA, "quantization": _one_of("none", "nf4")},
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


def find_method_problem(method: str, *, valid: Iterable[str] = METHODS) -> ParamProblem | None:
    """Find that a method is unknown; ``None`` if it is known."""
    valid = tuple(valid)
    if method in valid:
        return None
    text = f"unknown method {method!r:.80}; valid: {', '.join(valid)}"
    return ParamProblem(name="", text=text, nearest=nearest_name(method, valid))


def find_name_problem(method: str, name: str) -> ParamProblem | None:
    """Find that a method lacks a hyperparameter; ``None`` if it has it.

    Args:
        method: One of :data:`METHODS`.
        name: Name of a hyperparameter, ours or the reference's.
    """
    valid = (*rules_of(method), *IGNORED)
    if name in valid:
        return None
    owners = [other for other, own in _OWN.items() if name in own]
    elsewhere = f" ({' and '.join(owners)} {'has' if len(owners) == 1 else 'have'} it)" if owners else ""
    text = f"method {method} has no parameter {name!r:.80}{elsewhere}; valid: {', '.join(valid)}"
    return ParamProblem(name=name, text=text, nearest=None if owners else nearest_name(name, valid))


def find_value_problem(method: str, name: str, *, value: Value) -> ParamProblem | None:
    """Find that the value of a known hyperparameter is not valid; ``None`` if it is.

    Args:
        method: One of :data:`METHODS`.
        name: A name of which :func:`find_name_problem` finds nothing.
        value: The value.
    """
    rule = rules_of(method).get(name, ANYTHING)
    if rule.accepts(value):
        return None
    limit = f" and at most {LARGEST_WHOLE}" if type(value) is int and value > LARGEST_WHOLE else ""
    text = f"{name} = {value!r:.80} is not supported; expected {rule.expected}{limit}"
    nearest = nearest_name(value, rule.choices) if isinstance(value, str) else None
    return ParamProblem(name=name, text=text, nearest=nearest)


def find_doubles(names: Iterable[str]) -> list[ParamProblem]:
    """Find hyperparameters that are given under our name and the reference's, of which one would be ignored.

    Args:
        names: Names of hyperparameters that one trial has.
    """
    given = {*names}
    return [
        ParamProblem(name=theirs, text=f"{theirs} and {ours} are two names of one parameter; give it once")
        for theirs, ours in SAME_AS.items()
        if {theirs, ours} <= given
    ]


def find_ignored_warmup(names: Iterable[str], *, ratios: Iterable[Value] | None) -> list[ParamProblem]:
    """Find ``warmup_ratio`` beside ``warmup_steps``, which alone count; ``ratios`` are its values, None for a range."""
    is_ignored = {"warmup_ratio", "warmup_steps"} <= {*names} and (ratios is None or any(ratios))
    text = "warmup_steps counts, and warmup_ratio beside it would be ignored; give one, or set warmup_ratio to 0"
    return [ParamProblem(name="warmup_ratio", text=text)] if is_ignored else []


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
    if (unknown := find_method_problem(method)) is not None:
        return [unknown]
    found = (find_name_problem(method, name) or find_value_problem(method, name, value=v) for name, v in params.items())
    problems = [problem for problem in found if problem is not None]
    given = {SAME_AS.get(name, name) for name in params}
    missing = [name for name, rule in rules_of(method).items() if rule.is_required and name not in given]
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
    problems = find_problems(method, params) + find_doubles(params)
    problems += find_ignored_warmup(params, ratios=[params.get("warmup_ratio", 0)])
    if problems:
        raise InputError("\n".join(f"{where}: {problem.full_text}" for problem in problems))


def nearest_name(word: str, valid: Iterable[str]) -> str | None:
    """Find the valid name that a word most likely stands for: in another case, of another program, or misspelt."""
    names = {name.casefold(): name for name in valid}
    simple = word.strip().casefold()
    for known in (simple, simple.replace("-", "_").replace(" ", "_")):
        if known in names:
            return names[known]
        if OTHER_NAMES.get(known) in names:
            return OTHER_NAMES[known]
    return next((names[near] for near in get_close_matches(simple[:LONGEST_TEXT], names, n=1)), None)
