"""What a model's configuration says: settings of its last task are reset, and what no model can be built from is named.

Of a base model's ``config.json`` only the architecture counts. Whatever changes the loss, the head, the direction of
attention or what a pipeline makes of the answers is set here, for the task at hand.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PretrainedConfig

from xautolm_hpc.catalogue import Model
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.exceptions import TrialError, UnfitModelError
from xautolm_hpc.train.fit.weights import headless_model

CONFIG_FILE = "config.json"

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

TASK_FIELDS = (
    "problem_type",
    "function_to_apply",
    "task_specific_params",
    "finetuning_task",
    "custom_pipelines",
    "prefix",
    "cross_attention_hidden_size",
)
"""Settings of an earlier task in a configuration, which change the loss or what a pipeline makes of the answers."""

SWITCHES: Mapping[str, Any] = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "output_router_logits": False,  # it would add a loss of its own
    "torchscript": False,
    "chunk_size_feed_forward": 0,
    "add_cross_attention": False,
    "use_cache": True,
}
"""Settings of how a model runs -> the value they get where the configuration has them."""

POSITIVE_FIELDS = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
"""Sizes without which there is no model."""

N_NAMED = 3
"""Keys that a message names."""

CONTENT_ERRORS = frozenset(
    ("ValueError", "TypeError", "LookupError", "AttributeError", "AssertionError", "ArithmeticError", "RuntimeError")
) | {"StrictDataclassError"}  # fmt: skip
"""Names of exception classes by which libraries refuse what a file says; the last one is the hub's library's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFile:
    """A context in which an exception about what a file of a model says becomes one that names model and file.

    Attributes:
        model_id: Name of the model.
        place: Where its files lie.
        file: Name of the file that is read.
        config: Its settings as read, to name those that an exception speaks of; ``None`` before they are read.
    """

    model_id: str
    place: str
    file: str = CONFIG_FILE
    config: PretrainedConfig | None = None

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *raised: Any) -> Literal[False]:
        """Raise the exception that names the file.

        Raises:
            UnfitModelError: A library refused what the file says.
        """
        error: BaseException | None = raised[1]
        if error is None or not _is_about_content(error):
            return False
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        named = "" if self.config is None else _named_settings(self.config, str(error))
        raise UnfitModelError(
            f"model {self.model_id}: it cannot be built from its files: {self.file} in `{self.place}`: {reason}{named}"
            ". Correct it, or take the model out of space.models"
        ) from error


def check_architecture(config: PretrainedConfig, *, model_id: str, place: str) -> None:
    """Check that a model can be built from a configuration, on the meta device.

    Args:
        config: The configuration, as read.
        model_id: Name of the model.
        place: Where its files lie.

    Raises:
        UnfitModelError: It cannot; the message names the settings that the library refuses.
        TrialError: Its weights are quantised; kind ``unsupported``.
    """
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else type(quantised).__name__
        raise UnfitModelError(
            f"model {model_id}: its weights in `{place}` are quantised ({method}); fine-tuning needs them as "
            "floating-point numbers: give the model that it was made from",
            kind=FailureKind.UNSUPPORTED,
        )
    with ExplainedFile(model_id=model_id, place=place, config=config):
        _check_sizes(config)
        headless_model(config)


def reset_task_settings(config: PretrainedConfig, model: Model) -> None:
    """Remove from a configuration what its last task left there: labels, loss, direction of attention, kinds of output.

    Args:
        config: Configuration to change; a task sets its own labels afterwards.
        model: The model, as in the catalogue.

    Raises:
        UnfitModelError: The architecture is of another family than the catalogue says; kind ``unsupported``.
    """
    for name in TASK_FIELDS:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    name_labels(config, ("LABEL_0", "LABEL_1"))
    config.problem_type = None
    for name, value in SWITCHES.items():
        if getattr(config, name, value) != value:
            setattr(config, name, value)
    config.is_encoder_decoder = bool(type(config).is_encoder_decoder)
    if config.is_encoder_decoder is not (model.family == "seq2seq"):
        found = "an encoder-decoder" if config.is_encoder_decoder else "no encoder-decoder"
        raise UnfitModelError(
            f"model {model.id}: its entry says family = {model.family!r}, but its architecture {config.model_type!r} "
            f"is {found}; correct family in the search file",
            kind=FailureKind.UNSUPPORTED,
        )
    if hasattr(config, "is_decoder") and model.family != "seq2seq":  # there each half has its own
        config.is_decoder = model.family == "decoder"  # else a model such as BERT would see the words it is to write


def name_labels(config: PretrainedConfig, labels: Sequence[str]) -> None:
    """Set the names of the classes in a configuration, so that an exported model answers with one of them."""
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = "single_label_classification" if len(labels) > 1 else None


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
        raise TrialError(
            FailureKind.UNSUPPORTED, f"architecture {config.model_type!r} has no dropout to set to {rate:g}"
        )
    for name in fields:
        setattr(config, name, rate)


def check_kept_layers(config: PretrainedConfig, keep_layers: int, *, model_id: str) -> None:
    """Check that a model has the blocks that are to be kept.

    Raises:
        UnfitModelError: It has fewer.
    """
    n_layers = config.num_hidden_layers
    if keep_layers > n_layers:
        raise UnfitModelError(
            f"model {model_id}: keep_layers = {keep_layers}, but its config.json has {n_layers} blocks; expected 1 to "
            f"{n_layers}"
        )


def _check_sizes(config: PretrainedConfig) -> None:
    """Check what no architecture looks at before it runs: sizes above 0, heads that divide among shared keys."""
    for name in POSITIVE_FIELDS:
        value = getattr(config, name, None)
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{name} = {value}; expected at least 1")
    n_heads, n_shared = (getattr(config, name, None) for name in ("num_attention_heads", "num_key_value_heads"))
    if isinstance(n_heads, int) and isinstance(n_shared, int) and n_heads % n_shared:
        raise ValueError(f"num_attention_heads = {n_heads} is no multiple of num_key_value_heads = {n_shared}")


def _is_about_content(error: BaseException) -> bool:
    """Check whether an exception is a library's about what it read; of tokenizers it is a bare Exception."""
    names = {base.__name__ for base in type(error).__mro__}
    is_ours = isinstance(error, TrialError)
    return not is_ours and (type(error) is Exception or not names.isdisjoint(CONTENT_ERRORS))


def _named_settings(config: PretrainedConfig, message: str) -> str:
    """Write the settings that a message names, in words or by their value."""
    text = message.lower().replace("number of ", "num ").replace("_", " ")
    settings = {name: value for name, value in config.to_dict().items() if isinstance(value, str | int)}
    settings = {name: value for name, value in settings.items() if f"{name} = " not in message}
    by_name = [name for name in settings if len(name) > N_NAMED and re.search(rf"\b{_words(name)}\b", text)]
    by_value = [
        name
        for name, value in settings.items()
        if isinstance(value, str) and value and re.search(rf"\b{re.escape(value)}\b", message)
    ]
    chosen = (by_name or by_value)[:N_NAMED]
    return f" ({', '.join(f'{name} = {settings[name]!r}' for name in chosen)})" if chosen else ""


def _words(name: str) -> str:
    return re.escape(name.replace("_", " "))
