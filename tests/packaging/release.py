"""Whether a release can be made: ``python -m tests.packaging.release`` lists what is still missing; exit status 1."""

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.checks.source import ROOT_DIR
from tests.packaging.built import Built, build
from xautolm_hpc import __version__

NEEDED = (
    "Name", "Version", "Summary", "License-Expression", "Requires-Python", "Description-Content-Type", "Keywords",
)  # fmt: skip
PRE_RELEASE = re.compile(r"(a|b|rc|\.dev)\d+$")


def find_problems(built: Built, *, version: str, root_dir: Path) -> Iterator[str]:
    """List what keeps a version from being released.

    Args:
        built: Its wheel and source distribution.
        version: The version.
        root_dir: The repository.
    """
    yield from _changelog_problems((root_dir / "CHANGELOG.md").read_text(), version=version)
    cited = re.search(r"^version: (\S+)$", (root_dir / "CITATION.cff").read_text(), flags=re.MULTILINE)
    if cited is None or cited[1] != version:
        yield f"CITATION.cff: version is {cited and cited[1]}, expected {version}"
    for path in (built.wheel, built.sdist):
        if f"-{version}" not in path.name:
            yield f"{path.name}: expected version {version}"
    metadata = built.metadata()
    yield from (f"metadata: no {key}" for key in NEEDED if not metadata[key])
    if metadata["Version"] != version:
        yield f"metadata: version is {metadata['Version']}, expected {version}"
    if not str(metadata.get_payload()).startswith("# "):
        yield "metadata: the description is not README.md"
    code = {name for name in built.wheel_names() if name.startswith("xautolm_hpc/")}
    yield from (f"{name}: in the wheel, not in the sdist" for name in sorted(code - built.sdist_names()))
    if not any(name.endswith("licenses/LICENSE") for name in built.wheel_names()):
        yield "the wheel lacks the licence"


def _changelog_problems(text: str, *, version: str) -> Iterator[str]:
    """Check that the changes are those of this version, with a date, and that none is left over."""
    if PRE_RELEASE.search(version):
        return
    if re.search(rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d\d-\d\d$", text, flags=re.MULTILINE) is None:
        yield f"CHANGELOG.md: no heading `## {version} - YYYY-MM-DD`"
    unreleased = re.search(r"^## \[?Unreleased\]?\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if unreleased and re.search(r"^- ", unreleased[1], flags=re.MULTILINE):
        yield "CHANGELOG.md: changes stand under Unreleased"


def main() -> int:
    """Build, check and list; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="xautolm-release-") as folder:
        built = build(Path(folder) / "built")
        problems = list(find_problems(built, version=__version__, root_dir=ROOT_DIR))
        sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e6:.1f} MB" for path in (built.wheel, built.sdist))
    sys.stdout.write("\n".join([sizes, *problems, "" if problems else f"{__version__} can be released\n"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
