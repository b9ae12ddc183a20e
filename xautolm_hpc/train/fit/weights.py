"""Whether a model's weights fit its architecture: every parameter outside a new head must come from the file.

Names and shapes are compared by transformers itself, which knows tied tensors, old names and its own prefixes. Only the
headers of the files are read for that, and the architecture is built on the meta device, so it takes no memory.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weight files in the order in which transformers looks for them."""

WRAPPERS = (
    "_orig_mod.",
    "module.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
    "0.auto_model.",
    "0.model.",
    "auto_model.",
    "base_model.model.",
)
"""Prefixes that torch.compile, DataParallel, FSDP, sentence-transformers and PEFT put before the names of a model."""

INNER_WRAPPER = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and checkpointed activations put into the names of a part of a model."""

ADAPTER = re.compile(r"(^|\.)(lora_|modules_to_save\.|base_layer\.)")
"""What tells the tensors of an adapter that is not merged."""

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Kinds of numbers that weights can be read from as they are; all others need a scale."""

KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Kinds of numbers in the words of safetensors; what is not here counts as bytes."""

N_NAMED = 3
"""Parameters that a message names."""

POOLER = "pooler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """What keeps a file from being the weights of a model.

    Attributes:
        missing: Names of parameters that the file does not have.
        mismatched: Name -> shape in the file and shape by the configuration, where they differ.
        not_floating: Name in the file -> kind of its numbers, where they are no floating-point numbers.
        left_over: Names of tensors of blocks, or of an adapter, that the model does not have.
        n_parameters: Parameters of the model.
    """

    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    not_floating: Mapping[str, str]
    left_over: tuple[str, ...]
    n_parameters: int

    @property
    def is_random(self) -> bool:
        """Whether parameters would keep random values."""
        return bool(self.missing or self.mismatched)

    def __bool__(self) -> bool:
        """Check whether there are any."""
        return bool(self.is_random or self.not_floating or self.left_over)

    def message(self, model_id: str, place: str) -> str:
        """Write which tensors they are and what to do."""
        return (
            f"model {model_id}: its weights in `{place}` do not fit its architecture: {self._reason()}. Give the "
            "config.json and the weights that belong together, or take the model out of space.models"
        )

    def _reason(self) -> str:
        if self.is_random:
            n_random = len(self.missing) + len(self.mismatched)
            first = [f"{name} is missing" for name in self.missing[:N_NAMED]]
            shapes = list(self.mismatched.items())[:N_NAMED]
            first += [
                f"{name} has the shape {found}, config.json asks for {wanted}" for name, (found, wanted) in shapes
            ]
            head = f"{n_random} of {self.n_parameters} parameters would start at random"
            return f"{head}: {_listed(first, n_random)}"
        if self.not_floating:
            first = [f"{name} is {kind}" for name, kind in list(self.not_floating.items())[:N_NAMED]]
            head = (
                f"{len(self.not_floating)} tensors are no floating-point numbers, and config.json says no way to read"
            )
            return f"{head} them: {_listed(first, len(self.not_floating))}"
        head = f"{len(self.left_over)} tensors of the file are of blocks or adapters that config.json does not have"
        return f"{head}: {_listed(self.left_over[:N_NAMED], len(self.left_over))}"


def _listed(first: Sequence[str], n_all: int) -> str:
    more = f"; and {n_all - len(first)} more" if n_all > len(first) else ""
    return f"{'; '.join(first)}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """A way to read names without the prefixes of wrappers.

    Attributes:
        names: Name in the file -> name to look for.
        left_out: The prefixes that are left out, for a person.
    """

    names: Mapping[str, str]
    left_out: str

    def rename(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors by the names to look for."""
        return {self.names[name]: tensor for name, tensor in tensors.items()}


