"""Every kind of failure that a worker can see is distinguished from the others."""

import errno
from collections.abc import Callable

import numpy as np
import pytest
import torch

from xautolm_hpc.errors import InputError
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train.exceptions import TrialError, classify, describe

NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def _os_error(number: int) -> OSError:
    return OSError(number, "it failed")


CASES = [
    ("gpu_oom", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ("gpu_oom", RuntimeError("CUDA error: out of memory")),
    ("gpu_oom", RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    ("host_oom", MemoryError()),
    ("host_oom", _os_error(errno.ENOMEM)),
    ("diverged", TrialError(FailureKind("diverged"), "the training loss is nan in step 3")),
    ("unsupported", TrialError(FailureKind("unsupported"), "no such method")),
    ("storage", NO_SPACE),
    ("storage", _os_error(errno.EDQUOT)),
    ("storage", _os_error(errno.EIO)),
    ("storage", _os_error(errno.ESTALE)),
    ("storage", RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")),
    ("gpu_fault", RuntimeError("CUDA error: uncorrectable ECC error encountered")),
    ("gpu_fault", RuntimeError("NCCL error: unhandled system error, NCCL version 2.27")),
    ("gpu_fault", RuntimeError("NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.")),
    ("gpu_fault", RuntimeError("GPU device lost")),
    ("gpu_busy", RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable")),
    ("environment", ModuleNotFoundError("No module named 'peft'")),
    ("environment", InputError("task.json: unknown key 'x' in Task")),
    ("environment", RuntimeError("CUDA driver initialization failed, you might not have a CUDA gpu.")),
    ("environment", RuntimeError("CUDA error: CUDA driver version is insufficient for CUDA runtime version")),
    ("environment", RuntimeError("No CUDA GPUs are available: no CUDA-capable device is detected")),
    ("environment", RuntimeError("CUDA error: no kernel image is available for execution on the device")),
    ("data_unavailable", TrialError(FailureKind("data_unavailable"), "train.jsonl.gz is missing")),
    ("error", ValueError("something new")),
    ("error", RuntimeError("CUDA error: device-side assert triggered")),
    ("error", _os_error(errno.EACCES)),
]


@pytest.mark.parametrize(("kind", "error"), CASES, ids=[f"{kind}-{error!r:.50}" for kind, error in CASES])
def test_the_kind_follows_from_class_and_text(kind: str, error: Exception) -> None:
    assert classify(error, gpu_was_busy=False) == kind


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(2**50, dtype=torch.uint8), lambda: np.empty(2**60, dtype=np.uint8)]
)
def test_running_out_of_host_memory_is_known_from_the_errors_of_torch_and_numpy(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError), match="allocate") as caught:
        allocate()

    assert classify(caught.value, gpu_was_busy=False) == "host_oom"


def test_an_error_that_a_full_disk_caused_is_the_disk_s() -> None:
    try:
        raise RuntimeError("could not save") from NO_SPACE
    except RuntimeError as error:
        wrapped = error

    assert classify(wrapped, gpu_was_busy=False) == "storage"


def test_running_out_of_a_gpu_that_others_use_is_no_evidence() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory.")

    assert classify(error, gpu_was_busy=True) == "gpu_busy"


def test_a_busy_gpu_excuses_nothing_but_its_memory() -> None:
    assert classify(TrialError(FailureKind("diverged"), "nan"), gpu_was_busy=True) == "diverged"


def test_the_last_line_holds_class_and_message_however_many_lines_it_had() -> None:
    try:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA\n")
    except RuntimeError as error:
        lines = describe(error).splitlines()

    assert lines[-1] == "RuntimeError: CUDA error: device-side assert triggered Compile with TORCH_USE_CUDA_DSA"
    assert "test_exceptions.py" in lines[0]


def test_a_deep_traceback_keeps_its_end() -> None:
    def fall(depth: int) -> None:
        if depth == 0:
            raise ValueError("deep down")
        tumble(depth - 1)

    def tumble(depth: int) -> None:
        fall(depth)

    with pytest.raises(ValueError, match="deep down") as caught:
        fall(50)
    lines = describe(caught.value).splitlines()

    assert len(lines) == 13
    assert 'raise ValueError("deep down")' in lines[-2]


def test_a_foreseen_end_needs_no_traceback() -> None:
    assert describe(TrialError(FailureKind("time_limit"), "the budget was used up")) == "the budget was used up"
