"""HDF5 <-> records: a store is a set of experiences in immutable segments, and stores merge by set union."""

from xautolm_hpc.store.finding import Finding
from xautolm_hpc.store.merging import Merged, merge
from xautolm_hpc.store.peer_import import PeerImport, import_xautolm
from xautolm_hpc.store.store import Appended, ExperienceStore

__all__ = ["Appended", "ExperienceStore", "Finding", "Merged", "PeerImport", "import_xautolm", "merge"]
