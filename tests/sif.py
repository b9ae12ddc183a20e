"""Writes small SIF files, as Apptainer lays them out, for tests of what reads them."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path

from xautolm_hpc.image import DESCRIPTOR, HEADER, METADATA_NAME

TABLE_OFFSET = 4096
DATA_OFFSET = 32768
PARTITION, GENERIC_JSON = 0x4004, 0x4006


def write_sif(path: Path, *, labels: Mapping[str, str] | None = None, architecture: str = "02") -> Path:
    """Write an image with labels and a partition of 1000 bytes."""
    metadata = json.dumps({"data": {"attributes": {"labels": dict(labels or {})}}}).encode()
    objects = [(GENERIC_JSON, METADATA_NAME, metadata), (PARTITION, "rootfs", b"\1" * 1000)]
    table, data, offset = b"", b"", DATA_OFFSET
    for number, (kind, name, content) in enumerate(objects, start=1):
        size = len(content)
        table += DESCRIPTOR.pack(kind, True, number, 1, 0, offset, size, size, 0, 0, 0, 0, name.encode(), b"")
        data += content
        offset += size
    unused = DESCRIPTOR.pack(0, False, 0, 0, 0, 10**9, 10**9, 0, 0, 0, 0, 0, b"", b"")
    header = HEADER.pack(
        b"#!/usr/bin/env run-singularity\n", b"SIF_MAGIC", b"01", architecture.encode(), uuid.uuid4().bytes,
        0, 7, 1, 3, TABLE_OFFSET, 3 * DESCRIPTOR.size, DATA_OFFSET, len(data),
    )  # fmt: skip
    path.write_bytes(
        header.ljust(TABLE_OFFSET, b"\0") + (table + unused).ljust(DATA_OFFSET - TABLE_OFFSET, b"\0") + data
    )
    return path
