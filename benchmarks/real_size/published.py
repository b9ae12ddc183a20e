"""Pretrained models by their published configurations, without their weights: ``published_configs.toml``."""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from xautolm_hpc.catalogue import load_catalogue
from xautolm_hpc.train.pretrained import find_source

CONFIGS: Mapping[str, Mapping[str, Any]] = tomllib.loads(Path(__file__).with_name("published_configs.toml").read_text())
"""Model id -> what the file says of it."""


NULLS: Mapping[str, Mapping[str, None]] = {"deepseek_v2": {"q_lora_rank": None}}
"""Type -> what JSON says is null, and TOML cannot: queries of DeepSeek-V2-Lite are not compressed."""


@cache
def published(model_id: str) -> Mapping[str, Any]:
    """Return what the published configuration of a model says."""
    own = dict(CONFIGS[model_id])
    like = own.pop("like", None)
    return {**(published(like) if like else {}), **own}


def published_config(model_id: str) -> PretrainedConfig:
    """Build the configuration of a model of the catalogue; a new one for each call."""
    if model_id in CONFIGS:
        given = {**published(model_id), **NULLS.get(published(model_id)["model_type"], {})}
        return AutoConfig.for_model(**given)
    model = load_catalogue()[model_id]  # it comes with a package, and has some of the layers
    config: PretrainedConfig = AutoConfig.from_pretrained(find_source(model, None).place, local_files_only=True)
    config.num_hidden_layers = model.n_layers
    return config
