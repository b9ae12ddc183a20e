"""Ids and positions that a model has no embeddings for: its own limits are kept, new tokens are learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, NystromformerConfig, OPTConfig, PreTrainedTokenizerFast

from tests.train.families import family_train_state, labelled_rows, question_rows, run_attempt, write_family_attempt
from tests.train.tiny import CONFIGS, VOCAB
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import PIPELINE, WEIGHTS, TrialPlan
from xautolm_hpc.records import from_json
from xautolm_hpc.train.fit.check_models import find_fault
from xautolm_hpc.train.fit.embeddings import measure_limits

PARAMS: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 4, "max_length": 40, "epochs": 2, "weight_decay": 0.5}
LONG = " lives in Oslo" * 30


@pytest.mark.parametrize(
    ("config", "n_positions"),
    [
        (CONFIGS["bert"], 40),
        (CONFIGS["roberta"], 38),  # of 40 rows two are reserved: the padding token's number is 1
        (CONFIGS["xlm-roberta"], 38),
        (CONFIGS["gpt2"], 40),
        (CONFIGS["bart"], 40),  # its table has two rows more
        (CONFIGS["distilbert"], 40),
        (OPTConfig(max_position_embeddings=40, hidden_size=16, num_attention_heads=2, word_embed_proj_dim=16), 40),
        (NystromformerConfig(max_position_embeddings=40, hidden_size=16, num_attention_heads=2), 40),
        (CONFIGS["llama"], None),
        (CONFIGS["t5"], None),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_the_positions_that_an_architecture_can_index(config: Any, n_positions: int | None) -> None:
    assert measure_limits(config).n_positions == n_positions


def _attempt(folder: Path, architecture: str, *, kind: str = "text-classification", method: str = "full") -> Path:
    """Write an attempt with texts longer than any model, whose catalogue entry and tokeniser allow too much."""
    rows = labelled_rows() if kind == "text-classification" else question_rows()
    for row in rows:
        key = "text" if kind == "text-classification" else "context"
        row[key] += LONG
    attempt_dir = write_family_attempt(folder, architecture, kind=kind, method=method, params=PARAMS, rows=rows)
    plan = read_json(attempt_dir / PIPELINE)
    write_json(attempt_dir / PIPELINE, {**plan, "model": {**plan["model"], "context_length": 512}})
    path = folder / "model" / "tokenizer_config.json"
    write_json(path, {**read_json(path), "model_max_length": 512})
    return attempt_dir


@pytest.mark.parametrize("kind", ["text-classification", "question-answering"])
@pytest.mark.parametrize("architecture", ["roberta", "xlm-roberta"])
def test_texts_are_cut_to_the_positions_that_are_left(tmp_path: Path, architecture: str, kind: str) -> None:
    attempt_dir = _attempt(tmp_path, architecture, kind=kind)

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message
    assert (
        f"max_length = 40: texts are cut to the 38 positions that model {architecture} has"
        in (outcome.message or "").splitlines()
    )


def test_an_encoder_decoder_writes_no_answer_beyond_its_positions(tmp_path: Path) -> None:
    rows = [{**row, "answers": [{"text": "Oslo " * 60, "answer_start": 0}]} for row in question_rows()]
    attempt_dir = write_family_attempt(
        tmp_path, "bart", kind="text-generation", method="head", params={**PARAMS, "epochs": 1}, rows=rows
    )

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message


def _add_tokens(folder: Path, *, pad: bool = False) -> None:
    """Add 40 tokens to a tokeniser, the last of them far beyond the model's 60 rows."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{number}" for number in range(40)])
    if pad:
        tokenizer.add_special_tokens({"pad_token": "[NEW PAD]"})
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) > VOCAB


def _rows_with_new_tokens(kind: str) -> list[dict[str, Any]]:
    rows = labelled_rows() if kind == "text-classification" else question_rows()
    for number, row in enumerate(rows):
        if kind == "text-classification":
            row["text"] = f"new39 {row['text']}"
        else:
            row["question"] = f"new{39 - number % 2} {row['question']}"
    return rows


