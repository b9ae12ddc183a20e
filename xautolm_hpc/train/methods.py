"""The methods of fine-tuning: which of a model's parameters are trained."""

from torch import nn
from transformers import PreTrainedModel

from xautolm_hpc.train.anatomy import Anatomy, dissect, parameters_in
from xautolm_hpc.train.failures import TrialError
from xautolm_hpc.train.recipe import Recipe

ATTENTION_NAMES = ("attention", "attn")
PEFT_INITS: dict[str, bool | str] = {
    "default": True,
    "none": True,
    "gaussian": "gaussian",
    "pissa": "pissa_niter_16",  # the exact decomposition takes minutes on a large model, this one seconds
}
"""Our word -> PEFT's. ``none`` is the peer's for an argument left out, which is the default."""


def apply_method(model: PreTrainedModel, method: str, *, recipe: Recipe) -> nn.Module:
    """Freeze what a method leaves alone, or wrap the model in adapters.

    The classification head (and pooler) is new, so every method trains it.

    Args:
        model: A sequence classifier on the CPU.
        method: ``full``, ``partial``, ``lora`` or ``head``.
        recipe: Its hyperparameters.

    Returns:
        The model to train: the same, or PEFT's wrapper around it.

    Raises:
        TrialError: The method is none of these, or the model has no blocks; kind ``unsupported``.
    """
    if method == "full":
        model.requires_grad_(True)
        return model
    anatomy = dissect(model)
    if method == "head":
        return _train_only(model, anatomy.head)
    if method == "partial":
        return _train_only(model, anatomy.blocks[-recipe.n_trainable_blocks :] + anatomy.head)
    if method == "lora":
        return _add_lora(model, anatomy, recipe=recipe)
    raise TrialError("unsupported", f"method {method!r} is not trained yet")


def lora_targets(model: nn.Module, blocks: tuple[str, ...], *, which: str) -> list[str]:
    """Name the linear layers inside the blocks that LoRA adapts.

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
        if isinstance(module, nn.Linear)
        if which == "all-linear" or any(part in name.lower() for part in ATTENTION_NAMES)
    ]
    if not targets:
        raise TrialError("unsupported", f"{type(model).__name__} has no linear layers for lora_targets = {which!r}")
    return targets


def _train_only(model: nn.Module, modules: tuple[str, ...]) -> nn.Module:
    model.requires_grad_(False)
    for parameter in parameters_in(model, modules):
        parameter.requires_grad_(True)
    return model


def _add_lora(model: PreTrainedModel, anatomy: Anatomy, *, recipe: Recipe) -> nn.Module:
    """Wrap the blocks' linear layers in LoRA; PEFT trains and saves a copy of the head."""
    from peft import LoraConfig, get_peft_model  # half a second that the other methods need not wait

    config = LoraConfig(
        r=recipe.lora_r,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        bias=recipe.lora_bias,  # type: ignore[arg-type]
        init_lora_weights=PEFT_INITS[recipe.init_lora_weights],  # type: ignore[arg-type]
        target_modules=lora_targets(model, anatomy.blocks, which=recipe.lora_targets),
        modules_to_save=list(anatomy.head),
    )
    return get_peft_model(model, config)
