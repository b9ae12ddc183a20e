"""Installs Apptainer on a Debian machine that has none: ``python containers/dev/apptainer.py up|down|status|run``.

For root it also creates an ordinary user with subordinate ids: images are built and tried as that user. README.md in
the folder above says more.
"""

import argparse
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from slurm.dev.packages import install
from slurm.dev.plan import DevClusterError

PREFIX_DIR = Path("/opt/xautolm-apptainer")
UNDO_PATH = PREFIX_DIR / "undo.json"
USER = "xautolm-dev"
USER_HOME_DIR = Path("/var/tmp/xautolm-dev")  # noqa: S108 - a home of our own, not a scratch file
FUSE_PATH = Path("/dev/fuse")
KEYRING_PATH = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SYSTEM_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
PROGRAMS = {
    "patchelf": "patchelf",
    "mksquashfs": "squashfs-tools",
    "squashfuse_ll": "squashfuse",
    "fuse2fs": "fuse2fs",
    "newuidmap": "uidmap",
    "debootstrap": "debootstrap",
    "fakeroot": "fakeroot",
    "ip": "iproute2",
}
"""Program -> Debian package that has it."""

LOADER_FILES = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libm.so.6",
    "libresolv.so.2",
    "libpthread.so.0",
    "libdl.so.2",
)
LIBRARY_DIR = Path("/usr/lib/x86_64-linux-gnu")


class DevApptainerError(Exception):
    """Apptainer cannot be used here; the message says why and what to do."""


def find_apptainer() -> Path | None:
    """Find Apptainer: the machine's own, else the one that ``up`` installed."""
    found = shutil.which("apptainer")
    installed = PREFIX_DIR / "bin" / "apptainer"
    return Path(found) if found else installed if installed.exists() else None


def up() -> None:
    """Install Apptainer if the machine has none, open /dev/fuse to users, and create the ordinary user for root.

    Raises:
        DevApptainerError: The machine is not a Debian, we are not root, or a step failed.
    """
    _check_machine()
    try:
        install(sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=SYSTEM_PATH)}))
    except DevClusterError as error:
        raise DevApptainerError(str(error)) from error
    PREFIX_DIR.mkdir(parents=True, exist_ok=True)
    undo = _read_undo()
    if find_apptainer() is None:
        _install_apptainer()
    mode = stat.S_IMODE(FUSE_PATH.stat().st_mode)
    if mode & 0o666 != 0o666:
        undo["fuse_mode"] = mode
        FUSE_PATH.chmod(mode | 0o666)
    if not _user_exists():
        undo["made_user"] = True
        _run("useradd", "--create-home", "--home-dir", str(USER_HOME_DIR), "--shell", "/bin/bash", USER)
    UNDO_PATH.write_text(json.dumps(undo))


def down() -> None:
    """Undo ``up``: remove our Apptainer and the user with its home, restore the mode of /dev/fuse; packages stay."""
    undo = _read_undo()
    if "fuse_mode" in undo:
        FUSE_PATH.chmod(undo["fuse_mode"])
    if undo.get("made_user") and _user_exists():
        _run("userdel", "--remove", USER)
    shutil.rmtree(PREFIX_DIR, ignore_errors=True)


def problems() -> list[str]:
    """List what is missing for Apptainer on this machine; empty if nothing is."""
    found = []
    if find_apptainer() is None:
        found.append("no apptainer, neither on PATH nor installed by `up`")
    if not FUSE_PATH.exists():
        found.append(f"`{FUSE_PATH}` does not exist: the kernel lacks FUSE, images cannot be mounted")
    elif stat.S_IMODE(FUSE_PATH.stat().st_mode) & 0o006 != 0o006:
        found.append(f"`{FUSE_PATH}` is closed to ordinary users: chmod 0666 {FUSE_PATH}")
    user = USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    if user == USER and not _user_exists():
        found.append(f"no user {USER}")
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        if not path.exists() or not any(line.startswith(f"{user}:") for line in path.read_text().splitlines()):
            found.append(f"`{path}` has no line for {user}: ask the administrator for subordinate ids")
    return found


def user_argv(*command: str) -> list[str]:
    """Return the command line that runs a command as the ordinary user; unchanged if we are not root."""
    if os.geteuid() != 0:
        return [*command]
    identity = pwd.getpwnam(USER)
    return [
        "setpriv", f"--reuid={identity.pw_uid}", f"--regid={identity.pw_gid}", "--init-groups", "--", *command,
    ]  # fmt: skip


def user_environ() -> dict[str, str]:
    """Return the ordinary user's whole environment, without any of root's variables."""
    program = find_apptainer()
    folder = f"{program.parent}:" if program else ""
    if os.geteuid() != 0:
        return {**os.environ, "PATH": f"{folder}{os.environ.get('PATH', SYSTEM_PATH)}:{SYSTEM_PATH}"}
    home = pwd.getpwnam(USER).pw_dir
    return {"HOME": home, "USER": USER, "LOGNAME": USER, "LANG": "C.UTF-8", "PATH": folder + SYSTEM_PATH}


