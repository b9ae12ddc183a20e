"""Files that a segment from elsewhere might be: each is a sound segment in which one thing was changed."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import segment
from xautolm_hpc.store.columns import digest
from xautolm_hpc.store.layout import EVERYTHING

Change = Callable[[h5py.File], None]
UNKNOWN_FILTER = 32123


def put(file: h5py.File, name: str, values: Any, **how: Any) -> None:
    """Put other values in a dataset's place, with its attributes, by default in one chunk."""
    attributes = dict(file[name].attrs) if name in file else {}
    if name in file:
        del file[name]
    values = np.asarray(values)
    file.create_dataset(name, data=values, **{"chunks": values.shape, **how}).attrs.update(attributes)


def claim(file: h5py.File, name: str, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
    """Put a dataset in place that says it is large and has no bytes at all."""
    attributes, dtype = dict(file[name].attrs), file[name].dtype
    del file[name]
    file.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks).attrs.update(attributes)


def low_level(file: h5py.File, name: str, kind: Any, *, setting: Callable[[Any], None] | None = None) -> None:
    """Put a dataset of any HDF5 type or creation property in another's place."""
    shape, attributes = file[name].shape, dict(file[name].attrs)
    del file[name]
    created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if setting is None:
        created.set_chunk(shape)
    else:
        setting(created)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), created)
    file[name].attrs.update(attributes)


def column_names(file: h5py.File, dataset: str) -> list[str]:
    """List the names of a dataset's columns."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in file[dataset].attrs["names"]]


def soft_link(file: h5py.File) -> None:
    del file["codes"]
    file["codes"] = h5py.SoftLink("/counts")


def external_link(file: h5py.File) -> None:
    del file["codes"]
    file["codes"] = h5py.ExternalLink("/etc/passwd", "/codes")


def link_cycle(file: h5py.File) -> None:
    del file["codes"]
    file["codes"] = file["/"]


def group_cycle(file: h5py.File) -> None:
    del file["codes"]
    file.create_group("codes")
    file["codes"]["codes"] = file["codes"]


def second_link(file: h5py.File) -> None:
    del file["param_floats"]
    file["param_floats"] = file["metrics"]


def virtual_dataset(file: h5py.File) -> None:
    shape = file["codes"].shape
    attributes = dict(file["codes"].attrs)
    del file["codes"]
    layout = h5py.VirtualLayout(shape=shape, dtype="<i4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "codes", shape=shape)
    file.create_virtual_dataset("codes", layout).attrs.update(attributes)


def external_storage(file: h5py.File) -> None:
    low_level(
        file, "message", h5py.h5t.NATIVE_UINT8, setting=lambda p: p.set_external(b"/etc/passwd", 0, h5py.h5f.UNLIMITED)
    )


def unknown_filter(file: h5py.File) -> None:
    def setting(created: Any) -> None:
        created.set_chunk(file_shape)
        created.set_filter(UNKNOWN_FILTER, h5py.h5z.FLAG_OPTIONAL, (1,))

    file_shape = file["codes"].shape
    low_level(file, "codes", h5py.h5t.STD_I32LE, setting=setting)


def plugin_filter(file: h5py.File) -> None:
    put(file, "codes", file["codes"][...], compression="lzf")


def scale_filter(file: h5py.File) -> None:
    put(file, "codes", file["codes"][...], scaleoffset=4)


def object_type(file: h5py.File) -> None:
    put(file, "tasks", np.array(["a"], dtype=h5py.string_dtype()))


def opaque_type(file: h5py.File) -> None:
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 4)
    kind.set_tag(b"pickle")
    low_level(file, "codes", kind)


def reference_type(file: h5py.File) -> None:
    put(file, "tasks", np.array([file["codes"].ref], dtype=h5py.ref_dtype))


def compound_type(file: h5py.File) -> None:
    put(file, "tasks", np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]))


def enum_type(file: h5py.File) -> None:
    put(file, "tasks", np.zeros(3, dtype=h5py.enum_dtype({"a": 0}, basetype="u1")))


def sequence_type(file: h5py.File) -> None:
    del file["tasks"]
    file.create_dataset("tasks", shape=(3,), dtype=h5py.vlen_dtype(np.int32), chunks=(3,))


def array_type(file: h5py.File) -> None:
    low_level(file, "tasks", h5py.h5t.array_create(h5py.h5t.NATIVE_UINT8, (4,)))


def bitfield_type(file: h5py.File) -> None:
    low_level(file, "tasks", h5py.h5t.STD_B8LE)


def named_type(file: h5py.File) -> None:
    del file["codes"]
    file["codes"] = np.dtype("<i4")


def big_endian(file: h5py.File) -> None:
    put(file, "codes", file["codes"][...].astype(">i4"))


def half_precision(file: h5py.File) -> None:
    put(file, "numbers", np.zeros(file["numbers"].shape, "<f2"))


def many_rows(file: h5py.File) -> None:
    claim(file, "codes", (len(file["codes"]), 10**12), (1, 4096))


def large_blob(file: h5py.File) -> None:
    claim(file, "tasks", (2**42,), (4096,))


def large_chunk(file: h5py.File) -> None:
    claim(file, "tasks", (2**28,), (2**28,))


def more_dimensions(file: h5py.File) -> None:
    put(file, "codes", file["codes"][...][None])


def contiguous(file: h5py.File) -> None:
    put(file, "codes", file["codes"][...], chunks=None)


def unknown_dataset(file: h5py.File) -> None:
    file.create_dataset("pickle", data=np.zeros(3, np.uint8), chunks=(3,))


def unknown_group(file: h5py.File) -> None:
    file.create_group("more")


def more_attributes(file: h5py.File) -> None:
    file.attrs["pickle"] = np.void(b"x")


def fewer_attributes(file: h5py.File) -> None:
    del file.attrs["digest"]


def strange_digest(file: h5py.File) -> None:
    file.attrs["digest"] = np.zeros(4)


def attribute_on_dataset(file: h5py.File) -> None:
    file["message"].attrs["note"] = "x"


def variable_names(file: h5py.File) -> None:
    names = column_names(file, "codes")
    file["codes"].attrs.create("names", np.array(names, dtype=object), dtype=h5py.string_dtype())


def more_names(file: h5py.File) -> None:
    names = [*column_names(file, "codes"), "zz"]
    file["codes"].attrs.create("names", np.array(names, dtype=bytes))


def negative_length(file: h5py.File) -> None:
    file.attrs["n_experiences"] = -4


def nested_json(file: h5py.File) -> None:
    put(file, "tasks", np.frombuffer(b"[" * 200_000 + b"\n" + b"[" * 200_000, np.uint8))


def entry(name: str, change: Callable[[Any], Any]) -> Change:
    """Make a change of every entry of a dictionary."""

    def changed(file: h5py.File) -> None:
        lines = file[name][...].tobytes().split(b"\n")
        encoded = [json.dumps(change(json.loads(text)), separators=(",", ":"), sort_keys=True) for text in lines]
        put(file, name, np.frombuffer("\n".join(encoded).encode(), np.uint8))

    return changed


def cell(dataset: str, column: str, value: Any) -> Change:
    """Make a change of one column's first value."""

    def changed(file: h5py.File) -> None:
        names = column_names(file, dataset)
        file[dataset][names.index(column), 0] = value

    return changed


