"""Searches whose jobs run several trials: whatever a job leaves undone is done by another, and nothing twice."""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.driver.warm_jobs import WarmLauncher, Way
from tests.driving import SEARCH, ledger_of, make_setup, projection, search_in
from tests.fakes import FakeLauncher
from tests.nouns import end, succeeded
from tests.upgrade.test_two_versions import with_protocol
from xautolm_hpc.config import ClusterProfile
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.driver.setup import Setup
from xautolm_hpc.errors import InputError, InterruptedSearchError
from xautolm_hpc.jobdir import read_members
from xautolm_hpc.launcher import Submission
from xautolm_hpc.records import Experience
from xautolm_hpc.run.history import charged_s
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.submit.series_launcher import SeriesLauncher

TEXT = SEARCH.replace("population = 4", "population = 8").replace("generations = 3", "generations = 1")
AS_BEFORE = TEXT + "[trial]\nat_limit = 'fail'\nforetell = 'off'\n"


def warm_setup(
    folder: Path, launcher: WarmLauncher | FakeLauncher, *, n: int = 4, text: str = TEXT, **options: Any
) -> Setup:
    """Set a search up whose jobs run some trials each."""
    setup = make_setup(folder, text=text, launcher=SeriesLauncher(launcher), **options)
    given = setup.profile.model_dump()
    profile = ClusterProfile.model_validate(given | {"job": given["job"] | {"trials_per_job": n}})
    object.__setattr__(setup, "profile", profile)
    return setup


def records(folder: Path) -> list[Experience]:
    """Read what was stored, by trial and attempt."""
    found = ExperienceStore(folder / "store").read()
    return sorted(found, key=lambda e: (e.provenance.trial, e.provenance.attempt))


def attempts(folder: Path) -> dict[tuple[int, int], str | None]:
    """Map each trial and attempt that was stored to its failure kind."""
    return {(e.provenance.trial, e.provenance.attempt): e.outcome.kind for e in records(folder)}


def all_end(_job: int, n: int) -> tuple[Sequence[Way], str]:
    """Let every trial of a job end."""
    return [Way.END] * n, "COMPLETED"


def test_a_search_with_several_trials_in_a_job_ends_as_one_with_a_job_for_each(tmp_path: Path) -> None:
    for name in ("one", "four"):
        (tmp_path / name).mkdir()
    search_in(tmp_path / "one", text=TEXT)
    launcher = WarmLauncher(all_end)

    run_search(warm_setup(tmp_path / "four", launcher))

    assert projection(tmp_path / "four") == projection(tmp_path / "one")
    assert launcher.groups == [[0, 1, 2, 3], [4, 5, 6, 7]]
    stored = records(tmp_path / "four")
    assert [e.provenance.job for e in stored] == [0] * 4 + [1] * 4
    assert sorted(e.provenance.job_position or 0 for e in stored) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_job_has_the_time_of_its_trials_together(tmp_path: Path) -> None:
    launcher = WarmLauncher(all_end)

    run_search(warm_setup(tmp_path, launcher))

    profile_job, trials = launcher.submissions
    assert trials.resources.time_limit_s == 4 * profile_job.resources.time_limit_s
    assert [path.name for path in trials.attempt_dirs] == ["group-0", "group-1"]


@pytest.mark.parametrize(
    ("state", "kind"), [("TIMEOUT", "wall_limit"), ("NODE_FAIL", "node_failure"), ("CANCELLED", "cancelled")]
)
def test_a_job_that_ends_early_gives_back_what_it_had_not_begun_at_no_attempt(
    tmp_path: Path, state: str, kind: str
) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([Way.END, Way.CUT_SHORT, Way.NOT_BEGIN, Way.NOT_BEGIN], state) if job == 0 else all_end(job, n)

    launcher = WarmLauncher(script)

    run_search(warm_setup(tmp_path, launcher))

    found = attempts(tmp_path)
    assert found[1, 0] == kind
    assert set(found) == {(1, 1)} | {(n, 0) for n in range(8)}
    assert max(launcher.n_runs.values()) == 1
    given_back = [line["trial"] for line in ledger_of(tmp_path) if line["event"] == "given_back"]
    assert given_back == [2, 3]
    assert {n for group in launcher.groups[2:] for n in group} >= {2, 3}


