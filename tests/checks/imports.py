"""Reads what the package's files import, for the checks of the tree."""

import ast
import functools
from collections.abc import Mapping
from pathlib import Path

from tests.checks.source import PACKAGE_DIR, tree

PACKAGE = PACKAGE_DIR.name
HEAVY = frozenset(
    ("submitit", "torch", "transformers", "peft", "accelerate", "h5py", "huggingface_hub", "datasets", "sklearn")
)
"""The packages that one folder of ours (scikit-learn: three) may import; the contracts name the same nine."""


def imported(module: ast.Module) -> set[str]:
    """List the dotted names that a file imports, at its top or later: ``from a import b`` is ``a`` and ``a.b``."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def heavy_imports(path: Path) -> set[str]:
    """List which of the heavy packages a file imports, or any file of a folder."""
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return {name.split(".")[0] for file in files if file.suffix == ".py" for name in imported(tree(file))} & HEAVY


def users(names: Mapping[str, set[str]], root_module: str) -> set[str]:
    """List the folders of the package of which a file imports a module of the root.

    Args:
        names: Folder of the package -> what its files import.
        root_module: Name of the module.
    """
    wanted = f"{PACKAGE}.{root_module}"
    return {folder for folder, found in names.items() if any(f"{name}.".startswith(f"{wanted}.") for name in found)}


@functools.cache
def imports_by_folder() -> Mapping[str, set[str]]:
    """List what each folder of the package imports."""
    folders = sorted(path for path in PACKAGE_DIR.iterdir() if any(path.glob("*.py")))
    return {
        folder.name: set().union(*(imported(tree(file)) for file in sorted(folder.rglob("*.py")))) for folder in folders
    }
