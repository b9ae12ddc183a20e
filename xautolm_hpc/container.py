"""The image a worker runs in: what the cluster profile says of it, and what of that goes into ``command.json``."""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from xautolm_hpc.catalogue import Model
from xautolm_hpc.errors import ConfigError, ImageError, quoted
from xautolm_hpc.image import Bind, Container, image_sha256, read_image

PROGRAM_DIR = "/opt/xautolm"
"""Where the driver's copy of this package, and packages that carry models, lie inside."""

PACKAGE_DIR = Path(__file__).resolve().parent


class ContainerSection(BaseModel):
    """``[container]``: the image the worker runs in.

    Attributes:
        image: The image, a SIF file that the nodes see.
        binds: What the worker sees beside the model cache and the data, read-only: ``PATH`` or ``PATH:PATH_INSIDE``.
        nv: Whether the node's NVIDIA driver is bound in; by default if a job asks for GPUs.
        driver_path: Folder that holds the node's NVIDIA driver (libcuda.so.1), where that is a place of its own and no
            folder of the system; with ``nv`` it is bound, and put into the library path inside.
        scratch: Folder on the node's own disk for writable caches, or ``$NAME`` of a variable that holds it there;
            by default ``$TMPDIR``, else /tmp.
        options: Further options of ``apptainer exec``.
        verify_key: Public key (PEM) that must have signed the image.
        program: Apptainer, by name or path.
        python: The image's interpreter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: str
    binds: tuple[Annotated[str, Field(pattern=r"^[^:,]+(:/[^:,]+)?$")], ...] = ()
    nv: bool | None = None
    driver_path: Annotated[str, Field(pattern=r"^/[^:,\x00-\x1f\x7f]+$")] | None = None
    scratch: Annotated[str, Field(pattern=r"^[/$]")] | None = None
    options: tuple[str, ...] = ()
    verify_key: str | None = None
    program: str = "apptainer"
    python: str = "/opt/worker/bin/python"

    def located(self, path: Path) -> "ContainerSection":
        """Make every path absolute; a bind without a place inside gets the same one.

        Args:
            path: The profile; what is written in it is relative to its folder.

        Raises:
            ConfigError: A path is none.
        """
        find = partial(locate, folder=path.resolve().parent, where=f"`{path}`: container")
        pairs = [written.partition(":") for written in self.binds]
        return self.model_copy(
            update={
                "image": find(self.image),
                "verify_key": self.verify_key and find(self.verify_key),
                "binds": tuple(f"{find(source)}:{target or find(source)}" for source, _, target in pairs),
            }
        )


def locate(written: str, folder: Path, *, where: str, follows_links: bool = True) -> str:
    """Return where a path leads that stands in a search file or a profile, absolute.

    Args:
        written: The path.
        folder: What it is relative to, absolute.
        where: File and key, for the message.
        follows_links: Whether links in it are followed.

    Raises:
        ConfigError: It is no path: it has a NUL character, an unknown user's home, or links in a circle.
    """
    try:
        path = folder / Path(written).expanduser()
        resolved = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{where} = {quoted(written)} is no path: {error}") from error
    return str(resolved if follows_links else path)


def make_container(
    section: ContainerSection,
    models: Iterable[Model],
    *,
    hf_home: Path,
    n_gpus: int,
    find_package: Callable[[str], Path | None],
) -> Container:
    """Read the image and list what a worker sees in it: this package, the models and what the profile binds.

    Args:
        section: ``[container]``, located.
        models: Models of the search space.
        hf_home: Offline cache of hub models.
        n_gpus: GPUs a job asks for.
        find_package: Finds the folder of an installed package that carries a model, or ``None``.

    Raises:
        ImageError: The image is missing, damaged or for another processor, or what is to be bound is missing.
    """
    image = read_image(Path(section.image), machine=platform.machine())
    binds = _binds(section, tuple(models), hf_home=hf_home, find_package=find_package)
    for bind in binds:
        if not Path(bind.source).exists():
            raise ImageError(f"`{bind.source}`, which is to be bound into the image, does not exist")
    nv = n_gpus > 0 if section.nv is None else section.nv
    driver_path = section.driver_path if nv else None
    if driver_path is not None:  # looked for on the node: this machine need not have it
        binds.append(Bind(source=driver_path, target=driver_path))
    return Container(
        program=section.program,
        image=section.image,
        image_stamp=image.stamp,
        image_sha256=image_sha256(image.path, stamp=image.stamp),
        lock_sha256=image.lock_sha256,
        binds=tuple(binds),
        writable=(),
        program_dir=PROGRAM_DIR,
        nv=nv,
        driver_path=driver_path,
        scratch_dir=section.scratch,
        options=section.options,
        verify_key=section.verify_key,
    )


def _binds(
    section: ContainerSection,
    models: Sequence[Model],
    *,
    hf_home: Path,
    find_package: Callable[[str], Path | None],
) -> list[Bind]:
    """List what a worker sees of this machine: this package, the models and what the profile binds."""
    binds = [Bind(source=str(PACKAGE_DIR), target=f"{PROGRAM_DIR}/{PACKAGE_DIR.name}")]
    for package in sorted({model.package for model in models if model.package}):
        if (folder := find_package(package)) is not None:
            binds.append(Bind(source=str(folder), target=f"{PROGRAM_DIR}/{package}"))
    binds += [Bind(source=path, target=path) for path in sorted({m.path for m in models if m.path and not m.package})]
    if any(model.hub_repo for model in models):
        if not hf_home.is_dir():
            raise ImageError(
                f"the cache of models `{hf_home}` does not exist; `xautolm-hpc prefetch SEARCH` makes it, or name "
                "another as hf_home in the profile"
            )
        binds.append(Bind(source=str(hf_home), target=str(hf_home)))
    for written in section.binds:
        source, _, target = written.partition(":")
        binds.append(Bind(source=source, target=target))
    return binds


def find_package(name: str) -> Path | None:
    """Find the folder of an installed package without importing it; ``None`` if it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def with_binds(container: Container, *, reads: Iterable[str], writes: Iterable[str]) -> Container:
    """Show a worker further files and folders, at the same place inside.

    Args:
        container: The image.
        reads: What it may read.
        writes: What it may write.
    """
    binds = (*container.binds, *(Bind(source=path, target=path) for path in reads))
    return replace(container, binds=binds, writable=(*container.writable, *writes))
