"""The pretrained model and its tokeniser, from an installed package, a folder or the offline cache of the hub."""

import errno
import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from xautolm_hpc.catalogue import Model
from xautolm_hpc.train.exceptions import TrialError

T = TypeVar("T")

DROPOUT_FIELDS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "dropout_rate",
    "attention_dropout",
    "activation_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "resid_pdrop",
    "embd_pdrop",
    "attn_pdrop",
    "pooler_dropout",
    "seq_classif_dropout",
    "classifier_dropout",
    "classifier_dropout_prob",
    "cls_dropout",
)
"""Names of dropout settings in the configurations of architectures; the last ones belong to the classification head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a model's files lie.

    Attributes:
        place: Folder, or hub repository.
        options: Arguments for every ``from_pretrained``.
        remedy: What to do when the files are missing.
    """

    place: str
    options: Mapping[str, Any]
    remedy: str


def find_source(model: Model, hf_home: str | None) -> Source:
    """Find where a model's files lie; nothing is downloaded on a compute node.

    Args:
        model: The model, as in the catalogue.
        hf_home: Offline cache of hub models; ``None`` takes the cache that the environment names.

    Raises:
        TrialError: The package or folder is missing; kind ``data_unavailable``.
    """
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": model.trust_remote_code}
    if model.hub_repo is not None:
        cache = {"cache_dir": str(Path(hf_home) / "hub")} if hf_home else {}
        remedy = f"bring {model.hub_repo} into the cache on a node with network: xautolm-hpc prefetch SEARCH.toml"
        return Source(
            place=model.hub_repo, options={**options, **cache, "revision": model.revision or "main"}, remedy=remedy
        )
    folder = _package_dir(model) / (model.path or "") if model.package else Path(model.path or "")
    if not folder.is_dir():
        raise TrialError(
            "data_unavailable", f"model {model.id}: folder `{folder}` is missing; is it visible on this node?"
        )
    return Source(place=str(folder), options=options, remedy=f"look into `{folder}`")


def load_tokenizer(source: Source, model: Model) -> Any:
    """Load a model's tokeniser; without a padding token it pads with its end token.

    Raises:
        TrialError: Its files are missing, kind ``data_unavailable``; or it has neither token, or cannot return the
            offsets of tokens in a text, kind ``unsupported``.
    """
    tokenizer = _load(AutoTokenizer.from_pretrained, source, model=model)
    if tokenizer.vocab_size <= len(tokenizer.all_special_ids):  # as some classes do whose files are missing
        missing = FileNotFoundError("its tokeniser has no vocabulary")
        raise TrialError("data_unavailable", _missing(source, model, error=missing))
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # the attention mask, not this token, marks padding
    if tokenizer.pad_token_id is None:
        raise TrialError("unsupported", f"the tokeniser of model {model.id} has no token to pad with")
    if not tokenizer.is_fast:
        raise TrialError("unsupported", f"the tokeniser of model {model.id} has no fast version, tokenizer.json")
    return tokenizer


def load_config(source: Source, model: Model, *, dropout_rate: float | None, tokenizer: Any) -> PretrainedConfig:
    """Load a model's configuration, cut to the blocks that are kept.

    Args:
        source: Where its files lie.
        model: The model, as in the catalogue.
        dropout_rate: Dropout of every part, 0..1; ``None`` keeps the model's own.
        tokenizer: Its tokeniser, whose padding token the model must know.

    Raises:
        TrialError: Files are missing, kind ``data_unavailable``, or there is no dropout to set, kind
            ``unsupported``.
    """
    config = _load(AutoConfig.from_pretrained, source, model=model)
    if getattr(config, "pad_token_id", 0) is None:
        config.pad_token_id = tokenizer.pad_token_id
    if model.keep_layers is not None:
        config.num_hidden_layers = model.keep_layers
    if dropout_rate is not None:
        apply_dropout(config, dropout_rate)
    return config


def load_model(
    source: Source, model: Model, *, auto_class: str, config: PretrainedConfig, deterministic: bool
) -> PreTrainedModel:
    """Load a model with the head of a task, in single precision on the CPU.

    Args:
        source: Where its files lie.
        model: The model, as in the catalogue.
        auto_class: Class of transformers that knows the head.
        config: Its configuration, the labels set.
        deterministic: Whether attention avoids fused kernels, whose gradients vary from run to run.

    Raises:
        TrialError: Files are missing, kind ``data_unavailable``, or the architecture has no such head, kind
            ``unsupported``.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # It would warn of a new head and unused blocks, which are intended.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    options = {
        "config": config,
        "dtype": torch.float32,
        "use_safetensors": None if model.allow_pickle else True,
        "ignore_mismatched_sizes": True,  # a checkpoint may carry the head of another task
        **({"attn_implementation": "eager"} if deterministic else {}),
    }
    try:
        return _load(getattr(transformers, auto_class).from_pretrained, source, model=model, **options)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        head = " ".join(re.findall("[A-Z][a-z0-9]*", auto_class.removeprefix("AutoModelFor"))).lower()
        text = f"model {model.id}: architecture {config.model_type!r} has no head for {head}"
        raise TrialError("unsupported", text) from error


def name_labels(config: PretrainedConfig, labels: Sequence[str]) -> None:
    """Set the names of the classes in a configuration, so that an exported model answers with them."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}


def apply_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set every dropout rate that a configuration has.

    Args:
        config: Configuration to change.
        rate: Dropout, 0..1.

    Raises:
        TrialError: The architecture has none of :data:`DROPOUT_FIELDS`; kind ``unsupported``.
    """
    fields = [name for name in DROPOUT_FIELDS if hasattr(config, name)]
    if not fields:
        raise TrialError("unsupported", f"architecture {config.model_type!r} has no dropout to set to {rate:g}")
    for name in fields:
        setattr(config, name, rate)


def _package_dir(model: Model) -> Path:
    spec = importlib.util.find_spec(model.package or "")
    if spec is None or not spec.submodule_search_locations:
        raise TrialError(
            "data_unavailable",
            f"model {model.id}: the package {model.package} is not installed in the worker's environment",
        )
    return Path(spec.submodule_search_locations[0])


def _load(loader: Callable[..., T], source: Source, *, model: Model, **options: Any) -> T:
    """Load a part of a model; missing or damaged files are ``data_unavailable``, no fault of the pipeline."""
    try:
        return loader(source.place, **source.options, **options)
    except OSError as error:
        if error.errno not in (None, errno.ENOENT):
            raise  # the disk's own error, not a missing file
        raise TrialError("data_unavailable", _missing(source, model, error=error)) from error
    except ValueError as error:
        # No config.json, no architecture in it, or a JSON file that is not whole.
        if not isinstance(error, json.JSONDecodeError) and "Unrecognized model in" not in str(error):
            raise
        raise TrialError("data_unavailable", _missing(source, model, error=error)) from error


def _missing(source: Source, model: Model, *, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    only = "" if model.allow_pickle else " Only safetensors are read unless its entry says allow_pickle = true."
    return f"model {model.id}: files are missing or damaged in `{source.place}`; {source.remedy}.{only} ({reason})"
