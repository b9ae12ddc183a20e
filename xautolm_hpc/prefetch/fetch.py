"""Downloads the files of a plan to the offline cache and checks every one against its checksum.

The cache has the hub's own layout (``HF_HOME/hub``), so workers read it directly. A model's ``refs/main``, and the list
of a data set's files, are written last: a search does not find them before every file is verified.
"""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from huggingface_hub import hf_hub_download

from xautolm_hpc.durable import write_bytes
from xautolm_hpc.errors import FetchError
from xautolm_hpc.prefetch.resolve import FilePlan, RepositoryPlan, explained

CHUNK_BYTES = 2**20
N_TRIES = 2
"""Number of times that a damaged file is downloaded."""


def fetch_repository(
    plan: RepositoryPlan, hf_home: Path, *, endpoint: str | None, token: str | None, on_verified: Callable[[int], None]
) -> Path:
    """Download one model or data set; files of an earlier call are verified, partial files are resumed.

    Args:
        plan: What to download.
        hf_home: The offline cache.
        endpoint: Address of the hub; ``None`` for the usual one.
        token: Access token, or ``None``.
        on_verified: Called with the size of every file that is verified, in bytes.

    Returns:
        Folder of its files in the cache.

    Raises:
        FetchError: The disk is too small, the hub does not answer, or a file is damaged even after another try.
        InputError: The hub refuses access.
    """
    hub_dir = hf_home / "hub"
    repo_dir = hub_dir / f"{plan.kind}s--{plan.repo.replace('/', '--')}"
    snapshot_dir = repo_dir / "snapshots" / plan.commit
    _check_disk_space(plan, hf_home, snapshot_dir=snapshot_dir)
    for file in plan.files:
        for _ in range(N_TRIES):
            if not (snapshot_dir / file.name).exists():
                with explained(plan.repo, plan.commit):
                    hf_hub_download(
                        plan.repo,
                        file.name,
                        repo_type=plan.kind,
                        revision=plan.commit,
                        cache_dir=hub_dir,
                        endpoint=endpoint,
                        token=token or False,
                    )
            if is_whole(snapshot_dir / file.name, file):
                break
            _discard(snapshot_dir / file.name)
        else:
            raise FetchError(f"{plan.repo}: {file.name} does not have the checksum that the hub says, fetched twice")
        on_verified(file.n_bytes)
    if plan.wanted is None:
        (repo_dir / "refs").mkdir(exist_ok=True)
        write_bytes(repo_dir / "refs" / "main", plan.commit.encode())
    return snapshot_dir


def is_whole(path: Path, file: FilePlan) -> bool:
    """Check by size and checksum whether a file on disk is the hub's."""
    if path.stat().st_size != file.n_bytes:
        return False
    if file.sha256 is not None:
        with path.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    content = path.read_bytes()
    git_object = b"blob %d\0" % len(content) + content
    return hashlib.sha1(git_object, usedforsecurity=False).hexdigest() == file.git_sha1


def _discard(path: Path) -> None:
    """Remove a damaged file and the file that it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _check_disk_space(plan: RepositoryPlan, hf_home: Path, *, snapshot_dir: Path) -> None:
    hf_home.mkdir(parents=True, exist_ok=True)
    wanted = sum(file.n_bytes for file in plan.files if not (snapshot_dir / file.name).exists())
    free = shutil.disk_usage(hf_home).free
    if wanted > free:
        raise FetchError(
            f"`{hf_home}` has {free / 1e9:.2f} GB free, {plan.repo} needs {wanted / 1e9:.2f} GB. Free space, or name "
            "another folder as hf_home in the cluster profile"
        )
