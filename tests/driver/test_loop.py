"""The driver, whole searches with the fake launcher."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.driving import SEARCH, Notes, end_attempt, ledger_of, make_setup, projection, search_in
from tests.fakes import FakeLauncher, failed_end, stub_end
from xautolm_hpc import gather, report, sample
from xautolm_hpc.driver import final_evaluation, jobs, loop, profile_job
from xautolm_hpc.driver.attempts import AttemptTemplate
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.errors import DataError, InterruptedSearchError, SpaceError
from xautolm_hpc.jobdir import PROFILE, PROFILE_RESULT, End
from xautolm_hpc.predictions import Predictions, write_predictions
from xautolm_hpc.records import to_json
from xautolm_hpc.run import resume
from xautolm_hpc.run.lease import Lease
from xautolm_hpc.run.ledger import Ledger
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import Finish, FinishKind


def once_per_trial(kind: str) -> Callable[[Path], End | None]:
    """End the first attempt of every trial with a failure, later ones as the stub does."""

    def end_of(path: Path) -> End | None:
        return failed_end(kind) if path.name == "attempt-0" else stub_end(path)

    return partial(end_attempt, trial_end=end_of)


def test_a_search_stores_every_trial_exactly_once(tmp_path: Path) -> None:
    facts = search_in(tmp_path)

    stored = ExperienceStore(tmp_path / "store").read()
    assert sorted(e.provenance.trial for e in stored) == list(range(12))
    assert {e.id for e in facts.experiences} == {e.id for e in stored}
    assert facts.finish == Finish(FinishKind.BUDGET_USED, "budget used: generations 3 of 3")
    assert {"data.text": "text", "trial.time_limit_min": 60.0}.items() <= facts.settings.items()


def test_while_a_search_goes_on_the_interval_of_its_best_trial_alone_is_computed(tmp_path: Path) -> None:
    report_path = tmp_path / "runs" / "fake" / "report" / "report.json"
    at_commits: list[tuple[list[str], str]] = []

    def answered(path: Path) -> End | None:
        if report_path.exists():
            report: Any = read_json(report_path)
            at_commits.append((list(report["certainty"]["intervals"]), str(report["best"]["trial"])))
        truth = np.arange(30) % 2
        write_predictions(path / "predictions.npz", Predictions(truth=truth, predicted=truth, n_classes=2))
        return stub_end(path)

    search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=answered)))

    assert at_commits
    assert all(of_trials == [best] for of_trials, best in at_commits)
    assert {"validation": [1.0, 1.0]} in read_json(report_path)["certainty"]["intervals"].values()


def test_failures_keep_kind_and_origin(tmp_path: Path) -> None:
    every_second_fails = partial(end_attempt, trial_end=partial(stub_end, one_oom_in=2))
    search_in(tmp_path, launcher=FakeLauncher(every_second_fails))

    failed = [e.outcome for e in ExperienceStore(tmp_path / "store").read() if not e.outcome.succeeded]
    assert failed
    assert {(o.kind, o.origin) for o in failed} == {("gpu_oom", "pipeline")}


def test_two_searches_of_one_file_are_equal(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        search_in(tmp_path / name)

    assert projection(tmp_path / "a") == projection(tmp_path / "b")


def test_an_infrastructure_failure_is_retried_and_both_attempts_are_stored(tmp_path: Path) -> None:
    search_in(tmp_path, launcher=FakeLauncher(once_per_trial("node_failure")))

    stored = ExperienceStore(tmp_path / "store").read()
    by_attempt = Counter(e.provenance.attempt for e in stored)
    assert by_attempt == {0: 12, 1: 12}
    assert {e.outcome.kind for e in stored if e.provenance.attempt == 0} == {"node_failure"}


def test_a_busy_node_is_left_out_and_stored_as_such(tmp_path: Path) -> None:
    launcher = FakeLauncher(once_per_trial("node_busy"))

    facts = search_in(tmp_path, launcher=launcher)

    first_generation = {s.attempt_dirs[0].name: s.resources.exclude for s in launcher.submissions[1:3]}
    assert first_generation == {"attempt-0": (), "attempt-1": ("fake-1",)}
    assert Counter(e.outcome.kind for e in facts.experiences)["node_busy"] == 12
    stored = [e.outcome for e in ExperienceStore(tmp_path / "store").read() if e.provenance.attempt == 0]
    assert {(o.kind, o.origin) for o in stored} == {("node_busy", "infrastructure")}


def test_host_oom_is_retried_with_twice_the_memory(tmp_path: Path) -> None:
    launcher = FakeLauncher(once_per_trial("host_oom"))

    search_in(tmp_path, launcher=launcher)

    memory = {s.attempt_dirs[0].name: s.resources.memory_bytes for s in launcher.submissions[1:]}
    assert memory["attempt-1"] == 2 * memory["attempt-0"]


def test_a_retry_leaves_out_the_node_that_failed(tmp_path: Path) -> None:
    launcher = FakeLauncher(once_per_trial("gpu_fault"))

    search_in(tmp_path, launcher=launcher)

    first_generation = {s.attempt_dirs[0].name: s.resources.exclude for s in launcher.submissions[1:3]}
    assert first_generation == {"attempt-0": (), "attempt-1": ("fake-1",)}


def test_a_trial_has_at_most_max_attempts(tmp_path: Path) -> None:
    def always_lost(path: Path) -> End:
        return failed_end("lost", message=f"lost {path.parent.name}")

    search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=always_lost)))

    attempts = Counter(e.provenance.trial for e in ExperienceStore(tmp_path / "store").read())
    assert set(attempts.values()) == {3}


def test_five_equal_first_failures_stop_the_search_and_are_no_evidence(tmp_path: Path) -> None:
    def broken(path: Path) -> End:
        return failed_end("error", message=f"trial {path}\nImportError: no module named 'x'")

    facts = search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=broken)))

    reason = "stopped: the last 8 trials failed alike, with error: ImportError: no module named 'x'"
    assert facts.finish == Finish(FinishKind.STOPPED, reason)
    suspects = {e.provenance.trial: e.provenance.suspect for e in ExperienceStore(tmp_path / "store").read()}
    assert suspects == dict.fromkeys(range(8), True)


def test_expected_failures_do_not_stop_the_search(tmp_path: Path) -> None:
    def oom(path: Path) -> End:
        return failed_end("gpu_oom", message="CUDA out of memory")

    facts = search_in(tmp_path, launcher=FakeLauncher(partial(end_attempt, trial_end=oom)))

    assert facts.finish == Finish(FinishKind.BUDGET_USED, "budget used: generations 3 of 3")


def test_a_trial_budget_cuts_the_last_generation(tmp_path: Path) -> None:
    facts = search_in(tmp_path, text=SEARCH.replace("generations = 3", "trials = 6"))

    assert len(facts.last_attempts()) == 6
    assert facts.finish == Finish(FinishKind.BUDGET_USED, "budget used: trials 6 of 6")


def test_bad_data_is_told_with_the_profile_jobs_words_and_tried_again_by_the_next_run(tmp_path: Path) -> None:
    words = "`rows.jsonl`: column 'text' does not exist; columns: body, label. Set data.text"

    def bad_data(path: Path) -> End | None:
        return failed_end("error", message=words) if (path / PROFILE).exists() else stub_end(path)

    with pytest.raises(DataError, match="column 'text' does not exist"):
        search_in(tmp_path, launcher=FakeLauncher(bad_data))
    facts = search_in(tmp_path)

    assert len(facts.experiences) == 12


def test_what_the_profile_job_found_in_the_data_is_told(tmp_path: Path) -> None:
    def with_note(path: Path) -> End | None:
        end = end_attempt(path)
        if (path / PROFILE_RESULT).exists():
            write_json(path / PROFILE_RESULT, read_json(path / PROFILE_RESULT) | {"notes": ["test left out"]})
        return end

    setup = make_setup(tmp_path, launcher=FakeLauncher(with_note))

    run_search(setup)

    assert isinstance(setup.watcher, Notes)
    assert setup.watcher.lines[0] == "data: test left out"


def test_a_run_keeps_the_order_of_classes_it_began_with(tmp_path: Path) -> None:
    search_in(tmp_path)
    result_path = tmp_path / "runs" / "fake" / "profile" / "attempt-0" / PROFILE_RESULT
    result = read_json(result_path)
    as_text = ["0", "1", "10", "2"]  # as earlier versions ordered numbers
    write_json(result_path, result | {"task": result["task"] | {"labels": as_text}})

    search_in(tmp_path, text=SEARCH.replace("generations = 3", "generations = 4"))

    stored = ExperienceStore(tmp_path / "store").read()
    assert {e.task.labels for e in stored if e.provenance.generation == 3} == {tuple(as_text)}


def test_a_space_in_which_nothing_can_run_is_refused_before_any_trial(tmp_path: Path) -> None:
    text = SEARCH.replace("[search]", "[space.params.full]\nmax_length = [4096]\n[search]").replace(
        'methods = ["full", "partial", "lora", "head"]', 'methods = ["full"]'
    )

    with pytest.raises(SpaceError, match="context_length"):
        search_in(tmp_path, text=text)


def test_ctrl_c_submits_nothing_more_but_gathers_what_runs(tmp_path: Path) -> None:
    pressed = iter([0, 0])

    def n_interrupts() -> int:
        return next(pressed, 1) if (tmp_path / "runs" / "fake" / "gen-000" / "submission-0").exists() else 0

    with pytest.raises(InterruptedSearchError, match="the same command goes on"):
        search_in(tmp_path, n_interrupts=n_interrupts)

    assert len(ExperienceStore(tmp_path / "store").read()) == 4
    assert [line["event"] for line in ledger_of(tmp_path)].count("commit") == 1


def test_ctrl_c_twice_detaches_and_the_next_run_adopts_the_jobs(tmp_path: Path) -> None:
    def n_interrupts() -> int:
        return 2 if (tmp_path / "runs" / "fake" / "gen-000" / "submission-0").exists() else 0

    with pytest.raises(InterruptedSearchError, match="detached"):
        search_in(tmp_path, n_interrupts=n_interrupts)
    launcher = FakeLauncher(end_attempt)
    search_in(tmp_path, launcher=launcher)

    resubmitted = {path for submission in launcher.submissions for path in submission.attempt_dirs}
    assert not [path for path in resubmitted if "gen-000" in str(path)]


def test_a_late_outcome_replaces_a_committed_lost(tmp_path: Path) -> None:
    slow = FakeLauncher(partial(end_attempt, trial_end=lambda path: None), state="UNKNOWN")
    text = SEARCH.replace("generations = 3", "generations = 1").replace(
        "[budget]", "[trial]\nmax_attempts = 1\n[budget]"
    )
    facts = search_in(tmp_path, launcher=slow, text=text)
    path = tmp_path / "runs" / "fake" / "gen-000" / "trial-002" / "attempt-0"
    write_json(path / "outcome.json", to_json(stub_end(path, one_oom_in=10**6)))

    again = search_in(tmp_path, launcher=slow, text=text)

    assert {e.outcome.kind for e in facts.experiences} == {"lost"}
    by_trial = {e.provenance.trial: e.outcome.status for e in ExperienceStore(tmp_path / "store").read()}
    assert by_trial == {0: "failed", 1: "failed", 2: "succeeded", 3: "failed"}
    assert len(again.experiences) == 4


def test_a_finished_search_run_again_only_reports(tmp_path: Path) -> None:
    search_in(tmp_path)
    launcher = FakeLauncher(end_attempt)

    facts = search_in(tmp_path, launcher=launcher)

    assert launcher.submissions == []
    assert len(facts.experiences) == 12


def test_a_larger_budget_goes_on_where_the_search_ended(tmp_path: Path) -> None:
    search_in(tmp_path)
    (tmp_path / "whole").mkdir()
    search_in(tmp_path / "whole", text=SEARCH.replace("generations = 3", "generations = 4"))

    search_in(tmp_path, text=SEARCH.replace("generations = 3", "generations = 4"))

    assert projection(tmp_path) == projection(tmp_path / "whole")
    changes = [line["settings"] for line in ledger_of(tmp_path) if line["event"] == "changed"]
    assert changes == [["budget.generations: 3 -> 4"]]
    assert read_json(tmp_path / "runs" / "fake" / "run.json")["search"]["budget"]["generations"] == 4


def test_the_report_is_written_with_the_run(tmp_path: Path) -> None:
    search_in(tmp_path)

    report_dir = tmp_path / "runs" / "fake" / "report"
    assert {path.name for path in report_dir.iterdir()} >= {
        "report.json",
        "report.md",
        "report.html",
        "pareto.png",
        "pareto.json",
    }
    assert len(read_json(report_dir / "report.json")["front"]) >= 1


def test_the_watcher_sees_every_phase_and_hears_every_end(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)

    run_search(setup)

    notes = setup.watcher
    assert isinstance(notes, Notes)
    phases = list(dict.fromkeys(view.phase for view in notes.views))
    assert phases == ["profile", "priors", "generation", "commit", "report", "done"]
    assert sum(line.startswith("trial ") for line in notes.lines) == 12


class Killed(BaseException):
    """Ends a driver on the spot, as SIGKILL would: nothing catches it."""


class KillPoint:
    """Counts what the driver does and kills it at the n-th deed, before or after it."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.n = 0

    def step(self) -> None:
        if self.n == self.at:
            self.n += 1
            raise Killed(f"killed at step {self.at}")
        self.n += 1


