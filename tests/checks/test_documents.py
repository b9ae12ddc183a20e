"""What the documents say is true: the tree, the links, the commands."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checks.documents import Branch, anchors, branches, commands, links, markdown_files, readme_tree
from tests.checks.imports import heavy_imports
from tests.checks.source import PACKAGE_DIR, ROOT_DIR, listing

HIDDEN_BUT_NAMED = {".ci"}
MIN_CHANGES = 20
MADE_LOCALLY = {"build", "dist", "runs", "wheels", "__pycache__"}

per_document = pytest.mark.parametrize("path", markdown_files(), ids=lambda path: str(path.relative_to(ROOT_DIR)))


@pytest.fixture(scope="module")
def tree() -> set[str]:
    """Return the paths that the README's tree names, folders without their slash."""
    return {branch.path.rstrip("/") for branch in readme_tree()}


@pytest.fixture(scope="module")
def make_targets() -> set[str]:
    """Return the targets of the Makefile that a user may call."""
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT_DIR / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_path_in_the_readmes_tree_exists(tree: set[str]) -> None:
    gone = sorted(path for path in tree if not (ROOT_DIR / path).exists())

    assert not gone, listing(gone, "in README.md's tree, but not there")


def test_the_readmes_tree_names_everything_at_the_top_and_in_the_package(tree: set[str]) -> None:
    there = _names(ROOT_DIR) + [f"xautolm_hpc/{name}" for name in _names(PACKAGE_DIR)]

    unnamed = [path for path in there if not any(path == named or named.startswith(f"{path}/") for named in tree)]

    assert not unnamed, listing(unnamed, "there, but not in README.md's tree")


def test_readme_names_what_a_change_must_pass_and_nothing_else_is_called(make_targets: set[str]) -> None:
    text = (ROOT_DIR / ".ci" / "run").read_text()
    (called,) = re.findall(r"^targets=\((.*)\)$", text, flags=re.MULTILINE)
    (said,) = re.findall(r"`\.ci/run`, is (.*?)\.\n", (ROOT_DIR / "README.md").read_text(), flags=re.DOTALL)

    assert re.findall(r"`make ([a-z-]+)`", said) == called.split()
    assert set(called.split()) <= make_targets


def test_the_readmes_tree_names_the_heavy_packages_that_each_line_imports() -> None:
    ours = [branch for branch in readme_tree() if re.match(r"xautolm_hpc/.", branch.path)]

    untrue = [fault for branch in ours if (fault := _untrue(branch, heavy_imports(ROOT_DIR / branch.path)))]

    assert not untrue, listing(untrue, "end its line in README.md's tree with the packages, in brackets")


def test_a_line_of_the_tree_must_name_what_is_imported_and_no_more() -> None:
    drawn = "a/      words [h5py, torch]\n  b.py c.py  words [h5py]\n  d.py  words of [1] thing\n"

    lines = branches(drawn)

    assert [(line.path, sorted(line.packages)) for line in lines] == [
        ("a/", ["h5py", "torch"]),
        ("a/b.py", ["h5py"]),
        ("a/c.py", ["h5py"]),
        ("a/d.py", []),
    ]
    assert _untrue(lines[1], {"h5py"}) == ""
    assert _untrue(lines[1], set()) == "a/b.py: says ['h5py'], imports []"
    assert _untrue(lines[3], {"torch"}) == "a/d.py: says [], imports ['torch']"


def test_every_path_that_says_where_a_change_goes_exists() -> None:
    rows = changes()

    gone = [f"{change}: {path}" for change, paths in rows.items() for path in paths if not (ROOT_DIR / path).exists()]

    assert len(rows) >= MIN_CHANGES
    assert not [change for change, paths in rows.items() if not paths]
    assert not gone, listing(gone, "in CONTRIBUTING.md, but not there")


@per_document
def test_links_lead_somewhere(path: Path) -> None:
    broken = [link for link in links(path) if not _leads_somewhere(path, link)]

    assert not broken, listing(broken)


@per_document
def test_make_commands_name_targets(path: Path, make_targets: set[str]) -> None:
    called = [words[1:] for words in commands(path) if words[:1] == ["make"]]

    unknown = [word for words in called for word in words if "=" not in word and word not in make_targets]

    assert not unknown, listing(unknown)


@per_document
def test_commands_of_the_product_exist_with_their_options(path: Path) -> None:
    called = [words[1:] for words in commands(path) if words and Path(words[0]).name == "xautolm-hpc"]

    unknown = [fault for words in called for fault in _unknown_words(words)]

    assert not unknown, listing(unknown)


def test_the_changelog_has_a_place_for_what_is_not_released() -> None:
    assert re.search(r"^## \[?Unreleased\]?$", (ROOT_DIR / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def changes() -> dict[str, list[str]]:
    """Read CONTRIBUTING.md's table of where each change goes: what is changed -> paths, those named in backticks."""
    text = (ROOT_DIR / "CONTRIBUTING.md").read_text().split("| to change | look in |")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {row[0]: re.findall(r"`([\w./-]*/[\w./-]*)`", row[1]) for row in rows}


def _untrue(branch: Branch, imported: set[str]) -> str:
    """Return in which way a line of the tree is not true; empty where it is."""
    if branch.packages == imported:
        return ""
    return f"{branch.path}: says {sorted(branch.packages)}, imports {sorted(imported)}"


def _names(folder: Path) -> list[str]:
    """List what a folder holds of the project's own: nothing hidden, made locally or empty."""
    entries = [path for path in folder.iterdir() if path.is_file() or any(p.is_file() for p in path.rglob("*"))]
    return sorted(
        path.name
        for path in entries
        if not path.name.startswith(".") or path.name in HIDDEN_BUT_NAMED
        if path.name not in MADE_LOCALLY and path.suffix not in {".egg-info", ".pyc"}
    )


def _leads_somewhere(path: Path, link: str) -> bool:
    file, _, anchor = link.partition("#")
    target = (path.parent / file) if file else path
    return target.exists() and (not anchor or target.suffix != ".md" or anchor in anchors(target))


def _unknown_words(words: list[str]) -> list[str]:
    """Follow a command down its sub-commands; list those and the options that its help does not name."""
    followed: list[str] = []
    text = _help(())
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word) or not _names_command(text, word):
            break
        followed.append(word)
        text = _help(tuple(followed))
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    said = " ".join(["xautolm-hpc", *words])
    unknown = [f"{said}: no option {option}" for option in options if not re.search(rf"{option}\b", text)]
    return unknown if followed or words[:1] in ([], ["--help"], ["--version"]) else [f"{said}: no such command"]


def _names_command(text: str, word: str) -> bool:
    return bool(re.search(rf"[{{,]{word}[,}}]|^ +{word}( {{2,}}|$)", text, flags=re.MULTILINE))


@functools.cache
def _help(words: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "xautolm_hpc", *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT_DIR, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