def blob(dataset: str, old: bytes, new: bytes) -> Change:
    """Make a change inside a blob that keeps its length."""

    def changed(file: h5py.File) -> None:
        content = file[dataset][...].tobytes()
        put(file, dataset, np.frombuffer(content.replace(old, new, 1), np.uint8))

    return changed


def forged_id(file: h5py.File) -> None:
    digests = file["digests"][...]
    digests[0, 0] = 1
    digests[0, 0, 0] = 0
    put(file, "digests", digests)


def forged_pipeline(file: h5py.File) -> None:
    file["digests"][1, 0, 0] ^= 1


def other_order(file: h5py.File) -> None:
    for name in ("digests", "codes", "counts", "integers", "numbers", "metrics", "params", "param_floats"):
        values = file[name][...]
        values[:, [1, 2]] = values[:, [2, 1]]
        put(file, name, values)


CHANGES: dict[Change | str, str] = {
    soft_link: "'codes' is a soft link",
    external_link: "'codes' is a link to another file",
    link_cycle: "codes is a group and no dataset",
    group_cycle: "codes is a group and no dataset",
    second_link: "are one object under two links",
    virtual_dataset: "codes is a virtual dataset",
    external_storage: "message lies in another file",
    unknown_filter: r"codes has the filters \[32123\]; valid, once each: gzip, shuffle, fletcher32",
    plugin_filter: r"codes has the filters \[32000\]",
    scale_filter: r"codes has the filters \[6\]",
    object_type: "tasks has type string, expected <u1",
    opaque_type: "codes has type opaque",
    reference_type: "tasks has type reference",
    compound_type: "tasks has type compound",
    enum_type: "tasks has type enum",
    sequence_type: "tasks has type vlen",
    array_type: "tasks has type array",
    bitfield_type: "tasks has type bitfield",
    named_type: "codes is a type and no dataset",
    big_endian: "codes has type >i4, expected <i4",
    half_precision: "numbers has type float16",
    many_rows: "codes has 1,000,000,000,000 experiences; the limit is 2,000,000",
    large_blob: "its content has [0-9,]+ bytes; the limit is 2048 MB",
    large_chunk: "tasks has chunks of 268,435,456 bytes; the limit is 64 MB",
    more_dimensions: "codes has 3 dimensions, expected 2",
    contiguous: "codes is not stored in chunks",
    unknown_dataset: "it holds 'pickle', which format 1 does not have",
    unknown_group: "it holds 'more', which format 1 does not have",
    more_attributes: "the root has the attributes",
    fewer_attributes: "the root has the attributes",
    strange_digest: "the root's attribute digest is no single text",
    attribute_on_dataset: r"message has the attributes \['note'\]",
    variable_names: "the names of codes are no list",
    more_names: "the names of codes are no list",
    negative_length: "another length than the -4 experiences",
    nested_json: "recursion",
    entry("tasks", lambda task: {**task, "features": ["=cmd|' /C calc'!A0"]}): 'expected float, found "=cmd',
    entry("tasks", lambda task: {**task, "n_train": "many"}): "n_train: expected int, found 'many'",
    entry("tasks", lambda task: {**task, "\x1b[31m": 1}): "unknown key",
    entry("systems", lambda system: [system]): "expected a System object",
    entry("models", lambda model: [1, 2]): "model_id is 1; expected a text",
    cell("counts", "trial", -1): "trial is -1 somewhere; expected a whole number from 0 to 2147483647",
    cell("counts", "suspect", 7): "suspect is 7 somewhere; expected a whole number from 0 to 1",
    cell("integers", "ended_at_us", 2**62): "ended_at_us is 4611686018427387904 somewhere",
    cell("numbers", "train_s", float("inf")): r"train_s is inf somewhere; expected a number from 0 to 1e\+12, or null",
    cell("numbers", "n_steps", 0.5): "n_steps is 0.5 somewhere; expected a whole number from 0 to",
    cell("codes", "site", -1): "site is None; expected a text",
    cell("codes", "origin", 0): "an outcome is",
    blob("message", b'"', b"x"): "Expecting value|is damaged",
    blob("curve", b"[[", b"[3"): "curve is|Expecting|Extra data",
    blob("values", b'"adamw"', b"1.50000"): "values hold 1.5",
    blob("tasks", b"0.125", b"NaN  "): "not JSON compliant|expected",
    forged_id: "it has ids that are not those of its experiences",
    forged_pipeline: "it has digests that are not those of its pipelines",
    other_order: "ids|order",
    "empty": "is damaged or no segment",
    "text": "is damaged or no segment",
    "truncated": "is damaged or no segment",
    "folder": "it is a folder, and no regular file",
    "pipe": "it is a pipe, and no regular file",
    "device": "it is a device, and no regular file",
    "renamed": "says its digest is 0+61; its content has",
}
"""What is changed -> the reason that must be given."""

