"""Checks the structure of a segment as an HDF5 file, before any of its data is read.

HDF5 can point outside the file, load plug-ins, contain Python objects and claim sizes larger than any memory. Format 1
uses none of that: a few named datasets of plain numbers below the root, and nothing else.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import h5py
import numpy as np

from xautolm_hpc.errors import InputError
from xautolm_hpc.store.layout import DICTIONARIES, ENDS_DTYPE, GROUPS, MARKS, VARIABLE, VARIABLE_ENDS
from xautolm_hpc.store.ranges import LONGEST_MESSAGE, LONGEST_TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLimits:
    """Limits of the child process that checks a segment, and of what it accepts.

    Attributes:
        memory_gb: Memory the check may take, in GB of 2**30 bytes, above 0.
        cpu_s: Processor time for one segment, in seconds, at least 1.
        wall_s: Time for one segment, in seconds, at least 1.
        file_mb: Largest file, in MB of 2**20 bytes, above 0.
        content_mb: Largest content once it is decompressed, in MB of 2**20 bytes, above 0.
        n_experiences: Most experiences in one segment, at least 1.

    Raises:
        InputError: A limit is not positive.
    """

    memory_gb: float = 4.0
    cpu_s: float = 300.0
    wall_s: float = 600.0
    file_mb: float = 2048.0
    content_mb: float = 2048.0
    n_experiences: int = 2_000_000

    @classmethod
    def of(cls, given: Mapping[Any, Any]) -> "CheckLimits":
        """Build limits from given ones; those that are missing or ``None`` have their defaults.

        Raises:
            InputError: A limit is not positive.
        """
        return cls(**{name: value for name, value in given.items() if value is not None})

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"limit {field.name} = {value!r}: expected a number above 0")


MB = 1024**2
GB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFinding:
    """A problem of a store.

    Attributes:
        problem: ``damaged``, ``refused``, ``format``, ``digest``, ``range``, ``conflict``,
            ``foreign-record``, ``foreign-copy``, ``foreign-forget``, ``pending-mark``, ``old-mark``, ``key`` or
            ``left-over``.
        where: The segment, attempt key, experience, author of marks or file with the problem.
        message: What is wrong, and what to do.
    """

    problem: str
    where: str
    message: str


MATRICES = {**{name: group.dtype for name, group in GROUPS.items()}, VARIABLE_ENDS: ENDS_DTYPE}
BLOBS = (*DICTIONARIES, MARKS, *VARIABLE)
DTYPES = {**MATRICES, **dict.fromkeys(BLOBS, "<u1")}
ROOT_ATTRIBUTES = ("digest", "format_version", "n_experiences")
FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
MOST_FILTERS = 3
LARGEST_CHUNK_BYTES = 64 * MB
LARGEST_NAMES_BYTES = MB
SLAB_BYTES = 16 * MB
LONGEST_PIECE = {"message": 6 * LONGEST_MESSAGE + 2, "curve": 4 * MB}
"""Variable part -> most bytes of one; a character takes six at most."""

LONGEST_LINE, LONGEST_OTHER_LINE = {"tasks": LONGEST_TASK}, MB // 4
"""Most bytes of an entry of a dictionary, and of a mark."""


def drop_plugins() -> None:
    """Remove every folder from which HDF5 would load filters."""
    while h5py.h5pl.size():
        h5py.h5pl.remove(0)


def refusals(file: h5py.File, limits: CheckLimits) -> Iterator[str]:
    """List what a segment of format 1 must not contain; the first problem is yielded before any data is read."""
    yield from _root_refusals(file)
    seen: dict[int, str] = {}
    n_bytes = 0
    for name in file.id:  # names of links, nothing is opened yet
        text = name.decode("utf-8", "backslashreplace")
        kind = file.id.links.get_info(name).type
        if kind != h5py.h5l.TYPE_HARD:
            yield f"{text!r:.80} is {_link_kind(kind)}; a segment holds its data itself"
            continue
        if text not in DTYPES:
            yield f"it holds {text!r:.80}, which format 1 does not have"
            continue
        opened = h5py.h5o.open(file.id, name)
        if not isinstance(opened, h5py.h5d.DatasetID):
            yield f"{text} is a {'group' if isinstance(opened, h5py.h5g.GroupID) else 'type'} and no dataset"
            continue
        address = int(h5py.h5o.get_info(opened).addr)
        if address in seen:
            yield f"{text} and {seen[address]} are one object under two links"
        seen[address] = text
        yield from _dataset_refusals(text, opened, limits=limits)
        n_bytes += math.prod(opened.shape) * opened.get_type().get_size()
    if n_bytes > limits.content_mb * MB:
        yield f"its content has {n_bytes:,} bytes; the limit is {limits.content_mb:g} MB"


def piece_refusals(file: h5py.File) -> Iterator[str]:
    """List messages, curves and dictionary entries that are too long, before any is read whole.

    The structure must be checked before. Of a dictionary only slabs are in memory.
    """
    for name, column in zip(_column_names(file, VARIABLE_ENDS), file.get(VARIABLE_ENDS, ()), strict=False):
        longest = int(np.diff(column, prepend=0).max(initial=0))
        if longest > LONGEST_PIECE.get(name, 0):
            yield f"a {name} has {longest:,} bytes; the limit is {LONGEST_PIECE.get(name, 0):,}"
    for name in (*DICTIONARIES, MARKS):
        limit = LONGEST_LINE.get(name, LONGEST_OTHER_LINE)
        if name in file and _has_longer_line(file[name], limit):
            yield f"an entry of {name} has more than {limit:,} bytes"


def _column_names(file: h5py.File, dataset: str) -> list[str]:
    found = file[dataset].attrs["names"] if dataset in file else ()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in found]


def _has_longer_line(dataset: h5py.Dataset, limit: int) -> bool:
    """Check whether a blob has a line of more bytes than a limit."""
    if dataset.shape[0] <= limit:
        return False
    last_end = -1
    for start in range(0, dataset.shape[0], SLAB_BYTES):
        slab = dataset[start : start + SLAB_BYTES]
        ends = np.concatenate([[last_end], start + np.flatnonzero(slab == ord("\n"))])
        if np.diff(ends).max(initial=0) > limit + 1 or start + len(slab) - ends[-1] > limit + 1:
            return True
        last_end = int(ends[-1])
    return False


def _root_refusals(file: h5py.File) -> Iterator[str]:
    """Check that the root has exactly its three attributes, each a single value."""
    n_attributes = h5py.h5a.get_num_attrs(file.id)
    names = sorted(_attribute_name(file.id, i) for i in range(min(n_attributes, len(ROOT_ATTRIBUTES) + 1)))
    if tuple(names) != ROOT_ATTRIBUTES:
        yield f"the root has the attributes {names!r:.200}, expected {', '.join(ROOT_ATTRIBUTES)}"
        return
    for name in ROOT_ATTRIBUTES:
        attribute = h5py.h5a.open(file.id, name.encode())
        kind = attribute.get_type()
        expected: Any = h5py.h5t.TypeStringID if name == "digest" else h5py.h5t.TypeIntegerID
        if not isinstance(kind, expected) or attribute.shape != () or kind.get_size() > 64:
            yield f"the root's attribute {name} is no single {'text' if name == 'digest' else 'integer'}"


def _attribute_name(owner: Any, index: int) -> str:
    name: bytes = h5py.h5a.open(owner, index=index).get_name()
    return name.decode("utf-8", "backslashreplace")


def _link_kind(kind: int) -> str:
    return {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}.get(
        kind, "a link of an unknown kind"
    )


def _dataset_refusals(name: str, dataset: Any, *, limits: CheckLimits) -> Iterator[str]:
    """Check one dataset's storage, filters, type and shape."""
    yield from _storage_refusals(name, dataset)
    found = _dtype(dataset)
    if found != np.dtype(DTYPES[name]):
        yield f"{name} has type {found}, expected {DTYPES[name]}"
    n_dimensions = 1 if name in BLOBS else 3 if name == "digests" else 2
    if len(dataset.shape) != n_dimensions:
        yield f"{name} has {len(dataset.shape)} dimensions, expected {n_dimensions}"
    elif name in MATRICES and dataset.shape[1] > limits.n_experiences:
        yield f"{name} has {dataset.shape[1]:,} experiences; the limit is {limits.n_experiences:,}"
    names = [_attribute_name(dataset, i) for i in range(min(h5py.h5a.get_num_attrs(dataset), 2))]
    if names != (["names"] if name in MATRICES else []):
        yield f"{name} has the attributes {names!r:.200}"
    elif names:
        yield from _names_refusals(name, dataset)


