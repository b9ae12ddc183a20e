"""The parts of a transformer, found by structure and not by name: its stack of blocks, and its head."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.exceptions import TrialError

PROBE_LENGTH = 4
"""Tokens of the forward pass that shows in which order the parts run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Names of the parts of a model.

    Attributes:
        blocks: Names of the transformer blocks, from the input upwards; of an encoder-decoder model those of the
            encoder, then those of the decoder. Blocks that share their weights (ALBERT) count as one.
        head: Names of the modules that run after the last block: pooler and classifier, and a last norm if there
            is one; none of them contains another.
    """

    blocks: tuple[str, ...]
    head: tuple[str, ...]


def dissect(model: PreTrainedModel) -> Anatomy:
    """Find the parts of a model.

    The blocks are the largest list of modules of one class, or the two largest of an encoder-decoder model. The head
    is found by one short forward pass, because modules may be defined in any order: DeBERTa defines its relative
    positions after its blocks.

    Args:
        model: A model on the CPU that takes ``input_ids``.

    Raises:
        TrialError: The model has no list of modules of one class; kind ``unsupported``.
    """
    blocks = _find_blocks(model, n_stacks=2 if model.config.is_encoder_decoder else 1)
    order = _working_order(model, blocks)
    last = max(number for number, name in enumerate(order) if name in blocks)
    after = {name for name in order[last:] if order.index(name) > last}
    return Anatomy(blocks=tuple(sorted(blocks, key=order.index)), head=_outermost(model, after))


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """List the blocks of a model, also of a wrapped one; empty if it has none."""
    config = getattr(model, "config", None)
    try:
        names = _find_blocks(model, n_stacks=2 if getattr(config, "is_encoder_decoder", False) else 1)
    except TrialError:
        return []
    return [model.get_submodule(name) for name in names]


def parameters_in(model: nn.Module, modules: tuple[str, ...]) -> list[nn.Parameter]:
    """List the parameters of modules given by name."""
    return [parameter for name in modules for parameter in model.get_submodule(name).parameters()]


def _find_blocks(model: nn.Module, *, n_stacks: int) -> tuple[str, ...]:
    """List the names of the modules in the ``n_stacks`` largest lists of modules of one class."""
    lists = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    }
    # A list inside a block (as in ALBERT and mixtures of experts) is not a stack.
    stacks = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if len(stacks) < n_stacks:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"{type(model).__name__} has no list of like blocks; train it with full"
        )
    largest = sorted(stacks, key=lambda name: -sum(parameter.numel() for parameter in lists[name].parameters()))
    return tuple(f"{name}.{number}" for name in largest[:n_stacks] for number in range(len(lists[name])))


def _working_order(model: PreTrainedModel, blocks: tuple[str, ...]) -> list[str]:
    """List modules with parameters of their own in the order in which they start, and blocks when they end."""
    events: list[str] = []

    def note(name: str, *_: object) -> None:
        events.append(name)

    inside = tuple(f"{block}." for block in blocks)
    outer = {
        name: module
        for name, module in model.named_modules()
        if name not in blocks and not name.startswith(inside) and any(True for _ in module.parameters(recurse=False))
    }
    hooks = [module.register_forward_pre_hook(partial(note, name)) for name, module in outer.items()]
    hooks += [model.get_submodule(block).register_forward_hook(partial(note, block)) for block in blocks]
    _probe(model)
    for hook in hooks:
        hook.remove()
    return events


def _probe(model: PreTrainedModel) -> None:
    """Run a forward pass; the last token is the end token, which some heads look for."""
    was_training = model.training
    model.train(mode=False)
    ids = torch.ones((1, PROBE_LENGTH), dtype=torch.long)
    ids[0, -1] = model.config.eos_token_id if isinstance(model.config.eos_token_id, int) else 1
    with torch.no_grad():
        model(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}))
    model.train(was_training)


def _outermost(model: nn.Module, chosen: set[str]) -> tuple[str, ...]:
    """List the names of the largest modules whose parts with parameters are all chosen."""
    owners = [name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))]
    outermost: list[str] = []
    for name, _ in model.named_modules():
        if any(name.startswith(f"{other}.") for other in outermost):
            continue
        parts = {owner for owner in owners if owner == name or owner.startswith(f"{name}.")}
        if name and parts and parts <= chosen:
            outermost.append(name)
    return tuple(outermost)
