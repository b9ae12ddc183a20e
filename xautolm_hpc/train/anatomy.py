"""The parts of a transformer, found by structure and not by name: its stack of blocks, and what comes after it."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from xautolm_hpc.train.failures import TrialError

PROBE_LENGTH = 4
"""Tokens of the one forward pass that shows in which order the parts work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """Where the parts of a model lie.

    Attributes:
        blocks: Names of the transformer blocks, from the input upwards. Blocks that share their weights (ALBERT)
            are one.
        head: Names of the modules that work after the last block: pooler and classifier, and a last norm if there
            is one; none lies inside another.
    """

    blocks: tuple[str, ...]
    head: tuple[str, ...]


def dissect(model: nn.Module) -> Anatomy:
    """Find the parts of a model.

    The blocks are the largest list of like modules. What comes after them is seen in one short forward pass:
    modules are defined in any order, and DeBERTa defines its relative positions after its blocks.

    Args:
        model: A sequence classifier on the CPU that takes ``input_ids``.

    Raises:
        TrialError: The model has no list of like modules; kind ``unsupported``.
    """
    blocks = _find_blocks(model)
    after = _called_after(model, blocks)
    return Anatomy(blocks=blocks, head=_outermost(model, after))


def parameters_in(model: nn.Module, modules: tuple[str, ...]) -> list[nn.Parameter]:
    """List the parameters inside modules given by name."""
    return [parameter for name in modules for parameter in model.get_submodule(name).parameters()]


def _find_blocks(model: nn.Module) -> tuple[str, ...]:
    """Name the modules of the largest list of like modules, in its order."""
    stacks = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) and len({type(block) for block in module}) == 1
    }
    if not stacks:
        raise TrialError("unsupported", f"{type(model).__name__} has no list of like blocks; train it with full")
    # A list inside a block (ALBERT has one) is smaller than, or lies inside, the list of the blocks; the outer of
    # two equal ones comes first.
    largest = max(stacks, key=lambda name: sum(parameter.numel() for parameter in stacks[name].parameters()))
    return tuple(f"{largest}.{number}" for number in range(len(stacks[largest])))


def _called_after(model: nn.Module, blocks: tuple[str, ...]) -> set[str]:
    """Name the modules with parameters of their own that first work after the last block is done."""
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
    last = max(number for number, name in enumerate(events) if name in blocks)
    return {name for name in outer if name in events and events.index(name) > last}


def _probe(model: nn.Module) -> None:
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.ones((1, PROBE_LENGTH), dtype=torch.long))
    model.train(was_training)


def _outermost(model: nn.Module, chosen: set[str]) -> tuple[str, ...]:
    """Name the largest modules whose parameters all belong to chosen modules."""
    mine = {id(p) for name in chosen for p in model.get_submodule(name).parameters(recurse=False)}
    outermost: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{other}.") for other in outermost):
            continue
        parameters = {id(parameter) for parameter in module.parameters()}
        if name and parameters and parameters <= mine:
            outermost.append(name)
    return tuple(outermost)
