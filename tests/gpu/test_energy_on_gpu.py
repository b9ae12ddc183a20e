"""A trial's energy against what another process reads of the same card in the same time."""

from pathlib import Path

import pytest

from tests.gpu.trace import Trace
from tests.gpu.workers import DEADLINE_S, phase_seen, run_joined, start, write_large_data
from tests.train.attempts import command, read_end, write_attempt
from xautolm_hpc.catalogue import Model
from xautolm_hpc.node import list_gpus, open_nvml
from xautolm_hpc.records import Outcome

if not list_gpus("0")[0]:
    pytest.skip("no NVIDIA GPU", allow_module_level=True)

pytestmark = pytest.mark.gpu

TOLERANCE = 0.02
"""Share by which the trial's own reading may differ; the edges of its window are known to a few milliseconds."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bert: Model) -> tuple[Outcome, tuple[float, float]]:
    """Train for half a minute or more under a trace; return the outcome and the energy of the trace."""
    params = {"epochs": 40, "early_stopping_patience": 40, "batch_size": 64, "max_length": 512, "learning_rate": 1e-5}
    folder, limits = tmp_path_factory.mktemp("energy"), command(deterministic=False)
    attempt_dir = write_attempt(folder, "full", params=params, model=bert, limits=limits)
    write_large_data(attempt_dir, 1024)
    with open_nvml() as nvml:
        assert nvml is not None
        with Trace(nvml, list_gpus("0")[0][0].uuid) as trace:
            worker = start(attempt_dir, "trial")
            began = phase_seen(attempt_dir, "train")
            ended = phase_seen(attempt_dir, "done")
        assert worker.wait(timeout=DEADLINE_S) == 0, (attempt_dir / "log").read_text()
    return read_end(attempt_dir).outcome, trace.between(began, ended)


@pytest.mark.parametrize(("name", "place"), [("power", 0), ("counter", 1)])
def test_the_energy_of_a_trial_is_that_of_an_independent_trace(
    trained: tuple[Outcome, tuple[float, float]], name: str, place: int
) -> None:
    outcome, traced_j = trained

    assert outcome.succeeded, outcome.message
    assert outcome.evaluation_time_s is not None
    assert outcome.evaluation_time_s > 15
    assert outcome.gpu_energy_j is not None
    comparison = f"{outcome.gpu_energy_j:.1f} J in {outcome.evaluation_time_s:.1f} s, by {name} {traced_j[place]:.1f} J"
    print(comparison)  # noqa: T201 - pytest shows it
    assert outcome.gpu_energy_j == pytest.approx(traced_j[place], rel=TOLERANCE), comparison


def test_the_energy_of_a_card_that_another_joins_is_unknown(tmp_path: Path, bert: Model) -> None:
    params = {"epochs": 8, "early_stopping_patience": 8, "batch_size": 64, "max_length": 512, "learning_rate": 1e-5}
    attempt_dir = write_attempt(tmp_path, "full", params=params, model=bert)
    write_large_data(attempt_dir, 1024)

    outcome = run_joined(attempt_dir, phase="train", share=0.01).outcome

    assert outcome.succeeded, outcome.message
    assert (outcome.energy_scope, outcome.gpu_energy_j) == ("unattributed", None)
