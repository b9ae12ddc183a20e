"""Builds the site of the documentation: ``python docs/site.py``, in an environment of lock/docs.txt.

The pages link to one another across the repository, so all of them, and every file they link to, are first copied to
one folder as they lie here. A warning, such as a link that leads nowhere, ends the build; no page needs the network.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parents[1]
PAGES_DIR = ROOT_DIR / "build" / "site-pages"
SITE_DIR = ROOT_DIR / "build" / "site"
SCRIPTS = ("docs/assets/iframe-worker.js",)
NOT_PAGES = {".git", ".venv", ".venv-docs", "build", "dist", "runs", "packaged", "recorded"}
LINK = re.compile(r"\]\(([^)\s#]+)")
FENCE = re.compile(r"^ *```.*?^ *```", flags=re.MULTILINE | re.DOTALL)
FETCHED = re.compile(r"""<(?:script|img|iframe|link)[^>]*(?:src|href)=["'](https?:)?//[^"']+""")


def main() -> int:
    """Stage the pages, build the site and check that it fetches nothing; return the exit status."""
    shutil.rmtree(PAGES_DIR, ignore_errors=True)
    shutil.rmtree(SITE_DIR, ignore_errors=True)
    for path in sorted(_pages()):
        _copy(path)
        for target in _linked_files(path):
            _copy(target)
    for name in SCRIPTS:
        _copy(ROOT_DIR / name)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", str(ROOT_DIR / "docs" / "mkdocs.yml")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    if built.returncode:
        return built.returncode
    fetching = [
        f"{path}: {found[0]}" for path in SITE_DIR.rglob("*.html") if (found := FETCHED.search(path.read_text()))
    ]
    print("\n".join([*fetching, f"{SITE_DIR / 'index.html'}"]))
    return 1 if fetching else 0


def _pages() -> Iterator[Path]:
    """List the Markdown files of the repository."""
    for path in ROOT_DIR.rglob("*.md"):
        if not NOT_PAGES & set(path.relative_to(ROOT_DIR).parts):
            yield path


def _linked_files(page: Path) -> Iterator[Path]:
    """List the files of the repository that a page links to or shows, without pages."""
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        target = (page.parent / link).resolve()
        if target.is_file() and target.suffix != ".md" and target.is_relative_to(ROOT_DIR):
            yield target


def _copy(path: Path) -> None:
    target = PAGES_DIR / path.relative_to(ROOT_DIR)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


if __name__ == "__main__":
    sys.exit(main())
