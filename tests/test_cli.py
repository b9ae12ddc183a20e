"""The command line: what it imports, what it says, and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from xautolm_hpc import __version__, cli
from xautolm_hpc.commands import models

HEAVY = {"torch", "transformers", "peft", "accelerate", "datasets", "sklearn", "submitit", "h5py", "huggingface_hub"}
LISTS_MODULES = """
import sys
from xautolm_hpc.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("modules:", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["store", "info", "--help"], ["--version"]])
def test_asking_for_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LISTS_MODULES, *arguments], capture_output=True, text=True, check=True)

    modules = set(done.stdout.rpartition("modules:")[2].split())
    assert "argparse" in modules
    assert modules & HEAVY == set()


@pytest.mark.parametrize("verb", ["init", "run", "plan", "report"])
def test_help_is_no_wider_than_the_terminal(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([verb, "--help"])

    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--version"])

    assert capsys.readouterr().out == f"xautolm-hpc {__version__}\n"


def test_an_unknown_command_is_a_usage_error_that_lists_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["serch"])

    printed = capsys.readouterr().err
    assert "'serch'" in printed
    assert all(name in printed for name in ("run", "status", "store"))


def test_an_input_error_is_one_line_and_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["run", str(tmp_path / "none.toml")])

    assert status == 2
    assert (
        capsys.readouterr().err == f"xautolm-hpc: `{tmp_path}/none.toml` does not exist; give the path of a TOML file\n"
    )


def test_what_the_system_refuses_names_the_file_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_a_folder(arguments: object) -> int:
        del arguments
        return len(tmp_path.read_text())

    monkeypatch.setattr(models, "run", read_a_folder)

    status = cli.main(["models"])

    assert status == 1
    assert capsys.readouterr().err == (
        f"xautolm-hpc: `{tmp_path}`: Is a directory. Check the file and its permissions, then run the same command "
        "again\n"
    )


def test_a_full_disk_asks_for_room(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def write_to_a_full_disk(arguments: object) -> int:
        del arguments
        Path("/dev/full").write_text("lost")
        return 0

    monkeypatch.setattr(models, "run", write_to_a_full_disk)

    status = cli.main(["models"])

    assert status == 1
    assert capsys.readouterr().err == (
        "xautolm-hpc: No space left on device. Free some space, then run the same command again\n"
    )
