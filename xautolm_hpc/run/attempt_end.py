"""Reads how an attempt ended, from the files in its folder; they may be damaged, or written by anybody."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xautolm_hpc.durable import read_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import OUTCOME, VERDICT, End
from xautolm_hpc.node import check_moment
from xautolm_hpc.records import from_json


def find_end(attempt_dir: Path) -> End | None:
    """Read how an attempt ended: from its outcome, else from its verdict; ``None`` if it has neither.

    Raises:
        InputError: They are damaged.
    """
    problem: InputError | OSError | None = None
    for path in (attempt_dir / OUTCOME, attempt_dir / VERDICT):
        try:
            return read_end_file(path)
        except FileNotFoundError:
            continue
        except (OSError, InputError) as error:
            problem = problem or error
    if problem is not None:
        raise InputError(str(problem)) from problem
    return None


def read_end(attempt_dir: Path) -> End | None:
    """Read how an attempt ended; ``None`` if nothing says it, or what says it is damaged: the driver judges that."""
    try:
        return find_end(attempt_dir)
    except InputError:
        return None


def read_end_file(path: Path) -> End:
    """Read an outcome or a verdict.

    Raises:
        FileNotFoundError: There is none.
        InputError: It is damaged.
    """
    end = from_json(End, read_json(path), where=str(path))
    check_moment(end.started_at, where=f"`{path}`: started_at")
    check_moment(end.ended_at, where=f"`{path}`: ended_at")
    return end


@dataclass(frozen=True, slots=True)
class _Scores:
    metrics: Mapping[str, float]


def read_scores(path: Path) -> Mapping[str, float] | None:
    """Read what a trial scored on ``test``; ``None`` if nothing says it, or what says it is damaged."""
    try:
        return from_json(_Scores, {"metrics": read_json(path)}, where=str(path)).metrics
    except (OSError, InputError):
        return None
