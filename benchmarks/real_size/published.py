"""Pretrained models by their published configurations, without their weights: ``architectures.toml``."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig

from xautolm_hpc.catalogue import Model, load_catalogue

ARCHITECTURES = Path(__file__).with_name("architectures.toml")
ENCODERS = ("modernbert", "eurobert", "deberta-v2")
"""Types of encoders among the models that the catalogue lacks; the others are decoders, or encoder-decoder models."""


@lru_cache(maxsize=1)
def load_architectures() -> Mapping[str, Mapping[str, Any]]:
    """Read the configurations: model id -> what its config.json says."""
    return tomllib.loads(ARCHITECTURES.read_text())


def published_config(model_id: str) -> PretrainedConfig:
    """Build the configuration of a model; a new one for each call."""
    return AutoConfig.for_model(**load_architectures()[model_id])


def published_model(model_id: str) -> Model:
    """Describe a model: as the catalogue does, or by the sizes of its architecture where it is not there."""
    known = load_catalogue().get(model_id)
    if known is not None:
        return known
    config = published_config(model_id)
    with torch.device("meta"):
        built: Any = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    n_layers = config.num_hidden_layers
    decoder_layers = getattr(config, "num_decoder_layers", 0) or 0
    family = "seq2seq" if config.is_encoder_decoder else "encoder" if config.model_type in ENCODERS else "decoder"
    return Model(
        id=model_id,
        family=family,
        n_parameters=sum(parameter.numel() for parameter in built.parameters()),
        n_layers=n_layers + (decoder_layers if config.is_encoder_decoder else 0),
        hidden_size=config.hidden_size,
        vocab_size=config.vocab_size,
        context_length=getattr(config, "max_position_embeddings", None) or 512,
        licence="",
        keeps_attention_scores=config.model_type == "deberta-v2",
    )
