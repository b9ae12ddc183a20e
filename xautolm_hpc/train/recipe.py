"""The hyperparameters of a trial, checked and with the two presets' names made one."""

from collections.abc import Mapping
from dataclasses import dataclass

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.hyperparameters import IGNORED, SAME_AS, find_problems
from xautolm_hpc.records import Value
from xautolm_hpc.train.exceptions import TrialError


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
        optimizer: One of :data:`xautolm_hpc.hyperparameters.OPTIMIZERS`.
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
        quantization: ``none``, or ``nf4``: frozen linear layers take four bits a number.
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
    quantization: str = "none"


def parse_recipe(method: str, params: Mapping[str, Value]) -> Recipe:
    """Check hyperparameters and bring the reference's names to ours.

    Args:
        method: One of :data:`xautolm_hpc.hyperparameters.METHODS`.
        params: Parameter name -> value, of either preset.

    Raises:
        TrialError: The method, a parameter or a value is none that this program trains with, or one that it
            needs is missing; kind ``unsupported``.
    """
    problems = find_problems(method, params)
    if problems:
        raise TrialError(FailureKind.UNSUPPORTED, problems[0].text)
    settings = _rename({name: value for name, value in params.items() if name not in IGNORED})
    return Recipe(**settings)  # type: ignore[arg-type]  # the rules have checked every value


def _rename(params: Mapping[str, Value]) -> dict[str, Value | None]:
    """Turn the reference's parameters into ours; where both are given, the reference's switch decides."""
    settings: dict[str, Value | None] = dict(params)
    for theirs, ours in SAME_AS.items():
        if theirs in settings:
            settings[ours] = settings.pop(theirs)
    if settings.pop("use_gradient_clipping", True) is False:
        settings["max_grad_norm"] = None
    return settings
