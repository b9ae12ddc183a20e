"""submitit's local executor, made fit for jobs that outlive the driver."""

import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from submitit.core.core import R
from submitit.local.local import LocalExecutor, LocalJob

from xautolm_hpc.durable import append_to_log

LAUNCH_LOG = "launch.log"
"""File in the submission's folder for the output of controllers; jobs have logs of their own."""

CONTROLLER_LIMIT_S = 10 * 365 * 24 * 3600
"""Seconds after which submitit's controller would end a job: never. The wrapper keeps the limits."""


class DetachedExecutor(LocalExecutor):
    """A local executor whose controller lives in a session of its own, outside the terminal's reach.

    Its environment is given, not inherited; nothing in it is throttled or timed out.

    Args:
        folder: Folder for submitit's files.
        python: Interpreter of controller and task.
        environment: Environment of controller and task.

    Attributes:
        controller: Process of the job submitted last.
    """

    def __init__(self, folder: Path, *, python: str, environment: Mapping[str, str]) -> None:
        super().__init__(folder, python=shlex.quote(python))
        self.controller: subprocess.Popen[bytes] | None = None
        self._throttling = 0.0
        self._argv = [python, "-m", "submitit.local._local", str(self.folder)]
        self._environment = environment

    def _submit_command(self, command: str) -> "LocalJob[R]":
        """Start the controller; what it must know it reads from its environment."""
        environment = {
            **self._environment,
            "SUBMITIT_EXECUTOR": "local",
            "SUBMITIT_LOCAL_COMMAND": command,
            "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
            "SUBMITIT_LOCAL_NODEID": "0",
            "SUBMITIT_LOCAL_NTASKS": "1",
            "SUBMITIT_LOCAL_SIGNAL_DELAY_S": "30",
            "SUBMITIT_LOCAL_TIMEOUT_S": str(CONTROLLER_LIMIT_S),
            "SUBMITIT_LOCAL_WITH_SHELL": "",
            "SUBMITIT_STDERR_TO_STDOUT": "",
        }
        with append_to_log(self.folder / LAUNCH_LOG) as log:
            self.controller = subprocess.Popen(
                self._argv,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return LocalJob(folder=self.folder, job_id=str(self.controller.pid), process=self.controller)


def start_detached(
    call: Callable[[], None], folder: Path, *, python: str, environment: Mapping[str, str]
) -> "subprocess.Popen[bytes] | None":
    """Start a call as a job of its own.

    Args:
        call: What to call; it is pickled.
        folder: Folder for submitit's files.
        python: Interpreter of controller and task.
        environment: Environment of controller and task.

    Returns:
        The controller's process; its session holds the whole job.

    Raises:
        OSError: The interpreter cannot be started, or the folder cannot be written.
    """
    executor = DetachedExecutor(folder, python=python, environment=environment)
    executor.submit(call)
    return executor.controller