@pytest.mark.parametrize("method", ["full", "partial", "head", "lora"])
@pytest.mark.parametrize(
    ("architecture", "kind"),
    [("bert", "text-classification"), ("llama", "text-generation"), ("t5", "text-generation")],
)
def test_rows_of_added_tokens_are_learnt_and_the_others_stay_as_the_method_says(
    tmp_path: Path, architecture: str, kind: str, method: str
) -> None:
    rows = _rows_with_new_tokens(kind)
    params = {**PARAMS, "max_length": 36, "dropout_rate": 0.0}
    attempt_dir = write_family_attempt(tmp_path, architecture, kind=kind, method=method, params=params, rows=rows)
    _add_tokens(tmp_path / "model")

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message
    kept = load_file(attempt_dir / WEIGHTS)
    name = next(
        name for name in kept if name.endswith(("word_embeddings.weight", "embed_tokens.weight", "shared.weight"))
    )
    before = load_file(tmp_path / "model" / "model.safetensors")
    old = next(tensor for key, tensor in before.items() if name.endswith(key) or key.endswith(name.split("model.")[-1]))
    n_ids = len(AutoTokenizer.from_pretrained(tmp_path / "model"))
    assert kept[name].shape == (n_ids, 32)
    trains_all = method == "full" or (
        architecture == "t5" and method in ("partial", "head")
    )  # its head is tied to them
    assert torch.equal(kept[name][:VOCAB], old) is not trains_all


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "mistral"])
def test_a_new_padding_token_is_no_error_and_a_decoder_still_finds_the_last_token(
    tmp_path: Path, architecture: str
) -> None:
    attempt_dir = write_family_attempt(
        tmp_path, architecture, kind="text-classification", method="full", params={**PARAMS, "max_length": 36}
    )
    _add_tokens(tmp_path / "model", pad=True)

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message


def test_the_padding_token_of_a_decoder_is_that_of_its_tokeniser(tmp_path: Path) -> None:
    state = family_train_state(tmp_path, "llama", kind="text-classification", method="full", params=PARAMS)

    config: Any = state.model.config

    assert AutoConfig.from_pretrained(tmp_path / "model").pad_token_id == 0
    assert config.pad_token_id == 3  # the tokeniser pads with its end token


def test_a_tokeniser_of_another_model_is_unsupported_and_found_before_the_first_trial(tmp_path: Path) -> None:
    attempt_dir = write_family_attempt(
        tmp_path, "bert", kind="text-classification", method="full", params={**PARAMS, "max_length": 36}
    )
    backend = Tokenizer(models.WordLevel({f"word{n}": n for n in range(90)} | {"[UNK]": 90}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    make: Any = PreTrainedTokenizerFast
    make(tokenizer_object=backend, unk_token="[UNK]", pad_token="word0").save_pretrained(tmp_path / "model")
    model = from_json(TrialPlan, read_json(attempt_dir / PIPELINE), where=PIPELINE).model

    outcome = run_attempt(attempt_dir)

    assert outcome.kind == "unsupported"
    assert outcome.message == find_fault(model, "text-classification", hf_home=None).reason
    assert "its tokeniser has token ids up to 89, its embeddings 60 rows" in (outcome.message or "")


def _keep_one_token_type(folder: Path) -> None:
    config, path = read_json(folder / "config.json"), folder / "model.safetensors"
    write_json(folder / "config.json", {**config, "type_vocab_size": 1})
    tensors = load_file(path)
    name = "embeddings.token_type_embeddings.weight"
    save_file({**tensors, name: tensors[name][:1].clone()}, path, metadata={"format": "pt"})


@pytest.mark.parametrize("architecture", ["roberta", "distilbert", "bert"])
def test_token_types_that_a_model_has_no_rows_for_are_left_out(tmp_path: Path, architecture: str) -> None:
    params = {**PARAMS, "max_length": 36}
    attempt_dir = write_family_attempt(tmp_path, architecture, kind="question-answering", method="full", params=params)
    path = tmp_path / "model" / "tokenizer_config.json"
    if architecture == "roberta":
        _keep_one_token_type(tmp_path / "model")
    names = ["input_ids", "token_type_ids", "attention_mask"]
    write_json(path, {**read_json(path), "model_input_names": names})

    outcome = run_attempt(attempt_dir)

    assert outcome.succeeded, outcome.message
