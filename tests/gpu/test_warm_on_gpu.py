"""Several trials in one worker on a real GPU: each finds the card as the first one did."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.gpu.workers import DEADLINE_S, start
from tests.nouns import claim
from tests.train.attempts import command, read_end, write_attempt
from xautolm_hpc.catalogue import Model
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import PIPELINE, Exit, claim_path, exit_path, write_members
from xautolm_hpc.node import list_gpus
from xautolm_hpc.records import from_json, to_json

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

PARAMS = {"epochs": 20, "early_stopping_patience": 20, "learning_rate": 1e-4}


def open_files(pid: int) -> set[str]:
    """List what a process has open."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            found.add(str(fd.readlink()))
    return found


@pytest.mark.parametrize("step", ["eager", "graph"])
def test_trials_of_one_worker_use_the_gpu_one_after_the_other_and_leave_nothing_on_it(
    tmp_path: Path, bert: Model, step: str
) -> None:
    limits = command(deterministic=False)
    dirs = [write_attempt(tmp_path / str(n), "full", params=PARAMS, model=bert, limits=limits) for n in range(3)]
    for path in dirs:
        write_json(path / PIPELINE, {**read_json(path / PIPELINE), "step": step})
    write_members(tmp_path / "job", dirs)
    write_json(claim_path(tmp_path / "job", 0), to_json(claim(job_id="j", claimed_at=0.0)))
    before = list_gpus("0")[0][0].used_bytes

    worker = start(tmp_path / "job", "batch")
    held: list[set[str]] = []
    while worker.poll() is None:
        if exit_path(dirs[1], 0).exists() and not exit_path(dirs[2], 0).exists():
            with suppress(OSError):  # the worker has ended
                held.append(open_files(worker.pid))
    status = worker.wait(timeout=DEADLINE_S)

    assert status == 0, (tmp_path / "job" / "log").read_text()
    ends = [read_end(path) for path in dirs]
    assert [end.outcome.status for end in ends] == ["succeeded"] * 3, [end.outcome.message for end in ends]
    assert {end.outcome.step for end in ends} == {step}
    peaks = [end.outcome.peak_gpu_memory_bytes for end in ends]
    assert peaks == pytest.approx([peaks[0]] * 3, rel=0.02)
    assert all(end.outcome.gpu_energy_j for end in ends)
    # NVML's files are open while it is asked alone; those of a context would be there all the time.
    assert len(held) > 1
    assert not {path for path in set.intersection(*held) if path.startswith("/dev/nvidia")}
    exits = [from_json(Exit, read_json(exit_path(path, 0)), where=str(path)) for path in dirs]
    assert all(later.started_at >= earlier.ended_at for earlier, later in pairwise(exits))
    assert list_gpus("0")[0][0].used_bytes <= before + 64 * 2**20
