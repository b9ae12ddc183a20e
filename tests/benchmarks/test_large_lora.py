"""The benchmark of a large LoRA trains; here a small model on a CPU."""

import subprocess
import sys

import pytest
from accelerate.state import AcceleratorState
from transformers import LlamaConfig

from benchmarks.large_lora import train_large
from xautolm_hpc.train.recipe import Recipe


@pytest.mark.parametrize("is_checkpointed", [False, True])
def test_it_trains_a_model_of_random_weights(is_checkpointed: bool) -> None:
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, pad_token_id=0, use_cache=False,
    )  # fmt: skip
    recipe = Recipe(learning_rate=1e-4, batch_size=8, max_length=512, epochs=1, lora_r=16)

    cost = train_large(config, recipe, is_checkpointed=is_checkpointed, n_steps=1)
    AcceleratorState._reset_state(reset_partial_state=True)

    assert cost.tokens_per_s > 0


def test_without_a_gpu_it_says_that_nothing_was_measured() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_lora"],
        env={"CUDA_VISIBLE_DEVICES": "", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "large_lora: this machine has no GPU that torch can use; nothing was measured\n"
