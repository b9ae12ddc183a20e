"""Command line of the worker: ``python -m xautolm_hpc.train trial ATTEMPT_DIR``.

``lead N ATTEMPT_DIR`` starts N ranks of a trial on this node and waits for them.

Signal handlers are installed before anything heavy is imported: a signal during the import of torch, which takes
seconds, would otherwise kill the process. The file ``ready`` in the attempt folder says that they are.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xautolm_hpc.train.process_group import Rank, read_rank
from xautolm_hpc.train.stop import StopFlag, block_stop_signals

if TYPE_CHECKING:
    from xautolm_hpc.train.worker import Job

COMMANDS = {
    "trial ATTEMPT_DIR": "train one pipeline; reads command.json, task.json and pipeline.json, writes outcome.json",
    "lead N ATTEMPT_DIR": "the same with N processes on this node and on every other node of the Slurm step",
    "batch SERIES_DIR": "train the trials of members.json, one after the other, each in a forked process",
    "final STEP_DIR": "evaluate the trained pipelines of members.json on test; writes test.json beside each",
    "export STEP_DIR": "write a trained pipeline as a folder that transformers loads; reads export.json",
    "predict FOLDER": "answer the rows of rows.jsonl with the exported model of predict.json; writes answers.jsonl",
    "embed FOLDER N": "embed the texts of texts.json with N threads; writes vectors.npy",
    "check-model FOLDER": "check that the files of each model of models.json fit together; prints findings as JSON",
    "test ATTEMPT_DIR": "test whether trials can run here; writes check.json",
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
    match arguments:
        case ["trial", path] if Path(path).is_dir():
            return _trial(Path(path).resolve())
        case ["lead", n, path] if n.isdecimal() and int(n) > 0 and Path(path).is_dir():
            return _lead(int(n), Path(path).resolve())
        case ["batch", path] if Path(path).is_dir():
            return _run_series(Path(path).resolve())
        case ["final" | "export" as step, path] if Path(path).is_dir():
            return _run_step(step, Path(path).resolve())
        case ["embed", path, n] if Path(path).is_dir() and n.isdecimal() and int(n) > 0:
            return _run_embed(Path(path).resolve(), n_threads=int(n))
        case ["check-model" | "predict" as step, path] if Path(path).is_dir():
            return (_check_models if step == "check-model" else _run_predict)(Path(path).resolve())
        case ["test", path] if Path(path).is_dir():
            return _run_test(Path(path).resolve())
    sys.stderr.write(_usage(arguments))
    return USAGE_EXIT_STATUS


def _run_step(step: str, folder: Path) -> int:
    """Run the final step or an export with pipelines that a search has trained."""
    stop = StopFlag()
    stop.install()
    _declare_ready(folder)
    _prepare_libraries()
    if step == "export":
        from xautolm_hpc.train.export import run_export

        return run_export(folder, stop)
    from xautolm_hpc.train.assess import run_final

    return run_final(_job(folder, rank=Rank()), stop)


def _run_embed(folder: Path, *, n_threads: int) -> int:
    _prepare_libraries()
    from xautolm_hpc.train.embed import embed_folder

    return embed_folder(folder, n_threads=n_threads)


def _run_predict(folder: Path) -> int:
    _prepare_libraries()
    from xautolm_hpc.train.answer_rows import run_predict

    return run_predict(folder)


def _check_models(folder: Path) -> int:
    _prepare_libraries()
    from xautolm_hpc.train.fit.check_models import check_models

    return check_models(folder)


def _run_series(folder: Path) -> int:
    """Run a series of trials, each in a forked process; a second try runs in a new interpreter."""
    stop = StopFlag()
    stop.install()
    _declare_ready(folder)
    _prepare_environment()
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # to be asked for GPUs opens none, here and in what is forked
    from xautolm_hpc.jobdir import protocol_of_driver
    from xautolm_hpc.train.retry import RETRY_EXIT_STATUS
    from xautolm_hpc.train.series import run_series
    from xautolm_hpc.train.series.card_memory import CardMemory

    def run_one(attempt_dir: Path) -> int:
        _declare_ready(attempt_dir)
        status = _run_trial(attempt_dir, rank=Rank(), stop=stop)
        if status == RETRY_EXIT_STATUS:
            block_stop_signals()  # until the second try has installed its handlers
            argv = [sys.executable, "-m", "xautolm_hpc.train", "trial", str(attempt_dir)]
            os.execv(sys.executable, argv)  # noqa: S606 - this very interpreter
        return status

    cards = CardMemory.of_job(os.environ.get("CUDA_VISIBLE_DEVICES"))
    return run_series(folder, run_one, stop=stop, cards=cards, reader=protocol_of_driver(os.environ))


def _run_test(attempt_dir: Path) -> int:
    """Test whether trials can run on this node."""
    stop = StopFlag()
    stop.install()
    _declare_ready(attempt_dir)
    _prepare_environment()
    from xautolm_hpc.train.selftest import run_test

    promised = os.environ.get("SLURM_GPUS_ON_NODE", "")
    return run_test(
        attempt_dir,
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        n_promised_gpus=int(promised) if promised.isdecimal() else 0,
        driver_dir=os.environ.get("XAUTOLM_NODE_DRIVER"),
    )


def _usage(arguments: Sequence[str]) -> str:
    given = " ".join(arguments) or "nothing"
    listed = "\n".join(f"  {name}   {text}" for name, text in COMMANDS.items())
    return f"python -m xautolm_hpc.train: cannot run `{given}`; expected, with a folder that exists:\n{listed}\n"


def _lead(n_local: int, attempt_dir: Path) -> int:
    """Start the ranks of a trial on this node, and end as they end."""
    from xautolm_hpc.train.leader import Leader, end_like
    from xautolm_hpc.train.process_group import read_process_group

    block_stop_signals()
    group = read_process_group(os.environ, n_local)
    _declare_ready(attempt_dir, node=group.node)
    leader = Leader(group, attempt_dir, restart=_restart())
    own_arguments = sys.orig_argv[1:-3]  # options of the interpreter, and this module
    leader.start([sys.executable, *own_arguments, "trial", str(attempt_dir)], os.environ)
    return end_like(leader.wait())


def _trial(attempt_dir: Path) -> int:
    """Run a trial, or one rank's share of it."""
    stop = StopFlag()
    stop.install()
    rank = read_rank(os.environ)
    if rank.n_ranks == 1:
        _declare_ready(attempt_dir)
    _prepare_environment()
    status = _run_trial(attempt_dir, rank=rank, stop=stop)
    from xautolm_hpc.train.retry import RETRY_EXIT_STATUS

    if status == RETRY_EXIT_STATUS and rank.n_ranks == 1:
        block_stop_signals()  # until the second try has installed its handlers
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command line
    return status


