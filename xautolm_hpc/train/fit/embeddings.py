"""What the embeddings of a model can index: positions, token ids, token types.

A number beyond an embedding's rows would end a trial with an index error that is no fault of its hyperparameters.
"""

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.data import Tokens
from xautolm_hpc.train.exceptions import TrialError, UnfitModelError
from xautolm_hpc.train.fit.weights import headless_model

POSITION_EMBEDDINGS = ("position_embeddings", "wpe", "embed_positions")
"""Names of learned or fixed tables of positions."""

LEAST_POSITIONS = 4
"""Tokens that a model must be able to read at least, special tokens included."""

TYPES_INPUT = "token_type_ids"
IS_GROWN = "xautolm_is_grown"
"""Attribute of a parameter of which only rows for added tokens are trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingLimits:
    """What a model can index beside its vocabulary.

    Attributes:
        n_positions: Tokens of a text at most; ``None`` where nothing limits them, as with rotary positions.
        takes_token_types: Whether it tells the two parts of a text apart by a type of their tokens.
    """

    n_positions: int | None = None
    takes_token_types: bool = True


def measure_limits(config: PretrainedConfig) -> EmbeddingLimits:
    """Measure what a model can index, on the meta device, before its weights are loaded.

    RoBERTa and its kin begin to count positions after the padding token's number, BART and OPT after two: the rows
    before that are reserved.

    Args:
        config: The model's configuration.
    """
    model = headless_model(config)
    if model is None:
        return EmbeddingLimits()
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in POSITION_EMBEDDINGS
    ]
    named = getattr(config, "max_position_embeddings", None)
    counts = [table.num_embeddings - _n_reserved(table) for table in tables]
    counts += [named] if isinstance(named, int) else []
    takes_types = TYPES_INPUT in inspect.signature(model.forward).parameters
    return EmbeddingLimits(
        n_positions=min(counts) if tables else None,
        takes_token_types=takes_types and (getattr(config, "type_vocab_size", 2) or 0) > 1,
    )


def check_positions(n_positions: int | None, *, model_id: str) -> None:
    """Check that a model has positions to read a text with.

    Raises:
        TrialError: It has next to none; kind ``unsupported``.
    """
    if n_positions is not None and n_positions < LEAST_POSITIONS:
        raise TrialError(
            FailureKind.UNSUPPORTED,
            f"model {model_id} has {n_positions} usable positions; expected at least {LEAST_POSITIONS}",
        )


def drop_token_types(tokenizer: Any) -> None:
    """Make a tokeniser leave out token types, for a model that has no embeddings for them."""
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != TYPES_INPUT]


def count_ids(tokenizer: Any) -> int:
    """Count the token ids that a tokeniser may return: the highest one plus 1, added tokens included."""
    return 1 + max(tokenizer.get_vocab().values())


def grow_embeddings(model: PreTrainedModel, tokenizer: Any, *, model_id: str) -> int | None:
    """Add rows to the embeddings for tokens that were added to the tokeniser.

    Args:
        model: The model, as loaded; changed in place.
        tokenizer: Its tokeniser.
        model_id: Its name.

    Returns:
        Rows that it had before; ``None`` if it has enough.

    Raises:
        UnfitModelError: Tokens of the vocabulary itself have no row: the tokeniser belongs to another model.
    """
    n_rows = count_rows(model)
    check_vocabulary(tokenizer, n_rows, model_id=model_id)
    n_ids = count_ids(tokenizer)
    if n_ids <= n_rows:
        return None
    model.resize_token_embeddings(n_ids, mean_resizing=False)
    return n_rows


def count_rows(model: PreTrainedModel) -> int:
    """Count the rows of a model's token embeddings."""
    embeddings: Any = model.get_input_embeddings()
    return int(embeddings.weight.shape[0])


def check_vocabulary(tokenizer: Any, n_rows: int, *, model_id: str) -> None:
    """Check that each token of a tokeniser's own vocabulary has a row in the embeddings.

    Args:
        tokenizer: The tokeniser.
        n_rows: Rows of the embeddings.
        model_id: Name of the model.

    Raises:
        UnfitModelError: One has none; kind ``unsupported``.
    """
    added = tokenizer.added_tokens_decoder
    highest = max((number for number in tokenizer.get_vocab().values() if number not in added), default=0)
    if highest >= n_rows:
        raise UnfitModelError(
            f"model {model_id}: its tokeniser has token ids up to {highest}, its embeddings {n_rows} rows: they do not "
            "belong together. Tokens added with add_tokens get new rows, tokens of the vocabulary do not; give the "
            "tokeniser of the weights, or take the model out of space.models",
            kind=FailureKind.UNSUPPORTED,
        )


def has_ids_from(tokens: Tokens, first: int) -> bool:
    """Return whether a split holds token ids from ``first`` on."""
    columns = [tokens.columns[name] for name in ("input_ids", "decoder_input_ids", "labels") if name in tokens.columns]
    return any(int(column.values.max(initial=0)) >= first for column in columns)


def train_new_rows(model: PreTrainedModel, n_old: int) -> None:
    """Train the rows of added tokens, also with a method that leaves the embeddings alone.

    Args:
        model: The model whose method is applied already.
        n_old: Rows that came from the file; their gradient is set to 0.
    """

    def keep_old_rows(gradient: Tensor) -> Tensor:
        kept = gradient.clone()
        kept[:n_old] = 0
        return kept

    embedded: Any = model
    output = embedded.get_output_embeddings()
    for module in (embedded.get_input_embeddings(), *([] if output is None else [output])):
        weight = module.weight
        if not weight.requires_grad:
            weight.requires_grad_(True)
            weight.register_hook(keep_old_rows)
            setattr(weight, IS_GROWN, True)


def _n_reserved(table: nn.Embedding) -> int:
    """Count the rows at the beginning of a table of positions that stand for no position."""
    offset = getattr(table, "offset", None)
    if isinstance(offset, int):
        return offset
    return 0 if table.padding_idx is None else table.padding_idx + 1