def test_what_was_given_back_waited_in_the_queue_of_its_second_job_alone(tmp_path: Path) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([Way.END, Way.CUT_SHORT, Way.NOT_BEGIN], "NODE_FAIL") if job == 0 else all_end(job, n)

    run_search(warm_setup(tmp_path, WarmLauncher(script)))

    stored = {(e.provenance.trial, e.provenance.attempt): e.provenance for e in records(tmp_path)}
    assert {stored[n, 0].job for n in (0, 1)} == {0}
    assert {stored[n, 0].job for n in (2, 3)} & {0, 1} == set()


def test_a_crash_of_one_trial_leaves_the_others_of_its_job_alone(tmp_path: Path) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([Way.END, Way.CRASH, Way.END, Way.END], "COMPLETED") if job == 0 else all_end(job, n)

    launcher = WarmLauncher(script)

    run_search(warm_setup(tmp_path, launcher))

    found = attempts(tmp_path)
    assert found[1, 0] == "error"
    assert set(found) == {(n, 0) for n in range(8)}
    assert len(launcher.groups) == 2


def test_a_job_that_never_began_ends_each_of_its_trials_as_jobs_of_their_own_would(tmp_path: Path) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([], "FAILED") if job == 0 else all_end(job, n)

    run_search(warm_setup(tmp_path, WarmLauncher(script)))

    found = attempts(tmp_path)
    assert [found[n, 0] for n in range(4)] == ["launch_failure"] * 4
    assert {(n, 1) for n in range(4)} < set(found)


def test_workers_that_never_begin_a_trial_are_not_started_for_ever(tmp_path: Path) -> None:
    launcher = WarmLauncher(lambda job, n: ([Way.NOT_BEGIN] * n, "FAILED"))

    facts = run_search(warm_setup(tmp_path, launcher))

    assert "failed alike" in facts.finish.text
    assert len(launcher.groups) <= 8 * 3


def test_a_retried_trial_shares_a_job_with_what_was_given_back(tmp_path: Path) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return (
            ([Way.CUT_SHORT, Way.NOT_BEGIN, Way.NOT_BEGIN, Way.NOT_BEGIN], "PREEMPTED") if job == 0 else all_end(job, n)
        )

    launcher = WarmLauncher(script)

    run_search(warm_setup(tmp_path, launcher))

    assert (0, 1) in attempts(tmp_path)
    assert sorted(n for group in launcher.groups[2:] for n in group) == [0, 1, 2, 3]


def test_an_interrupted_driver_takes_back_what_it_may_not_submit_and_the_next_one_goes_on(tmp_path: Path) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([Way.END, Way.CUT_SHORT, Way.NOT_BEGIN], "NODE_FAIL") if job == 0 else all_end(job, n)

    launcher = WarmLauncher(script)
    n_interrupts = [0]

    def interrupt() -> int:
        n_interrupts[0] = int(bool(launcher.groups))
        return n_interrupts[0]

    with pytest.raises(InterruptedSearchError, match="trials still to run"):
        run_search(warm_setup(tmp_path, launcher, n_interrupts=interrupt))
    n_before = len(launcher.groups)
    run_search(warm_setup(tmp_path, launcher))

    assert n_before == 2
    assert set(attempts(tmp_path)) == {(1, 1)} | {(n, 0) for n in range(8)}
    assert max(launcher.n_runs.values()) == 1


ways = st.lists(st.sampled_from(list(Way)), min_size=1, max_size=4)


@settings(max_examples=15, deadline=None)
@given(
    jobs=st.lists(st.tuples(ways, st.sampled_from(["COMPLETED", "FAILED", "NODE_FAIL", "PREEMPTED"])), max_size=6),
    n=st.integers(2, 5),
)
def test_whatever_jobs_do_every_trial_ends_and_no_attempt_runs_twice(jobs: list[tuple[list[Way], str]], n: int) -> None:
    def script(job: int, size: int) -> tuple[Sequence[Way], str]:
        return jobs[job] if job < len(jobs) else all_end(job, size)

    with TemporaryDirectory() as name:
        launcher = WarmLauncher(script)
        setup = warm_setup(Path(name), launcher, n=n)

        facts = run_search(setup)

        assert "failed alike" in facts.finish.text or {e.provenance.trial for e in records(Path(name))} == set(range(8))
        assert max(launcher.n_runs.values(), default=1) == 1
        assert Counter(line["event"] for line in ledger_of(Path(name)))["commit"] == 1


