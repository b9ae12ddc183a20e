"""What the files of a model say of its sizes: ``config.json``, and the names and shapes of its weights.

Nothing heavy is imported: a configuration is JSON, and so is the header of a file of safetensors.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError

CONFIG = "config.json"

ENCODERS = frozenset(
    ("albert", "bert", "big_bird", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra",
     "ernie", "esm", "eurobert", "longformer", "megatron-bert", "modernbert", "mpnet", "nystromformer",
     "rembert", "roberta", "roberta-prelayernorm", "squeezebert", "xlm-roberta", "xlm-roberta-xl", "xmod")
)  # fmt: skip
"""Types of models that read a whole text at once, by the ``model_type`` of their configuration."""

DECODERS = frozenset(
    ("bloom", "cohere", "deepseek_v2", "deepseek_v3", "falcon", "gemma", "gemma2", "gemma3_text", "glm", "glm4",
     "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mistral", "mixtral", "olmo",
     "olmo2", "opt", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "stablelm",
     "starcoder2")
)  # fmt: skip
"""Types of models that write a text from left to right."""

N_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
HIDDEN_SIZE = ("hidden_size", "d_model", "n_embd", "dim")
CONTEXT_LENGTH = ("max_position_embeddings", "n_positions", "n_ctx")
HALVES = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))
"""Names of the settings for the blocks of encoder and decoder; a decoder of unsaid depth has as many as its encoder."""

SHIFTED = frozenset(
    ("camembert", "data2vec-text", "ernie_m", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta",
     "xlm-roberta-xl", "xmod")
)  # fmt: skip
"""Types of models that number positions from behind the padding token on, and so read fewer than they number."""

TRAINED_LENGTH = {"t5": 512, "mt5": 1024, "umt5": 1024, "longt5": 4096}
"""Types of models without numbered positions -> tokens of the texts they were trained on."""

KEEPS_SCORES = ("deberta", "deberta-v2")

HEAD_PARTS = re.compile(
    r"(^|\.)(lm_head|cls|predictions|discriminator_predictions|generator_predictions|generator_lm_head|lm_predictions"
    r"|mask_predictions|sop_classifier|classifier|pre_classifier|classification_head|score|qa_outputs|vocab_transform"
    r"|vocab_layer_norm|vocab_projector|final_logits_bias)(\.|$)|^head\.|^decoder\.(bias|weight)$"
)
"""Names of weights that belong to the head of a task, which a fine-tuned model replaces or which is its embeddings."""

BLOCK = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")
IN_BLOCK_BIAS = re.compile(r"\.\d+\..*\.bias$")
TIED = re.compile(r"(^|\.)(shared|embed_tokens)\.weight$")
"""Names under which the files of a seq2seq model may hold its embeddings several times."""

NUMBERS = ("F64", "F32", "F16", "BF16")
MAX_HEADER_BYTES = 100_000_000
DTYPE_BYTES = {"float16": 2, "bfloat16": 2}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model that say how large it is.

    Attributes:
        folder: Where they lie.
        config: ``config.json``; of a model of several parts that of its text part.
        tensors: Name of a weight -> its shape; empty where there are no safetensors.
        pickled_bytes: Size of weights in another format.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, tuple[int, ...]]
    pickled_bytes: int

    @classmethod
    def read(cls, folder: Path, model_id: str) -> "ModelFiles":
        """Read configuration and headers of weights.

        Args:
            folder: Where they lie.
            model_id: Name of the model, for the message.

        Raises:
            InputError: A file is damaged.
        """
        try:
            config = _read_config(folder)
            tensors = dict(_read_tensors(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
            raise InputError(f"model {model_id!r}: the files in `{folder}` cannot be read: {error}") from error
        pickled = sum(path.stat().st_size for path in folder.glob("pytorch_model*.bin"))
        return cls(folder, config=config, tensors=tensors, pickled_bytes=pickled)

    def describe(self, *, keep_layers: int | None) -> dict[str, Any]:
        """Return the fields of :class:`Model` that the files say; a field that they do not say is left out.

        Args:
            keep_layers: Blocks that are kept; ``None`` for all.
        """
        n_layers = self._n_layers()
        if n_layers is not None and keep_layers is not None:
            n_layers = min(n_layers, keep_layers)
        counted = self._counted(keep_layers)
        has_biases = any(IN_BLOCK_BIAS.search(name) for name in counted)
        sizes = {
            "family": self._family(),
            "n_parameters": sum(map(math.prod, counted.values())) or self._n_pickled(),
            "n_layers": n_layers,
            "hidden_size": self._first(HIDDEN_SIZE),
            "vocab_size": self._first(("vocab_size",)),
            "context_length": self._context_length(),
        }
        return {
            **{name: value for name, value in sizes.items() if value},
            **({"unsupported_methods": ["bitfit"]} if counted and not has_biases else {}),
            **({"keeps_attention_scores": True} if self.type in KEEPS_SCORES else {}),
        }

    @property
    def type(self) -> str:
        """The ``model_type`` of the configuration."""
        return str(self.config.get("model_type", ""))

    @property
    def is_bounded(self) -> bool:
        """Whether the configuration says how long a text may be at most."""
        return self._first(CONTEXT_LENGTH) is not None

    def _first(self, names: tuple[str, ...]) -> int | None:
        """Return the first of some settings that is a whole number above 0."""
        values = [self.config.get(name) for name in names]
        return next((value for value in values if type(value) is int and value > 0), None)

    def _family(self) -> str | None:
        """Return the family, by the type of the model, else by the class it was saved from."""
        if self.config.get("is_encoder_decoder") is True:
            return "seq2seq"
        saved = " ".join(map(str, self.config.get("architectures") or ()))
        if self.type in DECODERS or (self.type not in ENCODERS and re.search(r"ForCausalLM|LMHeadModel", saved)):
            return "decoder"
        return "encoder" if self.type in ENCODERS or "ForMaskedLM" in saved else None

    def _n_layers(self) -> int | None:
        """Return the blocks, of an encoder-decoder model those of both halves."""
        if self.config.get("is_encoder_decoder") is True:
            for encoder, decoder in HALVES:
                n_first = self._first((encoder,))
                if n_first is not None:
                    return n_first + (self._first((decoder,)) or n_first)
        return self._first(N_LAYERS)

    def _context_length(self) -> int | None:
        """Return the tokens that the model reads."""
        numbered = self._first(CONTEXT_LENGTH)
        if numbered is None:
            return TRAINED_LENGTH.get(self.type)
        padding = self.config.get("pad_token_id")
        return numbered - ((padding if type(padding) is int else 1) + 1 if self.type in SHIFTED else 0)

    def _counted(self, keep_layers: int | None) -> dict[str, tuple[int, ...]]:
        """Choose the weights that count: those of no head, of blocks that are kept, tied ones once."""
        counted, embeddings = {}, set()
        for name, shape in self.tensors.items():
            block = BLOCK.search(name)
            is_cut_off = keep_layers is not None and block is not None and int(block[1]) >= keep_layers
            is_mask = shape[:2] == (1, 1) and len(shape) == 4  # GPT-2's files hold masks, as large as a block
            if HEAD_PARTS.search(name) or is_cut_off or is_mask:
                continue
            if TIED.search(name) and self.config.get("is_encoder_decoder") is True:
                if shape in embeddings:
                    continue
                embeddings.add(shape)
            counted[name] = shape
        return counted

    def _n_pickled(self) -> int:
        """Estimate the parameters of weights that are not safetensors, by the size of their files."""
        dtype = str(self.config.get("dtype") or self.config.get("torch_dtype"))
        return self.pickled_bytes // DTYPE_BYTES.get(dtype, 4)


def _read_config(folder: Path) -> Mapping[str, Any]:
    """Read the configuration of a model; that of its text part comes before that of the whole."""
    config = read_json(folder / CONFIG, allow_nan=True)
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG} holds no object")
    text = config.get("text_config")
    return {**config, **(text if isinstance(text, dict) else {})}


def _read_tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Read names and shapes of the floating-point weights from the headers of the files of safetensors.

    Raises:
        ValueError: A header is damaged.
    """
    index = folder / "model.safetensors.index.json"
    names = sorted(set(read_json(index)["weight_map"].values())) if index.is_file() else ["model.safetensors"]
    for path in [folder / name for name in names]:
        if not path.is_file():
            continue
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            if n_bytes > MAX_HEADER_BYTES:
                raise ValueError(f"{path.name} has no header of safetensors")
            header = json.loads(file.read(n_bytes))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in NUMBERS:
                yield name, tuple(entry["shape"])
