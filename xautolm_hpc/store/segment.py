"""Reads and writes one segment: a file that is written whole and never changed."""

import contextlib
import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.store.columns import Array, Columns, Ragged, digest, line, only_marks
from xautolm_hpc.store.files import write_checked
from xautolm_hpc.store.layout import (
    COLUMNS,
    DICTIONARIES,
    DIGEST_BYTES,
    ENDS_DTYPE,
    EVERYTHING,
    FORMAT,
    GROUPS,
    KINDS_OF,
    MARKS,
    NO_CODE,
    READABLE,
    STATUSES_OF,
    VARIABLE,
    VARIABLE_ENDS,
    Wanted,
    columns_of,
)
from xautolm_hpc.store.listing import not_regular
from xautolm_hpc.store.marks import check_marks
from xautolm_hpc.store.structure import LARGEST_NAMES_BYTES
from xautolm_hpc.store.trust import Identity, identity_of

LIBVER = ("v110", "v110")  # read by every HDF5 since 2016, and half the size of the default for small segments
CHUNK_ROWS = 32_768
CHUNK_BYTES = 1_048_576
SMALL_ROWS = 1_024  # up to here the columns of a dataset share one chunk
COMPRESSION_LEVEL = 4
DAMAGE = (OSError, KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError)
"""Exceptions of h5py and numpy on a damaged file."""


def segment_name(content_digest: str) -> str:
    """Name the segment that holds the columns of a digest."""
    return f"seg-{content_digest}.h5"


def write(columns: Columns, path: Path, *, content_digest: str, remember: Callable[[Identity], None]) -> None:
    """Write columns in stored form to a file; a reader sees the whole file or none.

    Args:
        columns: What to write.
        path: File; its folder exists.
        content_digest: :func:`~xautolm_hpc.store.columns.digest` of the columns.
        remember: Called with the identity of the new file; not if another process has replaced it already.

    Raises:
        StoreError: The file could not be written, or what was read back differs from it; an old file is untouched.
    """

    def check(aside: Path) -> None:
        _check_digest(aside, content_digest)

    if not fits(columns):
        raise StoreError(
            f"`{path}` was not written: the parameters or metrics of its experiences have too many names, of more than "
            f"{LARGEST_NAMES_BYTES:,} bytes in all. Store experiences of other programs elsewhere"
        )
    try:
        write_checked(path, _image(columns, content_digest), check=check, remember=remember)
    except OSError as error:
        raise StoreError(
            f"`{path}` could not be written: {error}. The store is as before; see to the file system (space, quota, "
            "permissions), then run again"
        ) from error


def fits(columns: Columns) -> bool:
    """Check whether one segment can hold the names of parameters and metrics: each takes as much as the longest."""
    found = [[len(name.encode()) for name in group] for group in columns.groups.values() if group]
    return all(len(lengths) * max(lengths) <= LARGEST_NAMES_BYTES for lengths in found)


def read(path: Path, wanted: Wanted, *, identity: Identity | None = None) -> Columns:
    """Read the wanted columns of a segment, their dictionaries, and all marks.

    Args:
        path: File.
        wanted: Columns to read.
        identity: Identity that the file had when it was checked; ``None`` allows any.

    Raises:
        FileNotFoundError: The file does not exist, or no longer, or is another one.
        FormatError: The file has a newer format.
        StoreError: The file is damaged or not a segment.
    """
    with open_bytes(path) as raw:
        if identity is not None and identity_of(os.fstat(raw.fileno())) != identity:
            raise FileNotFoundError(f"`{path}` is another file than before")
        with open_hdf5(raw, path) as file:
            return _read(file, wanted)


def recorded_digest(path: Path) -> str:
    """Read the digest that is recorded in a segment.

    Raises:
        FileNotFoundError: The file does not exist, or no longer.
        StoreError: The file is damaged or not a segment.
    """
    with open_bytes(path) as raw, open_hdf5(raw, path) as file:
        return str(file.attrs["digest"])


def recorded_format(path: Path) -> int:
    """Read the format of a segment.

    Raises:
        FileNotFoundError: The file does not exist, or no longer.
        StoreError: The file is damaged or not a segment.
    """
    with open_bytes(path) as raw, open_hdf5(raw, path) as file:
        return _format_of(file)


