"""Describes or copies the environment of the interpreter that runs this, for an image; see from_python.py.

``INTERPRETER environment.py describe REQUIREMENT ...`` prints its version and the packages that requirements lead to.
``INTERPRETER environment.py copy ROOT REQUIREMENT ...`` writes these packages to ROOT/opt/worker, the interpreter to
ROOT/opt/python, and of the system the shared libraries that both load, and a few programs.

Nothing of this repository is imported here: the interpreter may be another one, with packages of its own.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

PROGRAMS = ("sh", "bash", "cat", "head", "ls", "env", "mkdir", "rm", "sleep", "uname")
SYSTEM_DIRS = tuple(map(Path, ("/lib", "/lib64", "/usr/lib", "/usr/lib64")))
OF_THE_DRIVER = ("libcuda.so", "libnvidia", "libnvcuvid")
"""Beginnings of libraries that ``--nv`` binds in."""

NOT_RUN = ("site-packages", "dist-packages", "test", "config-*", "ensurepip", "idlelib", "tkinter", "turtledemo")
"""What no worker reads of Python's own library."""

OWN_LIBRARIES = "opt/python/lib"
"""Where libraries from outside the system's folders go in the image."""

FILES_A_CALL = 400
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"

Found = dict[str, Distribution]
Missing = dict[str, str]


def canonical(name: str) -> str:
    """Return the name of a package as packages are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def find_packages(requirements: Iterable[str]) -> tuple[Found, Missing]:
    """Find the packages that requirements lead to, with what these need here.

    Args:
        requirements: As in a requirements file; which version they want is not looked at.

    Returns:
        The packages by name, and the names of those that are missing, each with who needs it.
    """
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        return {}, {"packaging": "transformers"}
    found: Found = {}
    missing: Missing = {}
    seen: set[tuple[str, str]] = set()
    front = [(Requirement(text), "", "the lock") for text in requirements]
    while front:
        need, extra, needed_by = front.pop()
        if need.marker is not None and not need.marker.evaluate({"extra": extra}):
            continue
        name = canonical(need.name)
        try:
            found[name] = package = distribution(name)
        except PackageNotFoundError:
            missing.setdefault(name, needed_by)
            continue
        for wanted in {"", *need.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, wanted))
            front += [(Requirement(text), wanted, name) for text in package.requires or ()]
    return found, missing


def why_not_copied(package: Distribution) -> str | None:
    """Return why the files of a package are not all its own; ``None`` if they are."""
    if json.loads(package.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable"):
        return "it is installed as editable, its code lies elsewhere"
    if package.read_text("RECORD") is None:
        return "it has no list of its files (RECORD)"
    site_dir = Path(str(package.locate_file(""))).resolve()
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if file.suffix == ".pth" and path.is_file():
            for line in path.read_text().splitlines():
                is_path = line.strip() and not line.startswith(("#", "import ", "import\t"))
                if is_path and not (site_dir / line.strip()).resolve().is_relative_to(site_dir):
                    return f"its {path.name} leads to {line.strip()}"
    return None


def describe(requirements: Sequence[str]) -> dict[str, object]:
    """Return what this environment has of the requirements, for the caller to judge."""
    found, missing = find_packages(requirements)
    reasons = {name: why_not_copied(package) for name, package in found.items()}
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "packages": {name: found[name].version for name in sorted(found)},
        "missing": dict(sorted(missing.items())),
        "unusable": {name: reason for name, reason in sorted(reasons.items()) if reason},
    }


def copy_packages(found: Found, site_dir: Path) -> list[Path]:
    """Copy the files of packages, but for scripts, which lie elsewhere.

    Returns:
        The files that were copied.
    """
    copied = []
    for package in found.values():
        for file in package.files or ():
            source = Path(str(package.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                target = site_dir / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)  # with its time: what is compiled stays valid
                target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
                copied.append(source)
    return copied


def copy_interpreter(root: Path) -> list[Path]:
    """Copy the interpreter, for a virtual environment the one it was made from, and make /opt/worker one of its own.

    Returns:
        The program and the loadable modules that were copied.
    """
    program, library = Path(os.path.realpath(sys.executable)), Path(sysconfig.get_path("stdlib"))
    target = root / "opt" / "python"
    shutil.copytree(
        library,
        target / library.relative_to(sys.base_prefix),
        ignore=shutil.ignore_patterns(*NOT_RUN),
        ignore_dangling_symlinks=True,
    )
    (target / "bin").mkdir()
    shutil.copy(program, target / "bin" / VERSION)
    worker = root / "opt" / "worker"
    (worker / "bin").mkdir(parents=True)
    for name in ("python", "python3", VERSION):
        (worker / "bin" / name).symlink_to(f"/opt/python/bin/{VERSION}")
    (worker / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    return [program, *library.glob("lib-dynload/*.so")]


def libraries_of(files: Sequence[Path]) -> list[Path]:
    """List the shared libraries that files load here without LD_LIBRARY_PATH, but for those of the GPU's driver."""
    environ = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    text = ""
    for first in range(0, len(files), FILES_A_CALL):
        command = ["ldd", *map(str, files[first : first + FILES_A_CALL])]
        text += subprocess.run(command, env=environ, capture_output=True, text=True, check=False).stdout
    names = sorted(set(re.findall(r"^\t(?:.* => )?(/.+) \(0x", text, flags=re.MULTILINE)))
    return [path for path in map(Path, names) if not path.name.startswith(OF_THE_DRIVER)]


