"""What is read of the files that an attempt left behind."""

from pathlib import Path

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
