"""A container image: what its header says, without starting anything, and what a worker is told to run in.

An image is a SIF file: a header, a table of descriptors, and the objects they point to. Reading it finds out on the
login node, and again on the compute node, what Apptainer would stumble over: a file cut short by a full disk or a
broken copy, an image for another processor, a file that is no image at all.

The worker imports this file: nothing here needs more than the standard library.
"""

import hashlib
import json
import os
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

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
        driver_path: One of ``binds``: the node's driver, put into the library path inside. ``None`` where ``nv``
            finds it.
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
    driver_path: str | None = None


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
        raise ImageError(f"`{path}` is no SIF image ({n_bytes} bytes); build or copy the image again")
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
