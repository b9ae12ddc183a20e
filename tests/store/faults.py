"""Writers that are killed, or whose file system refuses, at every single step they take.

``python -m tests.store.faults`` runs all of it and prints a table; tests and the benchmark run parts of it.
"""

import argparse
import errno
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.store.samples import as_text, experience, experiences
from xautolm_hpc import __version__, durable
from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import (
    CheckLimits,
    ExperienceStore,
    StoreFinding,
    check,
    files,
    folder,
    merge,
    trust,
)
from xautolm_hpc.store.columns import digest, line, parse, with_marks
from xautolm_hpc.store.layout import EVERYTHING
from xautolm_hpc.store.marks import decode_mark
from xautolm_hpc.store.trust import CheckedSegments, identity_of
from xautolm_hpc.store.visible import stored_form

STEPS = ("open", "write", "fsync", "close", "rename", "unlink")
PIECE_BYTES = 4096
REFUSALS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT}
FAULTS = ("kill before", "kill after", "kill inside", "short write", *REFUSALS)
LIMITS = CheckLimits()


class FaultyOs:
    """The operating system as a writer sees it; every write takes only a few bytes, and one step fails or kills.

    Args:
        at: Number of the step, from 1.
        fault: One of :data:`FAULTS`.
    """

    def __init__(self, at: int, fault: str) -> None:
        self._at, self._fault = at, fault
        self._n_steps = 0
        self.is_spent = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return partial(self._step, name, real) if name in STEPS else real

    def _step(self, name: str, real: Callable[..., Any], *args: Any) -> Any:
        self._n_steps += 1
        if name == "write":
            args = (args[0], args[1][:PIECE_BYTES])
        if self._n_steps != self._at:
            return real(*args)
        self.is_spent = True
        if self._fault in REFUSALS:
            raise OSError(REFUSALS[self._fault], os.strerror(REFUSALS[self._fault]))
        if name == "write" and self._fault in ("kill inside", "short write"):
            n_taken = real(args[0], args[1][: len(args[1]) // 2])
            if self._fault == "short write":
                self._at, self._fault = self._at + 1, "ENOSPC"
                return n_taken
        elif self._fault == "kill after":
            with suppress(OSError):  # what is removed may be gone already
                real(*args)
        elif self._fault == "short write":  # nothing to be short of
            return real(*args)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


@contextmanager
def faulty(system: FaultyOs) -> Iterator[None]:
    """Make the writer use this operating system."""
    modules: Sequence[ModuleType] = (files, durable, trust)
    for module in modules:
        module.os = system  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.os = os  # type: ignore[attr-defined]


def check_here(paths: Sequence[Path], limits: CheckLimits, *, are_named: bool) -> dict[Path, list[StoreFinding]]:
    """Check segments as the child does, without one: thousands of runs have no time for as many processes."""
    return {
        path: [
            StoreFinding(problem=problem, where=path.name, message=message)
            for problem, message in check.check(path, limits, is_named=are_named)
        ]
        for path in paths
    }


@dataclass(frozen=True)
class Operation:
    """Something a writer does to a store.

    Attributes:
        prepare: Makes the store, and others beside it, in a folder.
        do: Does it.
    """

    prepare: Callable[[Path], object]
    do: Callable[[Path], object]


def _commits(path: Path, n: int, *, start: int = 0) -> ExperienceStore:
    store = ExperienceStore(path)
    for number in range(start, start + n):
        store.append([experience(number)])
    return store


def _forgetful(base: Path) -> None:
    store = _commits(base / "store", 4)
    store.append([experience(0, outcome={"metrics": {"f1": 0.5}})])
    store.append([experience(8), experience(2, provenance={"suspect": True})], is_own=False)
    store.forget([experience(1).id], "site-a")


def _three_sites(base: Path) -> None:
    _commits(base / "store", 3).append([experience(9)], is_own=False)
    _commits(base / "b", 3, start=2)
    _commits(base / "c", 2, start=6).forget([experience(6).id], "site-a")


def _visited(base: Path) -> None:
    _commits(base / "store", 3)
    visitor = ExperienceStore(base / "b")
    visitor.append([experience(1, site="site-b")])
    visitor.forget([experience(1).id], "site-b")


OPERATIONS: Mapping[str, Operation] = {
    "append": Operation(
        prepare=lambda base: _commits(base / "store", 3),
        do=lambda base: ExperienceStore(base / "store").append(experiences(9, start=3)),
    ),
    "append that merges": Operation(
        prepare=lambda base: _commits(base / "store", 7).append([experience(8), experience(7)], is_own=False),
        do=lambda base: ExperienceStore(base / "store").append([experience(7)]),
    ),
    "merge": Operation(prepare=_three_sites, do=lambda base: merge([base / "b", base / "c"], base / "store")),
    "compact": Operation(prepare=_forgetful, do=lambda base: ExperienceStore(base / "store").compact()),
    "accept marks": Operation(
        prepare=_visited,
        do=lambda base: merge([base / "b"], base / "store", accept_forget=["site-b"]),
    ),
    "forget": Operation(
        prepare=lambda base: _commits(base / "store", 3),
        do=lambda base: ExperienceStore(base / "store").forget([experience(1).id], "site-a"),
    ),
}


@dataclass(frozen=True)
class State:
    """What a store says.

    Attributes:
        records: Its experiences.
        digest: Digest of its records and of its marks that are in force, whoever signed them.
        own: Ids of the experiences that were made in it.
        waiting: Its marks that wait to be accepted; they are written before what they came with.
    """

    records: tuple[str, ...]
    digest: str
    own: frozenset[str]
    waiting: frozenset[bytes]

    @classmethod
    def of(cls, path: Path) -> "State":
        """Read a store in a fresh instance; nothing may have been left out."""
        store = ExperienceStore(path)
        records = tuple(as_text(store.read()))
        if store.findings:
            raise StoreError(f"left out: {store.findings[0].message}")
        loaded = folder.SegmentFolder(path).load(EVERYTHING)
        whole = stored_form(loaded.columns())
        said = [line(parse(mark)[:-2] if decode_mark(mark).author else parse(mark)) for mark in whole.marks]
        return cls(records, digest(with_marks(whole, said)), store.own_ids(), loaded.waiting())

    def is_between(self, before: "State", after: "State") -> bool:
        """Check that the store is as before or as after, but for marks that wait."""
        said = [(one.records, one.digest, one.own) for one in (self, before, after)]
        is_whole = said[0] in said[1:]
        return is_whole and before.waiting <= self.waiting <= after.waiting


class PreparedOperation:
    """One operation, prepared once and copied for every run."""

    def __init__(self, name: str, base: Path) -> None:
        self.name, self._base = name, base
        self._operation = OPERATIONS[name]
        self._template, self._n_copies = base / "template", 0
        self._template.mkdir(parents=True)
        self._operation.prepare(self._template)
        self._before = State.of(self._template / "store")
        done = self._copy()
        self._operation.do(done)
        self._after = State.of(done / "store")

    def run(self, at: int, fault: str) -> tuple[bool, str | None]:
        """Do the operation with a fault at one step.

        Returns:
            Whether the step was reached, and what was lost, half visible or unreadable afterwards, if anything.
        """
        copy = self._copy()
        try:
            if fault.startswith("kill"):
                was_reached, succeeded = self._killed(copy, at, fault=fault)
            else:
                was_reached, succeeded = self._refused(copy, at, fault=fault)
            return was_reached, self._what_is_wrong(copy, succeeded=succeeded) if was_reached else None
        finally:
            shutil.rmtree(copy)

    def _copy(self) -> Path:
        """Copy the stores; this site has checked what it copies."""
        self._n_copies += 1
        copy = self._base / f"copy-{self._n_copies}"
        shutil.copytree(self._template, copy)
        for store in copy.iterdir():
            (store / ".checked").unlink()
            checked = CheckedSegments(store, terms=f"{__version__} {LIMITS}")
            checked.record((path, identity_of(path.stat()), ()) for path in store.glob("seg-*.h5"))
        return copy

    def _killed(self, copy: Path, at: int, *, fault: str) -> tuple[bool, bool]:
        pid = os.fork()
        if not pid:
            with faulty(FaultyOs(at, fault)):
                self._operation.do(copy)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status), False

    def _refused(self, copy: Path, at: int, *, fault: str) -> tuple[bool, bool]:
        system = FaultyOs(at, fault)
        try:
            with faulty(system):
                self._operation.do(copy)
        except StoreError:
            return system.is_spent, False
        return system.is_spent, True

    def _what_is_wrong(self, copy: Path, *, succeeded: bool) -> str | None:
        path = copy / "store"
        try:
            found = State.of(path)
            if not (found == self._after if succeeded else found.is_between(self._before, self._after)):
                return "the store is neither as before nor as after"
            problems = [
                f.message for found in check_here([*path.glob("seg-*")], LIMITS, are_named=True).values() for f in found
            ]
            if problems:
                return f"a segment is half visible: {problems[0]}"
            self._operation.do(copy)
            return None if State.of(path) == self._after else "doing it again gives something else"
        except StoreError as error:
            return f"unreadable: {error}"


def run_faults(names: Sequence[str], *, stride: int, seed: int) -> list[dict[str, Any]]:
    """Run every operation with every fault at every ``stride``-th step.

    Returns:
        A row for each operation and fault: ``operation``, ``fault``, ``n_runs``, ``wrong`` (what, for each run).
    """
    folder.check_segments = check_here  # type: ignore[attr-defined]
    rows = []
    with tempfile.TemporaryDirectory() as base:
        for name in names:
            prepared = PreparedOperation(name, Path(base) / name.replace(" ", "-"))
            for i, fault in enumerate(FAULTS):
                at, n_runs, wrong = 1 + (seed + i) % stride, 0, []
                while True:
                    was_reached, problem = prepared.run(at, fault)
                    if not was_reached:
                        break
                    n_runs += 1
                    wrong += [f"step {at}: {problem}"] if problem else []
                    at += stride
                rows.append({"operation": name, "fault": fault, "n_runs": n_runs, "wrong": wrong})
    return rows


def main() -> None:
    """Run what the arguments ask for and print the rows as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="take every so many steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where the steps begin (default: %(default)s)")
    arguments = parser.parse_args()
    json.dump(run_faults([*OPERATIONS], stride=arguments.stride, seed=arguments.seed), sys.stdout)


if __name__ == "__main__":
    main()
