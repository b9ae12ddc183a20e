"""A search whose jobs cannot start, and one of which only some cannot."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.driving import Notes, end_attempt, ledger_of, make_setup, search_in
from tests.fakes import FakeLauncher, stub_end
from tests.nouns import end, failed
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.errors import LaunchError
from xautolm_hpc.jobdir import End
from xautolm_hpc.store import ExperienceStore

REASON = "the worker could not be started: [Errno 2] No such file or directory: '/gone/python'"


def trial_and_attempt(path: Path) -> tuple[int, int]:
    """Read the numbers of an attempt from its folder."""
    return int(path.parent.name.removeprefix("trial-")), int(path.name.removeprefix("attempt-"))


def unstarted(node: str | None, *, reason: str = REASON, at: float = 1_000_005.0) -> End:
    """End an attempt whose worker could not be started, on a node or before one was reached."""
    started_at = None if node is None else at - 1
    return end(failed("launch_failure", reason), system=None, started_at=started_at, ended_at=at, node=node)


def run(folder: Path, trial_end: Callable[[Path], End]) -> Notes:
    """Run a search whose trials end as given; its jobs take a second."""
    launcher = FakeLauncher(partial(end_attempt, trial_end=trial_end))
    setup = make_setup(folder, launcher=launcher)
    assert isinstance(setup.watcher, Notes)
    run_search(setup)
    return setup.watcher


def test_jobs_that_cannot_start_on_two_nodes_for_the_same_reason_stop_the_search(tmp_path: Path) -> None:
    def broken(path: Path) -> End:
        trial, attempt = trial_and_attempt(path)
        return unstarted(f"node-{trial + attempt}", reason=REASON.replace("gone", f"gone/{trial}"))

    with pytest.raises(
        LaunchError, match=r"^jobs cannot start, on node-0, node-1, node-2, node-3: the worker could not be st"
    ) as found:
        run(tmp_path, broken)

    assert "'/gone/3/python'. No more are submitted. Mend that, then give the same command again" in str(found.value)
    assert [line["event"] for line in ledger_of(tmp_path)].count("submitted") == 2  # the profile job, one array


def test_jobs_that_end_before_any_node_was_reached_stop_the_search_when_they_do_so_again(tmp_path: Path) -> None:
    def refused(path: Path) -> End:
        return unstarted(None, reason="the job ended before it began the attempt: NonZeroExitCode")

    with pytest.raises(
        LaunchError, match=r"^jobs cannot start, before any node was reached: the job ended before it be"
    ):
        run(tmp_path, refused)

    intents = [line for line in ledger_of(tmp_path) if line["event"] == "intent"]
    assert [len(line["attempts"]) for line in intents[1:]] == [4, 4]  # type: ignore[arg-type]


def test_a_node_on_which_nothing_starts_does_not_stop_the_search(tmp_path: Path) -> None:
    def broken_once(path: Path) -> End:
        return unstarted("node-0") if trial_and_attempt(path)[1] == 0 else stub_end(path)

    run(tmp_path, broken_once)

    assert len(ExperienceStore(tmp_path / "store").read()) == 24


def test_two_nodes_with_two_reasons_do_not_stop_the_search(tmp_path: Path) -> None:
    def broken_once(path: Path) -> End:
        trial, attempt = trial_and_attempt(path)
        return stub_end(path) if attempt else unstarted(f"node-{trial % 2}", reason=["disk", "network"][trial % 2])

    run(tmp_path, broken_once)

    assert len(ExperienceStore(tmp_path / "store").read()) == 24


def test_where_others_begin_two_bad_nodes_do_not_stop_the_search(tmp_path: Path) -> None:
    def broken_on_two(path: Path) -> End:
        trial, attempt = trial_and_attempt(path)
        if attempt == 0 and trial % 4 in (2, 3):  # trials 0 and 1 of the generation have begun by then
            return unstarted(f"node-{trial}")
        return stub_end(path)

    run(tmp_path, broken_on_two)

    assert len(ExperienceStore(tmp_path / "store").read()) == 18


def test_a_search_that_was_stopped_goes_on_once_the_cause_is_mended(tmp_path: Path) -> None:
    def broken(path: Path) -> End:
        return unstarted(f"node-{trial_and_attempt(path)[0]}")

    with pytest.raises(LaunchError, match="jobs cannot start"):
        run(tmp_path, broken)

    facts = search_in(tmp_path)

    assert len(facts.experiences) == 16  # the 4 trials that could not start have two attempts
    assert facts.finish.text == "budget used: generations 3 of 3"
