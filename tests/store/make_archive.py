"""Writes a tiny store of the newest format, and what a reader finds in it: `python -m tests.store.make_archive FOLDER`.

The archive of a format is made anew until the format is released, and never after that.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.store.samples import experience, experiences, system, task
from xautolm_hpc.records import Experience, to_json
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.store.authors.authority import DECISIONS_NAME, KEY_NAME

BUSY: dict[str, Any] = {"status": "failed", "kind": "node_busy", "origin": "infrastructure", "metrics": {}}
STOPPED: dict[str, Any] = {"status": "stopped", "kind": None, "origin": None, "epochs_done": 0.25, "epochs": 4}
CURVE = ((1.0, 0.5, 0.25, 0.75, 12.5), (2.0, 0.25, 0.125, 0.5, 25.0))
FORGOTTEN = 11


def whole() -> Experience:
    """Make an experience in which every field has a value that is not its default, but for those of a failure."""
    outcome = {
        "load_s": 1.5,
        "eval_s": 0.5,
        "retry_s": 2.5,
        "queue_s": 60.0,
        "time_scope": "train+eval on a busy node",
        "cpu_energy_j": 250.0,
        "energy_source": "nvml-counter+rapl",
        "energy_scope": "whole-gpu",
        "peak_rss_bytes": 2**31,
        "n_samples": 640,
        "truncated": True,
        "epochs_done": 1.5,
        "epochs": 3,
        "schedule_share": 0.5,
        "step": "graph",
        "step_reason": "asked for",
        "cpu_share": 0.75,
        "curve": CURVE,
        "message": "others delayed it",
    }
    provenance = {
        "attempt": 1,
        "restart": 2,
        "image_digest": f"sha256:{'a' * 64}",
        "lock_hash": "b" * 64,
        "node": "node-7",
        "suspect": True,
        "job": 4,
        "job_position": 2,
    }
    return experience(0, system=system(cuda_version="12.8"), outcome=outcome, provenance=provenance)


def records() -> list[Experience]:
    """Make the experiences: of every status, with every field, and two under one attempt key."""
    return [
        whole(),
        *experiences(8, start=1),
        experience(9, outcome=BUSY),
        experience(10, outcome=STOPPED),
        experience(FORGOTTEN),
        experience(12, run_id="r12", outcome={"metrics": {"f1": 0.25}}),
        experience(12, run_id="r12", outcome={"metrics": {"f1": 0.5}}),
        experience(13, run_id="r13", provenance={"suspect": True}, task=task("task-1", semantic=None)),
    ]


def write(folder: Path) -> None:
    """Write the archive into a folder, in place of what is there."""
    made = records()
    with tempfile.TemporaryDirectory() as temporary:
        store = ExperienceStore(Path(temporary) / "store")
        store.append(made)
        store.forget([made[11].id], "site-a")
        store.accept("r13")
        name = store.compact()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in (
            str(name),
            KEY_NAME,
            DECISIONS_NAME,
        ):  # with its key: its marks are in force
            shutil.copyfile(store.path / file, folder / file)
        conflicts = sorted([made[12].id, made[13].id])
        expected = {
            "digest_of_segment": str(name).removeprefix("seg-").removesuffix(".h5"),
            "conflicts": {made[12].key: conflicts},
            "forgotten": [made[11].id],
            "experiences": [{"id": e.id, **json.loads(json.dumps(to_json(e)))} for e in store.read()],
        }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