def open_bytes(path: Path) -> io.FileIO:
    """Open a file such that HDF5 reads it through Python: then it takes no lock, whatever the environment says.

    Raises:
        FileNotFoundError: The file does not exist, or no longer.
        StoreError: The file cannot be opened.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):  # a device must not even be opened, and opening a pipe meanwhile must not block
            raw = io.FileIO(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY))
            mode = os.fstat(raw.fileno()).st_mode
            if stat.S_ISREG(mode):
                return raw
            raw.close()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"`{shown(path)}` cannot be opened: {error}") from error
    raise StoreError(f"`{shown(path)}` is refused: {not_regular(mode)}")


@contextlib.contextmanager
def open_hdf5(raw: io.FileIO, path: Path) -> Iterator[h5py.File]:
    """Open the file as HDF5 and check its format; errors while it is open are raised as damage.

    Raises:
        FormatError: The file has a newer format.
        StoreError: The file is damaged or not a segment.
    """
    try:
        with h5py.File(raw, "r") as file:
            _check_format(file, path)
            yield file
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise StoreError(f"`{shown(path)}` is damaged or no segment: {error}") from error


def shown(path: Path) -> str:
    """Name a segment with its store, for messages."""
    return f"{path.parent.name}/{path.name}"


# write


def _check_digest(path: Path, expected: str) -> None:
    found = digest(read(path, EVERYTHING))
    if found != expected:
        raise StoreError(
            f"`{path}`: what was read back has digest {found}, expected {expected}; the file system or the memory of "
            "this machine is at fault. Nothing was stored; look at the disk, then run again"
        )


def _image(columns: Columns, content_digest: str) -> bytes:
    """Build the file in memory: if HDF5 wrote to disk itself, a kill would leave half a file."""
    n = len(columns)
    with h5py.File("segment", "w", driver="core", backing_store=False, libver=LIBVER) as file:
        file.attrs["format_version"] = columns.format_version
        file.attrs["digest"] = content_digest
        file.attrs["n_experiences"] = n
        if n:
            for group in columns.groups:
                _write_matrix(file, group, columns=columns.stored(group))
            ends = {name: part.ends for name, part in columns.variable.items()}
            _write_matrix(file, VARIABLE_ENDS, columns=ends)
            for name, part in columns.variable.items():
                _write_blob(file, name, content=part.content)
        for name, entries in (*columns.dictionaries.items(), (MARKS, columns.marks)):
            _write_blob(file, name, content=b"\n".join(entries))
        file.flush()
        image: bytes = file.id.get_file_image()
    return image


def _write_matrix(file: h5py.File, dataset: str, *, columns: Mapping[str, Array]) -> None:
    """Write columns as the named rows of one dataset."""
    names = sorted(columns)
    if not names:
        return
    dtype = GROUPS[dataset].dtype if dataset in GROUPS else ENDS_DTYPE
    values = np.stack([columns[name] for name in names]).astype(dtype, copy=False)
    n = values.shape[1]
    n_chunks = -(-n // CHUNK_ROWS)
    chunk_rows = -(-n // n_chunks)
    chunk = (len(names) if n <= SMALL_ROWS else 1, chunk_rows, *values.shape[2:])
    created = _create(file, dataset, values=values, chunk=chunk)
    encoded = [name.encode() for name in names]
    text = h5py.string_dtype("utf-8", max(map(len, encoded)))
    created.attrs.create("names", np.array(encoded), dtype=text)


def _write_blob(file: h5py.File, dataset: str, *, content: bytes) -> None:
    values = np.frombuffer(content, np.uint8)
    _create(file, dataset, values=values, chunk=(min(len(content), CHUNK_BYTES),))


def _create(file: h5py.File, dataset: str, *, values: Array, chunk: tuple[int, ...]) -> h5py.Dataset:
    """Create a dataset whose every chunk has a checksum; digests are random and are not compressed."""
    if not values.size:  # an empty dataset has no chunks
        return file.create_dataset(dataset, data=values)
    is_random = dataset == "digests"
    return file.create_dataset(
        dataset,
        data=values,
        chunks=chunk,
        shuffle=values.itemsize > 1,
        compression=None if is_random else "gzip",
        compression_opts=None if is_random else COMPRESSION_LEVEL,
        fletcher32=True,
    )


# read


def _check_format(file: h5py.File, path: Path) -> None:
    """Check that this version reads the format of a segment."""
    found = _format_of(file)
    if found < READABLE[0]:
        raise ValueError(f"format_version is {found}; expected one of {', '.join(map(str, READABLE))}")
    if found not in READABLE:
        reads = ", ".join(map(str, READABLE))
        raise FormatError(
            f"`{shown(path)}` is format {found}; this version reads {reads}. "
            "Upgrade xautolm-hpc, or ask its site for a copy in a format that this version reads: "
            f"`xautolm-hpc store export STORE --to COPY --format {FORMAT}`"
        )


def _format_of(file: h5py.File) -> int:
    """Read the format of a segment; a float or text would do for Python, but is none."""
    attribute = file.attrs.get_id("format_version")
    if not isinstance(attribute.get_type(), h5py.h5t.TypeIntegerID) or attribute.shape != ():
        raise ValueError("format_version is no single whole number")
    return int(file.attrs["format_version"])


def _read(file: h5py.File, wanted: Wanted) -> Columns:
    """Read the wanted columns and check that they agree with one another."""
    n, found_format = int(file.attrs["n_experiences"]), int(file.attrs["format_version"])
    marks = _read_lines(file, MARKS)
    check_marks(marks, format_version=found_format)
    if n == 0:
        return replace(only_marks(marks), format_version=found_format)
    groups = {group: _read_group(file, group, wanted=wanted, n=n) if group in wanted else {} for group in GROUPS}
    codes = groups["codes"]
    needed = {name for name, columns in DICTIONARIES.items() if any(column in codes for column in columns)}
    dictionaries = {name: _read_lines(file, name) if name in needed else () for name in DICTIONARIES}
    variable = _read_variable(file, wanted) if VARIABLE_ENDS in wanted else {}
    columns = Columns(
        groups=groups, variable=variable, dictionaries=dictionaries, marks=marks, format_version=found_format
    )
    _check_lengths(columns, n)
    _check_codes(columns)
    return columns


def _read_group(file: h5py.File, group: str, *, wanted: Wanted, n: int) -> dict[str, Array]:
    """Read the wanted columns of a group; those that the segment's format lacks are null."""
    found = _read_matrix(file, group, wanted=wanted)
    if group not in COLUMNS or int(file.attrs["format_version"]) == FORMAT:
        return found
    dtype, null = GROUPS[group]
    chosen = wanted[group]
    names = COLUMNS[group] if chosen is None else chosen
    return {name: found[name] if name in found else np.full(n, null, dtype) for name in names}