UNSIGNED = (fewer_attributes, strange_digest, virtual_dataset, many_rows, large_blob, large_chunk)
"""What is about the digest, or would crash this process or take all its memory if it were read here."""


def names() -> list[str]:
    """Name the changes for tests, by number and reason."""
    return [f"{i}-{getattr(change, '__name__', change)}" for i, change in enumerate(CHANGES)]


def make(change: Change | str, sound: Path, target: Path) -> Path:
    """Make one hostile file of a sound segment; where it can be read, its name and digest are those of its content.

    Returns:
        The file.
    """
    content = sound.read_bytes()
    special: dict[str, Callable[[], Any]] = {
        "empty": lambda: target.write_bytes(b""),
        "text": lambda: target.write_text("<script>alert(1)</script>\n" * 200),
        "truncated": lambda: target.write_bytes(content[: len(content) // 2]),
        "folder": target.mkdir,
        "pipe": lambda: os.mkfifo(target),
        "device": lambda: target.symlink_to("/dev/zero"),
        "renamed": lambda: target.write_bytes(content),
    }
    if isinstance(change, str):
        special[change]()
        return target
    target.write_bytes(content)
    with h5py.File(target, "r+") as file:
        change(file)
    return _signed(target) if change not in UNSIGNED else target


def _signed(path: Path) -> Path:
    """Set digest and name of a file to those of its content."""
    try:
        found = digest(segment.read(path, EVERYTHING))
    except StoreError:
        return path
    with h5py.File(path, "r+") as file:
        file.attrs["digest"] = found
    named = path.with_name(f"seg-{found}.h5")
    return path if named.exists() else path.rename(named)
