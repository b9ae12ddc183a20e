"""Measures what training steps of a model cost from its architecture alone, on the meta device: seconds, no memory.

Each way to train is built as a trial builds it. Three sizes of batch give the three numbers of a cost.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PretrainedConfig

from xautolm_hpc.execution import ModelCosts, StepCost, cost_name
from xautolm_hpc.train.costs.gpu_rules import GpuRules
from xautolm_hpc.train.costs.meter import LENGTH_PRIME, N_TEXTS, StepMeter
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.frozen.precision import freeze, plan_frozen
from xautolm_hpc.train.kinds.classification import Classification
from xautolm_hpc.train.kinds.generation import writing_class
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.prepare import checkpoint_activations
from xautolm_hpc.train.recipe import Recipe
from xautolm_hpc.train.steps.architectures import CLASSIFIERS, make_capturable

META = torch.device("meta")
HALF = torch.bfloat16
LENGTH_STEP = 8
"""Tokens of a text are a multiple of it and of a prime, so that an answer of an eighth of them is one of the prime."""

ANSWER_SHARE = 8
"""A text's tokens for each token of a written answer."""

UNMEASURABLE = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    IndexError,
    NotImplementedError,
    TrialError,
)
"""What torch and transformers raise where an architecture cannot be followed without its numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to train.

    Attributes:
        name: The method, with what bears on its cost.
        method: The method.
        precision: As for :func:`xautolm_hpc.execution.cost_name`; likewise ``checkpointing`` and ``extra``.
        params: Hyperparameters.
    """

    name: str
    method: str
    precision: str = "half"
    checkpointing: bool = False
    extra: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Its name among the costs of a model."""
        return cost_name(self.name, self.precision, checkpointing=self.checkpointing, extra=self.extra)

    def recipe(self) -> Recipe:
        """Return the hyperparameters of a trial."""
        return Recipe(learning_rate=1e-4, batch_size=1, max_length=1, epochs=1, **self.params)


def ways(precisions: Sequence[str] = ("half", "single", "mixed")) -> Iterator[Way]:
    """List the ways that are measured.

    Args:
        precisions: Those of interest.
    """
    for precision in precisions:
        yield from _ways_in(precision)


def _ways_in(precision: str) -> Iterator[Way]:
    """List the ways that are measured in one precision."""
    wide = {"lora_targets": "all-linear"}
    if precision != "mixed":
        yield Way(name="full", method="full", precision=precision)
        yield Way(name="full", method="full", precision=precision, checkpointing=True)
    yield Way(name="lora-attention", method="lora", precision=precision)
    yield Way(name="lora-all-linear", method="lora", precision=precision, params=wide)
    if precision != "single":
        yield Way(name="head", method="head", precision=precision)
        for n_blocks in (1, 3):
            params = {"n_trainable_blocks": n_blocks}
            yield Way(name=f"partial-{n_blocks}", method="partial", precision=precision, params=params)
    if precision != "half":
        return
    dropped = {"lora_dropout": 0.1}
    yield Way(name="lora-attention", method="lora", checkpointing=True)
    yield Way(name="lora-all-linear", method="lora", checkpointing=True, params=wide)
    yield Way(name="lora-attention-dropout", method="lora", params=dropped)
    yield Way(name="lora-all-linear-dropout", method="lora", params={**wide, **dropped})
    yield Way(name="dora-attention", method="dora")
    yield Way(name="dora-all-linear", method="dora", params=wide)
    yield Way(name="ia3", method="ia3")
    yield Way(name="bitfit", method="bitfit")
    yield Way(name="full", method="full", extra="scores")
    yield Way(name="full", method="full", extra="text")


def measure_costs(
    config: PretrainedConfig,
    *,
    family: str,
    context_length: int,
    precisions: Sequence[str] = ("half", "single", "mixed"),
) -> ModelCosts | None:
    """Measure the ways to train a model.

    Args:
        config: The model's configuration.
        family: ``encoder``, ``decoder`` or ``seq2seq``.
        context_length: Tokens that it reads at most.
        precisions: Those of interest.

    Returns:
        The costs of the ways that its architecture knows; ``None`` if it cannot be followed without its weights, as
        one that chooses experts.
    """
    costs = {}
    if context_length < LENGTH_STEP * LENGTH_PRIME:
        return None
    attention = "eager"
    for way in ways(precisions):
        if way.extra == "text" and family == "encoder":
            continue
        try:
            model, attention_here = build(config, way, family=family)
            costs[way.key] = run_step(model, way)
        except UNMEASURABLE:
            if way.key == "full/half":
                return None
            continue
        attention = attention_here if way.key == "full/half" else attention
    return ModelCosts(attention=attention, costs=_checkpointed_only_where_it_saves(costs))


def build(config: PretrainedConfig, way: Way, *, family: str) -> tuple[nn.Module, str]:
    """Build a model on the meta device, its method applied and its frozen weights converted.

    Args:
        config: The model's configuration.
        way: The way to train it.
        family: ``encoder``, ``decoder`` or ``seq2seq``.

    Returns:
        The model, and how it computes attention.
    """
    own = config.__class__.from_dict(config.to_dict())
    own.pad_token_id, own.eos_token_id = 0, 1
    writes = way.extra == "text"
    auto_class = writing_class(family) if writes else Classification.auto_class
    keeps_scores = way.extra == "scores" or (way.precision == "single" and _shares_keys(own))
    options = {"attn_implementation": "eager"} if keeps_scores else {}
    with META:
        model: Any = getattr(transformers, auto_class).from_config(own, **options)
    make_capturable(model)
    _keep_cache(model)
    if way.checkpointing:
        checkpoint_activations(model)
    recipe = way.recipe()
    with META, GpuRules(None):
        wrapped = apply_method(model, way.method, recipe=recipe, has_new_head=not writes)
    precision = {"half": "bf16", "single": "no", "mixed": "no"}[way.precision]
    freeze(wrapped, plan_frozen(way.method, recipe, precision=precision), device=META)
    return wrapped.train(), str(model.config._attn_implementation)


def _shares_keys(config: PretrainedConfig) -> bool:
    """Check whether several heads share keys and values: no fused kernel computes that in single precision."""
    n_heads = getattr(config, "num_attention_heads", 0) or 0
    return (getattr(config, "num_key_value_heads", None) or n_heads) < n_heads


def _keep_cache(model: Any) -> None:
    """Make a classifier keep keys and values, as its own forward pass does and a captured one does not."""
    inner = getattr(model, CLASSIFIERS.get(type(model).__name__, ""), None)
    if inner is not None:
        inner.register_forward_pre_hook(
            lambda _, args, kwargs: (args, {**kwargs, "use_cache": True}), with_kwargs=True
        )  # fmt: skip


def run_step(model: nn.Module, way: Way) -> StepCost:
    """Run a step on the meta device, forward and backward, and return what it takes.

    Args:
        model: A model on the meta device.
        way: How it is trained.
    """
    length = LENGTH_STEP * LENGTH_PRIME
    ids = torch.ones((N_TEXTS, length), dtype=torch.long, device=META)
    mask = torch.ones_like(ids)
    meter = StepMeter(length, [*model.parameters(), *model.buffers(), ids, mask])
    rules = GpuRules(None if way.precision == "single" else HALF)
    with meter, rules:
        loss = _text_loss(model, ids, mask=mask) if way.extra == "text" else _class_loss(model, ids, mask=mask)
        rules.end_forward()
        _go_back(loss)
    n_trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    peak, moved = meter.peak, meter.moved
    return StepCost(
        n_trained, peak.fixed_bytes, peak.token_bytes, peak.pair_bytes, meter.n_kernels, moved.token_bytes,
        moved.pair_bytes,
    )  # fmt: skip


def _class_loss(model: Any, ids: Tensor, *, mask: Tensor) -> Tensor:
    logits = model(input_ids=ids, attention_mask=mask).logits.float()
    return cross_entropy(logits, torch.zeros(len(ids), dtype=torch.long, device=META), reduction="sum")


def _text_loss(model: Any, ids: Tensor, *, mask: Tensor) -> Tensor:
    """Compute the loss of written answers; those of an encoder-decoder model are short."""
    answers = ids[:, : -(-ids.shape[1] // ANSWER_SHARE)]
    is_pair = model.config.is_encoder_decoder
    given = {"decoder_input_ids": answers} if is_pair else {}
    logits, labels = model(input_ids=ids, attention_mask=mask, **given).logits.float(), answers
    if not is_pair:
        # The last token predicts nothing; but here all lengths stay multiples of the prime.
        logits, labels = logits.narrow(1, 0, ids.shape[1]), ids
    return cross_entropy(logits.transpose(1, 2), labels, reduction="none").sum()


def _go_back(loss: Tensor) -> None:
    """Run the backward pass with the rules still active, as ``loss.backward()`` would not."""
    engine: Any = torch.autograd.Variable._execution_engine
    start = torch.empty_like(loss)
    engine.run_backward((loss,), (start,), False, False, (), allow_unreachable=True, accumulate_grad=True)


def _checkpointed_only_where_it_saves(costs: Mapping[str, StepCost]) -> dict[str, StepCost]:
    """Leave out checkpointing where the architecture does not do it: it keeps as much as without."""
    kept = {}
    for name, cost in costs.items():
        plain = costs.get(name.replace("/again", ""))
        if "/again" in name and plain is not None and cost.token_bytes > LEAST_SAVING * plain.token_bytes:
            continue
        kept[name] = cost
    return kept


LEAST_SAVING = 0.9
"""Share of the activations that checkpointing keeps at most, to be one."""
