"""The image a worker runs in: what the cluster profile says of it, and what of that goes into ``command.json``."""

import hashlib
import json
import os
import platform
import struct
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import ImageError

HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
"""Launch script, magic, format version, architecture, id, times of creation and change, free and total descriptors,
offset and length of their table, offset and length of the data."""

DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
"""Type, whether it is used, id, group, link, offset, size, size with padding, times, owner, name, extra."""

MAGIC = b"SIF_MAGIC"
ARCHITECTURES = {
    "01": "386",
    "02": "amd64",
    "03": "arm",
    "04": "arm64",
    "05": "ppc64",
    "06": "ppc64le",
    "12": "s390x",
    "13": "riscv64",
}
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64"}
"""What the kernel calls a processor -> what the image calls it."""

METADATA_NAME = "inspect-metadata.json"
LARGEST_METADATA_BYTES = 2**20
LARGEST_TABLE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image's header says.

    Attributes:
        path: The file.
        stamp: Names this very build: its id, its size and its time of change. Cheap to read, unlike a digest.
        architecture: Processor it is for, as in ``amd64``.
        labels: Its labels; empty if it has none.
    """

    path: Path
    stamp: str
    architecture: str
    labels: Mapping[str, str]

    @property
    def lock_sha256(self) -> str | None:
        """Hash of the lock it was made from, or ``None`` for an image of another origin."""
        return self.labels.get("xautolm.lock.sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or folder that a worker sees inside its image, read-only.

    Attributes:
        source: Path on the node.
        target: Path inside.
    """

    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """The image a worker runs in.

    Attributes:
        program: Apptainer, by name or path.
        image: Path of the image.
        image_stamp: Which build of it the driver looked at, as :attr:`Image.stamp`.
        image_sha256: Digest of the image.
        lock_sha256: Hash of the lock the image was made from, or ``None``.
        binds: What it sees, read-only.
        writable: What it may write beside its attempt folder and scratch.
        program_dir: Folder inside from which it imports this package.
        nv: Whether the node's NVIDIA driver is bound in.
        scratch_dir: Folder on the node's own disk, or ``$NAME`` of a variable there; ``None`` for TMPDIR, else /tmp.
        options: Further options of ``apptainer exec``.
        verify_key: Public key that must have signed the image, or ``None``.
    """

    program: str
    image: str
    image_stamp: str
    image_sha256: str
    lock_sha256: str | None
    binds: tuple[Bind, ...]
    writable: tuple[str, ...]
    program_dir: str
    nv: bool
    scratch_dir: str | None
    options: tuple[str, ...]
    verify_key: str | None


def read_image(path: Path, *, machine: str) -> Image:
    """Read an image's header and check that the file is whole and for this processor.

    Args:
        path: The file.
        machine: What the kernel calls this processor, as in ``x86_64``.

    Raises:
        ImageError: The file is missing or unreadable, no image, cut short, or for another processor.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path, machine=machine)
    except FileNotFoundError as error:
        raise ImageError(f"image `{path}` does not exist; see [container] image in the cluster profile") from error
    except OSError as error:
        raise ImageError(f"image `{path}` cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def image_sha256(path: Path, *, stamp: str) -> str:
    """Compute an image's digest, once for each build of it: it takes a second or two.

    Args:
        path: The file.
        stamp: Its stamp.

    Raises:
        ImageError: The file cannot be read.
    """
    del stamp  # only tells one build from another
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"image `{path}` cannot be read: {error.strerror}") from error


def _read(file: BinaryIO, path: Path, *, machine: str) -> Image:
    """Check header and table, and take the labels out of the one object that holds them."""
    n_bytes = os.fstat(file.fileno()).st_size
    raw = file.read(HEADER.size)
    if len(raw) < HEADER.size or not raw[32:].startswith(MAGIC):
        raise ImageError(f"`{path}` is no SIF image ({n_bytes} bytes); build one with `make image`")
    header = HEADER.unpack(raw)
    code, created_id, changed_at = header[3].rstrip(b"\0").decode("ascii", "replace"), header[4], header[6]
    architecture = ARCHITECTURES.get(code, f"unknown ({code})")
    wanted = MACHINES.get(machine, machine)
    if architecture != wanted:
        raise ImageError(f"image `{path}` is for {architecture} processors, this machine is {wanted}; build one for it")
    labels: Mapping[str, str] = {}
    for name, offset, size in _objects(file, header):
        if offset + size > n_bytes:
            raise ImageError(
                f"image `{path}` is cut short: it has {n_bytes} bytes, its table speaks of {offset + size}. Copy or "
                "build it again"
            )
        if name == METADATA_NAME and size <= LARGEST_METADATA_BYTES:
            file.seek(offset)
            labels = _labels(file.read(size))
    stamp = f"{uuid.UUID(bytes=created_id)}-{n_bytes}-{changed_at}"
    return Image(path=path, stamp=stamp, architecture=architecture, labels=labels)


def _objects(file: BinaryIO, header: tuple[Any, ...]) -> Iterator[tuple[str, int, int]]:
    """Walk (name, offset, size) of an image's objects."""
    n_total, table_offset = header[8], header[9]
    for index in range(min(n_total, LARGEST_TABLE)):
        file.seek(table_offset + index * DESCRIPTOR.size)
        raw = file.read(DESCRIPTOR.size)
        if len(raw) < DESCRIPTOR.size:
            yield "", table_offset, n_total * DESCRIPTOR.size  # the table itself is cut short
            return
        fields = DESCRIPTOR.unpack(raw)
        if fields[1]:
            yield fields[12].rstrip(b"\0").decode("utf-8", "replace"), fields[5], fields[6]


