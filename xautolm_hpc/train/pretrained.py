"""The pretrained model and its tokeniser, from an installed package, a folder or the offline cache of the hub."""

import errno
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel

from xautolm_hpc.catalogue import Model
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.exceptions import TrialError, UnfitModelError
from xautolm_hpc.train.fit.base_config import (
    ExplainedFile,
    apply_dropout,
    check_architecture,
    check_kept_layers,
    reset_task_settings,
)
from xautolm_hpc.train.fit.values import check_finite, check_samples
from xautolm_hpc.train.fit.weights import (
    Architecture,
    Gaps,
    find_weight_files,
    read_shapes,
    read_tensors,
)
from xautolm_hpc.train.libraries import silence_loading

T = TypeVar("T")

UNCONVERTED = r"automatic conversion of the weights|Error\(s\) in loading state_dict"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How a model is loaded.

    Attributes:
        dtype: Number format of its weights.
        deterministic: Whether attention avoids fused kernels, whose gradients vary from run to run.
    """

    dtype: torch.dtype = torch.float32
    deterministic: bool = False


IN_SINGLE = Loading()
"""Single precision, and the fastest kernels."""


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
            FailureKind.DATA_UNAVAILABLE, f"model {model.id}: folder `{folder}` is missing; is it visible on this node?"
        )
    return Source(place=str(folder), options=options, remedy=f"look into `{folder}`")


def load_tokenizer(source: Source, model: Model) -> Any:
    """Load a model's tokeniser; without a padding token it pads with its end token.

    Raises:
        TrialError: Its files are missing, kind ``data_unavailable``; or it has neither token, or cannot return the
            offsets of tokens in a text, kind ``unsupported``.
    """
    read_config(source, model)  # which the tokeniser's class reads, too
    with ExplainedFile(model_id=model.id, place=source.place, file="its tokeniser"):
        tokenizer = _load(AutoTokenizer.from_pretrained, source, model=model)
    if tokenizer.vocab_size <= len(tokenizer.all_special_ids):  # as some classes do whose files are missing
        missing = FileNotFoundError("its tokeniser has no vocabulary")
        raise TrialError(FailureKind.DATA_UNAVAILABLE, _missing(source, model, error=missing))
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token  # the attention mask, not this token, marks padding
    if tokenizer.pad_token_id is None:
        raise TrialError(FailureKind.UNSUPPORTED, f"the tokeniser of model {model.id} has no token to pad with")
    if not tokenizer.is_fast:
        raise TrialError(
            FailureKind.UNSUPPORTED, f"the tokeniser of model {model.id} has no fast version, tokenizer.json"
        )
    return tokenizer


def load_config(source: Source, model: Model, *, dropout_rate: float | None, tokenizer: Any) -> PretrainedConfig:
    """Load a model's configuration, cut to the blocks that are kept.

    Args:
        source: Where its files lie.
        model: The model, as in the catalogue.
        dropout_rate: Dropout of every part, 0..1; ``None`` keeps the model's own.
        tokenizer: Its tokeniser, whose padding token the model must know.

    Raises:
        UnfitModelError: No model can be built from it, or it has fewer blocks than are to be kept.
        TrialError: Files are missing, kind ``data_unavailable``, or there is no dropout to set, kind
            ``unsupported``.
    """
    config = read_config(source, model)
    reset_task_settings(config, model)
    check_architecture(config, model_id=model.id, place=source.place)
    _set_padding(config, tokenizer)
    if model.keep_layers is not None:
        check_kept_layers(config, model.keep_layers, model_id=model.id)
        config.num_hidden_layers = model.keep_layers
    if dropout_rate is not None:
        apply_dropout(config, dropout_rate)
    return config


def load_model(
    source: Source,
    model: Model,
    *,
    auto_class: str,
    config: PretrainedConfig,
    has_new_head: bool,
    loading: Loading = IN_SINGLE,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load a model with the head of a task, on the CPU.

    Args:
        source: Where its files lie.
        model: The model, as in the catalogue.
        auto_class: Class of transformers that knows the head.
        config: Its configuration, the labels set.
        has_new_head: Whether the head, and a pooler that the file has not, may have new weights.
        loading: Number format and kernels.

    Returns:
        The model, and how its weights were read otherwise than by their names, for a person.

    Raises:
        UnfitModelError: A parameter outside the new head is not in the file, has another shape there, or is no finite
            floating-point number; or blocks of the file are in no model.
        TrialError: Files are missing, kind ``data_unavailable``, or the architecture has no such head, kind
            ``unsupported``.
    """
    silence_loading()  # ``Architecture`` reads it instead
    options = {
        "dtype": loading.dtype,
        "ignore_mismatched_sizes": True,  # a file may hold the head of another task; Architecture looks at all others
        "output_loading_info": True,
        **({"attn_implementation": "eager"} if loading.deterministic else {}),
    }
    generator = torch.get_rng_state()
    with _explained_head(model, config, auto_class=auto_class):
        loaded, info = _load(
            getattr(transformers, auto_class).from_pretrained,
            source,
            model=model,
            config=config,
            use_safetensors=None if model.allow_pickle else True,
            **options,
        )
    paths = _weight_files(source, model)
    architecture = Architecture(
        model_class=type(loaded), config=config, has_new_head=has_new_head, is_cut=model.keep_layers is not None
    )
    shapes = read_shapes(paths)
    notes: tuple[str, ...] = ()
    gaps = architecture.find_gaps(loaded, info, tensors=shapes)
    chosen = architecture.choose_names(shapes) if gaps.is_random else None
    if chosen is not None:
        tensors = chosen.rename(read_tensors(paths))
        torch.set_rng_state(generator)  # a new head is the same, whatever the names in the file
        loaded, info = type(loaded).from_pretrained(None, config=config, state_dict=tensors, **options)
        gaps = architecture.find_gaps(loaded, info, tensors=chosen.rename(shapes))
        notes = _notes(model, config, left_out=chosen.left_out)
    _refuse(gaps, source, model=model)
    check_finite(loaded, model_id=model.id, place=source.place)
    return loaded, notes