def user_home_dir() -> Path:
    """Return the home of the user who builds and tries images."""
    return Path(pwd.getpwnam(USER).pw_dir) if os.geteuid() == 0 else Path.home()


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise DevApptainerError("`up` changes the machine, so only root may; where Apptainer is installed, skip it")
    if shutil.which("apt-get") is None or platform.machine() != "x86_64":
        raise DevApptainerError("`up` is for x86-64 Debian; elsewhere install Apptainer as its documentation says")
    if not FUSE_PATH.exists():
        raise DevApptainerError(f"`{FUSE_PATH}` does not exist: the kernel lacks FUSE, images cannot be mounted")


def _read_undo() -> dict[str, int]:
    undo: dict[str, int] = json.loads(UNDO_PATH.read_text()) if UNDO_PATH.exists() else {}
    return undo


def _user_exists() -> bool:
    try:
        pwd.getpwnam(USER)
    except KeyError:
        return False
    return True


def debian_archive() -> str:
    """Read the address of Debian's archive from this machine's own apt sources.

    Raises:
        DevApptainerError: They name none.
    """
    written = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(CODENAME)", "Created-By: Packages")
    for line in written.splitlines():
        address, _, release = line.partition(" ")
        if release.startswith("Debian ") and "-" not in release:
            return address
    raise DevApptainerError("apt's sources name no Debian archive; see `apt-get indextargets`")


def _install_apptainer() -> None:
    """Unpack Apptainer and the C library of Debian unstable, because this Debian's C library is too old.

    apt downloads both with separate settings: it checks signatures, and the machine's sources stay as they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for name in ("lists/partial", "cache/archives/partial", "apptainer", "libc6"):
            (scratch / name).mkdir(parents=True)
        sources = scratch / "unstable.list"
        sources.write_text(f"deb [signed-by={KEYRING_PATH}] {debian_archive()} unstable main\n")
        settings = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": scratch / "lists",
            "Dir::Cache": scratch / "cache",
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        _run("apt-get", *options, "update", cwd=scratch)
        _run("apt-get", *options, "-o", "APT::Sandbox::User=root", "download", "apptainer", "libc6", cwd=scratch)
        for name in ("apptainer", "libc6"):
            (package,) = scratch.glob(f"{name}_*.deb")
            _run("dpkg-deb", "--extract", str(package), str(scratch / name))
        _arrange(scratch / "apptainer", scratch / "libc6")


def _arrange(apptainer_dir: Path, libc_dir: Path) -> None:
    """Copy the unpacked packages to the prefix; Apptainer finds its files relative to its two programs."""
    shutil.copytree(apptainer_dir / "usr", PREFIX_DIR, symlinks=True, dirs_exist_ok=True)
    shutil.copytree(apptainer_dir / "etc" / "apptainer", PREFIX_DIR / "etc" / "apptainer", dirs_exist_ok=True)
    (PREFIX_DIR / "var/lib/apptainer/mnt/session").mkdir(parents=True, exist_ok=True)
    for name in ("etc", "var"):  # the starter, one folder deeper, looks for them here
        link = PREFIX_DIR / "lib" / name
        if not link.is_symlink():
            link.symlink_to(Path("..") / name)
    loader_dir = PREFIX_DIR / "loader"
    loader_dir.mkdir(exist_ok=True)
    for name in LOADER_FILES:
        shutil.copy(libc_dir / LIBRARY_DIR.relative_to("/") / name, loader_dir / name)
    starter = PREFIX_DIR / "lib" / LIBRARY_DIR.name / "apptainer" / "bin" / "starter"
    for program in (PREFIX_DIR / "bin" / "apptainer", starter):
        _run("patchelf", "--set-interpreter", str(loader_dir / LOADER_FILES[0]), str(program))
        _run("patchelf", "--set-rpath", f"{loader_dir}:{LIBRARY_DIR}", str(program))


def _run(*command: str, cwd: Path | None = None) -> str:
    completed = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if completed.returncode != 0:
        words = "\n".join((completed.stdout + completed.stderr).splitlines()[-10:])
        raise DevApptainerError(f"`{' '.join(command)}` failed with status {completed.returncode}:\n{words}")
    return completed.stdout


def _status() -> int:
    found = find_apptainer()
    if found is not None:
        print(f"{_run(str(found), '--version').strip()} at {found}")
    for problem in problems():
        print(problem)
    return 1 if problems() else 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; return status 2 with a message on standard error if it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help=up.__doc__)
    verbs.add_parser("down", help=down.__doc__)
    verbs.add_parser("status", help="list what is installed and what is missing; status 1 if something is missing")
    verbs.add_parser("run", help="run a command as the ordinary user").add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "run":
            return subprocess.run(user_argv(*options.command), env=user_environ(), check=False).returncode
        if options.verb in ("up", "down"):
            (up if options.verb == "up" else down)()
        return 0 if options.verb == "down" else _status()
    except DevApptainerError as error:
        print(f"containers/dev: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
