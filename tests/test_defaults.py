"""A default that has to stand in two files is the same in both: steps know no config, and help texts load no step."""

import argparse
import dataclasses
import re
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from xautolm_hpc import cli
from xautolm_hpc.commands.store_verbs import LIMITS
from xautolm_hpc.config import (
    BudgetSection,
    PriorSection,
    SearchSection,
    StoreSection,
    TrialSection,
)
from xautolm_hpc.config.cluster_profile import PatienceSection, SlurmSection
from xautolm_hpc.dataset import DataSection
from xautolm_hpc.driver.budget import Limits
from xautolm_hpc.driver.jobs import Pace
from xautolm_hpc.jobdir import ProfileRequest
from xautolm_hpc.pareto import OBJECTIVES
from xautolm_hpc.priors import PriorSettings
from xautolm_hpc.priors.settings import DISTANCES, PRIOR_KINDS, UTILITIES
from xautolm_hpc.records import ObjectiveName
from xautolm_hpc.report import safe_text
from xautolm_hpc.store import CheckLimits
from xautolm_hpc.store.exchange import flat
from xautolm_hpc.store.exchange.reference_import import SITE
from xautolm_hpc.submit.arrays import SlurmOptions


def defaults(record: Any) -> dict[str, Any]:
    """Return the defaults of a section of a file, or of a record."""
    if issubclass(record, BaseModel):
        return {
            name: field.get_default(call_default_factory=True)
            for name, field in record.model_fields.items()
            if not field.is_required()
        }
    found = {}
    for field in dataclasses.fields(record):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    return found


def choices(section: type[BaseModel], name: str) -> tuple[Any, ...]:
    """Return what a setting may be."""
    return get_args(section.model_fields[name].annotation)


def options(*words: str) -> dict[str, argparse.Action]:
    """Return the options of a command: destination -> option."""
    parser = cli.build_parser()
    for word in words:
        (subparsers,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parser = subparsers.choices[word]
    return {action.dest: action for action in parser._actions}


def test_options_of_sbatch() -> None:
    settings, record = defaults(SlurmSection), defaults(SlurmOptions)

    assert record.pop("node_checks") == ()  # the doctor's, no setting
    assert {name: value for name, value in settings.items() if name != "poll_s"} == record


def test_settings_of_the_prior() -> None:
    record = defaults(PriorSettings)

    assert record.pop("objectives") == defaults(SearchSection)["objectives"]
    assert record.pop("at_limit") == "fail"  # which a search replaces by what its trials do
    assert defaults(PriorSection) == record
    assert choices(PriorSection, "kind") == PRIOR_KINDS
    assert choices(PriorSection, "distance") == DISTANCES
    assert choices(PriorSection, "utility") == UTILITIES


def test_names_of_objectives() -> None:
    assert get_args(ObjectiveName) == tuple(OBJECTIVES)


def test_limits_of_the_check_of_foreign_segments() -> None:
    limits = defaults(CheckLimits)
    shown = {name: re.search(r"\(default: (\d+)\)$", text) for name, (_, text) in LIMITS.items()}

    assert choices(StoreSection, "check")[0].__args__ == tuple(limits) == tuple(LIMITS)
    assert {name: float(match[1]) for name, match in shown.items() if match} == limits


@pytest.mark.parametrize(
    ("words", "name", "default"),
    [
        (("doctor",), "time_limit_min", defaults(TrialSection)["time_limit_min"]),
        (("store", "import-xautolm"), "site", SITE),
    ],
)
def test_options_of_commands(words: tuple[str, ...], name: str, default: object) -> None:
    action = options(*words)[name]

    assert action.default == default
    assert re.search(rf"\(default: (%\(default\)s|{re.escape(str(default).removesuffix('.0'))})\)", str(action.help))


def test_the_wait_for_room_in_the_queue() -> None:
    assert defaults(Pace)["full_timeout_s"] == defaults(PatienceSection)["pending_patience_h"] * 3600


def test_budgets() -> None:
    scales = {"wall_h": "wall_s", "gpu_h": "gpu_s", "energy_kwh": "energy_j"}

    assert [scales.get(name, name) for name in BudgetSection.model_fields] == [
        f.name for f in dataclasses.fields(Limits)
    ]


def test_columns_of_the_data() -> None:
    data, request = defaults(DataSection), defaults(ProfileRequest)

    for name in ("question", "context", "answers"):
        assert data[name] == request[f"{name}_column"]


def test_characters_that_hide_text() -> None:
    assert flat.INVISIBLE == safe_text.INVISIBLE
