"""Weights that do not fit their architecture: refused before anything is trained, whatever the family."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.train.attempts import read_end
from tests.train.families import run_attempt, write_family_attempt, write_model
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import PIPELINE
from xautolm_hpc.train.exceptions import UnfitModelError
from xautolm_hpc.train.fit.check_models import find_fault
from xautolm_hpc.train.pretrained import find_source, load_config, load_model

PARAMS: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 8, "max_length": 24, "epochs": 3}
KINDS = {"bert": "text-classification", "llama": "text-generation", "t5": "text-generation"}
"""An encoder, a decoder and an encoder-decoder model, and a kind of task that each can learn."""

Damage = Callable[[Path], None]


def _rename(change: Callable[[str], str]) -> Damage:
    def damage(folder: Path) -> None:
        _write(folder, {change(name): tensor for name, tensor in _read(folder).items()})

    return damage


def _read(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def _write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def _set(**changes: int) -> Damage:
    def damage(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def _cast(dtype: torch.dtype, part: str = "") -> Damage:
    def damage(folder: Path) -> None:
        _write(folder, {name: t.to(dtype) if part in name else t for name, t in _read(folder).items()})

    return damage


def _fill(value: float, part: str = "", *, at: int = 0) -> Damage:
    def damage(folder: Path) -> None:
        tensors = _read(folder)
        for name, tensor in tensors.items():
            if part in name:
                tensor[at:] = value
        _write(folder, tensors)

    return damage


def _add_adapter(folder: Path) -> None:
    name = "encoder.layer.0.attention.self.query.lora_A.weight"
    _write(folder, {**_read(folder), name: torch.ones(4, 32)})


def _without_layer(folder: Path) -> None:
    kept = {name: tensor for name, tensor in _read(folder).items() if not set(name.split(".")) & {"1"}}
    assert len(kept) < len(_read(folder))
    _write(folder, kept)


def _divide(folder: Path) -> None:
    """Divide the weights in two files with an index, as those of large models are."""
    tensors = _read(folder)
    parts: dict[str, dict[str, Tensor]] = {}
    for number, (name, tensor) in enumerate(sorted(tensors.items())):
        parts.setdefault(f"model-0000{1 + number % 2}-of-00002.safetensors", {})[name] = tensor
    for file, content in parts.items():
        save_file(content, folder / file, metadata={"format": "pt"})
    index = {name: file for file, content in parts.items() for name in content}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (folder / "model.safetensors").unlink()


WRAPPED: dict[str, Callable[[str], str]] = {
    "module.": lambda name: f"module.{name}",
    "_orig_mod.": lambda name: f"_orig_mod.{name}",
    "module._orig_mod.": lambda name: f"module._orig_mod.{name}",
    "0.auto_model.": lambda name: f"0.auto_model.{name}",
    "0.model.": lambda name: f"0.model.{name}",
    "base_model.model.": lambda name: f"base_model.model.{name}",
    "_fsdp_wrapped_module.": lambda name: (
        f"_fsdp_wrapped_module.{name.replace('layer.', 'layer._fsdp_wrapped_module.')}"
    ),
    "in the middle": lambda name: name.replace("layer.", "layer._orig_mod.").replace("layers.", "layers._orig_mod."),
}


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_weights_saved_in_a_wrapper_are_the_same_model_and_the_note_names_its_prefix(
    tmp_path: Path, architecture: str, wrap: Callable[[str], str]
) -> None:
    plain, wrapped = write_model(tmp_path / "a", architecture), write_model(tmp_path / "b", architecture)
    _rename(wrap)(tmp_path / "b")
    _divide(tmp_path / "b")

    expected, _ = _load(plain, KINDS[architecture])
    found, notes = _load(wrapped, KINDS[architecture])

    names = [name for name, _ in expected.named_parameters() if "classifier" not in name]
    assert all(torch.equal(expected.get_parameter(name), found.get_parameter(name)) for name in names)
    changed = wrap("encoder.layer.layers.x") != "encoder.layer.layers.x"
    assert bool(notes) is changed
    assert all("without the prefix" in note for note in notes)
    assert find_fault(wrapped, KINDS[architecture], hf_home=None).notes == notes


def _load(model: Model, kind: str) -> tuple[Any, tuple[str, ...]]:
    source = find_source(model, None)
    config = load_config(source, model, dropout_rate=None, tokenizer=None)
    auto = {"encoder": "AutoModelForSequenceClassification", "decoder": "AutoModelForCausalLM"}
    auto_class = auto.get(model.family, "AutoModelForSeq2SeqLM")
    torch.manual_seed(3)
    has_new_head = kind != "text-generation"
    return load_model(source, model, auto_class=auto_class, config=config, has_new_head=has_new_head)


def test_a_folder_of_wrapped_weights_trains_to_the_same_scores_and_says_so(tmp_path: Path) -> None:
    dirs = [
        write_family_attempt(tmp_path / name, "bert", kind="text-classification", method="full", params=PARAMS)
        for name in ("plain", "wrapped")
    ]
    _rename(WRAPPED["module."])(tmp_path / "wrapped" / "model")

    plain, wrapped = (run_attempt(attempt_dir) for attempt_dir in dirs)

    assert wrapped.metrics == plain.metrics
    assert plain.message is None
    assert wrapped.message == "model bert: the names of its weights were read without the prefix module."


def test_a_decoder_answers_questions_with_the_weights_of_the_file(tmp_path: Path) -> None:
    """Its class for questions calls the decoder by another name than the file does."""
    model = write_model(tmp_path, "llama")
    config = load_config(find_source(model, None), model, dropout_rate=None, tokenizer=None)

    loaded, notes = load_model(
        find_source(model, None), model, auto_class="AutoModelForQuestionAnswering", config=config, has_new_head=True
    )

    saved = _read(tmp_path)["model.layers.1.mlp.up_proj.weight"]
    assert torch.equal(loaded.get_parameter("transformer.layers.1.mlp.up_proj.weight"), saved)
    assert notes == ()


UNFIT: dict[str, tuple[str, Damage, str]] = {
    "other names, encoder": ("bert", _rename(lambda name: f"other.{name}"), "word_embeddings.weight is missing"),
    "other names, decoder": ("llama", _rename(lambda name: f"other.{name}"), "embed_tokens.weight is missing"),
    "other names, seq2seq": ("t5", _rename(lambda name: f"other.{name}"), "is missing"),
    "a layer missing, encoder": ("bert", _without_layer, "encoder.layer.1.attention.self.query.weight is missing"),
    "a layer missing, decoder": ("llama", _without_layer, "layers.1.self_attn.q_proj.weight is missing"),
    "a layer missing, seq2seq": ("t5", _without_layer, "is missing"),
    "a wrong vocabulary": ("bert", _set(vocab_size=61), "has the shape (60, 32), config.json asks for (61, 32)"),
    "a wrong width": ("bert", _set(intermediate_size=64), "has the shape (48, 32), config.json asks for (64, 32)"),
    "a wrong width, decoder": ("llama", _set(intermediate_size=64), "config.json asks for (64, 32)"),
    "too many layers": ("bert", _set(num_hidden_layers=3), "encoder.layer.2."),
    "half a pooler": (
        "bert",
        lambda folder: _write(folder, {n: t for n, t in _read(folder).items() if n != "pooler.dense.bias"}),
        "bert.pooler.dense.bias is missing",
    ),
    "whole numbers, encoder": ("bert", _cast(torch.int8), "embeddings.LayerNorm.bias is int8"),
    "whole numbers, decoder": ("llama", _cast(torch.int8, "up_proj"), "layers.0.mlp.up_proj.weight is int8"),
    "whole numbers, seq2seq": ("t5", _cast(torch.int64, "wi"), "wi.weight is int64"),
    "numbers of 8 bits without a scale": ("bert", _cast(torch.float8_e4m3fn, "query"), "query.weight is float8_e4m3fn"),
    "too few layers, encoder": ("bert", _set(num_hidden_layers=1), "encoder.layer.1.attention.output.LayerNorm.bias"),
    "too few layers, decoder": ("llama", _set(num_hidden_layers=1), "tensors of the file are of blocks"),
    "too few layers, seq2seq": ("t5", _set(num_layers=1), "encoder.block.1."),
    "too few layers of a decoder, seq2seq": ("t5", _set(num_decoder_layers=1), "decoder.block.1."),
    "an adapter that is not merged": ("bert", _add_adapter, "query.lora_A.weight"),
}  # fmt: skip
NOT_FINITE: dict[str, tuple[str, Damage, str]] = {
    "all NaN": ("bert", _fill(float("nan")), "embeddings.LayerNorm.bias holds NaN"),
    "a layer NaN, decoder": ("llama", _fill(float("nan"), "layers.1.mlp.up"), "layers.1.mlp.up_proj.weight holds NaN"),
    "a tensor infinite, seq2seq": ("t5", _fill(float("-inf"), "1.layer.0.SelfAttention.q"), "SelfAttention.q.weight"),
}


@pytest.mark.parametrize(("architecture", "damage", "message"), UNFIT.values(), ids=UNFIT)
def test_parameters_that_would_start_at_random_end_a_trial_without_another_attempt(
    tmp_path: Path, architecture: str, damage: Damage, message: str
) -> None:
    kind = KINDS[architecture]
    attempt_dir = write_family_attempt(tmp_path, architecture, kind=kind, method="full", params=PARAMS)
    damage(tmp_path / "model")

    outcome = run_attempt(attempt_dir)

    assert (outcome.kind, outcome.origin) == ("data_unavailable", "infrastructure"), outcome.message
    assert read_end(attempt_dir).is_model_unfit
    assert outcome.message is not None
    assert message in outcome.message
    assert f"model {architecture}: its weights in `{tmp_path / 'model'}` do not fit" in outcome.message


@pytest.mark.parametrize(("architecture", "damage", "message"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_weights_that_are_not_finite_are_named_by_the_check_and_by_the_trial(
    tmp_path: Path, architecture: str, damage: Damage, message: str
) -> None:
    kind = KINDS[architecture]
    attempt_dir = write_family_attempt(tmp_path, architecture, kind=kind, method="full", params=PARAMS)
    model = write_model(tmp_path / "model", architecture)
    damage(tmp_path / "model")

    finding, outcome = find_fault(model, kind, hf_home=None), run_attempt(attempt_dir)

    assert (finding.kind, outcome.kind) == ("data_unavailable", "data_unavailable"), outcome.message
    assert read_end(attempt_dir).is_model_unfit
    assert message in (finding.reason or "")
    assert "are not all finite: " in (outcome.message or "")


def test_one_number_that_is_not_finite_ends_a_trial(tmp_path: Path) -> None:
    attempt_dir = write_family_attempt(tmp_path, "bert", kind="text-classification", method="head", params=PARAMS)
    _fill(float("inf"), "layer.1.output.dense.bias", at=31)(tmp_path / "model")

    outcome = run_attempt(attempt_dir)

    assert outcome.kind == "data_unavailable"
    assert "bert.encoder.layer.1.output.dense.bias holds NaN or infinite values" in (outcome.message or "")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_weights_in_any_floating_point_numbers_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    model = write_model(tmp_path, "bert")
    _cast(dtype)(tmp_path)
    _write(tmp_path, {**_read(tmp_path), "embeddings.position_ids": torch.arange(40)})

    loaded, _ = _load(model, "text-classification")

    saved = _read(tmp_path)["pooler.dense.weight"].to(torch.float32)
    assert torch.equal(loaded.get_parameter("bert.pooler.dense.weight"), saved)
    assert find_fault(model, "text-classification", hf_home=None).reason is None


def test_blocks_that_the_search_leaves_out_are_no_fault(tmp_path: Path) -> None:
    model = dataclasses.replace(write_model(tmp_path, "bert"), keep_layers=1)

    loaded, _ = _load(model, "text-classification")

    assert loaded.config.num_hidden_layers == 1
    assert find_fault(model, "text-classification", hf_home=None).reason is None


@pytest.mark.parametrize(("architecture", "damage", "message"), UNFIT.values(), ids=UNFIT)
def test_the_check_finds_by_the_headers_what_a_trial_would_end_with(
    tmp_path: Path, architecture: str, damage: Damage, message: str
) -> None:
    model = write_model(tmp_path, architecture)
    damage(tmp_path)
    _divide(tmp_path)

    finding = find_fault(model, KINDS[architecture], hf_home=None)

    assert finding.kind == "data_unavailable"
    assert message in (finding.reason or "")


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _replace_by_a_pointer(folder: Path) -> None:
    """Leave what a clone without its large files holds."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")


