"""Reads and writes stores: a store is a set of experiences in immutable HDF5 segments; stores merge by set union."""

from xautolm_hpc.store.authors.deciding import MarkGroup
from xautolm_hpc.store.earlier import NO_LOSSES, as_format_1
from xautolm_hpc.store.encode import storable
from xautolm_hpc.store.exchange.flat import WRITERS, read_jsonl, to_frame
from xautolm_hpc.store.exchange.redacted import Copied, copy_store, redacted
from xautolm_hpc.store.exchange.reference_import import ReferenceImport, import_xautolm
from xautolm_hpc.store.layout import FORMAT
from xautolm_hpc.store.merging import Merged, merge
from xautolm_hpc.store.packaged import locate_store
from xautolm_hpc.store.ranges import check_ended
from xautolm_hpc.store.store import Appended, ExperienceStore
from xautolm_hpc.store.structure import CheckLimits, StoreFinding

__all__ = [
    "FORMAT",
    "NO_LOSSES",
    "WRITERS",
    "Appended",
    "CheckLimits",
    "Copied",
    "ExperienceStore",
    "MarkGroup",
    "Merged",
    "ReferenceImport",
    "StoreFinding",
    "as_format_1",
    "check_ended",
    "copy_store",
    "import_xautolm",
    "locate_store",
    "merge",
    "read_jsonl",
    "redacted",
    "storable",
    "to_frame",
]
