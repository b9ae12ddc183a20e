"""Reads the repository's Markdown files for the checks of documents."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.checks.source import ROOT_DIR

NOT_OURS = {".git", ".venv", ".venv-docs", "build", "dist", "node_modules", "runs"}
README = ROOT_DIR / "README.md"
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: The word after the fence; empty where there is none.
        text: What stands between the fences.
    """

    language: str
    text: str


def markdown_files() -> list[Path]:
    """List the repository's Markdown files, sorted."""
    tops = [path for path in ROOT_DIR.iterdir() if path.name not in NOT_OURS]  # build/ may hold a whole Debian
    found = [path for top in tops for path in ([top] if top.suffix == ".md" else top.rglob("*.md"))]
    return sorted(path for path in found if not {"recorded", *NOT_OURS} & set(path.relative_to(ROOT_DIR).parts))


def blocks(path: Path) -> list[Block]:
    """List a document's fenced blocks in their order."""
    return [Block(language, text) for language, text in FENCE.findall(path.read_text())]


def links(path: Path) -> list[str]:
    """List the targets of a document's links that lead to files of the repository."""
    targets = LINK.findall(FENCE.sub("", path.read_text()))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    """List the anchors of a document's headings, as they are made of their words."""
    headings = re.findall(r"^#+ +(.+)$", FENCE.sub("", path.read_text()), flags=re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in words}


def commands(path: Path) -> list[list[str]]:
    """List the commands of a document's shell blocks, word by word, comments and prompts left out."""
    shell = [block.text for block in blocks(path) if block.language in {"sh", "bash", "console", "shell"}]
    lines = "\n".join(shell).replace("\\\n", " ").splitlines()
    return [re.sub(r"(^|\s)#.*", "", line).removeprefix("$ ").split() for line in lines]


@dataclass(frozen=True)
class Branch:
    """A path that a drawn tree names.

    Attributes:
        path: The path; that of a folder ends in ``/``.
        packages: Third-party packages that its line names in brackets at its end.
    """

    path: str
    packages: frozenset[str]


def branches(text: str) -> list[Branch]:
    """List the paths that a drawn tree names, each with the packages of its line.

    Two blanks of indentation are one level. A line is one or more names with single blanks between, then two
    blanks or more and words on them; a name that ends in ``/`` is the folder of the deeper lines below it. Words may
    end in ``[a, b]``: the packages that each path of the line imports.
    """
    found: list[Branch] = []
    parents: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        level = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"  +", line.strip(), maxsplit=1)[0].split()
        parents[level:] = [names[-1]]
        bracket = re.search(r"  .*\[([^\]]*)\]$", line)
        packages = frozenset(bracket[1].split(", ")) if bracket else frozenset()
        found += [Branch("".join(parents[:level]) + name, packages) for name in names]
    return found


def readme_tree() -> list[Branch]:
    """List the paths of the tree that README.md draws."""
    drawn = [block.text for block in blocks(README) if block.text.startswith("xautolm_hpc/")]
    return branches(drawn[0])
