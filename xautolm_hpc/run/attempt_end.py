"""Reads how an attempt ended, from the files in its folder; they may be damaged, or written by anybody."""

from pathlib import Path

from xautolm_hpc.durable import read_json
from xautolm_hpc.jobdir import OUTCOME, VERDICT, End
from xautolm_hpc.node import check_moment
from xautolm_hpc.records import from_json


def find_end(attempt_dir: Path) -> End | None:
    """Read how an attempt ended: from its outcome, else from its verdict; ``None`` if it has neither.

    Raises:
        InputError: The file is damaged.
    """
    paths = (attempt_dir / OUTCOME, attempt_dir / VERDICT)
    path = next((path for path in paths if path.exists()), None)
    return None if path is None else read_end_file(path)


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