UNREADABLE: dict[str, tuple[Damage, str]] = {
    "weights cut short": (_cut, "SafetensorError: Error while deserializing header"),
    "a pointer of Git LFS": (_replace_by_a_pointer, "SafetensorError: Error while deserializing header"),
    "no heads": (_set(num_attention_heads=0), "num_attention_heads = 0; expected at least 1"),
}


@pytest.mark.parametrize(("damage", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_the_check_says_which_model_cannot_be_read(tmp_path: Path, damage: Damage, message: str) -> None:
    model = write_model(tmp_path, "bert")
    damage(tmp_path)

    finding = find_fault(model, "text-classification", hf_home=None)

    assert finding.reason is not None
    assert finding.reason.startswith("model bert: it cannot be built from its files: ")
    assert message in finding.reason


def test_more_blocks_kept_than_there_are_is_refused_with_both_numbers(tmp_path: Path) -> None:
    attempt_dir = write_family_attempt(tmp_path, "bert", kind="text-classification", method="full", params=PARAMS)
    plan = read_json(attempt_dir / PIPELINE)
    write_json(attempt_dir / PIPELINE, {**plan, "model": {**plan["model"], "keep_layers": 4}})

    outcome = run_attempt(attempt_dir)

    assert outcome.kind == "data_unavailable"
    assert "keep_layers = 4, but its config.json has 2 blocks; expected 1 to 2" in (outcome.message or "")


def test_what_may_be_new_and_what_is_too_much_in_the_file_are_no_fault(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bert")
    tensors = {name: tensor for name, tensor in _read(tmp_path).items() if "pooler" not in name}
    head = {"classifier.weight": torch.ones(7, 32), "cls.predictions.bias": torch.ones(60)}
    _write(tmp_path, {**tensors, **head})

    loaded, notes = _load(model, "text-classification")

    assert notes == ()
    assert loaded.get_parameter("classifier.weight").shape == (2, 32)
    assert find_fault(model, "text-classification", hf_home=None).reason is None


def test_a_decoder_without_its_head_cannot_write(tmp_path: Path) -> None:
    model = write_model(tmp_path, "llama")
    _write(tmp_path, {name: tensor for name, tensor in _read(tmp_path).items() if name != "lm_head.weight"})

    with pytest.raises(UnfitModelError, match=r"1 of \d+ parameters would start at random: lm_head.weight is missing"):
        _load(model, "text-generation")


@pytest.mark.parametrize("architecture", ["t5", "bart", "gpt2"])
def test_tied_and_computed_tensors_need_not_be_in_the_file(tmp_path: Path, architecture: str) -> None:
    model = write_model(tmp_path, architecture)
    tensors = _read(tmp_path)
    _write(tmp_path, {name: t for name, t in tensors.items() if "lm_head" not in name and "final_logits" not in name})

    loaded, notes = _load(model, "text-generation")

    assert notes == ()
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
