"""What energy and GPU time cost."""

from typing import Any

import pytest

from tests.report.facts import CPU_NODE, facts, failure, success
from xautolm_hpc.report import summarise, to_html
from xautolm_hpc.report.frame import spent_text
from xautolm_hpc.report.sections import NO_COUNTER, report_sections
from xautolm_hpc.view import Spent, charges, charges_text

NO_RATES = {"co2_g_per_kwh": None, "price_per_gpu_h": None, "currency": "EUR"}
RATES = {"co2_g_per_kwh": 250.0, "price_per_gpu_h": 2.0, "currency": "EUR"}
SPENT = Spent(gpu_s=5400.0, energy_j=7.2e6, wall_s=60.0, trial_s=5400.0)


def test_a_run_without_gpus_shows_no_gpu_time_and_says_why_energy_is_unknown() -> None:
    trials = [success(0, system=CPU_NODE)]
    summary = summarise(facts(trials, spent=Spent(n_generations=1, n_trials=1, trial_s=130.0)))

    (cost,) = (each for each in report_sections(summary) if each.title == "Cost")

    shown = dict(cost.facts)
    assert "GPU time" not in shown
    assert shown["Time of trials"].startswith("2 min 10 s")
    assert shown["Energy"] == "not measured on this machine" + NO_COUNTER
    assert cost.lines == ()
    assert "GPU-hours" not in to_html(summary)


def test_a_run_whose_gpu_time_is_unknown_is_not_said_to_have_had_no_gpu() -> None:
    summary = summarise(facts([failure(0, "host_oom"), success(1, system=CPU_NODE)], spent=Spent(trial_s=600.0)))

    (cost,) = (each for each in report_sections(summary) if each.title == "Cost")

    assert dict(cost.facts)["Energy"] == "not measured on this machine"


def test_a_report_of_a_version_that_noted_no_gpus_tells_them_by_their_time() -> None:
    summary = summarise(facts([success(0)], spent=Spent(trial_s=600.0)))
    del summary["spent"]["without_gpu"]

    (cost,) = (each for each in report_sections(summary) if each.title == "Cost")

    assert dict(cost.facts)["Energy"] == "not measured on this machine" + NO_COUNTER


@pytest.mark.parametrize(("rates", "is_named"), [({}, True), (RATES, False)])
def test_where_no_rate_is_given_the_section_that_gives_them_is_named(rates: dict[str, Any], is_named: bool) -> None:
    charged = charges({**NO_RATES, **rates}, SPENT)

    summary = summarise(facts([success(0)], spent=SPENT, charges=charged))
    (cost,) = (each for each in report_sections(summary) if each.title == "Cost")

    assert cost.lines == (("[cost] in the cluster profile would add money and CO2.",) if is_named else ())


def test_emissions_follow_from_energy_and_price_from_gpu_hours() -> None:
    found = charges(RATES, SPENT)

    assert (found["co2_kg"], found["price"]) == (pytest.approx(0.5), pytest.approx(3.0))
    assert charges_text(found) == ["0.5 kg CO2", "3.00 EUR"]
    assert spent_text(SPENT, found).endswith("1.50 GPU-hours, 2 kWh, 0.5 kg CO2, 3.00 EUR")


def test_what_is_unknown_costs_nothing_known() -> None:
    assert charges_text(charges(NO_RATES, SPENT)) == []
    assert charges_text(charges(RATES, Spent(gpu_s=3600.0))) == ["2.00 EUR"]
    assert spent_text(SPENT) == spent_text(SPENT, charges(NO_RATES, SPENT))
