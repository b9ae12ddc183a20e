"""The image that workers run in: is it whole and the right one, and can this machine start it?

Compute nodes may differ from this machine: the job check, which runs in the image, finds what only they can show.
"""

import os
import platform
import shutil
from pathlib import Path

from xautolm_hpc.container import ContainerSection, find_package, make_container
from xautolm_hpc.doctor.site import DOCTOR, Site
from xautolm_hpc.driver.launchers import gpus_of_job
from xautolm_hpc.errors import ImageError
from xautolm_hpc.image import read_image
from xautolm_hpc.submit.apptainer import verify_signature
from xautolm_hpc.view import Finding, failure, ok, warning

FUSE_PATH = Path("/dev/fuse")


def check_image(site: Site) -> list[Finding]:
    """Check the image's header, its torch, and its signature where the profile names a key."""
    section = site.profile.container
    if section is None:
        return []
    try:
        image = read_image(Path(section.image), machine=platform.machine())
        if section.verify_key:
            verify_signature(section.program, section.image, key_path=section.verify_key)
    except ImageError as error:
        return [failure("image", str(error), remedy="build the image again, or copy it again from where it was built")]
    torch, version = image.labels.get("xautolm.torch"), image.labels.get("org.opencontainers.image.version", "unknown")
    if torch == "cpu" and site.profile.job.n_gpus > 0:
        return [
            failure(
                "image",
                f"`{section.image}` holds torch for the CPU, and jobs ask for {site.profile.job.n_gpus} GPUs",
                remedy="build the image with --torch cuda, or set job.n_gpus = 0",
            )
        ]
    lock = image.lock_sha256[:12] if image.lock_sha256 else "unknown: its experiences will name no lock"
    return [ok("image", f"`{section.image}` is whole, for {image.architecture}, version {version}, lock {lock}")]


def check_binds(site: Site) -> list[Finding]:
    """Check whether everything that is to be bound into the image is there: models, their cache, the profile's own."""
    section = site.profile.container
    if section is None:
        return []
    inputs = site.inputs
    models = () if inputs.search.name == DOCTOR else inputs.space.models  # a profile alone names no models
    try:
        container = make_container(
            section,
            models,
            hf_home=inputs.hf_home,
            n_gpus=gpus_of_job(site.profile),
            find_package=find_package,
        )
    except ImageError as error:
        return [failure("binds", str(error), remedy="see [container] binds and hf_home in the profile")]
    return [ok("binds", f"{len(container.binds)} files and folders are shown to the worker, read-only")]


def check_apptainer(site: Site) -> list[Finding]:
    """Check whether this machine can start an image; on a cluster only nodes must."""
    section = site.profile.container
    if section is None:
        return []
    missing = _missing(section)
    if not missing:
        return [ok("apptainer", f"`{section.program}` is on PATH, and {FUSE_PATH} is open")]
    words, remedy = "; ".join(missing), "ask the administrator for Apptainer, or set [container] program"
    if site.is_slurm:
        return [warning("apptainer", f"here {words}", remedy=f"{remedy}; `doctor --job` asks a node")]
    return [failure("apptainer", words, remedy=remedy)]


def _missing(section: ContainerSection) -> list[str]:
    words = []
    if shutil.which(section.program) is None:
        words.append(f"`{section.program}` is not on PATH")
    if not os.access(FUSE_PATH, os.R_OK | os.W_OK):
        words.append(f"`{FUSE_PATH}` cannot be opened")
    return words
