"""Finds Slurm's programs, and installs their Debian packages where that is possible."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from slurm.dev.plan import DevClusterError

PROGRAMS = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
}
ACCOUNTING_PROGRAMS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
"""Program -> Debian package that has it."""

BROWSER_PROGRAMS = {"chromium": "chromium", "chromedriver": "chromium-driver", "npm": "npm"}
"""The same for the tests of the report's page."""

POLICY_PATH = Path("/usr/sbin/policy-rc.d")
POLICY = "#!/bin/sh\n# slurm/dev: no package starts a service while this file is here.\nexit 101\n"
FORBIDDEN = 101
"""The status by which a policy says that a service must not be started."""


def search_path() -> str:
    """Return PATH with the folders of daemons, which an ordinary user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def program(name: str) -> str:
    """Find a program.

    Raises:
        DevClusterError: It is not on PATH.
    """
    found = shutil.which(name, path=search_path())
    if found is None:
        raise DevClusterError(f"`{name}` is not on PATH")
    return found


def missing_packages(*, accounting: bool) -> list[str]:
    """List the Debian packages whose programs are not on PATH, sorted."""
    programs = PROGRAMS | (ACCOUNTING_PROGRAMS if accounting else {})
    return sorted({package for name, package in programs.items() if not shutil.which(name, path=search_path())})


def missing_browser() -> list[str]:
    """List the Debian packages that the tests of the report's page lack, sorted."""
    return sorted({package for name, package in BROWSER_PROGRAMS.items() if not shutil.which(name)})


def install(packages: Iterable[str]) -> None:
    """Install Debian packages without letting them start their services.

    Raises:
        DevClusterError: The machine has no apt, we are not root, services would start, or apt failed.
    """
    names = " ".join(packages)
    if not names:
        return
    if not shutil.which("apt-get"):
        raise DevClusterError(f"missing packages: {names}; there is no apt-get here: use a Debian machine")
    if os.geteuid() != 0:
        raise DevClusterError(f"missing packages: {names}; only root installs them: apt-get install {names}")
    is_ours = not POLICY_PATH.exists()
    if is_ours:
        POLICY_PATH.write_text(POLICY)
        POLICY_PATH.chmod(0o755)
    try:
        _check_policy(names)
        _apt_get("update", "-q")
        _apt_get("install", "-q", "--yes", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", *names.split())
    finally:
        if is_ours:
            POLICY_PATH.unlink()


def _check_policy(names: str) -> None:
    answer = subprocess.run([str(POLICY_PATH), "slurmctld", "start"], capture_output=True, check=False)
    if answer.returncode != FORBIDDEN:
        raise DevClusterError(
            f"missing packages: {names}; `{POLICY_PATH}` of this machine lets packages start their services "
            f"(status {answer.returncode}, expected {FORBIDDEN}), so they are not installed. "
            f"Install them yourself: apt-get install {names}"
        )


def _apt_get(*arguments: str) -> None:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    completed = subprocess.run(
        ["apt-get", *arguments], env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if completed.returncode != 0:
        words = "\n".join((completed.stdout + completed.stderr).splitlines()[-15:])
        raise DevClusterError(f"`apt-get {' '.join(arguments)}` failed with status {completed.returncode}:\n{words}")