def unwrapped_names(names: Iterable[str]) -> list[Unwrapped]:
    """List ways to read names without the prefixes of well-known wrappers, the mildest first.

    With ``model.`` left out, transformers puts the prefix of its own class before a name.

    Args:
        names: Names of the tensors in a file.
    """
    given = list(names)
    ways = []
    for prefixes in (WRAPPERS, (*WRAPPERS, "model.")):
        pattern = re.compile(f"^(?:{'|'.join(map(re.escape, prefixes))})+")
        new = {name: INNER_WRAPPER.sub("", pattern.sub("", name)) for name in given}
        left_out = sorted({_left_out(name, new[name]) for name in given} - {""})
        if left_out and len(set(new.values())) == len(new):
            ways.append(Unwrapped(names=new, left_out=", ".join(left_out)))
    return ways


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What tensors must fit.

    Attributes:
        model_class: Class of the model with its head.
        config: Its configuration.
        has_new_head: Whether the task puts a new head on the model. It may have weights of its own, and so may the
            pooler where the file has none.
        is_cut: Whether the search leaves out blocks that the file has.
    """

    model_class: Any
    config: PretrainedConfig
    has_new_head: bool
    is_cut: bool = False

    def match(self, tensors: Mapping[str, Tensor]) -> Gaps:
        """Compare names and shapes of tensors on the meta device with this architecture."""
        model, info = self.model_class.from_pretrained(
            None,
            config=self.config,
            state_dict={name: tensor.to(torch.float32) for name, tensor in tensors.items()},
            device_map={"": "meta"},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # find_gaps looks at them
            output_loading_info=True,
        )
        return self.find_gaps(model, info, tensors=tensors)

    def find_gaps(self, model: PreTrainedModel, info: Mapping[str, Any], *, tensors: Mapping[str, Tensor]) -> Gaps:
        """Find the parameters that did not come from a file and should have, and what of the file is in no model.

        Args:
            model: The model as transformers has loaded it.
            info: What ``from_pretrained`` says of the loading.
            tensors: The tensors of the file by name, on any device.
        """
        names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
        missing = sorted(set(info["missing_keys"]).intersection(names), key=names.index)
        mismatched = {name: (tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"]}
        base = _base_names(model, names) if self.has_new_head else set(names)
        missing = [name for name in missing if name in base]
        pooler = {name for name in base if POOLER in name.split(".")}
        if self.has_new_head and pooler <= set(missing):
            missing = [name for name in missing if name not in pooler]
        return Gaps(
            missing=tuple(missing),
            mismatched={name: mismatched[name] for name in sorted(mismatched) if name in base},
            not_floating=_not_floating(model, info, tensors=tensors, head=set(names) - base),
            left_over=_left_over(model, info, is_cut=self.is_cut),
            n_parameters=len(names),
        )

    def choose_names(self, tensors: Mapping[str, Tensor]) -> Unwrapped | None:
        """Find the names by which tensors fit; ``None`` if no well-known prefix explains the gaps."""
        return next((way for way in unwrapped_names(tensors) if not self.match(way.rename(tensors)).is_random), None)


def find_weight_files(place: str, options: Mapping[str, Any], *, allow_pickle: bool) -> list[Path]:
    """Find the files of a model's weights, in a folder or in the offline cache of the hub.

    Args:
        place: Folder, or hub repository.
        options: Arguments of every ``from_pretrained``.
        allow_pickle: Whether files that are not safetensors count.

    Raises:
        OSError: There are none, or a part is missing.
    """
    where = {name: value for name, value in options.items() if name != "trust_remote_code"}
    names = WEIGHT_FILES if allow_pickle else WEIGHT_FILES[:2]
    for number, name in enumerate(names, start=1):
        try:
            path = Path(str(cached_file(place, name, **where)))
        except OSError:
            if number == len(names):
                raise
            continue
        if path.suffix != ".json":
            return [path]
        parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
        return [Path(str(cached_file(place, part, **where))) for part in parts]
    return []


def read_shapes(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Read names, shapes and kinds of tensors: tensors on the meta device by name."""
    found: dict[str, Tensor] = {}
    for path in paths:
        if path.suffix != ".safetensors":
            found |= torch.load(path, map_location="meta", weights_only=True)
            continue
        with safe_open(path, framework="pt") as file:
            for name in sorted(file.keys()):
                tensor = file.get_slice(name)
                kind = KINDS.get(tensor.get_dtype(), torch.uint8)
                found[name] = torch.empty(tensor.get_shape(), dtype=kind, device="meta")
    return found


def read_tensors(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Read tensors by name to the CPU."""
    found: dict[str, Tensor] = {}
    for path in paths:
        is_safe = path.suffix == ".safetensors"
        found |= load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    return found


def headless_model(config: PretrainedConfig) -> nn.Module | None:
    """Build an architecture without a head on the meta device; ``None`` if transformers knows it with a head only."""
    auto: Any = AutoModel
    try:
        with torch.device("meta"):
            model: nn.Module = auto.from_config(config)
    except ValueError as error:
        if "Unrecognized configuration class" not in str(error):
            raise
        return None
    return model


def _base_names(model: PreTrainedModel, names: Iterable[str]) -> set[str]:
    """Find the names of a model's parameters that its class without a head has, too."""
    prefix = f"{model.base_model_prefix}."
    headless = headless_model(model.config)
    if headless is None:
        return {name for name in names if name.startswith(prefix)}
    known = {name for name, _ in headless.named_parameters(remove_duplicate=False)}
    return {name for name in names if name in known or name.removeprefix(prefix) in known}


def _not_floating(
    model: PreTrainedModel, info: Mapping[str, Any], *, tensors: Mapping[str, Tensor], head: set[str]
) -> dict[str, str]:
    """Find tensors that would fill parameters outside a new head and are no floating-point numbers."""
    unused = {*info["unexpected_keys"], *head, *(name for name, _ in model.named_buffers())}
    ignored: Sequence[str] = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    return {
        name: str(tensor.dtype).removeprefix("torch.")
        for name, tensor in sorted(tensors.items())
        if tensor.dtype not in FLOATS
        if unused.isdisjoint(_spellings(name, model))
        if not any(re.search(pattern, name) for pattern in ignored)
    }


def _left_over(model: PreTrainedModel, info: Mapping[str, Any], *, is_cut: bool) -> tuple[str, ...]:
    """Find tensors of a file that belong to further blocks of a list that the model has, or to an adapter."""
    known = {name for name, _ in (*model.named_parameters(remove_duplicate=False), *model.named_buffers())}

    def is_block(name: str) -> bool:
        parts = name.split(".")
        firsts = [".".join((*parts[:i], "0", *parts[i + 1 :])) for i, part in enumerate(parts) if part.isdigit()]
        return any(not known.isdisjoint(_spellings(first, model)) for first in firsts)

    unexpected = sorted(info["unexpected_keys"], key=_in_order)
    return tuple(name for name in unexpected if ADAPTER.search(name) or (not is_cut and is_block(name)))


def _spellings(name: str, model: PreTrainedModel) -> tuple[str, str, str]:
    """List the names of one tensor in a model with a head and without."""
    prefix = f"{model.base_model_prefix}."
    return name, f"{prefix}{name}", name.removeprefix(prefix)


def _in_order(name: str) -> list[tuple[bool, int, str]]:
    """Sort numbers in names by value."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in name.split(".")]


def _left_out(name: str, new: str) -> str:
    inner = INNER_WRAPPER.search(name)
    return name.removesuffix(new) if name.endswith(new) or inner is None else f"{inner[1]}."
