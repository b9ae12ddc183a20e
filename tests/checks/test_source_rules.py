"""Rules of the code that no linter holds: what may stand where."""

import ast
import re

from tests.checks.source import listing, places, python_files

# The environment is read at the entries only; what lies below them gets values.
MAY_READ_ENVIRONMENT = {
    "xautolm_hpc/cli.py",
    "xautolm_hpc/profile/__main__.py",
    "xautolm_hpc/report/trackers/mlflow_writer.py",  # reads none: it tells MLflow to send nothing
    "xautolm_hpc/slurm.py",
    "xautolm_hpc/submit/environment.py",
    "xautolm_hpc/submit/wrapper.py",
    "xautolm_hpc/train/__main__.py",
}
STARTS_SLURM = "xautolm_hpc/slurm.py"
# Records of tests have one source. Tests of the records themselves spell them out, and so do the frozen runs: their
# ends stay as they were, whatever that source becomes.
RECORDS = {"Claim", "End", "Experience", "Outcome", "Pipeline", "Provenance", "System", "Task"}
MAY_BUILD_RECORDS = {"tests/nouns.py", "tests/test_records.py", "tests/upgrade/old_run.py"}
FAKES = "tests/fakes.py"
SLURM_COMMAND = re.compile(r"(squeue|sacct|scontrol|sinfo|scancel)(\s+-|$)")


def test_the_package_has_no_assert_statement() -> None:
    asserts = [str(place) for place in places("xautolm_hpc") if isinstance(place.node, ast.Assert)]

    assert not asserts, listing(asserts, "raise an error that says what is wrong: `python -O` drops assert")


def test_the_one_blind_except_turns_a_crash_of_the_worker_into_an_outcome() -> None:
    blind = [place for place in places("xautolm_hpc") if _is_blind_except(place.node)]

    assert len(blind) == 1, listing([str(place) for place in blind])
    assert blind[0].path.startswith("xautolm_hpc/train/")


def test_only_the_entries_read_environment_variables() -> None:
    reads = [place for place in places("xautolm_hpc") if _reads_environment(place.node)]

    stray = [str(place) for place in reads if place.path not in MAY_READ_ENVIRONMENT]

    assert not stray, listing(stray, f"read it in {sorted(MAY_READ_ENVIRONMENT)}, pass it on")


def test_only_slurm_py_starts_slurm_commands() -> None:
    texts = [place for place in places("xautolm_hpc") if _is_slurm_command(place.node)]

    stray = [str(place) for place in texts if place.path != STARTS_SLURM]

    assert not stray, listing(stray)


def test_tests_sleep_only_while_they_wait_for_a_condition() -> None:
    polling = set()
    sleeps = []
    for place in places("tests"):
        if isinstance(place.node, ast.While | ast.For):
            polling |= {id(node) for node in ast.walk(place.node)}
        if isinstance(place.node, ast.Call) and ast.unparse(place.node.func) in {"time.sleep", "sleep"}:
            sleeps.append(place)

    by_luck = [str(place) for place in sleeps if id(place.node) not in polling]

    assert not by_luck, listing(by_luck, "wait for a condition with a deadline, in a loop")


def test_records_of_tests_are_built_by_tests_nouns() -> None:
    built = [place for place in places("tests") if isinstance(place.node, ast.Call) and _builds_record(place.node)]

    stray = [str(place) for place in built if place.path not in MAY_BUILD_RECORDS]

    assert not stray, listing(stray, "take a builder of tests/nouns.py, and give it the fields that the test is about")


def test_the_fake_clock_and_the_fake_launcher_have_one_source() -> None:
    classes = [place for place in places("tests") if isinstance(place.node, ast.ClassDef) and place.path != FAKES]

    stray = [str(place) for place in classes if {"now", "sleep"} <= _methods(place.node)]
    stray += [str(place) for place in classes if {"submit", "adopt", "poll", "cancel"} <= _methods(place.node)]

    assert not stray, listing(stray, f"take the one of {FAKES}, or a class on top of it")


def test_every_python_file_says_what_it_is_for() -> None:
    files = python_files("xautolm_hpc", "tests", "benchmarks", "containers", "slurm", "docs")

    silent = [str(path) for path in files if ast.get_docstring(ast.parse(path.read_text())) is None]

    assert not silent, listing(silent)


def _is_blind_except(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in caught)


def _reads_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "os":
        return any(alias.name in {"environ", "environb", "getenv", "putenv"} for alias in node.names)
    return isinstance(node, ast.Attribute) and ast.unparse(node) in {
        "os.environ",
        "os.environb",
        "os.getenv",
        "os.putenv",
    }


def _builds_record(call: ast.Call) -> bool:
    return ast.unparse(call.func).split(".")[-1] in RECORDS


def _methods(node: ast.AST) -> set[str]:
    return {child.name for child in ast.iter_child_nodes(node) if isinstance(child, ast.FunctionDef)}


def _is_slurm_command(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(SLURM_COMMAND.match(node.value))