def test_several_trials_in_a_job_are_refused_where_the_worker_claims_them_too_late(tmp_path: Path) -> None:
    launcher = FakeLauncher(with_protocol(2))
    message = (
        "the worker `python` has an earlier version of xautolm-hpc, which cannot run several trials in a job safely: "
        "job.trials_per_job = 4. Install this version there, or set job.trials_per_job = 1"
    )

    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        run_search(warm_setup(tmp_path, launcher, text=AS_BEFORE))

    assert len(launcher.submissions) == 1  # the profile job
    run_search(warm_setup(tmp_path, launcher, n=1, text=AS_BEFORE))
    assert len(records(tmp_path)) >= 8


def test_a_profile_changed_while_a_search_is_under_way_is_held_against_the_worker_too(tmp_path: Path) -> None:
    launcher = FakeLauncher(with_protocol(2))
    run_search(warm_setup(tmp_path, launcher, n=1, text=AS_BEFORE))

    with pytest.raises(InputError, match="cannot run several trials in a job safely"):
        run_search(warm_setup(tmp_path, launcher, n=2, text=AS_BEFORE))


def test_the_time_of_a_job_outside_its_trials_is_charged_to_the_run() -> None:
    def ended(began: float, until: float, job: float | None, node: str = "n1") -> Any:
        return end(succeeded(), started_at=began, ended_at=until, job_started_at=job, node=node)

    of_job = [ended(10, 20, 0), ended(25, 40, 0), ended(41, 50, 0)]

    assert charged_s(of_job) == [20, 20, 10]
    assert charged_s(of_job[::-1]) == [10, 20, 20]
    assert charged_s([*of_job, ended(10, 20, 0, "n2"), ended(10, 20, 5), ended(10, 20, None)])[3:] == [20, 15, 10]
    assert charged_s([end(succeeded(), started_at=None)]) == [0.0]


def test_a_driver_adopts_what_was_given_back_with_the_job_that_it_went_on_with(tmp_path: Path) -> None:
    adopted: list[str] = []

    class Adopting(WarmLauncher):
        """Notes what it adopts."""

        def adopt(self, submission: Submission, known: Mapping[Path, str]) -> Mapping[Path, str]:
            adopted.append(submission.name[-2:])
            return super().adopt(submission, known)

    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return ([Way.END, Way.NOT_BEGIN, Way.NOT_BEGIN, Way.NOT_BEGIN], "FAILED") if job == 0 else ([], "RUNNING")

    def detach() -> int:
        return 2 * int([1, 2, 3] in launcher.groups)

    launcher = Adopting(script)
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(warm_setup(tmp_path, launcher, n_interrupts=detach))
    adopted.clear()
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(warm_setup(tmp_path, launcher, n_interrupts=lambda: 2))

    assert adopted == ["s0", "s1"]


def _damage(path: Path, way: str) -> None:
    path.unlink()
    match way:
        case "a pipe":
            os.mkfifo(path)
        case "cut":
            path.write_text('["/a/b')
        case "of others":
            path.write_text('["/elsewhere"]')


@pytest.mark.parametrize("way", ["gone", "a pipe", "cut", "of others"])
@pytest.mark.parametrize("name", ["members.json", "group-1/members.json"])
def test_damaged_members_of_jobs_stop_no_resume_and_cost_no_attempt(tmp_path: Path, name: str, way: str) -> None:
    def script(job: int, n: int) -> tuple[Sequence[Way], str]:
        return all_end(job, n) if is_resumed else ([], "RUNNING")

    is_resumed = False
    launcher = WarmLauncher(script)
    with pytest.raises(InterruptedSearchError, match="detached"):
        run_search(warm_setup(tmp_path, launcher, n_interrupts=lambda: 2 * bool(launcher.groups)))
    (folder,) = (tmp_path / "runs").glob("*/gen-000/submission-0/groups")
    _damage(folder / name, way)
    is_resumed = True

    run_search(warm_setup(tmp_path, launcher))

    assert set(attempts(tmp_path)) == {(n, 0) for n in range(8)}
    assert max(launcher.n_runs.values()) == 1
    assert [read_members(folder / "group-1" / "members.json")[0].parent.name] == ["trial-004"]