def check_model(
    source: Source, model: Model, *, auto_class: str, config: PretrainedConfig, has_new_head: bool
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Check that the weights fit a model with the head of a task, by the headers of the files alone.

    Args:
        source: Where its files lie.
        model: The model, as in the catalogue.
        auto_class: Class of transformers that knows the head.
        config: Its configuration.
        has_new_head: Whether the head may have new weights.

    Returns:
        The model on the meta device, and how its weights will be read otherwise than by their names.

    Raises:
        UnfitModelError: As for :func:`load_model`.
        TrialError: As for :func:`load_model`.
    """
    silence_loading()
    with _explained_head(model, config, auto_class=auto_class), torch.device("meta"):
        built = getattr(transformers, auto_class).from_config(config, trust_remote_code=model.trust_remote_code)
    paths = _weight_files(source, model)
    architecture = Architecture(
        model_class=type(built), config=config, has_new_head=has_new_head, is_cut=model.keep_layers is not None
    )
    shapes = read_shapes(paths)
    notes: tuple[str, ...] = ()
    gaps = architecture.match(shapes)
    chosen = architecture.choose_names(shapes) if gaps.is_random else None
    if chosen is not None:
        gaps = architecture.match(chosen.rename(shapes))
        notes = _notes(model, config, left_out=chosen.left_out)
    _refuse(gaps, source, model=model)
    check_samples(paths, model_id=model.id, place=source.place)
    return built, notes


def read_config(source: Source, model: Model) -> PretrainedConfig:
    """Read a model's configuration as it lies there."""
    with ExplainedFile(model_id=model.id, place=source.place):
        return _load(AutoConfig.from_pretrained, source, model=model)


def _package_dir(model: Model) -> Path:
    spec = importlib.util.find_spec(model.package or "")
    if spec is None or not spec.submodule_search_locations:
        raise TrialError(
            FailureKind.DATA_UNAVAILABLE,
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
        raise TrialError(FailureKind.DATA_UNAVAILABLE, _missing(source, model, error=error)) from error
    except ValueError as error:
        # No config.json, no architecture in it, or a JSON file that is not whole.
        if not isinstance(error, json.JSONDecodeError) and "Unrecognized model in" not in str(error):
            raise
        raise TrialError(FailureKind.DATA_UNAVAILABLE, _missing(source, model, error=error)) from error
    except RuntimeError as error:
        # transformers could not make its own tensors of those in the file.
        if not re.search(UNCONVERTED, str(error)):
            raise
        reason = " ".join(str(error).split())[:300]
        raise UnfitModelError(f"model {model.id}: its weights in `{source.place}` do not fit: {reason}") from error


def _refuse(gaps: Gaps, source: Source, *, model: Model) -> None:
    """Refuse weights that do not fit."""
    if gaps:
        raise UnfitModelError(gaps.message(model.id, source.place))


def _weight_files(source: Source, model: Model) -> list[Path]:
    def find(place: str, **options: Any) -> list[Path]:
        return find_weight_files(place, options, allow_pickle=model.allow_pickle)

    return _load(find, source, model=model)


def _set_padding(config: PretrainedConfig, tokenizer: Any) -> None:
    """Name the padding token, unless it has no row yet: then it is named once the embeddings have grown."""
    n_rows = getattr(config, "vocab_size", None)
    pad_id = getattr(config, "pad_token_id", 0)
    if pad_id is None and tokenizer is not None:
        pad_id = tokenizer.pad_token_id
    if isinstance(n_rows, int) and isinstance(pad_id, int) and pad_id >= n_rows:
        pad_id = None
    if hasattr(config, "pad_token_id"):
        config.pad_token_id = pad_id


@contextmanager
def _explained_head(model: Model, config: PretrainedConfig, *, auto_class: str) -> Iterator[None]:
    """Convert the exception for an architecture without a head to ``unsupported``."""
    try:
        yield
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        head = " ".join(re.findall("[A-Z][a-z0-9]*", auto_class.removeprefix("AutoModelFor"))).lower()
        text = f"model {model.id}: architecture {config.model_type!r} has no head for {head}"
        raise TrialError(FailureKind.UNSUPPORTED, text) from error


def _notes(model: Model, config: PretrainedConfig, *, left_out: str) -> tuple[str, ...]:
    """Write that a prefix was left out, unless the class that wrote the file has it: then only classes differ."""
    written_by = getattr(transformers, next(iter(config.architectures or ()), ""), None)
    if left_out == f"{getattr(written_by, 'base_model_prefix', None)}.":
        return ()
    return (f"model {model.id}: the names of its weights were read without the prefix {left_out}",)


def _missing(source: Source, model: Model, *, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    only = "" if model.allow_pickle else " Only safetensors are read unless its entry says allow_pickle = true."
    return f"model {model.id}: files are missing or damaged in `{source.place}`; {source.remedy}.{only} ({reason})"
