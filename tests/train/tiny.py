"""Tiny models of every architecture with random weights, and the train state of one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    T5Config,
    XLMRobertaConfig,
)

from xautolm_hpc.records import Value
from xautolm_hpc.train.data import Tokens, n_epoch_steps
from xautolm_hpc.train.kinds.classification import Classification, class_weights
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import LoopState, TrainState
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.optim import build_optimizer, build_schedule
from xautolm_hpc.train.ragged import pack
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.steps.eager import EagerRunner
from xautolm_hpc.train.stop import StopFlag

N_CLASSES = 3
VOCAB = 60
END = 3
"""Token that ends every row, which BART's head looks for."""
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "num_labels": N_CLASSES,
    "max_position_embeddings": 40,
    "initializer_range": 0.1,
}
USUAL: dict[str, Any] = {
    **SIZES,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
RELATIVE: dict[str, Any] = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0}
ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}

CONVOLVED: dict[str, Any] = {
    "conv_kernel_size": 3,
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}

T5: dict[str, Any] = {
    **{name: value for name, value in SIZES.items() if name != "initializer_range"},
    **ENDS,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}

CONFIGS: Mapping[str, PretrainedConfig] = {
    "bert": BertConfig(**USUAL),
    "roberta": RobertaConfig(**USUAL),
    "distilbert": DistilBertConfig(**SIZES, dim=32, n_layers=2, n_heads=2, hidden_dim=48),
    "albert": AlbertConfig(**USUAL, embedding_size=16),
    "electra": ElectraConfig(**USUAL, embedding_size=16),
    "deberta": DebertaConfig(**USUAL, **RELATIVE),
    "deberta-v2": DebertaV2Config(**USUAL, **RELATIVE, **CONVOLVED),
    "xlm-roberta": XLMRobertaConfig(**USUAL),
    "modernbert": ModernBertConfig(**USUAL, **ENDS, cls_token_id=2, sep_token_id=3),
    "gpt2": GPT2Config(**SIZES, **ENDS, n_positions=40, n_embd=32, n_layer=2, n_head=2, n_inner=48),
    "llama": LlamaConfig(**USUAL, **ENDS, num_key_value_heads=1),
    "mistral": MistralConfig(**USUAL, **ENDS, num_key_value_heads=1),
    "qwen2": Qwen2Config(**USUAL, **ENDS, num_key_value_heads=1),
    "qwen3": Qwen3Config(**USUAL, **ENDS, num_key_value_heads=1, head_dim=16),
    "phi": PhiConfig(**USUAL, **ENDS),
    "phi3": Phi3Config(**USUAL, **ENDS),
    "t5": T5Config(**T5),
    "bart": BartConfig(
        **{**SIZES, **ENDS}, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, init_std=0.1, decoder_start_token_id=3,
        forced_eos_token_id=None,
    ),
}  # fmt: skip
PARAMS: Mapping[str, Value] = {"learning_rate": 0.01, "batch_size": 4, "max_length": 16, "epochs": 1}


def tiny_model(name: str, *, seed: int = 0, dropout: float | None = None) -> PreTrainedModel:
    """Build a classifier of 2 blocks and 32 units."""
    torch.manual_seed(seed)
    config = CONFIGS[name].from_dict(CONFIGS[name].to_dict())
    if dropout is not None:
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    return AutoModelForSequenceClassification.from_config(config)  # type: ignore[no-untyped-call]


def tiny_tokens(n_rows: int, seed: int = 0) -> Tokens:
    """Make rows of 4 to 13 tokens whose class is the first token's remainder: learnable."""
    rng = np.random.default_rng(seed)
    ids = [[*map(int, rng.integers(5, VOCAB, size=rng.integers(3, 13))), END] for _ in range(n_rows)]
    return Tokens(
        columns=pack({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}),
        padding={"input_ids": 0, "attention_mask": 0},
        targets=np.array([row[0] % N_CLASSES for row in ids], dtype=np.int64),
        lengths=np.array([len(row) for row in ids], dtype=np.int64),
        weights=np.ones(n_rows, dtype=np.int64),
        facts=(),
    )


def tiny_train_state(
    model: PreTrainedModel | None = None,
    *,
    method: str = "full",
    n_rows: int = 20,
    stop: StopFlag | None = None,
    time_limit_s: float = 600.0,
    **params: Any,
) -> TrainState:
    """Build a train state as a trial does, with generated rows."""
    recipe = parse_recipe(method, {**PARAMS, **params})
    accelerator = Accelerator(cpu=True)
    wrapped: nn.Module = apply_method(model or tiny_model("bert", dropout=0.0), method, recipe=recipe)
    tokens = {"train": tiny_tokens(n_rows), "dev": tiny_tokens(12, seed=1), "validation": tiny_tokens(12, seed=2)}
    progress = Progress()
    progress.n_steps = recipe.epochs * n_epoch_steps(
        n_rows, batch_size=recipe.batch_size, accumulation=recipe.gradient_accumulation_steps
    )
    optimizer = build_optimizer(wrapped, recipe)
    scheduler = build_schedule(optimizer, recipe, n_steps=progress.n_steps)
    weights = torch.from_numpy(class_weights(tokens["train"].targets, N_CLASSES))
    task = Classification(
        labels={str(number): number for number in range(N_CLASSES)},
        tokenizer=None,  # the rows are tokens already
        max_length=16,
        class_weights=weights if recipe.class_weighted_loss else None,
    )
    prepared = accelerator.prepare(wrapped, optimizer)
    train_state = TrainState(
        recipe=recipe,
        seed=11,
        accelerator=accelerator,
        model=prepared[0],
        trained=prepared[0],
        optimizer=prepared[1],
        scheduler=scheduler,
        task=task,
        tokens=tokens,
        loop=LoopState(),
        progress=progress,
        budget=TrialBudget(progress, stop or StopFlag(), time_limit_s=time_limit_s),
    )
    train_state.runner = EagerRunner(train_state)
    return train_state


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Copy every parameter."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