@pytest.fixture
def killable(monkeypatch: pytest.MonkeyPatch) -> list[KillPoint]:
    """Let the deeds of the driver pass a kill point; a killed driver releases no lease."""
    points = [KillPoint(-1)]

    def around(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def deed(*arguments: object, **options: object) -> object:
            points[0].step()
            result = original(*arguments, **options)
            points[0].step()
            return result

        monkeypatch.setattr(owner, name, deed)

    around(Ledger, "append")
    around(FakeLauncher, "submit")
    around(ExperienceStore, "append")
    around(AttemptTemplate, "write")
    around(jobs, "write_members")
    around(loop, "clean_up")
    around(profile_job, "write_json")
    around(resume, "write_json")
    around(final_evaluation, "write_json")
    # What computes much and remembers nothing is made quick: it is not what this test is about.
    monkeypatch.setattr(sample, "check_feasible", partial(sample.check_feasible, n_draws=100))
    monkeypatch.setattr(report, "write_report", lambda facts, folder: None)
    around(gather, "gather_ends")
    monkeypatch.setattr(Lease, "release", lambda self: None)
    return points


def test_a_driver_killed_at_any_step_goes_on_as_if_it_never_was(tmp_path: Path, killable: list[KillPoint]) -> None:
    text = SEARCH.replace("generations = 3", "generations = 2")
    (tmp_path / "whole").mkdir()
    search_in(tmp_path / "whole", text=text)
    n_steps, expected = killable[0].n, projection(tmp_path / "whole")

    wrong = []
    for at in range(n_steps):
        folder = tmp_path / f"killed-{at}"
        folder.mkdir()
        killable[0] = KillPoint(at)
        with pytest.raises(Killed, match="killed at step"):
            search_in(folder, text=text)
        killable[0] = KillPoint(-1)
        search_in(folder, text=text)
        ends = Counter((x["trial"], x["attempt"]) for x in ledger_of(folder) if x["event"] == "end")
        if projection(folder) != expected or set(ends.values()) != {1}:
            wrong.append(at)

    assert n_steps > 60
    assert wrong == []