def copy_system(root: Path, copied: Iterable[Path]) -> None:
    """Copy a few programs and every library that these and what was copied load, and let the loader know them."""
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path("/", name).is_symlink():
            (root / name).symlink_to(Path("/", name).readlink())
    programs = [Path(found) for name in PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin"))]
    loading = [path for path in copied if ".so" in path.name or os.access(path, os.X_OK)]
    ours = {os.path.realpath(path) for path in loading}
    folders = {f"/{OWN_LIBRARIES}"}
    for path in [*programs, *libraries_of([*programs, *loading])]:
        if os.path.realpath(path) in ours:
            continue
        folder = Path(os.path.realpath(path.parent))
        if path not in programs:
            is_system = any(folder.is_relative_to(os.path.realpath(system)) for system in SYSTEM_DIRS)
            folder = folder if is_system else Path("/", OWN_LIBRARIES)
            folders.add(str(folder))
        target = root / folder.relative_to("/") / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    for name in ("etc", "tmp", "proc", "sys", "dev", "var/tmp", "root", "home", "scratch", "attempt", "opt/xautolm"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/ld.so.conf").write_text("".join(f"{folder}\n" for folder in sorted(folders)))
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    subprocess.run([ldconfig or "ldconfig", "-r", str(root)], check=True)


def finish_packages(root: Path, site_dir: Path) -> None:
    """Do what the image's definition does with installed packages: remember exports of models, compile, list sizes."""
    environ = {**os.environ, "PYTHONPATH": str(site_dir), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, str(Path(__file__).with_name("remember.py"))], env=environ, check=True)
    known = site_dir / "transformers" / "utils" / "known_exports.py"
    known.write_text(known.read_text().replace(str(root), ""))  # the paths that the image will have
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "-j", "0", "-s", str(root), "-p", "/", str(site_dir)],
        stdout=subprocess.DEVNULL,
        check=False,  # some files are written for another Python
    )
    sizes = {
        top.name: sum(file.stat().st_size for file in (top, *top.rglob("*")) if file.is_file())
        for top in site_dir.iterdir()
    }
    rows = sorted(sizes.items(), key=lambda row: row[1], reverse=True)
    (root / "opt" / "sizes.txt").write_text("".join(f"{size / 2**20:8.1f} MB  {name}\n" for name, size in rows))


def copy(root: Path, requirements: Sequence[str]) -> None:
    """Fill the root of an image."""
    found, _ = find_packages(requirements)
    site_dir = root / "opt" / "worker" / "lib" / VERSION / "site-packages"
    copied = [*copy_interpreter(root), *copy_packages(found, site_dir)]
    copy_system(root, copied)
    finish_packages(root, site_dir)


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        print(json.dumps(describe(sys.argv[2:])))
    else:
        copy(Path(sys.argv[2]), sys.argv[3:])
