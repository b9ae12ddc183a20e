"""The hyperparameters of a trial, checked and with the two presets' names made one."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xautolm_hpc.records import Value
from xautolm_hpc.space import METHODS
from xautolm_hpc.train.exceptions import TrialError

IGNORED = ("num_workers", "model_save", "fan_in_fan_out")
"""The peer's parameters that change nothing here: all data is in memory, the head is always trained and saved, and
the layout of a weight is the layer's own business."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to train.

    Attributes:
        learning_rate: Highest learning rate, above 0.
        batch_size: Samples of one forward pass.
        gradient_accumulation_steps: Forward passes of one optimiser step.
        max_length: Tokens of a sample at most, special tokens included.
        epochs: Passes over ``train`` at most.
        warmup_ratio: Share of the optimiser steps in which the learning rate rises, 0..1.
        warmup_steps: Optimiser steps in which it rises; ``None`` takes ``warmup_ratio``.
        lr_scheduler: How it falls afterwards.
        optimizer: ``adamw``, ``adam``, ``sgd``, ``adagrad`` or ``adafactor``.
        weight_decay: Decay of weights; biases and norms have none.
        dropout_rate: Dropout of the whole model, 0..1; ``None`` keeps the model's own.
        max_grad_norm: Norm that gradients are clipped to; ``None`` does not clip.
        early_stopping_patience: Epochs without a gain on ``dev`` after which training ends.
        early_stopping_delta: Rise of macro-F1, or fall of the loss, that counts as a gain, 0..1.
        class_weighted_loss: Whether rare classes weigh more.
        train_share: Share of the rows of ``train`` that are used, above 0..1.
        use_mixed_precision: Whether the GPU computes in half precision.
        n_trainable_blocks: Blocks trained, from the top, by ``partial``.
        lora_r: Rank of LoRA and DoRA.
        lora_alpha: Their scale.
        lora_dropout: Dropout before them, 0..1.
        lora_bias: ``none``, ``lora_only`` or ``all``.
        lora_targets: ``attention`` or ``all-linear``: linear layers of the blocks that they adapt.
        init_lora_weights: ``default``, ``gaussian``, ``pissa`` or ``none``.
    """

    learning_rate: float
    batch_size: int
    max_length: int
    epochs: int
    gradient_accumulation_steps: int = 1
    warmup_ratio: float = 0.0
    warmup_steps: int | None = None
    lr_scheduler: str = "linear"
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    dropout_rate: float | None = None
    max_grad_norm: float | None = 1.0
    early_stopping_patience: int = 2
    early_stopping_delta: float = 0.001
    class_weighted_loss: bool = False
    train_share: float = 1.0
    use_mixed_precision: bool = True
    n_trainable_blocks: int = 1
    lora_r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.0
    lora_bias: str = "none"
    lora_targets: str = "attention"
    init_lora_weights: str = "default"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a value must be.

    Attributes:
        accepts: Tells whether a value is valid.
        expected: What is valid, in words.
    """

    accepts: Callable[[Value], bool]
    expected: str


def _whole(least: int) -> _Rule:
    return _Rule(lambda value: type(value) is int and value >= least, f"a whole number of at least {least}")


def _real(low: float, high: float, *, open_low: bool = False) -> _Rule:
    def accepts(value: Value) -> bool:
        if isinstance(value, bool | str):
            return False
        return low <= value <= high and not (open_low and value == low)

    return _Rule(accepts, f"a number {'above' if open_low else 'from'} {low:g} to {high:g}")


def _one_of(*choices: str) -> _Rule:
    return _Rule(lambda value: value in choices, f"one of {', '.join(choices)}")


_BOOL = _Rule(lambda value: type(value) is bool, "true or false")

_COMMON = {
    "learning_rate": _real(0, 1e3, open_low=True),
    "batch_size": _whole(1),
    "gradient_accumulation_steps": _whole(1),
    "max_length": _whole(4),
    "epochs": _whole(1),
    "warmup_ratio": _real(0, 1),
    "warmup_steps": _whole(0),
    "lr_scheduler": _one_of("linear", "cosine", "cosine_with_restarts", "polynomial", "constant"),
    "optimizer": _one_of("adamw", "adam", "sgd", "adagrad", "adafactor"),
    "weight_decay": _real(0, 1e3),
    "dropout_rate": _real(0, 0.99),
    "max_grad_norm": _real(0, 1e9, open_low=True),
    "use_gradient_clipping": _BOOL,
    "gradient_clipping_max_norm": _real(0, 1e9, open_low=True),
    "early_stopping_patience": _whole(1),
    "early_stopping_delta": _real(0, 1),
    "class_weighted_loss": _BOOL,
    "train_share": _real(0, 1, open_low=True),
    "use_mixed_precision": _BOOL,
}
_LORA = {
    "lora_r": _whole(1),
    "lora_alpha": _whole(1),
    "lora_dropout": _real(0, 0.99),
    "lora_bias": _one_of("none", "lora_only", "all"),
    "lora_targets": _one_of("attention", "all-linear"),
    "init_lora_weights": _one_of("default", "gaussian", "pissa", "none"),
}
_OWN: Mapping[str, Mapping[str, _Rule]] = {
    "partial": {"n_trainable_blocks": _whole(1), "num_trainable_layers": _whole(1)},
    "lora": _LORA,
    "dora": _LORA,
}


def parse_recipe(method: str, params: Mapping[str, Value]) -> Recipe:
    """Check hyperparameters and bring the peer's names to ours.

    Args:
        method: One of :data:`xautolm_hpc.space.METHODS`.
        params: Parameter name -> value, of either preset.

    Raises:
        TrialError: The method, a parameter or a value is none that this program trains with, or one that it
            needs is missing; kind ``unsupported``.
    """
    if method not in METHODS:
        raise TrialError("unsupported", f"unknown method {method!r}; valid: {', '.join(METHODS)}")
    rules = {**_COMMON, **_OWN.get(method, {})}
    kept = {name: value for name, value in params.items() if name not in IGNORED}
    for name, value in kept.items():
        _check(name, value, rules=rules, method=method)
    settings = _rename(kept)
    missing = [
        field.name
        for field in dataclasses.fields(Recipe)
        if field.default is dataclasses.MISSING and field.name not in settings
    ]
    if missing:
        raise TrialError("unsupported", f"method {method} lacks the parameters {', '.join(missing)}")
    return Recipe(**settings)  # type: ignore[arg-type]  # the rules have checked every value


def _check(name: str, value: Value, *, rules: Mapping[str, _Rule], method: str) -> None:
    if name not in rules:
        valid = ", ".join([*rules, *IGNORED])
        raise TrialError("unsupported", f"method {method} has no parameter {name!r}; valid: {valid}")
    if not rules[name].accepts(value):
        raise TrialError("unsupported", f"{name} = {value!r} is not supported; expected {rules[name].expected}")


def _rename(params: Mapping[str, Value]) -> dict[str, "Value | None"]:
    """Turn the peer's ways to say a thing into ours; both given, the peer's switch decides."""
    settings: dict[str, Value | None] = dict(params)
    if "num_trainable_layers" in settings:
        settings["n_trainable_blocks"] = settings.pop("num_trainable_layers")
    if "gradient_clipping_max_norm" in settings:
        settings["max_grad_norm"] = settings.pop("gradient_clipping_max_norm")
    if settings.pop("use_gradient_clipping", True) is False:
        settings["max_grad_norm"] = None
    return settings
