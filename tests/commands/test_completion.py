"""``completion``: what a real shell completes with it."""

import subprocess
from pathlib import Path

import pytest

from xautolm_hpc import cli

COMPLETE = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(({n} - 1))
COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
_shtab_xautolm_hpc
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert cli.main(["completion", "bash"]) == 0
    path = tmp_path / "completion.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("xautolm-hpc", "ini"), {"init"}),
        (("xautolm-hpc", "store", "me"), {"merge"}),
        (("xautolm-hpc", "init", "--eff"), {"--effort"}),
        (("xautolm-hpc", "init", "--effort", "qu"), {"quick"}),
        (("xautolm-hpc", "schema", "s"), {"search"}),
        (("xautolm-hpc", "run", "rev"), {"reviews.toml"}),
    ],
)
def test_bash_completes_commands_options_choices_and_files(
    script: Path, tmp_path: Path, *, words: tuple[str, ...], expected: set[str]
) -> None:
    (tmp_path / "reviews.toml").write_text("")

    found = complete(script, words)

    assert expected <= found
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.parametrize(("shell", "beginning"), [("zsh", "#compdef xautolm-hpc"), ("fish", "complete -c xautolm-hpc")])
def test_other_shells_get_every_command(shell: str, beginning: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0

    printed = capsys.readouterr().out
    verbs = cli.build_parser()._subparsers
    assert verbs is not None
    (commands,) = [action.choices for action in verbs._group_actions]
    assert beginning in printed
    assert [name for name in commands or () if name not in printed] == []


def complete(script: Path, words: tuple[str, ...]) -> set[str]:
    """Ask bash what it would complete the last word to."""
    quoted = " ".join(f"'{word}'" for word in words)
    text = COMPLETE.format(script=script, words=quoted, n=len(words))
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, cwd=script.parent)
    return set(done.stdout.split())
