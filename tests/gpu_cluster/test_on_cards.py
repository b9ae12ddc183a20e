"""What only a real card shows on Slurm: only the granted one is seen, out of memory is tried again, energy adds up."""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from slurm.dev.private import DevCluster
from tests.gpu.trace import Trace
from tests.gpu_cluster.searching import UNTIL_ALL_RUN, CardSearch, let_all_end
from xautolm_hpc.node import list_gpus, open_nvml
from xautolm_hpc.train.retry import RETRY

if not list_gpus(None)[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = [pytest.mark.gpu_cluster, pytest.mark.gpu, pytest.mark.timeout(600)]

TOLERANCE = 0.05
"""Share by which the sum of short trials may differ: the edges of their windows are known from their own clocks."""

SEES = "import torch; print(torch.cuda.device_count(), 'GPU-' + str(torch.cuda.get_device_properties(0).uuid))"

SMALL_CARD = f"""
if "trial" in sys.argv and not os.path.exists(os.path.join(sys.argv[-1], {RETRY!r})):
    import torch
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(150 * 2**20 / total)  # the model's moments do not fit
    from xautolm_hpc.train.__main__ import main
    sys.exit(main(["trial", sys.argv[-1]]))
"""
"""A worker's prelude: the first try has a card of 150 MiB."""


def test_a_job_sees_the_granted_card_alone(cluster: DevCluster, cards: Mapping[str, str]) -> None:
    submit = ["sbatch", "--parsable", "--gres=gpu:1", "--mem=4G", "--output=saw-%j"]
    program = cluster.dir / "sees.py"
    program.write_text(SEES)

    wrap = f"--wrap={sys.executable} {program}; {UNTIL_ALL_RUN}"
    job_ids = [cluster.run(*submit, wrap) for _ in cards]
    let_all_end(cluster, job_ids)
    for job_id in job_ids:
        cluster.wait_for_job(job_id, "COMPLETED", timeout_s=120)

    saw = [(cluster.dir / f"saw-{job_id}").read_text().split() for job_id in job_ids]
    assert sorted(saw) == sorted(["1", name] for name in cards.values())


def test_a_job_over_its_memory_does_not_go_on(cluster: DevCluster) -> None:
    assert cluster.limits_memory, cluster.state().memory
    takes_400_mib = f"--wrap={sys.executable} -IS -c 'bytearray(400 << 20)'"

    over = cluster.run("sbatch", "--parsable", "--mem=100", takes_400_mib)
    within = cluster.run("sbatch", "--parsable", "--mem=600", takes_400_mib)

    assert cluster.wait_for_job(over, "OUT_OF_MEMORY", "COMPLETED", "FAILED") in ("OUT_OF_MEMORY", "FAILED")
    assert cluster.wait_for_job(within, "OUT_OF_MEMORY", "COMPLETED", "FAILED") == "COMPLETED"


def test_a_trial_out_of_gpu_memory_is_tried_again(cluster: DevCluster, tmp_path: Path) -> None:
    search = CardSearch(tmp_path, population=1, prelude=SMALL_CARD)

    history = search.run(cluster.environ)

    (trial,) = history.trials.values()
    (attempt,) = trial.attempts
    assert attempt.end is not None
    assert attempt.end.outcome.succeeded, attempt.end.outcome.message
    retry = json.loads((search.attempt_dir / RETRY).read_text())
    assert "CUDA out of memory" in retry["message"]
    assert retry["execution"]["micro_batch"] == 4  # half of the batch


@pytest.mark.parametrize("trials_per_job", [1, 4], ids=["a job for each trial", "warm workers"])
def test_the_energy_of_trials_adds_up_to_that_of_their_cards(
    cluster: DevCluster, tmp_path: Path, trials_per_job: int
) -> None:
    gpus = list_gpus(None)[0]
    search = CardSearch(tmp_path, population=4 * len(gpus), trials_per_job=trials_per_job, epochs=60)

    with ExitStack() as stack:
        nvml = stack.enter_context(open_nvml())
        assert nvml is not None
        traces = {gpu.uuid: stack.enter_context(Trace(nvml, gpu.uuid)) for gpu in gpus}
        history = search.run(cluster.environ)
        offset_s = time.time() - time.monotonic()

    card_of = {each.claim.job_id: each.devices for each in search.started()}
    counted_j = traced_j = 0.0
    for trial in history.trials.values():
        end = trial.last.end
        assert end is not None
        assert end.outcome.gpu_energy_j is not None, end.outcome.message
        assert end.outcome.evaluation_time_s is not None
        claim_path = trial.last.path / "claim-0.json"
        trace = traces[card_of[json.loads(claim_path.read_text())["job_id"]]]
        ended = end.ended_at - offset_s
        counted_j += end.outcome.gpu_energy_j
        traced_j += trace.between(ended - end.outcome.evaluation_time_s, ended)[0]
    assert counted_j == pytest.approx(traced_j, rel=TOLERANCE)
