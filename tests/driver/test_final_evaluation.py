"""Which trials are evaluated on ``test`` in the end: those no other beats, once, in one job."""

import json
from pathlib import Path

import pytest

from tests.driving import end_attempt, make_setup
from tests.fakes import FakeLauncher, end_with
from tests.nouns import succeeded
from xautolm_hpc.driver.loop import run_search
from xautolm_hpc.durable import write_json
from xautolm_hpc.errors import InputError
from xautolm_hpc.jobdir import MEMBERS, TEST, WEIGHTS, End, read_members
from xautolm_hpc.report.markdown import to_markdown
from xautolm_hpc.report.summary import summarise


def _end(attempt_dir: Path) -> End | None:
    """End a trial with weights, and a final step with a result for every member."""
    if not (attempt_dir / MEMBERS).exists():
        (attempt_dir / WEIGHTS).write_bytes(b"weights")
        return end_attempt(attempt_dir)
    for member in read_members(attempt_dir / MEMBERS):
        write_json(member / TEST, {"f1": 0.75, "accuracy": 0.5})
    return end_with(succeeded(None))


def test_the_pareto_set_is_tested_once_and_only_its_weights_are_kept(tmp_path: Path) -> None:
    facts = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end)))

    run_dir = tmp_path / "runs" / "fake"
    best = summarise(facts)["front"]
    numbers = {trial["trial"] for trial in best}
    kept = {int(path.parts[-3].split("-")[1]) for path in run_dir.glob(f"gen-*/trial-*/attempt-*/{WEIGHTS}")}
    assert kept == numbers == set(facts.tests)
    assert set(facts.tests[min(numbers)].values()) == {0.75, 0.5}
    assert [path.name for path in (run_dir / "final").iterdir() if path.name.startswith("attempt")] == ["attempt-0"]
    command = json.loads((run_dir / "final" / "attempt-0" / "command.json").read_text())
    assert command["argv"][-3:] == ["-m", "xautolm_hpc.train", "final"]
    assert "## On test" in to_markdown(summarise(facts))

    again = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end)))

    assert again.tests == facts.tests
    assert not (run_dir / "final" / "attempt-1").exists()


def test_the_trials_that_are_named_are_tested_and_no_others(tmp_path: Path) -> None:
    first = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=(0, 1)))
    kept = {int(path.parts[-3].split("-")[1]) for path in _weights(tmp_path)}
    front = {trial["trial"] for trial in summarise(first)["front"]}
    later = sorted(front - {0, 1})[0]

    second = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=(later,)))

    assert set(first.tests) == {0, 1}
    assert kept == {0, 1} | front
    assert set(second.tests) == {0, 1, later}


def test_none_may_be_tested(tmp_path: Path) -> None:
    facts = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=()))

    assert facts.tests == {}
    assert _weights(tmp_path)


def test_a_named_trial_without_weights_is_refused_with_those_that_have_some(tmp_path: Path) -> None:
    facts = run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=()))
    front = sorted(trial["trial"] for trial in summarise(facts)["front"])

    with pytest.raises(InputError, match=f"^trial 99 has no weights .*; here: {', '.join(map(str, front))}$"):
        run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=(front[0], 99)))

    assert run_search(make_setup(tmp_path, launcher=FakeLauncher(_end), final=())).tests == {}


def _weights(folder: Path) -> list[Path]:
    return list((folder / "runs" / "fake").glob(f"gen-*/trial-*/attempt-*/{WEIGHTS}"))


def test_a_search_whose_trials_kept_no_weights_ends_without_a_final_step(tmp_path: Path) -> None:
    facts = run_search(make_setup(tmp_path))

    assert facts.tests == {}
    assert not (tmp_path / "runs" / "fake" / "final").exists()
