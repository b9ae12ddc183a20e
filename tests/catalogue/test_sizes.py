"""Every size in the catalogue is that of the architecture that transformers builds from the published configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig
from transformers.models.auto import modeling_auto

from benchmarks.real_size.published import CONFIGS, published, published_config
from xautolm_hpc.catalogue import Model, load_catalogue
from xautolm_hpc.driver.model_files import DECODERS, ENCODERS, ModelFiles
from xautolm_hpc.execution import load_step_costs
from xautolm_hpc.train.pretrained import find_source

CATALOGUE = load_catalogue()
HUB_MODELS = [name for name, model in CATALOGUE.items() if model.hub_repo]
PACKAGED = [name for name, model in CATALOGUE.items() if model.package]

LENGTH_BY_TRAINING = {"t5": 512, "mt5": 1024}
"""Types that number no positions -> tokens they were trained on (Raffel et al. 2020; Xue et al. 2021)."""
BEHIND_PADDING = ("roberta", "xlm-roberta")
"""Types whose first two positions are never used."""

HUB_TOTALS = {
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-1.7B-Base": 1_720_574_976,
    "Qwen/Qwen3-4B-Base": 4_022_468_096,
    "Qwen/Qwen3-8B-Base": 8_190_735_360,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": 1_777_088_000,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B": 14_770_033_664,
    "deepseek-ai/DeepSeek-V2-Lite": 15_706_484_224,
    "google/gemma-3-270m": 268_098_176,
    "google/gemma-3-1b-pt": 999_885_952,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/Phi-4": 14_659_507_200,
    "microsoft/Phi-4-mini-instruct": 3_836_021_760,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mistral-Nemo-Base-2407": 12_247_782_400,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
}
"""Decoder -> parameters that the hub shows for it: those of its files, which hold the head where it is not tied."""


@dataclass(frozen=True)
class Built:
    """An architecture on the meta device, which holds no weights."""

    config: PretrainedConfig
    names: tuple[str, ...]
    n_parameters: int


def build(config: PretrainedConfig) -> Built:
    """Build an architecture without heads; tied weights count once."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    weights = dict(model.named_parameters())
    return Built(config, tuple(weights), sum({id(p): p.numel() for p in weights.values()}.values()))


@cache
def built(name: str) -> Built:
    """Build the architecture of a model of the hub."""
    return build(published_config(name))


def context_length(config: PretrainedConfig) -> int:
    if config.model_type in LENGTH_BY_TRAINING:
        return LENGTH_BY_TRAINING[config.model_type]
    return int(config.max_position_embeddings) - (2 if config.model_type in BEHIND_PADDING else 0)


def n_blocks(config: PretrainedConfig) -> int:
    if config.model_type in LENGTH_BY_TRAINING:
        return int(config.num_layers + config.num_decoder_layers)
    return int(config.encoder_layers + config.decoder_layers if config.is_encoder_decoder else config.num_hidden_layers)


def family(config: PretrainedConfig) -> str:
    if config.is_encoder_decoder:
        return "seq2seq"
    return "encoder" if config.model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES else "decoder"


def sizes(model: Model) -> Mapping[str, Any]:
    names = ("family", "n_parameters", "n_layers", "hidden_size", "vocab_size", "context_length")
    return {name: getattr(model, name) for name in names}


def sizes_of(found: Built) -> Mapping[str, Any]:
    return {
        "family": family(found.config),
        "n_parameters": found.n_parameters,
        "n_layers": n_blocks(found.config),
        "hidden_size": found.config.hidden_size,
        "vocab_size": found.config.vocab_size,
        "context_length": context_length(found.config),
    }


def test_every_model_of_a_hub_has_its_published_configuration_here() -> None:
    assert set(CONFIGS) == set(HUB_MODELS)


@pytest.mark.parametrize("name", HUB_MODELS)
def test_sizes_are_those_of_the_architecture(name: str) -> None:
    assert sizes(CATALOGUE[name]) == sizes_of(built(name))


@pytest.mark.parametrize("name", PACKAGED)
def test_sizes_of_a_packaged_model_are_those_of_its_first_blocks(name: str) -> None:
    model = CATALOGUE[name]
    config = AutoConfig.from_pretrained(find_source(model, None).place, local_files_only=True)
    config.num_hidden_layers = model.keep_layers

    assert sizes(model) == sizes_of(build(config))


@pytest.mark.parametrize("name", HUB_MODELS)
def test_bitfit_and_question_answering_are_left_out_where_the_architecture_has_no_bias_or_no_head(name: str) -> None:
    model, found = CATALOGUE[name], built(name)
    has_biases = any(part.endswith(".bias") for part in found.names)
    has_head = found.config.model_type in modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES

    assert model.unsupported_methods == (() if has_biases else ("bitfit",))
    assert model.unsupported_tasks == (() if has_head else ("question-answering",))


@pytest.mark.parametrize("name", HUB_TOTALS)
def test_with_its_head_a_decoder_has_the_parameters_that_the_hub_shows(name: str) -> None:
    model = CATALOGUE[name]
    is_tied = published(name).get("tie_word_embeddings", True)
    head = 0 if is_tied else model.vocab_size * model.hidden_size

    assert model.n_parameters + head == HUB_TOTALS[name]


@pytest.mark.parametrize("name", HUB_MODELS)
def test_from_the_published_configuration_a_users_model_would_be_read_likewise(name: str) -> None:
    files = ModelFiles(Path(), config=published(name), tensors={}, pickled_bytes=0)

    read = files.describe(keep_layers=None)

    expected = {key: value for key, value in sizes(CATALOGUE[name]).items() if key != "n_parameters"}
    assert {key: read[key] for key in expected} == expected


def test_types_of_models_are_of_the_family_that_transformers_has_them_in() -> None:
    encoders, decoders = (
        modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    )

    assert not ENCODERS & DECODERS
    assert set(encoders) >= ENCODERS
    assert set(decoders) >= DECODERS
    assert not DECODERS & set(encoders)


@pytest.mark.parametrize("name", load_step_costs())
def test_a_step_of_full_trains_every_parameter_of_the_model_and_a_small_head(name: str) -> None:
    assert load_step_costs()[name].costs["full/half"].n_trained == pytest.approx(CATALOGUE[name].n_parameters, rel=0.01)


def test_nearly_every_model_has_costs() -> None:
    without = {"pysentimiento/robertuito-base-uncased", "mistralai/Mixtral-8x7B-Instruct-v0.1"}
    assert set(CATALOGUE) - set(load_step_costs()) <= without | {"deepseek-ai/DeepSeek-V2-Lite"}
