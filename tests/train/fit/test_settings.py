"""What config.json says: an earlier task leaves nothing behind, and what no model can be built from is named."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from tests.train.attempts import read_end
from tests.train.families import run_attempt, write_family_attempt, write_model
from xautolm_hpc.train.exceptions import UnfitModelError
from xautolm_hpc.train.fit.check_models import find_fault
from xautolm_hpc.train.fit.settings import reset_task_settings
from xautolm_hpc.train.pretrained import find_source, load_config

PARAMS: dict[str, Any] = {"learning_rate": 1e-2, "batch_size": 8, "max_length": 24, "epochs": 3}
ENCODER_LEFTOVERS = {
    "is_decoder": True,
    "add_cross_attention": True,
    "cross_attention_hidden_size": 32,
    "is_encoder_decoder": True,
    "chunk_size_feed_forward": 2,
    "output_attentions": True,
    "output_hidden_states": True,
    "torchscript": True,
    "return_dict": False,
    "problem_type": "multi_label_classification",
    "use_cache": False,
}


def _set(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("key", ENCODER_LEFTOVERS)
def test_an_encoder_trains_to_the_same_scores_whatever_its_last_task_left_in_its_configuration(
    tmp_path: Path, key: str
) -> None:
    dirs = [
        write_family_attempt(tmp_path / name, "bert", kind="text-classification", method="full", params=PARAMS)
        for name in ("plain", "left")
    ]
    _set(tmp_path / "left" / "model", **{key: ENCODER_LEFTOVERS[key]})

    plain, left = (run_attempt(attempt_dir) for attempt_dir in dirs)

    assert left.metrics == plain.metrics, left.message
    assert [point[:2] for point in left.curve] == [point[:2] for point in plain.curve]


def test_an_encoder_used_as_a_decoder_does_not_see_the_words_it_is_to_write(tmp_path: Path) -> None:
    model = dataclasses.replace(write_model(tmp_path, "bert"), family="decoder")
    config = load_config(find_source(model, None), model, dropout_rate=None, tokenizer=None)
    built: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    built.train(mode=False)

    first, second = (built(input_ids=torch.tensor([[5, 6, last]])).last_hidden_state for last in (7, 8))

    assert torch.allclose(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2], second[:, 2])


@pytest.mark.parametrize(("architecture", "family"), [("bert", "seq2seq"), ("t5", "encoder"), ("bart", "decoder")])
def test_a_family_that_is_not_that_of_the_architecture_is_refused(
    tmp_path: Path, architecture: str, family: str
) -> None:
    model = dataclasses.replace(write_model(tmp_path, architecture), family=family)

    with pytest.raises(UnfitModelError, match=rf"family = '{family}', but its architecture '{architecture}' is .*"):
        load_config(find_source(model, None), model, dropout_rate=None, tokenizer=None)


def test_settings_that_a_configuration_lacks_are_not_added(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bert")
    config = BertConfig()
    before = set(config.to_dict())

    reset_task_settings(config, model)

    assert set(config.to_dict()) - before <= {"problem_type", "id2label", "label2id"}


NOT_BUILDABLE: dict[str, tuple[str, dict[str, Any], str]] = {
    "text for a number": ("bert", {"hidden_size": "32"}, "Field 'hidden_size' expected int, got str (value: '32')"),
    "a fraction": ("llama", {"num_hidden_layers": 2.5}, "Field 'num_hidden_layers' expected int"),
    "an unknown activation": ("bert", {"hidden_act": "foo"}, "hidden_act = 'foo'"),
    "an unknown activation, decoder": ("llama", {"hidden_act": "foo"}, "hidden_act = 'foo'"),
    "an unknown activation, seq2seq": ("t5", {"dense_act_fn": "foo"}, "dense_act_fn = 'foo'"),
    "heads that do not divide the width": ("bert", {"num_attention_heads": 5}, "num_attention_heads = 5"),
    "heads that do not divide, decoder": (
        "llama",
        {"num_attention_heads": 4, "num_key_value_heads": 3},
        "num_attention_heads = 4 is no multiple of num_key_value_heads = 3",
    ),
    "no vocabulary": ("bert", {"vocab_size": 0}, "vocab_size = 0; expected at least 1"),
    "no blocks": ("bert", {"num_hidden_layers": 0}, "num_hidden_layers = 0; expected at least 1"),
    "a rate above 1": ("bert", {"hidden_dropout_prob": 1.5}, "1.5"),
    "an unknown architecture": ("bert", {"model_type": "nothing"}, "nothing"),
}


@pytest.mark.parametrize(("architecture", "changes", "message"), NOT_BUILDABLE.values(), ids=NOT_BUILDABLE)
def test_a_configuration_that_no_model_can_be_built_from_is_named_with_its_key_and_is_no_evidence(
    tmp_path: Path, architecture: str, changes: dict[str, Any], message: str
) -> None:
    kind = "text-classification" if architecture == "bert" else "text-generation"
    attempt_dir = write_family_attempt(tmp_path, architecture, kind=kind, method="full", params=PARAMS)
    model = write_model(tmp_path / "model", architecture)
    _set(tmp_path / "model", **changes)

    finding, outcome = find_fault(model, kind, hf_home=None), run_attempt(attempt_dir)

    assert (finding.kind, outcome.kind) == ("data_unavailable", "data_unavailable"), outcome.message
    assert read_end(attempt_dir).is_model_unfit
    assert finding.reason is not None
    assert message in finding.reason
    assert f"model {architecture}: it cannot be built from its files: config.json in `" in finding.reason
    assert outcome.message == finding.reason


def test_a_tokeniser_of_an_unknown_kind_is_named(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bert")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model": {"type": "nothing"}}))

    finding = find_fault(model, "text-classification", hf_home=None)

    assert finding.kind == "data_unavailable"
    assert "model bert: it cannot be built from its files: its tokeniser in `" in (finding.reason or "")


def test_quantised_weights_are_refused_with_what_to_give(tmp_path: Path) -> None:
    model = write_model(tmp_path, "bert")
    _set(tmp_path, quantization_config={"quant_method": "gptq", "bits": 4})

    finding = find_fault(model, "text-classification", hf_home=None)

    assert finding.kind == "unsupported"
    assert "are quantised (gptq); fine-tuning needs them as floating-point numbers" in (finding.reason or "")
