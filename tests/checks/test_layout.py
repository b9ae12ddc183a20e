"""The tree shows the flow: few files at the root, each shared; folders one can look over; names that mean one thing."""

import ast
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.checks.imports import imports_by_folder, users
from tests.checks.source import PACKAGE_DIR, ROOT_DIR, listing, places, python_files

MAX_ROOT_MODULES = 26
MIN_USERS = 2
ENTRIES = {
    "__init__": "the package itself",
    "__main__": "started by `python -m xautolm_hpc`",
    "cli": "started by the command `xautolm-hpc`",
}
"""Modules of the root that no folder needs to import, and why."""

SEARCH_NOUNS = {
    "catalogue", "distribution", "errors", "execution", "failures", "hyperparameters", "pareto", "records", "space",
    "table", "task_kinds",
}  # fmt: skip
"""The modules of the root that ``priors`` and ``sample`` may see."""
LAYERED = {"__init__", "__main__", "cli"}
"""What the layers of the contracts keep from every step."""
CONTRACT = "priors and sample see only the nouns of the search"

MAX_FILES = 30
FOLDERS = ("xautolm_hpc", "tests", "benchmarks", "docs")

IN_EVERY_PACKAGE = {"__init__", "__main__"}
NAMED_TWICE = {
    ("commands/doctor", "doctor"): "the command and its step",
    ("commands/prefetch", "prefetch"): "the command and its step",
    ("commands/priors", "priors", "benchmarks/priors"): "the command, its step, and the step's benchmark",
    ("commands/report", "report"): "the command and its step",
    ("commands/run", "run"): "the command, and the run that it makes",
    ("commands/store", "store", "store/store", "benchmarks/store"): "the command, its step, its store, its benchmark",
    ("driver/loop", "train/loop"): "of generations; of optimiser steps",
    ("run/folder", "store/folder"): "of a run; of a store's segments",
    ("priors/xautolm/replay", "benchmarks/replay"): "of experiences into a distribution; of whole searches",
    ("priors/xautolm/steps", "train/steps"): "of computing the prior; of an optimiser",
    ("profile/features", "benchmarks/features"): "the meta-features, and their benchmark",
    ("sample/estimates", "benchmarks/estimates"): "the estimates, and their benchmark",
}
"""Modules of one name, without the package's own name, and why the folders say enough."""


def test_the_root_holds_few_modules() -> None:
    modules = root_modules()

    assert len(modules) <= MAX_ROOT_MODULES, listing(modules, "what one folder alone uses belongs into that folder")


def test_every_module_of_the_root_is_imported_by_two_folders() -> None:
    lonely = [
        f"{module}: {sorted(found) or 'nobody'}"
        for module in root_modules()
        if module not in ENTRIES and len(found := users(imports_by_folder(), module)) < MIN_USERS
    ]

    assert not lonely, listing(lonely, "it is no noun that steps share: move it to its user")


def test_the_excepted_entries_exist() -> None:
    assert set(ENTRIES) <= set(root_modules())


def test_the_contract_of_the_search_forbids_every_other_module_of_the_root() -> None:
    importlinter = tomllib.loads((ROOT_DIR / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(given for given in importlinter["contracts"] if given["name"] == CONTRACT)

    forbidden = {module.removeprefix("xautolm_hpc.") for module in contract["forbidden_modules"]}

    assert forbidden == set(root_modules()) - SEARCH_NOUNS - LAYERED


def test_an_import_counts_for_the_module_and_for_what_is_taken_from_it() -> None:
    names = {"train": {"xautolm_hpc.space.Space"}, "store": {"xautolm_hpc.spaces"}, "run": {"xautolm_hpc.space"}}

    assert users(names, "space") == {"train", "run"}


def test_no_folder_holds_more_files_than_one_can_look_over() -> None:
    n_files = {str(folder.relative_to(ROOT_DIR)): _n_files(folder) for folder in _folders(FOLDERS)}

    full = {folder: n for folder, n in n_files.items() if n > MAX_FILES}

    assert not full, listing(full, f"more than {MAX_FILES} files: say with folders what belongs together")


def test_no_two_public_classes_share_a_name() -> None:
    classes = [
        (place.node.name, str(place))
        for place in places("xautolm_hpc", "benchmarks")
        if isinstance(place.node, ast.ClassDef) and not place.node.name.startswith("_")
    ]

    shared = shared_names(classes)

    assert not shared, listing(shared, "one name, one meaning")


def test_a_name_shared_by_classes_is_found_with_its_places() -> None:
    assert shared_names([("Trial", "a.py:3"), ("Limits", "b.py:1"), ("Trial", "c.py:7")]) == ["Trial: a.py:3, c.py:7"]


def test_a_module_name_stands_twice_only_where_the_folder_says_the_rest() -> None:
    unlisted = sorted(f"{group}" for group in modules_of_one_name(_modules()) - set(NAMED_TWICE))

    assert not unlisted, listing(unlisted, "rename one, or list them in NAMED_TWICE with the reason")


def test_every_listed_pair_of_modules_exists() -> None:
    gone = sorted(f"{group}" for group in set(NAMED_TWICE) - modules_of_one_name(_modules()))

    assert not gone, listing(gone, "take it out of NAMED_TWICE")


def test_modules_of_one_name_are_found_in_folders_and_packages() -> None:
    modules = ["loop", "store", "store/store", "run/loop", "run/__init__", "__init__", "benchmarks/start"]

    assert modules_of_one_name(modules) == {("loop", "run/loop"), ("store", "store/store")}


def root_modules() -> list[str]:
    """List the modules at the package's root."""
    return sorted(path.stem for path in PACKAGE_DIR.glob("*.py"))


def shared_names(named: Iterable[tuple[str, str]]) -> list[str]:
    """List the names that stand at several places, with the places."""
    pairs = list(named)
    several = sorted(name for name, n in Counter(name for name, _ in pairs).items() if n > 1)
    return [f"{name}: {', '.join(place for other, place in pairs if other == name)}" for name in several]


def modules_of_one_name(modules: Iterable[str]) -> set[tuple[str, ...]]:
    """Group modules of one name; the package's own come first, in their order, then the benchmarks."""
    ordered = sorted(set(modules), key=lambda module: (module.startswith("benchmarks/"), module))
    names = Counter(module.split("/")[-1] for module in ordered)
    several = {name for name, n in names.items() if n > 1} - IN_EVERY_PACKAGE
    return {tuple(module for module in ordered if module.split("/")[-1] == name) for name in several}


def _modules() -> list[str]:
    """List modules and packages by their path, that of the product without the package's name."""
    files = [path.relative_to(ROOT_DIR).with_suffix("") for path in python_files("xautolm_hpc", "benchmarks")]
    files += [file.parent for file in files if file.name == "__init__"]
    return [str(file).removeprefix("xautolm_hpc/") for file in files if str(file) not in FOLDERS]


def _folders(tops: Iterable[str]) -> list[Path]:
    below = [path for top in tops for path in (ROOT_DIR / top).rglob("*") if path.is_dir()]
    return [*(ROOT_DIR / top for top in tops), *(path for path in below if "__pycache__" not in path.parts)]


def _n_files(folder: Path) -> int:
    return sum(path.is_file() and not path.name.startswith(".") for path in folder.iterdir())
