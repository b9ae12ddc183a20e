"""The frozen runs: their search files, the ends of their trials, and how their folder is packed and unpacked.

Commit 082bfba wrote them, by ``make_old_run.py``. How a trial ends depends on its pipeline alone, not on the bytes of
its files, which later versions may add to.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import tomllib
from functools import partial
from pathlib import Path

from tests.driving import end_attempt, projection
from tests.fakes import FakeLauncher, end_with, failed_end
from xautolm_hpc.durable import read_json
from xautolm_hpc.failures import OutcomeStatus
from xautolm_hpc.jobdir import PIPELINE, End
from xautolm_hpc.records import Outcome, canonical_json

ARCHIVE_PATH = Path(__file__).with_name("runs-082bfba.tar.gz")
RECORDED_PATH = Path(__file__).with_name("projections-082bfba.json")
FOLDER = b"@FOLDER@"
"""Stands in the archive's texts where the folder of the search stood."""

PAST = """
name = "past"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[search]
population = 12
seed = 3
[budget]
generations = 2
[trial]
time_limit_min = 600.0
[store]
path = "past"
"""

OLD = """
name = "old"
[task]
name = "made-up"
[data]
path = "rows.jsonl"
[search]
population = 10
seed = 11
[budget]
generations = 4
[trial]
time_limit_min = 600.0
[prior]
kind = "xautolm"
[store]
path = "store"
also_read = ["past"]
"""

SEARCHES = {
    "old": OLD,
    "chosen": OLD.replace('"old"', '"chosen"').replace('"xautolm"', '"evidence"').replace('"store"', '"chosen-store"'),
}
"""Name -> search file of the frozen runs; ``chosen`` keeps what it learnt from the past in ``priors.json``."""


def end_trial(attempt_dir: Path) -> End:
    """End an attempt by its pipeline, but the first one of every sixth trial by a failure of its node."""
    number = int(attempt_dir.parent.name.removeprefix("trial-"))
    if number % 6 == 2 and attempt_dir.name == "attempt-0":
        return failed_end("node_failure")
    pipeline = canonical_json(read_json(attempt_dir / PIPELINE)["pipeline"])
    digest = hashlib.sha256(pipeline.encode()).digest()
    if digest[8] % 5 == 0:
        return failed_end("gpu_oom", message="CUDA out of memory")
    f1, train_s = round(digest[0] / 256, 6), 10.0 + digest[1]
    return end_with(
        Outcome(
            status=OutcomeStatus.SUCCEEDED,
            metrics={"f1": f1, "accuracy": f1},
            load_s=2.0,
            train_s=train_s,
            eval_s=1.0,
            evaluation_time_s=train_s + 1.0,
            peak_rss_bytes=2**30,
            n_steps=100,
            n_samples=1600,
        )
    )


def launcher() -> FakeLauncher:
    """Build a launcher whose jobs end by :func:`end_trial`."""
    return FakeLauncher(partial(end_attempt, trial_end=end_trial))


def rows_of(folder: Path, name: str) -> list[list[object]]:
    """List what a search of :data:`SEARCHES` yielded, as JSON keeps it."""
    store = tomllib.loads(SEARCHES[name])["store"]["path"]
    rows: list[list[object]] = json.loads(json.dumps(projection(folder, store)))
    return rows


def pack(folder: Path) -> bytes:
    """Pack the files of a folder: its path becomes :data:`FOLDER`, times and owners are left out."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes().replace(str(folder).encode(), FOLDER)
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def unpack(folder: Path) -> None:
    """Unpack the frozen runs into a folder as if they had been run there, long ago; others may not look in.

    Raises:
        ValueError: The archive holds what is no file.
    """
    with tarfile.open(ARCHIVE_PATH) as archive:
        for entry in archive:
            source, path = archive.extractfile(entry), folder / entry.name
            if source is None:
                raise ValueError(f"`{ARCHIVE_PATH}`: {entry.name!r} is no file")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read().replace(FOLDER, str(folder).encode()))
            os.utime(path, (entry.mtime, entry.mtime))
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