def _labels(raw: bytes) -> Mapping[str, str]:
    try:
        written = json.loads(raw)["data"]["attributes"]["labels"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {str(name): str(value) for name, value in written.items()} if isinstance(written, dict) else {}


PROGRAM_DIR = "/opt/xautolm"
"""Where the driver's copy of this package, and packages that carry models, lie inside."""

PACKAGE_DIR = Path(__file__).resolve().parent


class ContainerSection(BaseModel):
    """``[container]``: the image the worker runs in.

    Attributes:
        image: The image, a SIF file that the nodes see.
        binds: What the worker sees beside the model cache and the data, read-only: ``PATH`` or ``PATH:PATH_INSIDE``.
        nv: Whether the node's NVIDIA driver is bound in; by default if a job asks for GPUs.
        scratch: Folder on the node's own disk for writable caches, or ``$NAME`` of a variable that holds it there;
            by default ``$TMPDIR``, else /tmp.
        options: Further options of ``apptainer exec``.
        verify_key: Public key (PEM) that must have signed the image.
        program: Apptainer, by name or path.
        python: The image's interpreter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: str
    binds: tuple[Annotated[str, Field(pattern=r"^[^:,]+(:/[^:,]+)?$")], ...] = ()
    nv: bool | None = None
    scratch: Annotated[str, Field(pattern=r"^[/$]")] | None = None
    options: tuple[str, ...] = ()
    verify_key: str | None = None
    program: str = "apptainer"
    python: str = "/opt/worker/bin/python"

    def located(self, folder: Path) -> "ContainerSection":
        """Make every path absolute; a bind without a place inside gets the same one.

        Args:
            folder: What written paths are relative to.
        """

        def locate(written: str) -> str:
            return str((folder / Path(written).expanduser()).resolve())

        pairs = [written.partition(":") for written in self.binds]
        return self.model_copy(
            update={
                "image": locate(self.image),
                "verify_key": self.verify_key and locate(self.verify_key),
                "binds": tuple(f"{locate(source)}:{target or locate(source)}" for source, _, target in pairs),
            }
        )


def make_container(
    section: ContainerSection,
    models: Iterable[Model],
    *,
    hf_home: Path,
    n_gpus: int,
    find_package: Callable[[str], Path | None],
) -> Container:
    """Look at the image and say what a worker sees in it: this package, the models and what the profile binds.

    Args:
        section: ``[container]``, located.
        models: Models of the search space.
        hf_home: Offline cache of hub models.
        n_gpus: GPUs a job asks for.
        find_package: Finds the folder of an installed package that carries a model, or ``None``.

    Raises:
        ImageError: The image is missing, damaged or for another processor, or what is to be bound is missing.
    """
    image = read_image(Path(section.image), machine=platform.machine())
    models = tuple(models)
    binds = [Bind(source=str(PACKAGE_DIR), target=f"{PROGRAM_DIR}/{PACKAGE_DIR.name}")]
    for package in sorted({model.package for model in models if model.package}):
        if (folder := find_package(package)) is not None:
            binds.append(Bind(source=str(folder), target=f"{PROGRAM_DIR}/{package}"))
    binds += [Bind(source=path, target=path) for path in sorted({m.path for m in models if m.path and not m.package})]
    if any(model.hub_repo for model in models):
        if not hf_home.is_dir():
            raise ImageError(
                f"the cache of models `{hf_home}` does not exist; `xautolm-hpc prefetch SEARCH` makes it, or name "
                "another as hf_home in the profile"
            )
        binds.append(Bind(source=str(hf_home), target=str(hf_home)))
    for written in section.binds:
        source, _, target = written.partition(":")
        binds.append(Bind(source=source, target=target))
    for bind in binds:
        if not Path(bind.source).exists():
            raise ImageError(f"`{bind.source}`, which is to be bound into the image, does not exist")
    return Container(
        program=section.program,
        image=section.image,
        image_stamp=image.stamp,
        image_sha256=image_sha256(image.path, stamp=image.stamp),
        lock_sha256=image.lock_sha256,
        binds=tuple(binds),
        writable=(),
        program_dir=PROGRAM_DIR,
        nv=n_gpus > 0 if section.nv is None else section.nv,
        scratch_dir=section.scratch,
        options=section.options,
        verify_key=section.verify_key,
    )


def find_package(name: str) -> Path | None:
    """Find the folder of an installed package without importing it; ``None`` if it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def with_binds(container: Container, *, reads: Iterable[str], writes: Iterable[str]) -> Container:
    """Show a worker further files and folders, at the same place inside.

    Args:
        container: The image.
        reads: What it may read.
        writes: What it may write.
    """
    binds = (*container.binds, *(Bind(source=path, target=path) for path in reads))
    return replace(container, binds=binds, writable=(*container.writable, *writes))