def _read_matrix(file: h5py.File, dataset: str, *, wanted: Wanted) -> dict[str, Array]:
    """Read the wanted rows of a dataset, each one column."""
    if dataset not in file:  # no experience has a metric, or a parameter
        return {}
    found = file[dataset]
    dtype = GROUPS[dataset].dtype if dataset in GROUPS else ENDS_DTYPE
    if found.dtype != np.dtype(dtype):
        raise ValueError(f"{dataset} has type {found.dtype}, expected {dtype}")
    names = [name.decode() if isinstance(name, bytes) else str(name) for name in found.attrs["names"]]
    if dataset in COLUMNS:
        expected = columns_of(dataset, int(file.attrs["format_version"]))
        if tuple(names) != expected:
            raise ValueError(f"{dataset} has columns {names}, expected {list(expected)}")
    chosen = wanted[dataset]
    if chosen is None or found.shape[1] <= SMALL_ROWS:
        columns = dict(zip(names, found[...], strict=True))
        return columns if chosen is None else {name: columns[name] for name in chosen if name in columns}
    return {name: found[names.index(name)] for name in chosen if name in names}


def _read_lines(file: h5py.File, dataset: str) -> tuple[bytes, ...]:
    content = file[dataset][...].tobytes()
    return tuple(content.split(b"\n")) if content else ()


def _read_variable(file: h5py.File, wanted: Wanted) -> dict[str, Ragged]:
    ends = _read_matrix(file, VARIABLE_ENDS, wanted=wanted)
    parts = {}
    for name in VARIABLE:
        content = file[name][...].tobytes()
        bounds = np.concatenate([np.zeros(1, np.int64), ends[name]])
        if bounds[-1] != len(content) or bool((np.diff(bounds) < 0).any()):
            raise ValueError(f"the ends of {name} do not fit its {len(content)} bytes")
        parts[name] = Ragged(ends[name], content)
    return parts


def _check_lengths(columns: Columns, n: int) -> None:
    shapes = {
        f"{group}/{name}": column.shape == ((n, DIGEST_BYTES) if group == "digests" else (n,))
        for group, found in columns.groups.items()
        for name, column in found.items()
    }
    shapes |= {name: len(part.ends) == n for name, part in columns.variable.items()}
    wrong = [name for name, is_right in shapes.items() if not is_right]
    if wrong:
        raise ValueError(f"{wrong[0]} has another length than the {n} experiences")


def _check_codes(columns: Columns) -> None:
    """Check that every index points into its dictionary, and that status and kind are known ones."""
    for dictionary, names in DICTIONARIES.items():
        n_entries = len(columns.dictionaries[dictionary])
        for name in names:
            _check_range(columns.groups["codes"].get(name), n_entries, name=name)
    for name, column in columns.groups["params"].items():
        _check_range(column, len(columns.dictionaries["values"]), name=name)
    known_texts = {"status": STATUSES_OF[columns.format_version], "kind": KINDS_OF[columns.format_version]}
    for name, known in known_texts.items():
        if name in columns.groups["codes"]:
            _check_texts(columns, name, known={line(text) for text in known})


def _check_range(column: Array | None, n_entries: int, *, name: str) -> None:
    if column is not None and column.size and (column.min() < NO_CODE or column.max() >= n_entries):
        raise ValueError(f"{name} has an index outside its dictionary of {n_entries} entries")


def _check_texts(columns: Columns, name: str, *, known: set[bytes]) -> None:
    entries = columns.dictionaries["values"]
    is_used = np.zeros(len(entries) + 1, np.bool_)  # the last one is the null code
    is_used[columns.groups["codes"][name]] = True
    for code in np.flatnonzero(is_used[:-1]).tolist():
        if entries[code] not in known:
            raise ValueError(f"{name} has the unknown value {entries[code]!r:.80}")
