"""What a person is told names only what they have: the installed package carries no file of the repository's root."""

import ast
import re

from tests.checks.source import PACKAGE_DIR, ROOT_DIR, Place, listing, places, python_files, tree

PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.(?:md|toml|txt|cff|sbatch|yml|def)\b")
MAKE_TARGET = re.compile(r"\bmake ([a-z][\w-]*)")
NAMES_OF_OTHERS = {
    ("README.md", "xautolm_hpc/commands/export_model.py"): "the card of an exported model",
    ("README.md", "xautolm_hpc/train/export.py"): "the card of an exported model",
}
"""(Name, file that says it) -> what is meant, where a file of the repository is called the same."""


def test_no_message_names_a_file_that_the_wheel_does_not_carry() -> None:
    named = [(place, word) for place, text in _texts() for word in PATH.findall(text)]

    stray = [
        f"{place}: {word}" for place, word in named if _is_ours(word) and (word, place.path) not in NAMES_OF_OTHERS
    ]

    assert not stray, listing(stray, "say what to do instead; who installed the wheel has no such file")


def test_no_message_names_a_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT_DIR / "Makefile").read_text(), flags=re.MULTILINE))

    stray = [
        f"{place}: make {word}" for place, text in _texts() for word in MAKE_TARGET.findall(text) if word in targets
    ]

    assert not stray, listing(stray, "who installed the wheel has no Makefile")


def test_the_check_finds_a_file_of_the_repository() -> None:
    assert _is_ours("lock/README.md")
    assert _is_ours("slurm/driver.sbatch")
    assert _is_ours("CONTRIBUTING.md")
    assert not _is_ours("models.toml")
    assert not _is_ours("store/segments")


def _is_ours(word: str) -> bool:
    """Check whether a word is the path of something in the repository that is not in the package."""
    return (ROOT_DIR / word).exists() and not (PACKAGE_DIR / word).exists() and not word.startswith("xautolm_hpc/")


def _texts() -> list[tuple[Place, str]]:
    """List the texts of the package that are not docstrings."""
    docstrings = {id(node) for path in python_files("xautolm_hpc") for node in _docstrings(tree(path))}
    return [
        (place, place.node.value)
        for place in places("xautolm_hpc")
        if isinstance(place.node, ast.Constant) and isinstance(place.node.value, str)
        if id(place.node) not in docstrings
    ]


def _docstrings(module: ast.Module) -> list[ast.expr]:
    """List the texts that stand alone as statements: docstrings, and those below a constant."""
    return [
        node.value for node in ast.walk(module) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
