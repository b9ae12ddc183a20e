"""The methods of fine-tuning: which of a model's parameters are trained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.anatomy import Anatomy, dissect, parameters_in
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.recipe import Recipe

if TYPE_CHECKING:
    from peft import PeftConfig

ATTENTION_NAMES = ("attention", "attn")
PEFT_INITS: dict[str, bool | str] = {
    "default": True,
    "none": True,
    "gaussian": "gaussian",
    "pissa": "pissa_niter_16",  # the exact decomposition takes minutes on a large model, this one seconds
}
"""Our value -> PEFT's. ``none`` is that of the reference code, which leaves the argument out: PEFT's default."""


def apply_method(model: PreTrainedModel, method: str, *, recipe: Recipe, has_new_head: bool = True) -> nn.Module:
    """Freeze the parameters that a method does not train, or wrap the model in adapters.

    Args:
        model: The model with its head, on the CPU.
        method: One of :data:`xautolm_hpc.hyperparameters.METHODS`.
        recipe: Its hyperparameters.
        has_new_head: Whether the head has new weights. Then every method trains it. Adapters and ``bitfit`` do not
            train a pretrained head, as a language model has it.

    Returns:
        The model to train: the same, or PEFT's wrapper around it.

    Raises:
        TrialError: The model has no blocks, or nothing in them that the method trains; kind ``unsupported``.
    """
    if method == "full":
        model.requires_grad_(True)
        return model
    anatomy = dissect(model)
    if method == "head":
        return _train_only(parameters_in(model, anatomy.head), model)
    if method == "partial":
        return _train_only(parameters_in(model, anatomy.blocks[-recipe.n_trainable_blocks :] + anatomy.head), model)
    new_head = anatomy.head if has_new_head else ()
    if method == "bitfit":
        return _train_only([*biases(model, anatomy.blocks), *parameters_in(model, new_head)], model)
    from peft import get_peft_model  # half a second that the other methods need not wait

    return get_peft_model(model, _adapter_config(model, method, anatomy=anatomy, recipe=recipe, head=new_head))


def linear_layers(model: nn.Module, blocks: tuple[str, ...], *, which: str) -> list[str]:
    """List the names of the linear layers inside the blocks that an adapter changes.

    Args:
        model: The model.
        blocks: Names of its blocks.
        which: ``attention``, or ``all-linear`` for all of them.

    Raises:
        TrialError: There are none; kind ``unsupported``.
    """
    targets = [
        f"{block}.{name}"
        for block in blocks
        for name, module in model.get_submodule(block).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        if which == "all-linear" or any(part in name.lower() for part in ATTENTION_NAMES)
    ]
    if not targets:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"{type(model).__name__} has no linear layers for targets = {which!r}"
        )
    return targets


def biases(model: nn.Module, blocks: tuple[str, ...]) -> list[nn.Parameter]:
    """List the biases inside the blocks, norms included: the parameters that ``bitfit`` trains.

    Raises:
        TrialError: There are none, as in Llama; kind ``unsupported``.
    """
    found = [
        parameter
        for block in blocks
        for name, parameter in model.get_submodule(block).named_parameters()
        if name.rpartition(".")[2] == "bias"
    ]
    if not found:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"{type(model).__name__} has no biases in its blocks for bitfit to train"
        )
    return found


def _train_only(parameters: Sequence[nn.Parameter], model: nn.Module) -> nn.Module:
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    return model


def _adapter_config(
    model: nn.Module, method: str, *, anatomy: Anatomy, recipe: Recipe, head: tuple[str, ...]
) -> "PeftConfig":
    """Build PEFT's configuration of the adapters; PEFT trains and saves a copy of the head."""
    from peft import IA3Config, LoraConfig

    blocks = anatomy.blocks
    if method == "ia3":
        attention = linear_layers(model, blocks, which="attention")
        inner = _last_inner_layers(model, blocks)
        return IA3Config(target_modules=[*attention, *inner], feedforward_modules=inner, modules_to_save=list(head))
    return LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        bias=recipe.lora_bias,  # type: ignore[arg-type]
        init_lora_weights=PEFT_INITS[recipe.init_lora_weights],  # type: ignore[arg-type]
        use_dora=method == "dora",
        modules_to_save=list(head),
        target_modules=linear_layers(model, blocks, which=recipe.lora_targets),
    )


def _last_inner_layers(model: nn.Module, blocks: tuple[str, ...]) -> list[str]:
    """List the name of each block's last linear layer outside attention: IA3 scales its input."""
    attention = {name for name in linear_layers(model, blocks, which="attention")}
    every = [name for name in linear_layers(model, blocks, which="all-linear") if name not in attention]
    last = {block: name for block in blocks for name in every if name.startswith(f"{block}.")}
    return list(last.values())
