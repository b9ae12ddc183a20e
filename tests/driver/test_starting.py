"""A search whose jobs cannot start, and one of which only some cannot."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.driving import Notes, end_attempt, ledger_of, make_setup, search_in
from tests.fakes import FakeLauncher, stub_end
from tests.nouns import end, failed
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import create_json
from xautolm_hpc.errors import InterruptedSearchError, LaunchError
from xautolm_hpc.jobdir import OUTCOME, End
from xautolm_hpc.node import Clock
from xautolm_hpc.records import to_json
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import RunFacts

UNREACHED = "the job ended before it began the attempt: NonZeroExitCode"
REASON = "the worker could not be started: [Errno 2] No such file or directory: '/gone/python'"


def trial_and_attempt(path: Path) -> tuple[int, int]:
    """Read the numbers of an attempt from its folder."""
    return int(path.parent.name.removeprefix("trial-")), int(path.name.removeprefix("attempt-"))


def unstarted(node: str | None, *, reason: str = REASON, at: float = 1_000_005.0) -> End:
    """End an attempt whose worker could not be started, on a node or before one was reached."""
    started_at = None if node is None else at - 1
    return end(failed("launch_failure", reason), system=None, started_at=started_at, ended_at=at, node=node)


class Unlike(FakeLauncher):
    """Runs jobs for as long as a test says, or not at all.

    Args:
        trial_end: How the trials end.
        clock: Time.
        times_s: Seconds that an attempt waits and runs.
        unbegun: Ends of attempts whose jobs never begin; ``None`` for another attempt.
    """

    def __init__(
        self,
        trial_end: Callable[[Path], End],
        *,
        clock: Clock,
        times_s: Callable[[Path], tuple[float, float]] = lambda path: (0.0, 0.0),
        unbegun: Callable[[Path], End | None] = lambda path: None,
    ) -> None:
        super().__init__(partial(end_attempt, trial_end=trial_end), clock=clock)
        self.times_s = times_s
        self.unbegun = unbegun

    def _run(self, path: Path, *, age_s: float) -> str:
        if (end := self.unbegun(path)) is not None:
            create_json(path / OUTCOME, to_json(end))
            return "CANCELLED"
        self.pending_s, self.duration_s = self.times_s(path)
        return super()._run(path, age_s=age_s)


def run_unlike(folder: Path, trial_end: Callable[[Path], End], **options: Any) -> RunFacts:
    """Run a search with such jobs."""
    setup = make_setup(folder)
    return run_search(replace(setup, launcher=Unlike(trial_end, clock=setup.clock, **options)))


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
        return unstarted(None, reason=UNREACHED)

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


def test_one_trial_that_cannot_start_does_not_stop_the_search_while_others_work(tmp_path: Path) -> None:
    def broken_first(path: Path) -> End:
        trial, attempt = trial_and_attempt(path)
        return stub_end(path) if trial else unstarted(f"node-{attempt}")

    def long(path: Path) -> tuple[float, float]:
        return 0.0, 60.0 if path.parent.name in ("trial-001", "trial-002", "trial-003") else 0.0

    facts = run_unlike(tmp_path, broken_first, times_s=long)

    assert facts.finish.text == "budget used: generations 3 of 3"
    attempts = [e.provenance.attempt for e in facts.experiences if e.provenance.trial == 0]
    assert attempts == [0, 1, 2]


def test_every_end_of_a_look_is_recorded_before_the_search_stops(tmp_path: Path) -> None:
    def unbegun(path: Path) -> End | None:
        return unstarted(f"node-{trial_and_attempt(path)[0]}") if path.parent.name.startswith("trial-") else None

    with pytest.raises(LaunchError, match=r"on node-0, node-1, node-2, node-3"):
        run_unlike(tmp_path, stub_end, unbegun=unbegun)

    ends = [line["trial"] for line in ledger_of(tmp_path) if line["event"] == "end"]
    assert ends == [0, 1, 2, 3]


def test_a_reason_that_was_mended_does_not_stop_the_search_at_an_end_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="jobs cannot start"):
        run(tmp_path, lambda path: unstarted(f"node-{trial_and_attempt(path)[0]}"))

    def cancelled(path: Path) -> End | None:
        is_first = (path.parent.name, path.name) == ("trial-000", "attempt-1")
        return end(failed("cancelled"), system=None, started_at=None, node=None) if is_first else None

    facts = run_unlike(tmp_path, stub_end, times_s=lambda path: (30.0, 0.0), unbegun=cancelled)

    assert facts.finish.text == "budget used: generations 3 of 3"


def test_a_reason_that_was_mended_does_not_stop_the_search_for_another_one(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="jobs cannot start"):
        run(tmp_path, lambda path: unstarted(f"node-{trial_and_attempt(path)[0]}"))

    def unbegun(path: Path) -> End | None:
        is_first = (path.parent.name, path.name) == ("trial-000", "attempt-1")
        return unstarted(None, reason=UNREACHED) if is_first else None

    facts = run_unlike(tmp_path, stub_end, times_s=lambda path: (30.0, 0.0), unbegun=unbegun)

    assert facts.finish.text == "budget used: generations 3 of 3"


def test_failures_from_before_a_resume_do_not_stop_the_search_at_a_single_new_one(tmp_path: Path) -> None:
    def broken(path: Path) -> End:
        return unstarted(f"node-{trial_and_attempt(path)[0]}")

    with pytest.raises(LaunchError, match="jobs cannot start"):
        run(tmp_path, broken)

    def broken_once_more(path: Path) -> End | None:
        is_first = (path.parent.name, path.name) == ("trial-000", "attempt-1")
        return unstarted("node-9") if is_first else None

    facts = run_unlike(tmp_path, stub_end, times_s=lambda path: (30.0, 0.0), unbegun=broken_once_more)

    assert facts.finish.text == "budget used: generations 3 of 3"


def test_jobs_that_an_earlier_driver_submitted_do_not_stop_the_one_that_took_them_over(tmp_path: Path) -> None:
    setup = make_setup(tmp_path, n_interrupts=lambda: 2 * any((tmp_path / "runs").glob("*/gen-000/trial-003/*/fake*")))
    waiting = Unlike(stub_end, clock=setup.clock, times_s=lambda path: (60.0 * path.parent.name.startswith("trial"), 0))
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(replace(setup, launcher=waiting))

    def broken_once(path: Path) -> End | None:
        is_old = path.parent.parent.name == "gen-000" and path.name == "attempt-0"
        return unstarted(f"node-{trial_and_attempt(path)[0]}") if is_old else None

    facts = run_unlike(tmp_path, stub_end, unbegun=broken_once)

    assert facts.finish.text == "budget used: generations 3 of 3"
    assert len([e for e in facts.experiences if e.outcome.kind == "launch_failure"]) == 4
