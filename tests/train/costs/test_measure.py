"""What a step costs, measured on the meta device, against the same step computed on a CPU and against the file."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.real_size.published import published_config
from tests.train.tiny import CONFIGS
from xautolm_hpc.execution import load_step_costs
from xautolm_hpc.train.costs.calibration import count_kernels
from xautolm_hpc.train.costs.gpu_rules import GpuRules
from xautolm_hpc.train.costs.measure import LENGTH_STEP, Way, build, measure_costs, run_step
from xautolm_hpc.train.costs.meter import LENGTH_PRIME, N_TEXTS, StepMeter

LENGTH = LENGTH_STEP * LENGTH_PRIME


def test_live_memory_is_that_of_the_tensors_there_are() -> None:
    with StepMeter(LENGTH) as meter:
        first = torch.zeros(N_TEXTS, LENGTH, 4)
        second = first.view(-1)  # no memory of its own
        third = first + 1
        del first, second
        fourth = torch.zeros(1000)

    assert meter.peak.token_bytes == pytest.approx(2 * 16, rel=0.01)
    assert meter.live.token_bytes == pytest.approx(16, rel=0.01)
    assert meter.live.fixed_bytes == 4096
    assert len(third) == N_TEXTS
    assert len(fourth) == 1000


def test_a_pair_of_tokens_is_told_from_a_token() -> None:
    with StepMeter(LENGTH) as meter:
        scores = torch.zeros(N_TEXTS, LENGTH, LENGTH)

    assert meter.live.pair_bytes == pytest.approx(4, rel=0.01)
    assert meter.live.token_bytes == 0
    assert scores.ndim == 3


def test_a_step_on_the_meta_device_takes_what_it_takes_on_a_cpu() -> None:
    def peak(device: str) -> tuple[float, int]:
        layers = [nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 2)]
        model = nn.Sequential(*layers).to(device)
        inputs = torch.ones(N_TEXTS, LENGTH, 16, device=device)
        with StepMeter(LENGTH, [*model.parameters(), inputs]) as meter:
            loss = cross_entropy(model(inputs).mean(1), torch.zeros(N_TEXTS, dtype=torch.long, device=device))
            loss.backward()  # type: ignore[no-untyped-call]
        return meter.peak.token_bytes, meter.n_kernels

    here, meta = peak("cpu"), peak("meta")

    assert here[0] == pytest.approx(meta[0])
    assert here[1] == pytest.approx(meta[1], abs=4)


def test_products_are_computed_in_half_precision_and_norms_in_single() -> None:
    meta = torch.device("meta")
    linear, norm = nn.Linear(8, 8, device=meta), nn.LayerNorm(8, device=meta)
    with GpuRules(torch.bfloat16):
        product = linear(torch.ones(2, 8, device=meta))
        normed = norm(product)
        states = torch.ones(1, 2, 4, 8, device=meta)
        attended = nn.functional.scaled_dot_product_attention(states, states, states)

    assert product.dtype == torch.bfloat16
    assert normed.dtype == torch.float32
    assert attended.dtype == torch.bfloat16


def test_views_start_no_kernel() -> None:
    numbers = torch.ones(4, 4)

    assert count_kernels(lambda: numbers.t()[:2] + 1) == 1


@pytest.mark.parametrize("name", ["albert", "bert"])
def test_checkpointing_has_a_cost_only_where_it_keeps_less(name: str) -> None:
    config = CONFIGS[name].from_dict({**CONFIGS[name].to_dict(), "max_position_embeddings": 512})

    costs = measure_costs(config, family="encoder", context_length=512, precisions=("half",))

    assert costs is not None
    assert ("full/half/again" in costs.costs) == (name == "bert")
    assert costs.attention == "sdpa"
    assert {"lora-attention/half", "partial-1/half", "head/half", "bitfit/half"} <= set(costs.costs)
    assert costs.costs["head/half"].token_bytes < costs.costs["full/half"].token_bytes


def test_a_model_of_few_positions_is_not_measured() -> None:
    assert measure_costs(CONFIGS["bert"], family="encoder", context_length=38) is None


@pytest.mark.parametrize(
    ("model_id", "family", "way"),
    [
        ("distilbert-base-uncased", "encoder", Way(name="full", method="full")),
        ("albert-base-v2", "encoder", Way(name="lora-attention", method="lora")),
        ("HuggingFaceTB/SmolLM2-360M", "decoder", Way(name="partial-1", method="partial")),
    ],
)
def test_the_file_of_the_catalogue_holds_what_is_measured(model_id: str, family: str, way: Way) -> None:
    model, _ = build(published_config(model_id), way, family=family)

    measured, written = run_step(model, way), load_step_costs()[model_id].costs[way.key]

    assert written.n_trained == measured.n_trained
    assert written.token_bytes == pytest.approx(measured.token_bytes, rel=0.02)
    assert written.n_kernels == pytest.approx(measured.n_kernels, rel=0.05)
