"""Stores that claim to speak for another site, and the ways in which they reach its store."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.store.faults import check_here
from tests.store.samples import RUN, experience, experiences, system
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore, merge, segment
from xautolm_hpc.store.authors.key import AuthorKey
from xautolm_hpc.store.columns import digest, line, only_marks
from xautolm_hpc.store.marks import accept_mark, forget_body, resolve_mark, tombstone

SITE = "site-a"
NOBODY = 65534
N_FORGOTTEN, N_RIVAL = 11, 9


def make_ours(path: Path) -> Path:
    """Make a store of site A with marks of its own: one record forgotten, one accepted, one conflict resolved."""
    store = ExperienceStore(path)
    store.append(experiences(6))
    store.append([*experiences(5, start=6), experience(N_FORGOTTEN), experience(20, provenance={"suspect": True})])
    store.append([experience(N_RIVAL, outcome={"metrics": {"f1": 0.5}})])
    store.forget([experience(N_FORGOTTEN).id], SITE)
    store.accept(RUN)
    store.resolve(experience(N_RIVAL).key, experience(N_RIVAL).id)
    return store.path


def write_marks(folder: Path, marks: Iterable[bytes], *, format_version: int = 2) -> Path:
    """Write a segment of marks alone, as any program can."""
    columns = replace(only_marks(marks), format_version=format_version)
    content_digest = digest(columns)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / segment.segment_name(content_digest)
    segment.write(columns, path, content_digest=content_digest, remember=lambda _: None)
    return path


def own_key_id(store: Path) -> str:
    """Read the id of a store's key, which every mark of it names."""
    return AuthorKey(bytes.fromhex((store / ".key").read_text())).id


def forget_by_verb(theirs: Path, ours: Path, ids: Sequence[str]) -> None:
    """Forget them with our own verb, in their copy of the store and in the name of its site."""
    merge([ours], theirs)
    ExperienceStore(theirs).forget(ids, SITE)


def forge_hmac(theirs: Path, ours: Path, ids: Sequence[str]) -> None:
    """Write a mark that names our key, signed with another one."""
    signed = AuthorKey(b"x" * 32).sign(forget_body(SITE, ids))
    forged = [*forget_body(SITE, ids), own_key_id(ours), signed.decode().split('"')[-2]]
    write_marks(theirs, [line(forged)])


def write_format_1(theirs: Path, _ours: Path, ids: Sequence[str]) -> None:
    """Write marks of format 1, which name no author."""
    marks: list[bytes] = [tombstone(one, SITE) for one in ids]
    marks += [accept_mark(RUN), resolve_mark(f"{RUN}/0/0/0", "0" * 32, round_number=9)]
    write_marks(theirs, marks, format_version=1)


def format_1_in_format_2(theirs: Path, _ours: Path, ids: Sequence[str]) -> None:
    """Write marks of format 1 into a segment of format 2."""
    write_marks(theirs, [tombstone(one, SITE) for one in ids])


CLAIMS: Mapping[str, Callable[[Path, Path, Sequence[str]], None]] = {
    "by the verb": forget_by_verb,
    "by a forged signature": forge_hmac,
    "in format 1": write_format_1,
    "in format 1 within format 2": format_1_in_format_2,
}
"""How the other store claims to speak for ours: (their store, ours, ids to hide)."""


def copy_segments(theirs: Path, ours: Path) -> None:
    """Copy their segments into our folder."""
    for path in theirs.glob("seg-*.h5"):
        shutil.copy2(path, ours / path.name)


ARRIVALS: Mapping[str, Callable[[Path, Path], Any]] = {
    "merged": lambda theirs, ours: merge([theirs], ours),
    "copied": copy_segments,
}
"""How their segments reach our store."""


def everything(path: Path) -> dict[str, Any]:
    """Collect what each way of reading a store shows of it."""
    store = ExperienceStore(path)
    table = ExperienceStore.read_tables([path])
    return {
        "read": store.read(),
        "ids": store.ids(),
        "info": {name: value for name, value in store.info().items() if name.startswith(("n_exp", "by_", "n_sus"))},
        "table": store.read_table().id.tolist(),
        "priors": table.id.tolist(),
        "suspect": table.suspect.tolist(),
    }


@contextmanager
def read_only(store: Path) -> Iterator[None]:
    """Let this process be a user who may read a store and write nothing in it."""
    for path in store.iterdir():
        path.chmod(0o600 if path.name == ".key" else 0o444)
    store.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        store.chmod(0o700)


def check_here_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check segments without a child process, which :data:`NOBODY` may not be able to start."""
    monkeypatch.setattr("xautolm_hpc.store.folder.check_segments", check_here)


VICTIMS = (1, 3, 6)
"""Numbers of experiences that failed, so that they have a message too, and of one that succeeded."""


def claims_of(number: int) -> Mapping[str, Experience]:
    """Make what another store claims about one of our experiences, in our name."""
    ours = experience(number)
    greater = {
        "train_s": 1e9,
        "gpu_energy_j": 1e12,
        "peak_gpu_memory_bytes": 2**40,
        "n_steps": 10**6,
        "message": "zzz" if ours.outcome.message else None,
    }
    late = {"ended_at": "2030-01-02T04:00:05.250+00:00"}
    features = replace(ours.task, features=(401.0, 1.0, 0.5), n_train=10**6, dataset_id="zzz")
    return {
        "another result": experience(number, outcome={"metrics": {"f1": 0.0078125}}),
        "another status": experience(number, outcome={"status": "stopped", "kind": None, "origin": None}),
        "another pipeline": experience(number, pipeline=replace(ours.pipeline, params={"learning_rate": 1.0})),
        "suspect": experience(number, provenance={"suspect": True}),
        "greater numbers": experience(number, outcome=greater),
        "other times": experience(number, provenance=late),
        "other features": experience(number, task=features, system=system(cluster="zzz", ram_bytes=2**50)),
        "of another site": experience(number, site="zzz", provenance={"suspect": True, "generation": 99, **late}),
    }


RECORDS = tuple(claims_of(0))
COPIES = RECORDS[3:]
"""Those that are copies of our records: they have their ids."""


def make_theirs(path: Path, claim: str) -> Path:
    """Make a store of another site with a claim about each victim, and experiences of its own."""
    made = [claims_of(number)[claim] for number in VICTIMS]
    ExperienceStore(path).append([*made, *experiences(2, start=60, site="site-b")])
    return path
