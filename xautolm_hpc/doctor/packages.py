"""Check of the worker's environment: can its Python find what a trial imports? No job is needed to ask.

Packages are looked for, not imported: importing torch takes seconds, and only a node can tell whether it loads there.
"""

import json
import shutil
import subprocess
import sys
from typing import Any

from xautolm_hpc.doctor.site import Site
from xautolm_hpc.view import Finding, failure, ok, warning

PACKAGES = {
    "accelerate": "accelerate",
    "datasets": "datasets",
    "numpy": "numpy",
    "peft": "peft",
    "pynvml": "nvidia-ml-py",
    "psutil": "psutil",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
    "xautolm_hpc": "xautolm-hpc",
}
"""Module that a worker imports -> package that holds it."""

NOT_NEEDED = frozenset({"pynvml"})
"""Modules without which trials run all the same; their energy is then unknown."""

OLDEST_PYTHON = (3, 11)
PROBE = """
import importlib.util, json, sys
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(json.dumps({"python": sys.version_info[:2], "missing": missing}))
"""
PROBE_TIMEOUT_S = 60.0
CHECK = "worker's packages"


def check_worker_packages(site: Site) -> list[Finding]:
    """Ask the worker's Python for its version and the packages it lacks; one in an image is not asked."""
    python = site.profile.worker_python or sys.executable
    if site.profile.container is not None or shutil.which(python, path=site.inputs.environ.get("PATH")) is None:
        return []  # the checks of the image and of the interpreters speak of these
    answer = _ask(site, python)
    if answer is None:
        remedy = f'try `{python} -c "import torch"`; worker_python in the profile must name a Python'
        return [warning(CHECK, f"`{python}` does not say which packages it has", remedy=remedy)]
    wrong = _wrong(answer)
    if wrong is None:
        return [ok(CHECK, f"`{python}` has all that a trial imports")]
    found, remedy = f"`{python}` {wrong[0]}", wrong[1]
    if set(answer["missing"]) <= NOT_NEEDED and tuple(answer["python"]) >= OLDEST_PYTHON:
        return [warning(CHECK, f"{found}, so the energy of GPUs stays unknown", remedy=remedy)]
    if site.is_slurm:
        return [warning(CHECK, f"{found} on this machine", remedy=f"{remedy}; `doctor --job` asks a node")]
    return [failure(CHECK, found, remedy=remedy)]


def _ask(site: Site, python: str) -> dict[str, Any] | None:
    """Run the probe as a worker is run; ``None`` if it does not answer."""
    try:
        asked = subprocess.run(
            [python, "-c", PROBE, *PACKAGES],
            env=site.inputs.worker_environment(),
            cwd=site.runs_dir,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
        answer = json.loads(asked.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return answer if isinstance(answer, dict) and {"python", "missing"} <= answer.keys() else None


def _wrong(answer: dict[str, Any]) -> tuple[str, str] | None:
    """Return what is wrong with the worker's Python and the remedy, or ``None``."""
    version = tuple(answer["python"])
    if version < OLDEST_PYTHON:
        oldest, has = (".".join(map(str, numbers)) for numbers in (OLDEST_PYTHON, version))
        return f"is Python {has}, older than {oldest}", f"set worker_python in the profile to Python {oldest} or newer"
    lacking = [PACKAGES.get(name, name) for name in answer["missing"]]
    if not lacking:
        return None
    remedy = "install them there: pip install 'xautolm-hpc[worker]'; or set worker_python in the profile to a Python"
    return f"lacks {', '.join(lacking)}", f"{remedy} that has them"