def _restart() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _declare_ready(attempt_dir: Path, *, node: int = 0) -> None:
    """Create the file that says that signals are handled now; the wrapper has removed that of an earlier restart."""
    from xautolm_hpc.jobdir import READY

    (attempt_dir / (f"{READY}-{node}" if node else READY)).touch()


def _prepare_environment() -> None:
    """Set the variables that libraries read at import: no network, deterministic cuBLAS where asked for."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if "OMP_NUM_THREADS" in os.environ:  # the tokeniser's threads, which would otherwise use every core
        os.environ.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")  # kernels are loaded when they are first used


def _prepare_libraries() -> None:
    """Prepare a step that needs torch and transformers at once."""
    _prepare_environment()
    from xautolm_hpc.train.libraries import leave_out_scipy

    leave_out_scipy()


def _run_trial(attempt_dir: Path, *, rank: Rank, stop: StopFlag) -> int:
    """Run a trial; what it needs is imported only now."""
    from xautolm_hpc.train.worker import run_trial

    return run_trial(_job(attempt_dir, rank=rank), stop)


def _job(attempt_dir: Path, *, rank: Rank) -> "Job":
    """Build the job from the environment variables."""
    from xautolm_hpc.jobdir import protocol_of_driver
    from xautolm_hpc.node import node_name
    from xautolm_hpc.redact import secrets_in
    from xautolm_hpc.train.worker import Job

    return Job(
        attempt_dir=attempt_dir,
        restart=_restart(),
        rank=rank,
        visible_gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
        image_digest=os.environ.get("XAUTOLM_IMAGE_DIGEST") or None,
        secrets=secrets_in(os.environ),
        user=os.environ.get("USER") or os.environ.get("LOGNAME") or "",
        host=node_name(),
        home=os.environ.get("HOME", ""),
        driver_protocol=protocol_of_driver(os.environ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
