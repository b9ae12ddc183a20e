"""Processes that append to, compact and read one store at once; started with ``python -m``, this is one of them."""

import json
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

from tests.store.samples import experience
from xautolm_hpc.store import ExperienceStore

ROOT_DIR = Path(__file__).resolve().parents[2]
BATCH = 4
N_APPENDERS, N_READERS = 8, 2


def append(path: Path, deadline_s: float) -> dict[str, Any]:
    """Commit experiences until the deadline; return their ids."""
    store, run_id = ExperienceStore(path), str(uuid.uuid4())
    ids: list[str] = []
    while time.time() < deadline_s:
        records = [experience(len(ids) + i, run_id=run_id) for i in range(BATCH)]
        appended = store.append(records)
        if appended.n_new != BATCH:
            raise AssertionError(f"{appended.n_new} of {BATCH} were new")
        ids += [record.id for record in records]
    return {"ids": ids}


def compact(path: Path, deadline_s: float) -> dict[str, Any]:
    """Compact again and again."""
    n = 0
    while time.time() < deadline_s:
        ExperienceStore(path).compact()
        n += 1
    return {"n": n}


def read(path: Path, deadline_s: float) -> dict[str, Any]:
    """Read again and again; what was there once is always there, and nothing is left out."""
    n, seen, store = 0, set[bytes](), ExperienceStore(path)
    while time.time() < deadline_s:
        found = store.read_table().id.tolist()
        if len(found) != len(set(found)) or seen - set(found) or store.findings:
            raise AssertionError(f"{len(seen - set(found))} lost; findings {store.findings}")
        seen |= set(found)
        n += 1
    return {"n": n, "n_seen": len(seen)}


ROLES = {"append": append, "compact": compact, "read": read}


def run_busy(path: Path, *, seconds: float) -> dict[str, Any]:
    """Let all roles work at once.

    Returns:
        ``n_committed``, ``n_lost``, ``n_not_own``, ``n_twice``, ``n_reads``, ``n_compactions``, ``errors`` and
        ``findings``.
    """
    deadline_s = time.time() + seconds
    roles = ["append"] * N_APPENDERS + ["read"] * N_READERS + ["compact"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.store.busy", role, str(path), str(deadline_s)],
            cwd=ROOT_DIR,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for role in roles
    ]
    said = [process.communicate(timeout=seconds + 240) for process in processes]
    errors = [f"{role}: {err[-500:]}" for role, (_, err), p in zip(roles, said, processes, strict=True) if p.returncode]
    answers = [(role, json.loads(out)) for role, (out, _) in zip(roles, said, strict=True) if out]
    committed = Counter(one for role, answer in answers if role == "append" for one in answer["ids"])
    store = ExperienceStore(path)
    found = Counter(e.id for e in store.read())
    return {
        "n_committed": len(committed),
        "n_lost": len(committed - found),
        "n_not_own": len(committed.keys() - store.own_ids()),
        "n_twice": sum(n > 1 for n in found.values()),
        "n_reads": sum(answer["n"] for role, answer in answers if role == "read"),
        "n_compactions": sum(answer["n"] for role, answer in answers if role == "compact"),
        "errors": errors,
        "findings": [f.message for f in (*store.findings, *store.verify()) if f.problem != "left-over"],
    }


if __name__ == "__main__":
    role, path, deadline = sys.argv[1:]
    json.dump(ROLES[role](Path(path), float(deadline)), sys.stdout)
