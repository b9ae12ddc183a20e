"""Small changes to models whose forward pass waits for the host, so that it can be captured; outputs stay the same.

- DeBERTa computes relative positions by a scripted function that copies numbers from the host. They depend on the
  lengths alone: they are computed once for each.
- The classifiers of T5 and BART count the end tokens of a batch and take the last one's state by a mask, both on the
  host. The place of the last end token is computed on the device instead.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqSequenceClassifierOutput

DECODER_INPUTS = "decoder_input_ids"
CLASSIFIERS = {
    "T5ForSequenceClassification": "transformer",
    "MT5ForSequenceClassification": "transformer",
    "BartForSequenceClassification": "model",
}
"""Class of a classifier that looks for end tokens -> name of the model in it."""


def make_capturable(model: nn.Module) -> tuple[str, ...]:
    """Change the parts of a model that wait for the host, in place.

    Args:
        model: The model, before it is wrapped.

    Returns:
        Classes of the parts that were changed.
    """
    changed = []
    for module in model.modules():
        name = type(module).__name__
        if name in CLASSIFIERS and _tells_end_from_padding(module):
            module.forward = MethodType(_classify, module)
            changed.append(name)
        elif hasattr(module, "get_rel_pos") and getattr(module, "relative_attention", False):
            _cache_relative_positions(module)
            changed.append(name)
    return tuple(changed)


def _tells_end_from_padding(module: Any) -> bool:
    """Check whether padding is not taken for the end of a text; else transformers' own head rejects the batch."""
    return bool(module.config.eos_token_id != module.config.pad_token_id)


def _classify(
    self: Any, input_ids: Tensor, *, attention_mask: Tensor | None = None, **options: Any
) -> Seq2SeqSequenceClassifierOutput:
    """Compute the logits from the decoder's state at the last end token of each text.

    Args:
        self: The classifier.
        input_ids: Token ids, (n_batch, length).
        attention_mask: 1 where there is a token, likewise.
        options: Ignored where they are ``None``: what PEFT passes on.
    """
    given = {name: value for name, value in options.items() if value is not None and name != "return_dict"}
    if hasattr(self, "_shift_right") and DECODER_INPUTS not in given:
        given[DECODER_INPUTS] = self._shift_right(input_ids)
    inner = getattr(self, CLASSIFIERS[type(self).__name__])
    states = inner(input_ids, attention_mask=attention_mask, use_cache=False, **given)[0]  # (n_batch, length, width)
    places = torch.arange(input_ids.shape[1], device=input_ids.device)
    last = (places * input_ids.eq(self.config.eos_token_id)).amax(dim=1)  # (n_batch,)
    rows = torch.arange(input_ids.shape[0], device=input_ids.device)
    return Seq2SeqSequenceClassifierOutput(logits=self.classification_head(states[rows, last]))


def _cache_relative_positions(encoder: Any) -> None:
    """Make an encoder compute its relative positions once for each pair of lengths and device."""
    compute: Callable[..., Tensor | None] = encoder.get_rel_pos
    known: dict[tuple[int, int, torch.device], Tensor | None] = {}

    def look_up(hidden_states: Tensor, *others: Tensor | None) -> Tensor | None:
        query_states, relative_pos = (*others, None, None)[:2]
        if relative_pos is not None:
            return relative_pos
        queries = hidden_states if query_states is None else query_states
        key = (queries.shape[-2], hidden_states.shape[-2], hidden_states.device)
        if key not in known:
            known[key] = compute(hidden_states, query_states)
        return known[key]

    encoder.get_rel_pos = look_up
