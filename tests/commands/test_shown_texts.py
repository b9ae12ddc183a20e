"""``report --show-texts`` where the run's data are damaged."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xautolm_hpc.commands import report
from xautolm_hpc.errors import RunFolderError
from xautolm_hpc.jobdir import split_path
from xautolm_hpc.run.folder import RunDir

WHOLE = gzip.compress(b'{"text": "a"}\n' * 99, mtime=0)


@pytest.mark.parametrize(
    "damage",
    [
        os.mkfifo,
        os.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.write_bytes(WHOLE[:-9]),
        lambda path: path.write_bytes(WHOLE[:12] + b"\xff" * 20),
        lambda path: path.write_bytes(gzip.compress(b"{")),
        lambda path: path.write_bytes(b"text"),
    ],
)
def test_damaged_data_of_a_run_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    run_dir = RunDir(tmp_path / "run")
    run_dir.data_dir.mkdir(parents=True)
    damage(split_path(run_dir.data_dir, "validation"))
    monkeypatch.setattr(report, "read_predictions", lambda *_: ["answered"])
    summary = {"best": {"generation": 0, "trial": 0, "attempt": 0}, "task": {"labels": []}}

    with pytest.raises(RunFolderError, match=r"validation\.jsonl\.gz` is damaged; its texts cannot be shown: "):
        report.wrong_answers(run_dir, summary)
