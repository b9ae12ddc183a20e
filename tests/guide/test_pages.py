"""What the guide says is what the program does: commands run, blocks of TOML are read, quotes are said."""

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.checks.documents import blocks
from tests.checks.source import ROOT_DIR, listing, python_files, tree
from tests.guide.pages import CLUSTER, CONTAINERS, FIRST, GUIDE_DIR, NOT_RUN, PAGES, type_line, typed
from tests.stub_search import write_stub_search
from xautolm_hpc.config import ClusterProfile, SearchFile, load_profile, load_search
from xautolm_hpc.errors import ConfigError

LEAST_QUESTIONS = 20
RUN_ELSEWHERE = {
    FIRST: "tests/guide/test_newcomer.py, with a real search",
    CLUSTER: "tests/slurm/test_guide_on_a_cluster.py, on a private Slurm",
    CONTAINERS: "needs an image; its commands are in NOT_RUN or on other pages",
}
"""Page -> where its commands run."""

SEARCH: dict[str, Any] = {
    "name": "one", "task": {"name": "one"}, "data": {"path": "reviews.csv"}, "budget": {"trials": 4},
}  # fmt: skip
PROFILE = {"worker_python": "python"}

QUESTIONS = GUIDE_DIR / "questions-and-troubles.md"
SAYS = re.compile(r"^It says: (`.+`)$", flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with data, a run that ended, its store, and a store and a profile of elsewhere."""
    folder = tmp_path_factory.mktemp("guide")
    write_stub_search(folder)
    lines = [f"case {number} was handled well,{'good' if number % 2 else 'bad'}" for number in range(60)]
    (folder / "reviews.csv").write_text("\n".join(["comment,verdict", *lines]) + "\n")
    (folder / "cluster.toml").write_text((ROOT_DIR / "slurm/site-gpu-partition.toml").read_text())
    settings = "--set name=reviews --set store.path=experience-store"
    ended = type_line(f"xautolm-hpc run search.toml --quiet {settings}", folder)
    assert ended.returncode == 0, ended.stderr
    shutil.copytree(folder / "experience-store", folder / "site-b", ignore=shutil.ignore_patterns(".*"))
    return folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if page not in RUN_ELSEWHERE])
def test_every_command_of_a_page_runs(page: str, folder: Path) -> None:
    failed = []
    for command in typed(GUIDE_DIR / page):
        if not command.is_run or command.line.startswith("xautolm-hpc export-model"):  # a stub keeps no weights
            continue
        ended = type_line(command.line, folder)
        if ended.returncode != 0:
            failed.append(f"{command}: status {ended.returncode}: {ended.stderr or ended.stdout}")

    assert not failed, listing(failed)


def test_every_command_that_is_not_run_is_on_a_page() -> None:
    lines = [command.line for page in [*GUIDE_DIR.glob("*.md"), ROOT_DIR / "README.md"] for command in typed(page)]

    unused = [pattern for pattern in NOT_RUN if not any(re.fullmatch(pattern, line) for line in lines)]

    assert not unused, listing(unused, "take it out of NOT_RUN")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_toml_is_read(page: str, tmp_path: Path) -> None:
    found = [tomllib.loads(block.text) for block in blocks(GUIDE_DIR / page) if block.language == "toml"]

    for number, written in enumerate(found):
        path = tmp_path / f"{number}.toml"
        if set(written) <= set(SearchFile.model_fields):
            path.write_text(as_toml({**SEARCH, **written}))
            load_search(path)
        else:
            assert set(written) <= set(ClusterProfile.model_fields), f"{page}: {sorted(written)} is of neither file"
            base = {} if "container" in written else PROFILE
            path.write_text(as_toml({**base, **written}))
            load_profile(path)


def test_a_block_with_an_unknown_key_would_be_found(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(as_toml({**SEARCH, "budget": {"trails": 4}}))

    with pytest.raises(ConfigError, match=r"unknown key `budget\.trails`"):
        load_search(path)


def test_questions_quote_what_the_program_says() -> None:
    text = QUESTIONS.read_text()
    said = _constants()

    strange = [
        f"{quote}: {part.strip()}"
        for quote in re.findall(r"`([^`]+)`", "\n".join(SAYS.findall(text)))
        for part in quote.split("…")
        if len(part.strip()) > 1 and not any(part.strip() in constant for constant in said)
    ]

    assert len(re.findall(r"^### ", text, flags=re.MULTILINE)) >= LEAST_QUESTIONS
    assert not strange, listing(strange, "no text of the program has these words")


def as_toml(values: dict[str, Any]) -> str:
    """Write tables of plain values, tables of tables and lists of tables as TOML: JSON's values are TOML's."""
    tops = {key: value for key, value in values.items() if not is_table(value)}
    lines = [f"{key} = {_value(value)}" for key, value in tops.items()]
    for key, value in values.items():
        if is_table(value):
            lines += (
                [f"[[{key}]]\n" + _pairs(each) for each in value]
                if isinstance(value, list)
                else [f"[{key}]\n" + _pairs(value)]
            )
    return "\n".join(lines) + "\n"


def is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _pairs(table: dict[str, Any]) -> str:
    return "\n".join(f"{json.dumps(key)} = {_value(value)}" for key, value in table.items())


def _value(value: object) -> str:
    """Write a value; a table inside a table in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_value(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def _constants() -> list[str]:
    """List the texts of the package, pieces of formatted ones apart."""
    nodes = (node for path in python_files("xautolm_hpc") for node in ast.walk(tree(path)))
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
