"""The rules of every test run: no silent skips, times by folder, one way to the data that is never shipped.

A skipped test is a test nobody runs. ``skips.toml`` beside this file lists the skips that are accepted, each
with its reason; any other skip makes the run fail.
"""

import fnmatch
import os
import tomllib
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # machines are shared: no test may fail because one was slow
settings.load_profile("busy")

ROOT_DIR = Path(__file__).resolve().parent.parent
SKIPS_PATH = Path(__file__).with_name("skips.toml")
SHARED = "../shared"

_skipped = pytest.StashKey[dict[str, str]]()
_folder_s = pytest.StashKey[defaultdict[str, float]]()


def shared_path() -> Path:
    """Say where the data for tests and benchmarks lies: ``XAUTOLM_SHARED``, else beside the checkout."""
    return Path(os.environ.get("XAUTOLM_SHARED", ROOT_DIR / SHARED)).resolve()


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Give the folder of data that lies beside the repository, or skip where there is none."""
    path = shared_path()
    if not path.is_dir():
        pytest.skip(f"no data folder at {path}; set XAUTOLM_SHARED to its path")
    return path


def accepted_skips(skips_path: Path) -> list[str]:
    """Read the patterns of node ids whose skip is accepted on this machine.

    Raises:
        ValueError: An entry has an unknown key, or lacks ``tests`` or a ``reason``.
    """
    patterns = []
    for entry in tomllib.loads(skips_path.read_text()).get("skip", []):
        unknown = set(entry) - {"tests", "reason", "only_if_absent"}
        if unknown or not entry.get("tests") or not entry.get("reason"):
            raise ValueError(f"{skips_path.name}: {entry} needs tests and reason, and may have only_if_absent")
        absent = entry.get("only_if_absent")
        if absent is None or not _location(absent).exists():
            patterns.append(entry["tests"])
    return patterns


def _location(path: str) -> Path:
    return shared_path() if path == SHARED else ROOT_DIR / path


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_skipped] = {}
    config.stash[_folder_s] = defaultdict(float)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    folder = item.path.parent.relative_to(item.config.rootpath)
    item.config.stash[_folder_s][str(folder)] += report.duration
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[_skipped][report.nodeid] = _reason(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        collector.config.stash[_skipped][report.nodeid] = _reason(report)
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _refused(config: pytest.Config) -> dict[str, str]:
    patterns = accepted_skips(SKIPS_PATH)
    return {
        node_id: reason
        for node_id, reason in config.stash[_skipped].items()
        if not any(fnmatch.fnmatchcase(node_id, pattern) for pattern in patterns)
    }


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and _refused(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    folder_s = config.stash[_folder_s]
    if len(folder_s) > 1:
        terminalreporter.section("seconds by folder")
        for folder, seconds in sorted(folder_s.items()):
            terminalreporter.line(f"{seconds:8.1f}  {folder}")
    refused = _refused(config)
    if refused:
        terminalreporter.section("skips that tests/skips.toml does not list: the run fails", red=True)
        for node_id, reason in sorted(refused.items()):
            terminalreporter.line(f"{node_id}: {reason}")
