"""Architectures that no other test trains: each method trains them, unless the catalogue leaves it out for them."""

from collections.abc import Mapping
from typing import Any

import pytest
from transformers import (
    AutoModelForSequenceClassification,
    DeepseekV2Config,
    EuroBertConfig,
    Gemma3TextConfig,
    MixtralConfig,
    MT5Config,
    PretrainedConfig,
    SmolLM3Config,
)

from benchmarks.real_size.published import published
from tests.catalogue.test_sizes import CATALOGUE
from tests.train.tiny import CONFIGS, ENDS, T5, USUAL, tiny_train_state, weights_of
from xautolm_hpc.hyperparameters import METHODS
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.loop import train

SHARED: dict[str, Any] = {**USUAL, **ENDS, "num_key_value_heads": 1}
TINY: Mapping[str, PretrainedConfig] = {
    "eurobert": EuroBertConfig(**SHARED, mask_token_id=4),
    "gemma3_text": Gemma3TextConfig(**SHARED, head_dim=16, sliding_window=8),
    "smollm3": SmolLM3Config(**SHARED),
    "mt5": MT5Config(**T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
    "mixtral": MixtralConfig(**SHARED, num_local_experts=4),
    "deepseek_v2": DeepseekV2Config(
        **{**SHARED, "num_key_value_heads": 2}, kv_lora_rank=8, q_lora_rank=None, qk_nope_head_dim=8,
        qk_rope_head_dim=8, v_head_dim=16, n_routed_experts=4, n_shared_experts=1, moe_intermediate_size=16,
        num_experts_per_tok=2, first_k_dense_replace=1, n_group=1, topk_group=1,
    ),
}  # fmt: skip
BY_TYPE = {published(name)["model_type"]: model for name, model in CATALOGUE.items() if model.hub_repo}
"""Type of model -> an entry of the catalogue."""


def test_every_architecture_of_the_catalogue_is_trained_by_a_test() -> None:
    assert set(BY_TYPE) == {config.model_type for config in (*TINY.values(), *CONFIGS.values())}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", TINY)
def test_a_method_trains_an_architecture_or_its_entries_leave_it_out(model_type: str, method: str) -> None:
    model = AutoModelForSequenceClassification.from_config(TINY[model_type])  # type: ignore[no-untyped-call]
    given: dict[str, Any] = {"method": method, "n_rows": 8, "batch_size": 8, "learning_rate": 0.1}
    if method in BY_TYPE[model_type].unsupported_methods:
        with pytest.raises(TrialError, match="has no biases in its blocks"):
            tiny_train_state(model, **given)
        return
    state = tiny_train_state(model, **given)
    before = weights_of(state.model)

    train(state, save=lambda: None)

    after = weights_of(state.model)
    assert any(not before[name].equal(after[name]) for name in before)
