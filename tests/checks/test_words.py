"""Words a reader from the field expects: docstrings that command, identifiers that keep to the field's terms."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checks.documents import markdown_files
from tests.checks.source import ROOT_DIR, Function, listing, places, python_files

FOLDERS = ("xautolm_hpc", "benchmarks")

COMMANDS = frozenset(
    re.findall(
        r"\w+",
        """
    Accept Acquire Adapt Add Adjust Adopt Answer Append Apply Ask Average Begin Block Break Build Cancel Capture
    Change Check Choose Claim Clear Collect Combine Commit Compare Compress Compute Continue Convert Copy Count Create
    Cut Decide Decode Derive Describe Digest Divide Download Draw Drop Embed Encode End Escape Estimate Evaluate
    Exchange Expand Explain Fill Find Fit Flip Flush Forecast Forget Freeze Gather Group Hide Hold Ignore Import
    Iterate Join Judge Keep Kill Learn Leave List Load Log Make Map Mark Match Measure Merge Move Name Normalise Note
    Number Open Order Pad Parse Permute Pick Place Plan Plot Predict Prepare Print Profile Project Propose Query Queue
    Raise Rank Read Reap Rebuild Recompute Record Reduce Refuse Reject Release Remember Remove Rename Renumber Repeat
    Replace Replay Report Resample Reserve Restore Return Rewrite Round Run Scale Score Search Seed Select Send Set
    Shard Share Shorten Show Sign Signal Simplify Size Sort Split Standardise Start Stem Stop Store Submit Sum
    Summarise Test Train Try Turn Unpack Update Use View Wait Walk Warm Watch Weigh Wrap Write
    """,
    )
)
"""First words of a function's docstring; one that is missing here is added, if it is the plain command."""

RETIRED = {
    "allowance": "trial limits",
    "bench": "train state",
    "caution": "feasibility exponent",
    "drawing": "proposal",
    "gathered": "attempt result",
    "lesson": "observation",
    "lessons": "observations",
    "merit": "predicted utility",
    "passes": "micro-batches",
    "peer": "reference (the paper's code)",
    "peers": "references",
    "pulse": "heartbeat writer",
    "room": "space, memory budget, number of jobs",
    "say": "log",
    "scene": "search context",
    "seat": "rank",
    "seats": "ranks",
    "sight": "run snapshot",
    "slowness": "time calibration",
    "survival": "p_feasible",
    "taste": "acquisition settings",
    "team": "process group",
    "thrift": "time weight",
    "tidied": "cleaned up",
    "tidy": "clean up",
    "told": "message",
}
"""Word of our own making -> the field's term."""

PRIVATE = {
    "allowance", "caution", "lesson", "lessons", "merit", "peer", "peers", "pulse", "scene", "seat", "seats",
    "slowness", "survival", "taste", "thrift", "tidied", "tidy",
}  # fmt: skip
"""Retired words that have no everyday sense in these texts either."""
QUOTED = re.compile(
    r'`[^`]*`|"(lessons|slowness|merit)(: |")|peer-records|(by|a) peer\b|"allowance": "allow"|\.slowness|'
    r"\b(lessons|slowness)[:=]"
)
"""What names a thing on disk, or repeats another program's words."""

STAYS = {
    ("xautolm_hpc/distribution.py", "lessons"): "a key of priors.json",
    ("xautolm_hpc/distribution.py", "slowness"): "a key of priors.json",
}
"""File and identifier with a retired word that stays there, and why: names on disk do."""


def test_docstrings_begin_with_a_command_in_words_a_reader_expects() -> None:
    unexpected = [
        f"{place} {place.node.name}: {first}"
        for place in places(*FOLDERS)
        if isinstance(place.node, Function) and not is_property(place.node)
        if (first := first_word(place.node)) and first not in COMMANDS
    ]

    assert not unexpected, listing(unexpected, "begin with Return, Compute, Check, Read, Write, Build, List, Find ...")


@pytest.mark.parametrize("text", ["Look at the image and say what is in it.", "Folder of one attempt.", "Gives x."])
def test_a_docstring_that_begins_otherwise_is_found(text: str) -> None:
    function = ast.parse(f'def f():\n    """{text}"""').body[0]
    assert isinstance(function, Function)

    assert first_word(function) not in COMMANDS


def test_identifiers_keep_to_the_fields_terms() -> None:
    stray = [
        f"{place} {name}: {RETIRED[word]}"
        for place in places(*FOLDERS, "tests")
        for name in declared(place.node)
        for word in retired_words(name)
        if word in PRIVATE or not name.startswith("test_")  # the name of a test is a sentence
        if (place.path, name) not in STAYS
    ]
    files = python_files(*FOLDERS)
    stray += [str(path) for path in files if any(map(retired_words, path.with_suffix("").parts[-2:]))]

    assert not stray, listing(stray, "this word was retired; take the term after the colon")


def test_texts_and_comments_keep_to_the_fields_terms() -> None:
    code = [path for path in python_files(*FOLDERS, "tests") if path != Path(__file__)]
    texts = [*code, *(ROOT_DIR / FOLDERS[0]).rglob("*.toml"), *markdown_files()]

    stray = [
        f"{path.relative_to(ROOT_DIR)}:{number} {word}: {RETIRED[word]}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for word in private_words(line)
    ]

    assert not stray, listing(stray, "this word was retired; take the term after the colon")


def test_a_private_word_is_found_in_a_text_but_not_where_it_names_a_thing_on_disk() -> None:
    line = 'The peer\'s lists (a `lesson`, "merit: f1", ../peer-records) show Slowness.'

    assert private_words(line) == ["peer", "slowness"]


def test_every_identifier_that_stays_is_there() -> None:
    there = {(place.path, name) for place in places(*FOLDERS) for name in declared(place.node)}

    assert set(STAYS) <= there


def test_a_retired_word_is_found_inside_an_identifier_however_it_is_written() -> None:
    code = "class SlownessTable:\n    team_size: int\n\n    def _taste(self, peer):\n        self.merit = steam = 1"
    found = [name for node in ast.walk(ast.parse(code)) for name in declared(node) if retired_words(name)]

    assert sorted(found) == ["SlownessTable", "_taste", "merit", "peer", "team_size"]


def test_the_first_word_of_a_docstring_is_read_without_its_marks() -> None:
    code = 'def f():\n    """Give, where known, x."""\n\ndef g():\n    """:class:`A` of x."""\n\ndef h(): ...'

    words = [first_word(node) for node in ast.parse(code).body if isinstance(node, Function)]

    assert words == ["Give", "class", ""]


def first_word(node: Function | ast.ClassDef) -> str:
    """Return the first word of a docstring; empty where there is none."""
    found = re.search(r"\w+", ast.get_docstring(node) or "")
    return found[0] if found else ""


def is_property(function: Function) -> bool:
    """Check whether a function is read like an attribute, so that its docstring names a thing."""
    return any("property" in ast.unparse(decorator) for decorator in function.decorator_list)


def declared(node: ast.AST) -> Iterator[str]:
    """List the names that a node declares: of a class, function, argument, variable or attribute."""
    if isinstance(node, Function | ast.ClassDef):
        yield node.name
    if isinstance(node, ast.arg):
        yield node.arg
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr


def retired_words(name: str) -> list[str]:
    """List the retired words in an identifier."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().split("_")
    return [word for word in words if word in RETIRED]


def private_words(line: str) -> list[str]:
    """List the private words in a line of text, in lower case; quotations are left out."""
    return [word for word in re.findall(r"[a-z]+", QUOTED.sub("", line).lower()) if word in PRIVATE]
