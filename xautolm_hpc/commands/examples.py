"""``examples``: copy the search files and cluster profiles that come with this program."""

import argparse
import shutil
from importlib import resources
from pathlib import Path

from xautolm_hpc.errors import InputError

FOLDERS = {"examples": ".", "profiles": "profiles"}
"""Folder of what comes with the program -> where it is copied to."""


def run(arguments: argparse.Namespace) -> int:
    """Copy them to a new folder.

    Raises:
        InputError: The folder exists and is not empty.
    """
    target = Path(arguments.folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"`{target}` exists already and is not empty; give a new folder")
    with resources.as_file(resources.files("xautolm_hpc").joinpath("packaged")) as packaged:
        for name, place in FOLDERS.items():
            shutil.copytree(packaged / name, target / place, dirs_exist_ok=True, copy_function=shutil.copyfile)
    print(f"`{target}` holds the examples, and profiles of clusters. Begin with: xautolm-hpc run {target}/demo.toml")
    return 0
