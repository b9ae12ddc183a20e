"""What is read of the files that an attempt left behind."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xautolm_hpc.gather.traces import read_tail


def test_the_tail_of_a_log_is_its_last_lines_without_the_progress_bars(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    lines = [f"line {k}" for k in range(100)]
    path.write_text("\n".join(lines) + "\n 1%|\r 2%|\r100%|done\n\n")

    tail = read_tail(path).split("\n")

    assert tail[-2:] == ["line 99", "100%|done"]
    assert len(tail) == 50
    assert read_tail(tmp_path / "absent") == ""


def test_a_huge_line_of_a_log_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "stderr"
    path.write_bytes(b"x" * 10_000_000 + b"\nKilled\n")

    assert len(read_tail(path)) <= 64 * 1024
    assert read_tail(path).endswith("\nKilled")


@pytest.mark.parametrize("put", [lambda path: path.symlink_to(path.with_name("secret")), os.mkfifo, os.mkdir])
def test_what_a_worker_put_in_the_place_of_its_log_is_not_opened(tmp_path: Path, put: Callable[[Path], None]) -> None:
    (tmp_path / "secret").write_text("of somebody else")
    put(tmp_path / "stderr")

    assert read_tail(tmp_path / "stderr") == ""
