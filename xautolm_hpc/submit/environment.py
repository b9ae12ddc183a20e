"""Which variables of the user's environment reach a job: a short list, so that no secret rides along.

A worker gets exactly what :func:`worker_environment` builds; the wrapper around it gets
:func:`wrapper_environment` and adds what only the node knows (:func:`node_environment`).
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from xautolm_hpc.errors import ConfigError
from xautolm_hpc.redact import SECRET_NAMES, is_secret

BASICS = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ")
"""Taken over where they are set: programs, home, name, language, scratch folder and time zone."""

WRAPPER_ONLY = ("CUDA_VISIBLE_DEVICES", "SLURM_CONF", "LD_LIBRARY_PATH")
"""Also for the wrapper: the GPUs lent to the driver, where Slurm is, and what its interpreter links against."""


def worker_environment(
    *,
    n_threads: int,
    hf_home: str | None = None,
    allow: Iterable[str] = (),
    settings: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Build the whole environment of a worker, to be written into ``command.json``.

    Besides :data:`BASICS` it turns the hub off (compute nodes have no route, and a trial must not depend on
    one), keeps thread pools to the cores asked for and passive while they wait, and shuts out the user's site
    packages and hash randomisation.

    Args:
        n_threads: Threads of each worker process, at least 1.
        hf_home: Offline cache of hub models, or ``None`` for the default place below HOME.
        allow: Names of further variables to take over where they are set.
        settings: Variables to set; they win over everything else.
        environ: Environment to take from; this process's by default.

    Raises:
        ConfigError: ``allow`` or ``settings`` name a variable that looks like a secret.
    """
    settings = settings or {}
    allow = tuple(allow)
    for name in (*allow, *settings):
        if is_secret(name):
            raise ConfigError(
                f"[environment] names {name!r}, which looks like a secret ({', '.join(SECRET_NAMES)}); what "
                "jobs get is written to the run folder. Leave it out: only prefetch needs a token"
            )
    environ = os.environ if environ is None else environ
    ours = {
        "LC_ALL": "C.UTF-8",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "OMP_NUM_THREADS": str(n_threads),
        "MKL_NUM_THREADS": str(n_threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONNOUSERSITE": "1",
        "PYTHONHASHSEED": "0",
    }
    home = {"HF_HOME": hf_home} if hf_home else {}
    return {**_taken(environ, (*BASICS, *allow)), **ours, **home, **settings}


def wrapper_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build the environment of the processes around a worker: controller, batch script and wrapper.

    PYTHONPATH names the folder this package was imported from, so that the node imports the same one.

    Args:
        environ: Environment to take from; this process's by default.
    """
    environ = os.environ if environ is None else environ
    package_parent = str(Path(__file__).resolve().parents[2])
    return {
        **_taken(environ, (*BASICS, *WRAPPER_ONLY)),
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": package_parent,
        "PYTHONNOUSERSITE": "1",
    }


def node_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Pick what only the node knows: the job's SLURM_* variables and the GPUs it may use.

    Args:
        environ: Environment to take from; this process's by default.
    """
    environ = os.environ if environ is None else environ
    names = [name for name in environ if name.startswith("SLURM_") or name == "CUDA_VISIBLE_DEVICES"]
    return _taken(environ, [name for name in names if not is_secret(name)])


def _taken(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: environ[name] for name in names if name in environ}
