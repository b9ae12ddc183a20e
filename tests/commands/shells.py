"""What shells complete the last word of a command line to; each is the real program."""

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

WAIT_S = 120.0
COMMAND = "xautolm-hpc"

BASH = """
source {script}
COMP_WORDS=({words})
COMP_CWORD=$(({n} - 1))
COMP_LINE="${{COMP_WORDS[*]}}"
COMP_POINT=${{#COMP_LINE}}
_shtab_xautolm_hpc
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

ZSH = """
{load}
shown() {{ zle complete-word; print -r -- "@<$BUFFER>@" }}
zle -N shown
bindkey '^X' shown
PS1='type''now '
"""


def _of_bash(script: Path, words: Sequence[str], folder: Path) -> set[str]:
    quoted = " ".join(f"'{word}'" for word in words)
    return _said(["bash", "-c", BASH.format(script=script, words=quoted, n=len(words))], folder)


def _of_fish(script: Path, words: Sequence[str], folder: Path) -> set[str]:
    said = _said(["fish", "--no-config", "-c", f"source {script}; complete -C'{' '.join(words)}'"], folder)
    return {line.partition("\t")[0] for line in said}


def _said(argv: Sequence[str], folder: Path) -> set[str]:
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=folder, env=_environ(folder))
    assert done.stderr == ""
    return set(done.stdout.splitlines())


def _of_zsh(script: Path, words: Sequence[str], folder: Path) -> set[str]:
    """Complete in an interactive shell, with the script where zsh looks for it."""
    (folder / "functions").mkdir(exist_ok=True)
    shutil.copy(script, folder / "functions" / f"_{COMMAND}")
    load = f"fpath=({folder / 'functions'} $fpath); autoload -Uz compinit; compinit -u -D"
    return zsh_completes(load, words, folder)


def zsh_completes(load: str, words: Sequence[str], folder: Path) -> set[str]:
    """Return the last word as zsh completes it.

    Args:
        load: What makes the shell complete the command.
        words: The line.
        folder: Folder of the shell.
    """
    (folder / ".zshrc").write_text(ZSH.format(load=load))
    terminal, of_shell = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-i", "-d"], stdin=of_shell, stdout=of_shell, stderr=of_shell, cwd=folder, env=_environ(folder),
        start_new_session=True,
    )  # fmt: skip
    os.close(of_shell)
    try:
        _read_until(terminal, "typenow ")
        os.write(terminal, " ".join(words).encode() + b"\x18")
        line = _read_until(terminal, ">@").rpartition("@<")[2].partition(">@")[0]
        return {line.rstrip().rpartition(" ")[2]}
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _read_until(terminal: int, mark: str) -> str:
    said, ends_at = "", time.monotonic() + WAIT_S
    while mark not in said:
        if not select.select([terminal], [], [], max(0.0, ends_at - time.monotonic()))[0]:
            raise AssertionError(f"the shell did not say {mark!r}: {said!r}")
        said += os.read(terminal, 4096).decode(errors="replace")
    return said


def _environ(folder: Path) -> dict[str, str]:
    found = {"HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    return {"PATH": os.environ["PATH"], **found}


COMPLETES: Mapping[str, Callable[[Path, Sequence[str], Path], set[str]]] = {
    shell: completes
    for shell, completes in {"bash": _of_bash, "zsh": _of_zsh, "fish": _of_fish}.items()
    if shell == "bash" or shutil.which(shell)
}
"""Shell of this machine -> what it completes the last word of a line to, with a script, in a folder."""
