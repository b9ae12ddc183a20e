"""Has segments that this site has not checked yet checked by a child process, before their data is read."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import IO, Any

from xautolm_hpc.errors import StoreError
from xautolm_hpc.store import segment
from xautolm_hpc.store.structure import CheckLimits, StoreFinding

START_S = 120.0
"""Seconds that the child may take to start: its imports can be slow on a file server."""


def check_segments(paths: Sequence[Path], limits: CheckLimits, *, are_named: bool) -> dict[Path, list[StoreFinding]]:
    """Check segments in a child process; one that crashes it or takes too long is refused, and another child goes on.

    Args:
        paths: The files.
        limits: What the check may cost and the segments may be.
        are_named: Whether the digests must stand in the files' names.

    Returns:
        Segment -> what is wrong with it; without segments that vanished meanwhile.

    Raises:
        StoreError: The child could not be started.
    """
    found: dict[Path, list[StoreFinding]] = {}
    left = [*paths]
    while left:
        answers = _Child(left, limits, are_named=are_named).answers()
        found |= {path: findings for path, findings in answers.items() if findings is not None}
        left = [path for path in left if path not in answers]
    return found


class _Child:
    """One child process and its answers."""

    def __init__(self, paths: Sequence[Path], limits: CheckLimits, *, are_named: bool) -> None:
        self._paths = {str(path): path for path in paths}
        self._limits = limits
        lines = [asdict(limits), *([name, are_named] for name in self._paths)]
        self._requests = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        self._answers: dict[Path, list[StoreFinding] | None] = {}
        self._present: Path | None = None

    def answers(self) -> Mapping[Path, list[StoreFinding] | None]:
        """Run until the child has answered for every path, or has ended, or is too slow and is killed.

        Returns:
            What is wrong with each segment that the child began to check; ``None`` for one that had vanished.

        Raises:
            StoreError: It ended before it began with the first.
        """
        with TemporaryFile() as requests, TemporaryFile() as errors:
            requests.write(self._requests)
            requests.seek(0)
            command = [sys.executable, "-m", "xautolm_hpc.store.check"]
            with subprocess.Popen(command, stdin=requests, stdout=subprocess.PIPE, stderr=errors) as process:
                try:
                    is_late = self._follow(process.stdout)
                finally:
                    with suppress(ProcessLookupError):
                        process.kill()
            if self._present is not None:
                self._answers[self._present] = [self._refusal(self._present, process.returncode, is_late=is_late)]
            elif not self._answers:
                errors.seek(0)
                log = errors.read()[-2000:].decode("utf-8", "replace").strip()
                raise StoreError(
                    f"segments could not be checked: the child process could not start: {log or 'no message'}"
                )
        return self._answers

    def _follow(self, stream: IO[bytes] | None) -> bool:
        """Read the child's answers until it ends or is too slow.

        Returns:
            Whether it is too slow.
        """
        descriptor, rest = (stream.fileno() if stream else -1), b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            deadline_s = monotonic() + START_S
            while selector.select(max(0.0, deadline_s - monotonic())):
                received = os.read(descriptor, 65536)
                if not received:
                    return False
                *lines, rest = (rest + received).split(b"\n")
                for line in lines:
                    self._record(json.loads(line))
                    deadline_s = monotonic() + self._limits.wall_s
        return True

    def _record(self, answer: Mapping[str, Any]) -> None:
        if "begin" in answer:
            self._present = self._paths[answer["begin"]]
            return
        path, problems = self._paths[answer["end"]], answer["problems"]
        self._answers[path] = problems and [_finding(path, problem, message=message) for problem, message in problems]
        self._present = None

    def _refusal(self, path: Path, status: int, *, is_late: bool) -> StoreFinding:
        """Describe how the child ended while it checked a segment."""
        if is_late:
            how = f"checking it took more than {self._limits.wall_s:g} s"
        elif status == -signal.SIGXCPU:
            how = f"checking it took more than {self._limits.cpu_s:g} s of processor time"
        else:
            name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            how = f"it crashed the process that checked it ({name})"
        return _finding(path, "refused", message=f"`{segment.shown(path)}` is refused: {how}")


def _finding(path: Path, problem: str, *, message: str) -> StoreFinding:
    return StoreFinding(problem=problem, where=path.name, message=message)
