"""Every setting says what it is, with its unit; schema and reference pages are made of nothing else."""

import re
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from tests.checks.source import PACKAGE_DIR, ROOT_DIR, listing
from xautolm_hpc.catalogue import Model
from xautolm_hpc.config.reference import SECTIONS, FileKind, describe_keys, reference_page, schema_text, sections_of

UNITS = {
    "_s": "seconds", "_min": "minutes", "_h": "hours", "_gb": "GiB", "_kwh": "kilowatt-hours",
}  # fmt: skip
"""End of a key -> word that its description has; of a quantity for each of them, its singular."""
PAGES: dict[FileKind, str] = {"search": "search-file.md", "profile": "cluster-profile.md"}

per_kind = pytest.mark.parametrize("kind", SECTIONS)


def test_every_key_has_a_description() -> None:
    undescribed = [f"{section.__name__}.{key}" for section in settings() for key in lacking(section)]
    undescribed += [f"Model.{key}" for key in Model.__dataclass_fields__ if key not in describe_keys(Model)]

    assert not undescribed, listing(undescribed, "describe it under Attributes: in the docstring of its section")


def test_no_description_is_of_a_key_that_is_gone() -> None:
    gone = [
        f"{section.__name__}.{key}"
        for section in settings()
        for key in describe_keys(section)
        if key not in section.model_fields
    ]

    assert not gone, listing(gone)


def test_the_description_of_a_quantity_names_its_unit() -> None:
    silent = [
        f"{section.__name__}.{key}: {unit}"
        for section in settings()
        for key, text in describe_keys(section).items()
        for ending, unit in UNITS.items()
        if key.endswith(ending)
        and (unit.removesuffix("s") if "_per_" in key else unit).lower()
        not in re.sub("GPU-hours", "hours", text).lower()
    ]

    assert not silent, listing(silent, "the description lacks the unit after the colon")


def test_a_key_without_description_is_found() -> None:
    class Part(BaseModel):
        """A section.

        Attributes:
            first: What it is,
                in two lines.
        """

        first: int = 1
        second: int = 2

    assert describe_keys(Part) == {"first": "What it is, in two lines."}
    assert lacking(Part) == ["second"]


@per_kind
def test_the_packaged_schema_is_what_the_settings_say(kind: FileKind) -> None:
    committed = (PACKAGE_DIR / "packaged" / f"{kind}.schema.json").read_text()

    assert committed == schema_text(kind), "make reference"


@per_kind
def test_the_reference_page_is_what_the_settings_say(kind: FileKind) -> None:
    committed = (ROOT_DIR / "docs" / "reference" / PAGES[kind]).read_text()

    assert committed == reference_page(kind), "make reference"


def lacking(section: type[BaseModel]) -> list[str]:
    """List the keys of a section without a description."""
    return [key for key in section.model_fields if key not in describe_keys(section)]


def settings() -> Iterator[type[BaseModel]]:
    """Walk the sections of every settings file."""
    for root in SECTIONS.values():
        yield from sections_of(root)
