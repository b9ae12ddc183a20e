"""What energy and GPU time cost."""

import pytest

from xautolm_hpc.report.frame import spent_text
from xautolm_hpc.view import Spent, charges, charges_text

RATES = {"co2_g_per_kwh": 250.0, "price_per_gpu_h": 2.0, "currency": "EUR"}
SPENT = Spent(gpu_s=5400.0, energy_j=7.2e6, wall_s=60.0, trial_s=5400.0)


def test_emissions_follow_from_energy_and_price_from_gpu_hours() -> None:
    found = charges(RATES, SPENT)

    assert (found["co2_kg"], found["price"]) == (pytest.approx(0.5), pytest.approx(3.0))
    assert charges_text(found) == ["0.5 kg CO2", "3.00 EUR"]
    assert spent_text(SPENT, found).endswith("1.50 GPU-hours, 2 kWh, 0.5 kg CO2, 3.00 EUR")


def test_what_is_unknown_costs_nothing_known() -> None:
    no_rates = {"co2_g_per_kwh": None, "price_per_gpu_h": None, "currency": "EUR"}

    assert charges_text(charges(no_rates, SPENT)) == []
    assert charges_text(charges(RATES, Spent(gpu_s=3600.0))) == ["2.00 EUR"]
    assert spent_text(SPENT) == spent_text(SPENT, charges(no_rates, SPENT))
