"""Command line of the worker: ``python -m xautolm_hpc.train trial ATTEMPT_DIR``.

Signal handlers stand before anything heavy is imported: a signal in the seconds that torch takes to import would
otherwise kill the process. The file ``ready`` in the attempt folder says that they do.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from xautolm_hpc.train.stop import StopFlag

COMMANDS = {
    "trial": "train one pipeline; reads command.json, task.json and pipeline.json, writes outcome.json",
    "test": "test whether trials can run here; writes check.json",
}
USAGE_EXIT_STATUS = 2


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: Command and attempt folder.

    Returns:
        Exit status: 0 once an outcome is written, also that of a failed pipeline; 85 after a checkpoint; 2 for a
        wrong command line; 1, with a traceback, if not even the outcome could be written.
    """
    if len(arguments) != 2 or arguments[0] not in COMMANDS or not Path(arguments[1]).is_dir():
        sys.stderr.write(_usage(arguments))
        return USAGE_EXIT_STATUS
    stop = StopFlag()
    stop.install()
    attempt_dir = Path(arguments[1]).resolve()
    restart = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
    _declare_ready(attempt_dir)
    _prepare_environment()
    if arguments[0] == "test":
        return _run_test(attempt_dir)
    return _run_trial(attempt_dir, restart=restart, stop=stop)


def _run_test(attempt_dir: Path) -> int:
    from xautolm_hpc.train.selftest import run_test

    promised = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return run_test(
        attempt_dir,
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        n_promised_gpus=int(promised) if promised.isdecimal() else 0,
    )


def _usage(arguments: Sequence[str]) -> str:
    given = " ".join(arguments) or "nothing"
    listed = "\n".join(f"  {name} ATTEMPT_DIR   {text}" for name, text in COMMANDS.items())
    return (
        f"python -m xautolm_hpc.train: cannot run `{given}`; expected one command and an existing folder:\n{listed}\n"
    )


def _declare_ready(attempt_dir: Path) -> None:
    """Say that signals are safe now; who started us removed the file of an earlier restart."""
    from xautolm_hpc.jobdir import READY

    (attempt_dir / READY).touch()


def _prepare_environment() -> None:
    """Set what the libraries read when they are imported: no network, deterministic cuBLAS where asked for."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if "OMP_NUM_THREADS" in os.environ:  # the tokeniser's threads, which otherwise take every core
        os.environ.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _run_trial(attempt_dir: Path, *, restart: int, stop: StopFlag) -> int:
    """Import what a trial needs, only now, and run it with what the environment says."""
    from xautolm_hpc.node import node_name
    from xautolm_hpc.redact import secrets_in
    from xautolm_hpc.train.worker import Job, run_trial

    job = Job(
        attempt_dir=attempt_dir,
        restart=restart,
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        image_digest=os.environ.get("XAUTOLM_IMAGE_DIGEST") or None,
        secrets=secrets_in(os.environ),
        user=os.environ.get("USER") or os.environ.get("LOGNAME") or "",
        host=node_name(),
        home=os.environ.get("HOME", ""),
    )
    return run_trial(job, stop)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
