"""Whether a model's weights fit its architecture: every parameter outside a new head must come from the file.

Names and shapes are compared by transformers itself, which knows tied tensors, old names and its own prefixes. Only the
headers of the files are read for that, and the architecture is built on the meta device, so it takes no memory.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from xautolm_hpc.train.exceptions import UnfitModelError

WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Names of weight files in the order in which transformers looks for them."""

WRAPPERS = ("_orig_mod.", "module.", "0.auto_model.", "auto_model.")
"""Prefixes that torch.compile, DataParallel and sentence-transformers put before the names of a model."""

COMPILED = re.compile(r"(?<=\.)_orig_mod\.")
"""What torch.compile puts into the names of a part of a model."""

N_NAMED = 3
"""Parameters that a message names."""

POOLER = "pooler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """Parameters that would keep random values, for want of a tensor in the file.

    Attributes:
        missing: Names of parameters that the file does not have.
        mismatched: Name -> shape in the file and shape by the configuration, where they differ.
        n_parameters: Parameters of the model.
    """

    missing: tuple[str, ...]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    n_parameters: int

    def __bool__(self) -> bool:
        """Check whether there are any."""
        return bool(self.missing or self.mismatched)

    def message(self, model_id: str, place: str) -> str:
        """Write which parameters they are and what to do."""
        first = [f"{name} is missing" for name in self.missing[:N_NAMED]]
        shapes = list(self.mismatched.items())[:N_NAMED]
        first += [f"{name} has the shape {found}, config.json asks for {wanted}" for name, (found, wanted) in shapes]
        n_more = len(self.missing) + len(self.mismatched) - len(first)
        more = f"; and {n_more} more" if n_more else ""
        return (
            f"model {model_id}: its weights in `{place}` do not fit its architecture: "
            f"{len(self.missing) + len(self.mismatched)} of {self.n_parameters} parameters would start at random: "
            f"{'; '.join(first)}{more}. Give the config.json and the weights that belong together, or take the model "
            "out of space.models"
        )


def find_gaps(model: PreTrainedModel, info: Mapping[str, Any], *, has_new_head: bool) -> Gaps:
    """Find the parameters that did not come from a file and should have.

    Args:
        model: The model as transformers has loaded it.
        info: What ``from_pretrained`` says of the loading.
        has_new_head: Whether the task puts a new head on the model. It may have weights of its own, and so may the
            pooler where the file has none.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    missing = sorted(set(info["missing_keys"]).intersection(names), key=names.index)
    mismatched = {name: (tuple(found), tuple(wanted)) for name, found, wanted in info["mismatched_keys"]}
    if has_new_head:
        base = _base_names(model, names)
        missing = [name for name in missing if name in base]
        mismatched = {name: shapes for name, shapes in mismatched.items() if name in base}
        pooler = {name for name in base if POOLER in name.split(".")}
        if pooler <= set(missing):
            missing = [name for name in missing if name not in pooler]
    ordered = {name: mismatched[name] for name in sorted(mismatched)}
    return Gaps(missing=tuple(missing), mismatched=ordered, n_parameters=len(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """A way to read names without the prefixes of wrappers.

    Attributes:
        names: Name in the file -> name to look for.
        left_out: The prefixes that are left out, for a person.
    """

    names: Mapping[str, str]
    left_out: str


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
        new = {name: COMPILED.sub("", pattern.sub("", name)) for name in given}
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
        has_new_head: As for :func:`find_gaps`.
    """

    model_class: Any
    config: PretrainedConfig
    has_new_head: bool

    def match(self, tensors: Mapping[str, Tensor]) -> Gaps:
        """Compare names and shapes of tensors on the meta device with this architecture."""
        model, info = self.model_class.from_pretrained(
            None,
            config=self.config,
            state_dict=dict(tensors),
            device_map={"": "meta"},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # find_gaps looks at them
            output_loading_info=True,
        )
        return find_gaps(model, info, has_new_head=self.has_new_head)

    def choose_names(self, tensors: Mapping[str, Tensor]) -> Unwrapped | None:
        """Find the names by which tensors fit; ``None`` if no well-known prefix explains the gaps."""
        for unwrapped in unwrapped_names(tensors):
            renamed = {unwrapped.names[name]: tensor for name, tensor in tensors.items()}
            if not self.match(renamed):
                return unwrapped
        return None


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
    """Read names and shapes of tensors: tensors on the meta device by name."""
    found: dict[str, Tensor] = {}
    for path in paths:
        if path.suffix != ".safetensors":
            found |= torch.load(path, map_location="meta", weights_only=True)
            continue
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
        found |= {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return found


def read_tensors(paths: Iterable[Path]) -> dict[str, Tensor]:
    """Read tensors by name to the CPU."""
    found: dict[str, Tensor] = {}
    for path in paths:
        is_safe = path.suffix == ".safetensors"
        found |= load_file(path) if is_safe else torch.load(path, map_location="cpu", weights_only=True)
    return found


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


def headless_model(config: PretrainedConfig) -> nn.Module | None:
    """Build an architecture without a head on the meta device; ``None`` if transformers knows it with a head only."""
    auto: Any = AutoModel
    try:
        with torch.device("meta"):
            model: nn.Module = auto.from_config(config)
    except (ValueError, KeyError):
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


def _left_out(name: str, new: str) -> str:
    return name.removesuffix(new) if name.endswith(new) else "_orig_mod."
