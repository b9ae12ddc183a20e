"""What is not trained is kept in half precision where the device computes in it; CPUs stand in for GPUs here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.train.families import write_family_attempt
from tests.train.test_export import FACTS
from tests.train.tiny import CONFIGS, PARAMS, tiny_model, tiny_tokens, weights_of
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, EXPORT, PIPELINE, TASK, WEIGHTS, Command, TrialInput, TrialPlan
from xautolm_hpc.records import from_json
from xautolm_hpc.train.assess import load_trained
from xautolm_hpc.train.checkpoint import load_checkpoint, save_checkpoint
from xautolm_hpc.train.data import collate
from xautolm_hpc.train.energy import no_energy_reader
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.export import run_export
from xautolm_hpc.train.finetune import save_weights
from xautolm_hpc.train.frozen.precision import (
    KEPT_SINGLE,
    FrozenPrecision,
    describe_frozen,
    freeze,
    loading_dtype,
    plan_frozen,
    read_frozen,
)
from xautolm_hpc.train.limit.trial_budget import Progress, TrialBudget
from xautolm_hpc.train.loop import TrainState, evaluate, train, trainable
from xautolm_hpc.train.methods import apply_method
from xautolm_hpc.train.prepare import AttemptInputs, build_train_state, is_in_single_only, start_torch
from xautolm_hpc.train.recipe import parse_recipe
from xautolm_hpc.train.stop import StopFlag

CPU = torch.device("cpu")
NO_BIASES = ("llama", "mistral", "qwen3", "phi3", "t5", "modernbert")
LEFT_OUT = [*((name, "bitfit") for name in NO_BIASES), ("deberta", "partial")]
"""No biases; and transformers' first DeBERTa fails under autocast where its biases are in single precision."""

