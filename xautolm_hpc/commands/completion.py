"""``completion``: print what makes a shell complete the commands and their options."""

import argparse
from collections.abc import Iterator

from xautolm_hpc.errors import InputError

FILES = {"search", "profile", "pipelines", "data", "cluster", "to", "folder", "store", "stores", "into", "run_name"}
"""Arguments that name a file or folder; their words are completed as paths."""

SOURCED_BY_ZSH = ("$zsh_eval_context[-1] == eval ", "$zsh_eval_context[-1] == (eval|file) ")
"""How the script sees whether it is evaluated; and also that zsh's settings read it as a file, by ``source``."""


def run(arguments: argparse.Namespace) -> int:
    """Print the script that the shell reads when it starts.

    Raises:
        InputError: The library that writes it is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise InputError("completion needs the package shtab: pip install shtab") from error
    parser: argparse.ArgumentParser = arguments.parser
    for action in _actions(parser):
        if action.dest in FILES and action.choices is None and action.nargs != 0:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    print(shtab.complete(parser, shell=arguments.shell).replace(*SOURCED_BY_ZSH))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Walk the arguments of a command and of those below it."""
    for action in parser._actions:  # argparse has no other way to list them
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
