"""``completion``: what the real shells of this machine complete with it."""

import shutil
from pathlib import Path

import pytest

from tests.commands.shells import COMPLETES, zsh_completes
from xautolm_hpc import cli


def write_script(folder: Path, shell: str, capsys: pytest.CaptureFixture[str]) -> Path:
    """Write what a shell loads."""
    assert cli.main(["completion", shell]) == 0
    path = folder / f"completion.{shell}"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize("shell", COMPLETES)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("xautolm-hpc", "ini"), "init"),
        (("xautolm-hpc", "store", "me"), "merge"),
        (("xautolm-hpc", "init", "--eff"), "--effort"),
        (("xautolm-hpc", "init", "--effort", "qu"), "quick"),
        (("xautolm-hpc", "schema", "s"), "search"),
        (("xautolm-hpc", "run", "rev"), "reviews.toml"),
    ],
)
def test_shells_complete_commands_options_choices_and_files(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, words: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "reviews.toml").write_text("")
    script = write_script(tmp_path, shell, capsys)

    found = COMPLETES[shell](script, words, tmp_path)

    assert expected in found
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize("how", ["source {}", 'eval "$(<{})"'][: 2 * bool(shutil.which("zsh"))])
def test_zsh_completes_also_where_its_settings_load_the_script(
    how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = f"autoload -Uz compinit; compinit -u -D; {how.format(write_script(tmp_path, 'zsh', capsys))}"

    assert zsh_completes(load, ["xautolm-hpc", "store", "me"], tmp_path) == {"merge"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0

    printed = capsys.readouterr().out
    verbs = cli.build_parser()._subparsers
    assert verbs is not None
    (commands,) = [action.choices for action in verbs._group_actions]
    assert printed.startswith({"bash": "#", "zsh": "#compdef xautolm-hpc", "fish": ""}[shell])
    assert [name for name in commands or () if name not in printed] == []
