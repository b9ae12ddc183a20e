"""The child process that checks segments: paths in on standard input, one JSON line out before and after each.

It has limits of memory, processor time and open files, writes nothing, and loads no plug-ins. If a segment crashes it,
the parent goes on: :mod:`xautolm_hpc.store.checking`.
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, BinaryIO

from xautolm_hpc.errors import FormatError, StoreError
from xautolm_hpc.store import segment, structure
from xautolm_hpc.store.column_check import identity_problems, range_problems
from xautolm_hpc.store.columns import Columns, digest
from xautolm_hpc.store.layout import EVERYTHING
from xautolm_hpc.store.structure import GB, MB, CheckLimits

Problem = tuple[str, str]
"""What is wrong, as in a :class:`~xautolm_hpc.store.structure.StoreFinding`: problem and message."""

MOST_OPEN_FILES = 64


def check(path: Path, limits: CheckLimits, *, is_named: bool) -> list[Problem]:
    """Check a whole segment that is not trusted.

    Args:
        path: The file.
        limits: Limits of the check and of the file.
        is_named: Whether the digest must stand in its name.

    Returns:
        The problems; empty if there are none.

    Raises:
        FileNotFoundError: The file does not exist, or no longer.
    """
    shown = segment.shown(path)
    try:
        why = _refusal(path, limits)
        if why is not None:
            return [("refused", f"`{shown}` is refused: {why}")]
        columns = segment.read(path, EVERYTHING)
        return _content_problems(path, columns, is_named=is_named)
    except FormatError as error:
        return [("format", str(error))]
    except StoreError as error:
        return [("damaged", str(error))]
    except MemoryError:
        return [("refused", f"`{shown}` is refused: checking it takes more than {limits.memory_gb:g} GB of memory")]


def _refusal(path: Path, limits: CheckLimits) -> str | None:
    """Find a reason to refuse a file before its data is read; ``None`` if there is none."""
    with segment.open_bytes(path) as raw:
        status = os.fstat(raw.fileno())
        if status.st_size > limits.file_mb * MB:
            return f"it has {status.st_size:,} bytes; the limit is {limits.file_mb:g} MB"
        with segment.open_hdf5(raw, path) as file:
            return next(structure.refusals(file, limits), None) or next(structure.piece_refusals(file), None)


def _content_problems(path: Path, columns: Columns, *, is_named: bool) -> list[Problem]:
    """Check digest, ranges and identities of the columns of a segment."""
    shown, found = segment.shown(path), digest(columns)
    says = {segment.recorded_digest(path)} | ({path.stem.removeprefix("seg-")} if is_named else set())
    problems = [
        ("digest", f"`{shown}` says its digest is {said:.80}; its content has {found}. Copy it anew")
        for said in sorted(says - {found})
    ]
    ranges = range_problems(columns)
    problems += [("range", f"`{shown}`: {problem}") for problem in ranges]
    if not ranges:
        problems += [("digest", f"`{shown}`: {problem}. Copy it anew") for problem in identity_problems(columns)]
    return problems


def confine(limits: CheckLimits) -> None:
    """Set limits for this process, so that it can do no more than a check needs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most_bytes = pages * resource.getpagesize() + int(limits.memory_gb * GB)
    for kind, most in (
        (resource.RLIMIT_AS, most_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MOST_OPEN_FILES),
    ):
        resource.setrlimit(kind, (most, most))
    structure.drop_plugins()


def allow_cpu(seconds: float) -> None:
    """Set the processor time that this process may still use; after that the kernel ends it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_s = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s + seconds) + 1, hard))


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Check the requested segments: first comes a line of limits, then a line ``[path, is_named]`` for each segment."""
    limits = CheckLimits(**json.loads(requests.readline()))
    confine(limits)
    for text in requests:
        path, is_named = json.loads(text)
        allow_cpu(limits.cpu_s)
        _answer(answers, {"begin": path})
        try:
            problems: Any = check(Path(path), limits, is_named=is_named)
        except FileNotFoundError:
            problems = None
        _answer(answers, {"end": path, "problems": problems})


def _answer(answers: BinaryIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
