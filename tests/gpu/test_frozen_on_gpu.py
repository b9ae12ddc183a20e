"""What only a real GPU shows of frozen weights: their memory, four bits, half precision with a loss scale, the peak."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.gpu.workers import run
from tests.train.attempts import command, rows, write_attempt
from tests.train.test_export import FACTS
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, PIPELINE, TASK, WEIGHTS, Command, TrialInput, TrialPlan
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import from_json

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

N_BLOCKS, WIDTH = 8, 1024
PARAMS: Mapping[str, Any] = {"epochs": 3, "early_stopping_patience": 3, "learning_rate": 1e-3, "lora_r": 8}
BLOCK_WEIGHTS = N_BLOCKS * 12 * WIDTH**2
"""Weights of the linear layers of the blocks, roughly: 4 squares in attention and 3 x 8/3 in the gated layers."""

needs_library = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory, bert: Model) -> Model:
    """Write a Llama of 100 million parameters with random weights, and the tokeniser of the other model."""
    import shutil

    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("llama")
    for path in Path(bert.path or "").glob("*token*"):
        shutil.copy(path, folder)
    words = sorted({word for row in rows() for word in row["text"].split()})
    config = LlamaConfig(
        vocab_size=len(words) + 50, hidden_size=WIDTH, intermediate_size=8 * WIDTH // 3 // 64 * 64,
        num_hidden_layers=N_BLOCKS, num_attention_heads=16, max_position_embeddings=512, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return replace(bert, id="llama", family="decoder", path=str(folder))


def _run(folder: Path, model: Model, method: str, **params: Any) -> tuple[Path, Any]:
    given = {name: value for name, value in {**PARAMS, **params}.items() if method == "lora" or name != "lora_r"}
    attempt_dir = write_attempt(folder, method, params=given, model=model, limits=command(deterministic=False))
    outcome = run(attempt_dir).outcome
    assert outcome.status == "succeeded", outcome.message
    return attempt_dir, outcome


@pytest.mark.parametrize("method", ["lora", "head"])
def test_frozen_weights_take_half_the_memory_of_single_precision(tmp_path: Path, llama: Model, method: str) -> None:
    _, half = _run(tmp_path / "half", llama, method)
    _, single = _run(tmp_path / "single", llama, method, use_mixed_precision=False)

    saved_bytes = single.peak_gpu_memory_bytes - half.peak_gpu_memory_bytes
    assert saved_bytes > 0.9 * 2 * BLOCK_WEIGHTS
    assert half.peak_gpu_memory_bytes < 2.6 * BLOCK_WEIGHTS + 200e6


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_model_with_frozen_weights_in_half_precision_learns(bert: Model, precision: str) -> None:
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from transformers import AutoModelForSequenceClassification

    from xautolm_hpc.train.frozen.precision import describe_frozen, freeze, plan_frozen
    from xautolm_hpc.train.methods import apply_method
    from xautolm_hpc.train.optim import build_optimizer
    from xautolm_hpc.train.recipe import parse_recipe

    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=precision)
    recipe = parse_recipe("lora", {**PARAMS, "batch_size": 8, "max_length": 16})
    model = apply_method(AutoModelForSequenceClassification.from_pretrained(str(bert.path)), "lora", recipe=recipe)
    freeze(model, plan_frozen("lora", recipe, precision=precision), device=accelerator.device)
    model = accelerator.prepare_model(model.to(accelerator.device))
    optimizer = accelerator.prepare_optimizer(build_optimizer(model, recipe))
    ids = torch.randint(5, 20, (8, 16), device=accelerator.device)
    labels = torch.arange(8, device=accelerator.device) % 2
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits.float(), labels)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    AcceleratorState._reset_state()

    assert describe_frozen(model) == {"bf16": "bfloat16", "fp16": "float16"}[precision]
    assert losses[-1] < 0.5 * losses[0]
    trained = {p.dtype for p in model.parameters() if p.requires_grad}
    assert trained == {torch.float32}


@needs_library
def test_four_bits_take_a_quarter_and_train_and_export(tmp_path: Path, llama: Model) -> None:
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForSequenceClassification

    _, half = _run(tmp_path / "half", llama, "lora")
    attempt_dir, quantised = _run(tmp_path / "nf4", llama, "lora", quantization="nf4")
    targets = {}
    for is_apart in (False, True):
        step_dir, targets[is_apart] = tmp_path / f"step-{is_apart}", tmp_path / f"exported-{is_apart}"
        step_dir.mkdir()
        for name in (COMMAND, TASK):
            write_json(step_dir / name, read_json(attempt_dir / name))
        wanted = {"trial": str(attempt_dir), "to": str(targets[is_apart]), "facts": FACTS, "adapter": is_apart}
        # An export reads the test split; here validation stands for it.
        described = read_json(attempt_dir / TASK)
        data_dir = Path(described["data_dir"])
        (data_dir / "test.jsonl.gz").write_bytes((data_dir / "validation.jsonl.gz").read_bytes())
        described["sha256"]["test"] = described["sha256"]["validation"]
        write_json(step_dir / TASK, described)
        write_json(step_dir / EXPORT, wanted)
        worker = _export(step_dir)
        assert worker == 0, (step_dir / "log").read_text()

    assert half.peak_gpu_memory_bytes - quantised.peak_gpu_memory_bytes > 0.8 * (2 - 0.53) * BLOCK_WEIGHTS
    with safe_open(attempt_dir / WEIGHTS, framework="pt") as file:
        assert file.metadata()["frozen"] == "nf4+bfloat16"
    merged = AutoModelForSequenceClassification.from_pretrained(targets[False])
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in merged.parameters())
    assert "NF4" in (targets[False] / "README.md").read_text()
    assert json.loads((targets[True] / "adapter_config.json").read_text())["r"] == 8


def _export(step_dir: Path) -> int:
    from tests.gpu.workers import DEADLINE_S, start

    return start(step_dir, "export").wait(timeout=DEADLINE_S)


@needs_library
def test_a_trial_of_four_bits_is_tested_as_it_was_trained(tmp_path: Path, llama: Model) -> None:
    from xautolm_hpc.train.assess import load_trained
    from xautolm_hpc.train.frozen.precision import describe_frozen
    from xautolm_hpc.train.loop import evaluate
    from xautolm_hpc.train.stop import StopFlag

    attempt_dir, outcome = _run(tmp_path, llama, "lora", quantization="nf4")
    described = read_json(attempt_dir / TASK)
    data_dir = Path(described["data_dir"])
    (data_dir / "test.jsonl.gz").write_bytes((data_dir / "validation.jsonl.gz").read_bytes())
    described["sha256"]["test"] = described["sha256"]["validation"]
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)

    state = load_trained(
        attempt_dir,
        command=from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND),
        trial=from_json(TrialInput, described, where=TASK),
        stop=StopFlag(),
    )

    assert plan.pipeline.params["quantization"] == "nf4"
    assert describe_frozen(state.model) == "nf4+bfloat16"
    assert evaluate(state, "test").f1 == pytest.approx(outcome.metrics["f1"], abs=1e-6)


def test_the_peak_is_what_tensors_held_also_while_a_graph_is_replayed() -> None:
    import torch

    from xautolm_hpc.train.finetune import peak_bytes

    static = torch.ones((1024, 1024), device="cuda")
    torch.cuda.synchronize()

    def work() -> Any:
        return (static @ static).relu().sum()

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        work()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    eager = peak_bytes(torch.cuda.memory_stats())
    torch.cuda.reset_peak_memory_stats()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    captured = peak_bytes(torch.cuda.memory_stats())
    for _ in range(3):
        graph.replay()
    torch.cuda.synchronize()

    replayed = peak_bytes(torch.cuda.memory_stats())
    assert replayed == captured
    assert captured == pytest.approx(eager, rel=0.5, abs=64 * 1024**2)