def _storage_refusals(name: str, dataset: Any) -> Iterator[str]:
    """Check where and how a dataset is stored."""
    created = dataset.get_create_plist()
    layout = created.get_layout()
    if layout == h5py.h5d.VIRTUAL:
        yield f"{name} is a virtual dataset; a segment holds its data itself"
        return
    if created.get_external_count():
        yield f"{name} lies in another file; a segment holds its data itself"
        return
    if math.prod(dataset.shape) and layout != h5py.h5d.CHUNKED:
        yield f"{name} is not stored in chunks"
        return
    filters = [created.get_filter(i)[0] for i in range(min(created.get_nfilters(), MOST_FILTERS + 1))]
    unknown = [number for number in filters if number not in FILTERS]
    if unknown or len(set(filters)) != len(filters):
        yield f"{name} has the filters {filters}; valid, once each: {', '.join(FILTERS.values())}"
    if layout == h5py.h5d.CHUNKED:
        n_bytes = math.prod(created.get_chunk()) * dataset.get_type().get_size()
        if n_bytes > LARGEST_CHUNK_BYTES:
            yield f"{name} has chunks of {n_bytes:,} bytes; the limit is {LARGEST_CHUNK_BYTES // MB} MB"


def _dtype(dataset: Any) -> Any:
    """Find the type of a dataset: numpy's for numbers, else the name of HDF5's class, because numpy may have none."""
    kind = dataset.get_type()
    if isinstance(kind, h5py.h5t.TypeIntegerID | h5py.h5t.TypeFloatID):
        return kind.dtype
    return type(kind).__name__.removeprefix("Type").removesuffix("ID").lower()


def _names_refusals(name: str, dataset: Any) -> Iterator[str]:
    attribute = h5py.h5a.open(dataset, b"names")
    kind = attribute.get_type()
    is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not is_text or len(attribute.shape) != 1 or attribute.shape[0] != dataset.shape[0]:
        yield f"the names of {name} are no list of one fixed-length text for each of its columns"
    elif attribute.shape[0] * kind.get_size() > LARGEST_NAMES_BYTES:
        yield f"the names of {name} take more than {LARGEST_NAMES_BYTES // MB} MB"
