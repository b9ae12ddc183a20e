"""Plans what to download: asks the hub for the commit, the files, their sizes and their checksums."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from xautolm_hpc.catalogue import Model, access_text
from xautolm_hpc.dataset import DataSection, Files, pick_files
from xautolm_hpc.errors import FetchError, InputError

SAFE_WEIGHTS = re.compile(r"^model(-\d+-of-\d+)?\.safetensors$")
PICKLED_WEIGHTS = re.compile(r"^pytorch_model(-\d+-of-\d+)?\.bin$")
BESIDE_WEIGHTS = re.compile(r"^[\w.-]+\.(json|txt|model|jinja)$")
"""Configuration and tokeniser; a worker reads only files at the top of a repository."""

CODE = re.compile(r"^[\w-]+\.py$")
TIMEOUT_S = 30.0
TRANSPORT_ERROR: type[BaseException] = HfHubHTTPError.__bases__[0]
"""What the hub's client raises without a connection: the base class of the errors of its HTTP library."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePlan:
    """One file of a repository.

    Attributes:
        name: Its name.
        n_bytes: Its size.
        sha256: Its digest, for files kept in large-file storage; else ``None``.
        git_sha1: Its object id in git, for the others; else ``None``.
    """

    name: str
    n_bytes: int
    sha256: str | None
    git_sha1: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryPlan:
    """The files of one repository to download.

    Attributes:
        kind: ``model`` or ``dataset``.
        id: Name of the model in search files; of a data set its repository.
        repo: Hub repository.
        wanted: Revision named in the catalogue or the search file, or ``None`` for the newest.
        commit: The commit of that revision.
        files: Its files, by name.
    """

    kind: str
    id: str
    repo: str
    wanted: str | None
    commit: str
    files: tuple[FilePlan, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all files."""
        return sum(file.n_bytes for file in self.files)


def plan_models(models: Iterable[Model], *, endpoint: str | None, token: str | None) -> list[RepositoryPlan]:
    """Plan the download of the models of a search space.

    Whether gated repositories may be read is asked before anything is downloaded.

    Args:
        models: Models of a space; those of a package or a folder are skipped.
        endpoint: Address of the hub; ``None`` for the usual one.
        token: Access token, or ``None``.

    Raises:
        FetchError: The hub does not answer, or refuses.
        InputError: A model does not exist there, may not be read, or has no safetensors and may not use another format;
            there is a line for each of them.
    """
    api = HfApi(endpoint=endpoint, token=token or False)
    plans, problems = [], []
    for model in models:
        if model.hub_repo is None:
            continue
        try:
            plans.append(_plan(api, model, repo=model.hub_repo))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return plans


def plan_data(data: DataSection, *, endpoint: str | None, token: str | None) -> tuple[RepositoryPlan, Files] | None:
    """Plan the download of a data set; ``None`` if the data is not a data set of the hub.

    Args:
        data: ``[data]`` of a search.
        endpoint: Address of the hub; ``None`` for the usual one.
        token: Access token, or ``None``.

    Returns:
        The plan, and the files of each split.

    Raises:
        FetchError: The hub does not answer, or refuses.
        InputError: It does not exist there, or its files cannot be assigned to splits.
    """
    if data.hub is None:
        return None
    with explained(data.hub, data.revision):
        api = HfApi(endpoint=endpoint, token=token or False)
        info = api.dataset_info(data.hub, revision=data.revision, files_metadata=True, timeout=TIMEOUT_S)
    files = {file.name: file for file in map(_file, info.siblings or ())}
    picked = pick_files(files, data.files, where=f"{data.hub} at revision {data.revision}")
    chosen = tuple(files[name] for name in sorted({name for names in picked.values() for name in names}))
    _refuse_unchecked(chosen, repo=data.hub)
    plan = RepositoryPlan(
        kind="dataset", id=data.hub, repo=data.hub, wanted=data.revision, commit=str(info.sha), files=chosen
    )
    return plan, picked


@contextmanager
def explained(repo: str, revision: str | None) -> Iterator[None]:
    """Convert exceptions of the hub's client to errors that say what to do.

    Args:
        repo: Repository that is requested.
        revision: Revision of it, or ``None``.

    Raises:
        FetchError: The hub does not answer.
        InputError: The hub does not have it, or refuses access.
    """
    where = f"{repo} at revision {revision}" if revision else repo
    try:
        yield
    except GatedRepoError as error:
        raise InputError(f"{where}: {access_text(repo)}") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{where}: the hub has no such revision; see `revision` in the search file") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(f"{where}: the hub has no such repository, or it is private: then set HF_TOKEN") from error
    except OfflineModeIsEnabled as error:
        raise InputError("HF_HUB_OFFLINE is set, and prefetch needs the network: unset HF_HUB_OFFLINE") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, TRANSPORT_ERROR) as error:
        words = " ".join(str(error).split())[:200]
        raise FetchError(
            f"{where}: the hub does not answer as it should: {words}. Give the same command again"
        ) from error


def _plan(api: HfApi, model: Model, *, repo: str) -> RepositoryPlan:
    with explained(repo, model.revision):
        info = api.model_info(repo, revision=model.revision, files_metadata=True, timeout=TIMEOUT_S)
        if info.gated:  # everybody may read what there is; this asks whether the files may be read, too
            api.auth_check(repo)
    files = tuple(sorted((_file(sibling) for sibling in info.siblings or ()), key=lambda file: file.name))
    chosen = _choose(files, model)
    return RepositoryPlan(
        kind="model", id=model.id, repo=repo, wanted=model.revision, commit=str(info.sha), files=chosen
    )


def _file(sibling: Any) -> FilePlan:
    lfs = sibling.lfs
    return FilePlan(
        name=sibling.rfilename,
        n_bytes=lfs.size if lfs else sibling.size or 0,
        sha256=lfs.sha256 if lfs else None,
        git_sha1=None if lfs else sibling.blob_id,
    )


def _choose(files: tuple[FilePlan, ...], model: Model) -> tuple[FilePlan, ...]:
    """Choose configuration, tokeniser and weights; the weights are safetensors unless the model allows pickles."""
    weights = [file for file in files if SAFE_WEIGHTS.match(file.name)]
    if not weights and model.allow_pickle:
        weights = [file for file in files if PICKLED_WEIGHTS.match(file.name)]
    if not weights:
        raise InputError(
            f"model {model.id!r}: `{model.hub_repo}` has no weights as safetensors at its top. Take another model, or "
            "a revision that has them; allow_pickle = true in its [[model]] table runs code that others wrote"
        )
    beside = [
        file for file in files if BESIDE_WEIGHTS.match(file.name) or (model.trust_remote_code and CODE.match(file.name))
    ]
    _refuse_unchecked((*beside, *weights), repo=model.hub_repo or "")
    return (*beside, *weights)


def _refuse_unchecked(files: Iterable[FilePlan], *, repo: str) -> None:
    """Check that the hub has a checksum for every file."""
    unknown = [file.name for file in files if not (file.sha256 or file.git_sha1)]
    if unknown:
        raise FetchError(f"{repo}: the hub gives no checksum for {', '.join(unknown)}")
