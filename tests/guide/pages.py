"""The pages of the guide: their commands as a person would type them, and what runs in place of what cannot."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.checks.documents import blocks
from tests.checks.source import ROOT_DIR

GUIDE_DIR = ROOT_DIR / "docs" / "guide"
PAGES = sorted(path.name for path in GUIDE_DIR.glob("*.md"))
FIRST, CLUSTER, CONTAINERS = "your-first-search.md", "on-a-cluster.md", "in-containers.md"

NOT_RUN = {
    r"make image(-check)?": "builds an image for ten minutes; `make test-container` does so",
    r"xautolm-hpc prefetch .*": "needs the network; tests/prefetch has a hub of its own",
    r"xautolm-hpc doctor cluster\.toml --job": "of the page on containers: needs the image",
    r"make demo": "is a target of .ci/run",
}
"""Command -> why no test of the guide runs it; that it exists with its options is checked all the same."""


@dataclass(frozen=True)
class Typed:
    """A command of a page.

    Attributes:
        page: Name of the page.
        line: What is typed.
    """

    page: str
    line: str

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return not any(re.fullmatch(pattern, self.line) for pattern in NOT_RUN)

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def typed(path: Path) -> list[Typed]:
    """List the commands of a page's shell blocks, in their order."""
    shell = "\n".join(block.text for block in blocks(path) if block.language == "sh").replace("\\\n", " ")
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in shell.splitlines())
    return [Typed(path.name, line) for line in lines if line]


def type_line(line: str, folder: Path, *, environ: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Type a command in a folder where ``xautolm-hpc`` is installed."""
    program = folder / ".bin" / "xautolm-hpc"
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xautolm_hpc "$@"\n')
        program.chmod(0o755)
    path = f"{program.parent}:{os.environ['PATH']}"
    packages = os.pathsep.join([str(ROOT_DIR), *filter(None, [os.environ.get("PYTHONPATH")])])
    package = {"PYTHONPATH": packages, "HF_HUB_OFFLINE": "1", "PATH": path}
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=folder,
        env={**os.environ, **(environ or {}), **package},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