PARTIAL_METHODS = ("partial", "lora", "dora", "ia3", "bitfit", "head")
LEARNING = {"learning_rate": 1e-2, "batch_size": 8, "max_length": 36, "epochs": 2, "early_stopping_patience": 2}
PAIRS = [*((name, "lora") for name in CONFIGS if name != "bert"), *(("bert", method) for method in PARTIAL_METHODS)]
PAIRS += [(name, method) for name in ("llama", "t5", "deberta-v2") for method in ("partial", "bitfit", "ia3", "head")]
IDS = torch.tensor([[5, 6, 7, 3], [8, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    """Forget the precision of the accelerator that a test makes: a process has one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def _frozen_model(name: str, method: str, *, dtype: torch.dtype = torch.bfloat16, **params: Any) -> nn.Module:
    recipe = parse_recipe(method, {**PARAMS, **params})
    model = apply_method(tiny_model(name, dropout=0.0), method, recipe=recipe)
    freeze(model, FrozenPrecision(dtype=dtype), device=CPU)
    return model


def _half_state(folder: Path, architecture: str, *, kind: str, method: str, **params: Any) -> tuple[Path, TrainState]:
    """Build the train state of a trial on a device that computes in bf16."""
    attempt_dir = write_family_attempt(folder, architecture, kind=kind, method=method, params={**LEARNING, **params})
    return attempt_dir, _state_of(attempt_dir)


def _state_of(attempt_dir: Path, precision: str = "bf16") -> TrainState:
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)
    inputs = AttemptInputs(
        attempt_dir=attempt_dir,
        command=from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND),
        trial=from_json(TrialInput, read_json(attempt_dir / TASK), where=TASK),
        plan=plan,
        expects_gpu=False,
    )
    recipe, progress = parse_recipe(plan.pipeline.method, plan.pipeline.params), Progress()
    start_torch(inputs, recipe)
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    budget = TrialBudget(progress, StopFlag(), time_limit_s=600.0)
    return build_train_state(inputs, recipe, accelerator=accelerator, progress=progress, budget=budget)


@pytest.mark.parametrize(("name", "method"), [pair for pair in PAIRS if pair not in LEFT_OUT])
def test_every_method_trains_in_single_precision_beside_frozen_weights_in_half(name: str, method: str) -> None:
    model = _frozen_model(name, method)
    norms = {id(p) for module in model.modules() if isinstance(module, KEPT_SINGLE) for p in module.parameters()}

    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=IDS, attention_mask=MASK).logits
    nn.functional.cross_entropy(logits.float(), torch.tensor([0, 2])).backward()  # type: ignore[no-untyped-call]

    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    frozen = [p for p in model.parameters() if not p.requires_grad and id(p) not in norms]
    assert {p.dtype for p in frozen} == {torch.bfloat16}
    assert {p.grad.dtype for p in trained.values() if p.grad is not None} == {torch.float32}
    assert sum(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained.values()) >= 0.5 * len(trained)
    assert describe_frozen(model) == "bfloat16"


@pytest.mark.parametrize("method", ["full", "lora", "head"])
def test_on_a_device_of_single_precision_nothing_changes(method: str) -> None:
    recipe = parse_recipe(method, PARAMS)
    model = apply_method(tiny_model("bert", dropout=0.0), method, recipe=recipe)
    before = weights_of(model)

    freeze(model, plan_frozen(method, recipe, precision="no"), device=CPU)

    after = weights_of(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and after[name].dtype == torch.float32 for name in before)
    assert describe_frozen(model) == "float32"


@pytest.mark.parametrize(
    ("method", "precision", "dtype"),
    [
        ("full", "bf16", torch.float32),
        ("partial", "bf16", torch.bfloat16),
        ("lora", "fp16", torch.float16),
        ("head", "no", torch.float32),
    ],
)
def test_the_device_and_the_method_decide_the_precision(method: str, precision: str, dtype: torch.dtype) -> None:
    assert plan_frozen(method, parse_recipe(method, PARAMS), precision=precision).dtype == dtype


@pytest.mark.parametrize(
    ("method", "params", "dtype"),
    [
        ("lora", {}, torch.bfloat16),
        ("ia3", {}, torch.bfloat16),
        ("lora", {"init_lora_weights": "pissa"}, torch.float32),
        ("lora", {"lora_bias": "all"}, torch.float32),
        ("partial", {}, torch.float32),
        ("bitfit", {}, torch.float32),
        ("full", {}, torch.float32),
    ],
)
def test_a_model_is_loaded_in_half_only_where_none_of_its_own_weights_are_trained(
    method: str, params: dict[str, Any], dtype: torch.dtype
) -> None:
    recipe = parse_recipe(method, {**PARAMS, **params})

    assert loading_dtype(method, recipe, frozen=plan_frozen(method, recipe, precision="bf16")) == dtype


def test_pissa_decomposes_the_weights_in_single_precision() -> None:
    query: Any = tiny_model("bert", dropout=0.0).get_submodule("bert.encoder.layer.0.attention.self.query")
    original = query.weight.detach().clone()

    model = _frozen_model("bert", "lora", init_lora_weights="pissa", lora_r=4, lora_alpha=4)

    layer: Any = model.get_submodule("base_model.model.bert.encoder.layer.0.attention.self.query")
    product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * layer.scaling["default"]
    residual = (original - product).to(torch.bfloat16)
    assert torch.equal(layer.base_layer.weight, residual)


def test_embeddings_that_are_tied_to_a_trained_head_are_trained_and_stay_tied() -> None:
    model: Any = AutoModelForCausalLM.from_config(CONFIGS["gpt2"])  # type: ignore[no-untyped-call]
    method = apply_method(model, "head", recipe=parse_recipe("head", PARAMS), has_new_head=False)

    freeze(method, FrozenPrecision(dtype=torch.bfloat16), device=CPU)

    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight.dtype == torch.float32
    assert model.transformer.h[0].attn.c_attn.weight.dtype == torch.bfloat16


def test_frozen_tied_embeddings_stay_tied() -> None:
    model: Any = AutoModelForCausalLM.from_config(CONFIGS["gpt2"])  # type: ignore[no-untyped-call]
    wrapped = apply_method(model, "lora", recipe=parse_recipe("lora", PARAMS), has_new_head=False)

    freeze(wrapped, FrozenPrecision(dtype=torch.bfloat16), device=CPU)

    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight.dtype == torch.bfloat16


def test_a_forward_pass_makes_no_copies_of_frozen_weights() -> None:
    model = _frozen_model("llama", "lora")
    frozen = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autocast("cpu", dtype=torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, keep):
        model(input_ids=IDS, attention_mask=MASK)

    base: Any = model.get_submodule("base_model.model.model.layers.1.mlp.down_proj")
    same_size = [tensor for tensor in kept if tensor.numel() == base.weight.numel() and tensor.ndim == 2]
    assert same_size
    assert all(tensor.data_ptr() in frozen for tensor in same_size)


@pytest.mark.parametrize(
    ("architecture", "kind", "method"),
    [
        ("bert", "text-classification", "lora"),
        ("bert", "text-classification", "partial"),
        ("bert", "question-answering", "dora"),
        ("llama", "text-generation", "lora"),
        ("t5", "text-generation", "ia3"),
        ("gpt2", "text-generation", "head"),
    ],
)
def test_a_trial_in_half_precision_is_resumed_tested_and_exported_as_it_was_trained(
    tmp_path: Path, architecture: str, kind: str, method: str
) -> None:
    attempt_dir, state = _half_state(tmp_path, architecture, kind=kind, method=method)
    train(state, save=lambda: None)
    save_checkpoint(tmp_path / "checkpoint", state, energy=no_energy_reader())
    measured = evaluate(state, "validation")
    save_weights(attempt_dir / WEIGHTS, state)

    resumed = _state_of(attempt_dir)
    load_checkpoint(tmp_path / "checkpoint", resumed)
    again = evaluate(resumed, "validation")
    command = from_json(Command, read_json(attempt_dir / COMMAND), where=COMMAND)
    trial = from_json(TrialInput, read_json(attempt_dir / TASK), where=TASK)
    tested = load_trained(attempt_dir, command=command, trial=trial, stop=StopFlag())

    assert read_frozen(attempt_dir / WEIGHTS) == "bfloat16"
    assert {values.dtype for values in load_file(attempt_dir / WEIGHTS).values()} == {torch.float32}
    assert again == measured
    assert trainable(resumed.model).keys() == trainable(tested.model).keys()
    assert {p.dtype for p in tested.model.parameters()} == {torch.float32}  # a CPU computes in single precision
    frozen = {name: p for name, p in state.model.named_parameters() if not p.requires_grad}
    values = dict(tested.model.named_parameters())
    assert all(torch.equal(values[name], p.float()) for name, p in frozen.items())
    assert evaluate(tested, "test").loss == pytest.approx(measured.loss, rel=0.05, abs=0.02)


@pytest.mark.parametrize(("method", "is_apart"), [("lora", False), ("lora", True), ("partial", False)])
def test_an_export_has_the_rounded_weights_and_says_so(tmp_path: Path, method: str, is_apart: bool) -> None:
    attempt_dir, state = _half_state(tmp_path, "bert", kind="text-classification", method=method)
    train(state, save=lambda: None)
    save_weights(attempt_dir / WEIGHTS, state)
    step_dir, target = tmp_path / "step", tmp_path / "exported"
    step_dir.mkdir()
    for name in (COMMAND, TASK):
        write_json(step_dir / name, read_json(attempt_dir / name))
    wanted = {"trial": str(attempt_dir), "to": str(target), "facts": FACTS, "adapter": is_apart}
    write_json(step_dir / EXPORT, wanted)

    assert run_export(step_dir, StopFlag()) == 0

    card = (target / "README.md").read_text()
    assert "were kept in bfloat16" in card
    assert (target / "adapter_model.safetensors").exists() == is_apart
    assert ("Adapters alone" in card) == is_apart
    if not is_apart:
        loaded = AutoModelForSequenceClassification.from_pretrained(target).eval()
        inputs, _ = collate(tiny_tokens(4), torch.arange(4).numpy(), device=CPU)
        with torch.no_grad():
            expected = state.model.eval()(**inputs).logits
            assert torch.allclose(loaded(**inputs).logits, expected, atol=0.05)
        embeddings = loaded.bert.embeddings.word_embeddings.weight
        assert torch.equal(embeddings, embeddings.to(torch.bfloat16).float())


def test_weights_of_an_unknown_precision_are_no_data() -> None:
    with pytest.raises(TrialError, match="'fp3'; this version knows: float32, bfloat16, float16") as caught:
        plan_frozen("lora", parse_recipe("lora", PARAMS), precision="bf16", trained_as="fp3")

    assert caught.value.kind == "data_unavailable"


@pytest.mark.parametrize(("architecture", "is_single"), [("deberta", True), ("deberta-v2", False), ("bert", False)])
def test_an_architecture_that_half_precision_breaks_is_known(
    tmp_path: Path, architecture: str, is_single: bool
) -> None:
    attempt_dir = write_family_attempt(
        tmp_path, architecture, kind="text-classification", method="full", params={"learning_rate": 1e-3}
    )
    plan = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE)

    assert is_in_single_only(plan) is is_single
