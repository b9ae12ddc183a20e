"""Installs Apptainer where there is none: ``python containers/dev/apptainer.py up|down|status|run|collect``.

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

OWN = ("apptainer", "libc6")
"""Packages of Debian's unstable release."""

CARRIED = ("patchelf", "squashfs-tools", "squashfuse", "uidmap", "liblzo2-2", "libfuse3-3")
"""What ``collect`` takes along from this Debian: enough to pack and mount images on a machine without apt."""

CARRIED_PROGRAMS = ("mksquashfs", "squashfuse_ll", "newuidmap", "newgidmap")
CARRIED_LIBRARIES = ("liblzo2.so*", "libfuse3.so*")

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


def up(packages_dir: Path | None = None) -> None:
    """Install Apptainer if the machine has none, open /dev/fuse to users, and create the ordinary user for root.

    Args:
        packages_dir: Folder of :func:`collect`; then nothing is fetched, and nothing installed outside the prefix.

    Raises:
        DevApptainerError: The machine is not a Debian, we are not root, or a step failed.
    """
    _check_machine("apt-get" if packages_dir is None else "dpkg-deb")
    if packages_dir is None:
        try:
            install(sorted({package for name, package in PROGRAMS.items() if not shutil.which(name, path=SYSTEM_PATH)}))
        except DevClusterError as error:
            raise DevApptainerError(str(error)) from error
    PREFIX_DIR.mkdir(parents=True, exist_ok=True)
    undo = _read_undo()
    if find_apptainer() is None:
        _install_apptainer(packages_dir)
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


def _check_machine(installer: str) -> None:
    if os.geteuid() != 0:
        raise DevApptainerError("`up` changes the machine, so only root may; where Apptainer is installed, skip it")
    if shutil.which(installer) is None or platform.machine() != "x86_64":
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


def collect(folder: Path) -> list[Path]:
    """Download what ``up`` needs on a machine without apt: Apptainer, and what packs and mounts images.

    Returns:
        The files, sorted.

    Raises:
        DevApptainerError: apt failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _download_own(folder)
    _run("apt-get", "-o", "APT::Sandbox::User=root", "download", *CARRIED, cwd=folder)
    return sorted(path for name in (*OWN, *CARRIED) for path in folder.glob(f"{name}_*.deb"))


def _download_own(folder: Path) -> None:
    """Download Apptainer and the C library of Debian unstable, because this Debian's C library is too old.

    apt downloads both with separate settings: it checks signatures, and the machine's sources stay as they are.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("lists/partial", "cache/archives/partial"):
            Path(scratch, name).mkdir(parents=True)
        sources = Path(scratch, "unstable.list")
        sources.write_text(f"deb [signed-by={KEYRING_PATH}] {debian_archive()} unstable main\n")
        settings = {
            "Dir::Etc::sourcelist": sources,
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": Path(scratch, "lists"),
            "Dir::Cache": Path(scratch, "cache"),
        }
        options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        _run("apt-get", *options, "update", cwd=folder)
        _run("apt-get", *options, "-o", "APT::Sandbox::User=root", "download", *OWN, cwd=folder)


def _install_apptainer(packages_dir: Path | None) -> None:
    """Unpack Apptainer, downloaded or carried, and what was carried with it."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if packages_dir is None:
            _download_own(scratch)
        names = OWN if packages_dir is None else (*OWN, *CARRIED)
        found = {name: sorted((packages_dir or scratch).glob(f"{name}_*.deb")) for name in names}
        if lacking := [name for name in names if not found[name]]:
            raise DevApptainerError(
                f"`{packages_dir}` lacks {', '.join(lacking)}: "
                f"python containers/dev/apptainer.py collect {packages_dir}"
            )
        for name in names:
            target = scratch / (name if name in OWN else "carried")
            _run("dpkg-deb", "--extract", str(found[name][-1]), str(target))
        patchelf = "patchelf" if packages_dir is None else str(scratch / "carried/usr/bin/patchelf")
        _arrange(scratch / "apptainer", scratch / "libc6", patchelf=patchelf)
        if packages_dir is not None:
            _arrange_carried(scratch / "carried", patchelf=patchelf)


def _arrange_carried(carried_dir: Path, *, patchelf: str) -> None:
    """Copy carried programs that the machine lacks to the prefix; they find their libraries there."""
    library_dir = PREFIX_DIR / "lib" / "carried"
    library_dir.mkdir(exist_ok=True)
    for library in (path for name in CARRIED_LIBRARIES for path in carried_dir.rglob(name)):
        shutil.copy(library, library_dir / library.name)
    for name in CARRIED_PROGRAMS:
        if not shutil.which(name, path=SYSTEM_PATH):
            program = PREFIX_DIR / "bin" / name
            shutil.copy(carried_dir / "usr" / "bin" / name, program)
            if not program.stat().st_mode & stat.S_ISUID:  # the loader trusts no such path for setuid programs
                _run(patchelf, "--force-rpath", "--set-rpath", str(library_dir), str(program))


def _arrange(apptainer_dir: Path, libc_dir: Path, *, patchelf: str) -> None:
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
        _run(patchelf, "--set-interpreter", str(loader_dir / LOADER_FILES[0]), str(program))
        _run(patchelf, "--set-rpath", f"{loader_dir}:{LIBRARY_DIR}", str(program))


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
    verbs.add_parser("up", help="install it, and create the ordinary user for root").add_argument(
        "--packages",
        type=Path,
        metavar="FOLDER",
        help="take them from a folder that `collect` filled; nothing is fetched",
    )
    verbs.add_parser("collect", help="download what `up --packages` needs").add_argument("folder", type=Path)
    verbs.add_parser("down", help=down.__doc__)
    verbs.add_parser("status", help="list what is installed and what is missing; status 1 if something is missing")
    verbs.add_parser("run", help="run a command as the ordinary user").add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "run":
            return subprocess.run(user_argv(*options.command), env=user_environ(), check=False).returncode
        if options.verb == "collect":
            found = collect(options.folder)
            size_mb = sum(path.stat().st_size for path in found) / 2**20
            print(f"{len(found)} packages, {size_mb:.1f} MiB: {options.folder}")
            return 0
        if options.verb == "up":
            up(options.packages)
        elif options.verb == "down":
            down()
        return 0 if options.verb == "down" else _status()
    except DevApptainerError as error:
        print(f"containers/dev: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
