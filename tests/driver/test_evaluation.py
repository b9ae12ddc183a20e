"""The evaluation of a list of pipelines: in its order, with its seeds, resumed, and with many trials in one worker."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.seed_design import N_PIPELINES, draw_pipelines
from tests.driving import SEARCH, end_attempt, make_setup, projection
from tests.fakes import FakeLauncher, failed_end
from xautolm_hpc.cli import main
from xautolm_hpc.driver import evaluation
from xautolm_hpc.driver.evaluation import read_list, run_evaluation
from xautolm_hpc.errors import InputError, InterruptedSearchError
from xautolm_hpc.jobdir import End
from xautolm_hpc.store import ExperienceStore
from xautolm_hpc.view import Finish, FinishKind

ROOT_DIR = Path(__file__).parents[2]
TEXT = SEARCH.replace("generations = 3", "trials = 1000")
BASE: dict[str, Any] = {"learning_rate": 1e-3, "batch_size": 16, "max_length": 32, "epochs": 2}


def _lines(n: int) -> list[dict[str, Any]]:
    return [
        {"model": "minilm-l1", "method": "head", "params": {**BASE, "epochs": i + 1}, "seed": 100 + i} for i in range(n)
    ]


def _write(path: Path, lines: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _evaluate(folder: Path, lines: Sequence[object], **options: Any) -> Any:
    return run_evaluation(make_setup(folder, text=TEXT, **options), _write(folder / "list.jsonl", lines))


def test_the_list_is_evaluated_in_its_order_with_its_seeds_ten_to_a_segment(tmp_path: Path) -> None:
    facts = _evaluate(tmp_path, _lines(23))

    experiences = sorted(ExperienceStore(tmp_path / "store").read(), key=lambda e: e.provenance.trial)
    assert [(e.pipeline.params["epochs"], e.provenance.seed) for e in experiences] == [
        (i + 1, 100 + i) for i in range(23)
    ]
    assert [e.provenance.generation for e in experiences] == [0] * 10 + [1] * 10 + [2] * 3
    assert facts.finish == Finish(FinishKind.LIST_EVALUATED, "evaluated all 23 pipelines of the list")


def test_one_pipeline_may_stand_in_the_list_with_several_seeds(tmp_path: Path) -> None:
    line = _lines(1)[0]

    _evaluate(tmp_path, [{**line, "seed": 1}, {**line, "seed": 2}, {k: v for k, v in line.items() if k != "seed"}])

    seeds = {e.provenance.seed for e in ExperienceStore(tmp_path / "store").read()}
    assert len(seeds) == 3


def test_an_interrupted_evaluation_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    for name in ("whole", "twice"):
        (tmp_path / name).mkdir()
    _evaluate(tmp_path / "whole", _lines(15))
    presses = iter([0] * 3 + [1] * 1000)

    with pytest.raises(InterruptedSearchError, match="the same command goes on"):
        _evaluate(tmp_path / "twice", _lines(15), n_interrupts=lambda: next(presses))
    _evaluate(tmp_path / "twice", _lines(15))

    assert projection(tmp_path / "twice") == projection(tmp_path / "whole")


def _fail_alike(attempt_dir: Path) -> End | None:
    return end_attempt(attempt_dir, trial_end=lambda path: failed_end("error", message="KeyError: 'text'"))


@pytest.mark.parametrize(
    ("budget", "launcher", "left_out"),
    [
        ("trials = 7", FakeLauncher(end_attempt), (7, 8, 9, 10, 11)),
        ("generations = 1", FakeLauncher(end_attempt), (10, 11)),
        ("trials = 12", FakeLauncher(end_attempt), ()),
        ("trials = 99", FakeLauncher(_fail_alike), (10, 11)),
    ],
)
def test_what_was_left_out_of_the_list_is_known(
    tmp_path: Path, budget: str, launcher: FakeLauncher, left_out: tuple[int, ...]
) -> None:
    setup = make_setup(tmp_path, text=SEARCH.replace("generations = 3", budget), launcher=launcher)

    facts = run_evaluation(setup, _write(tmp_path / "list.jsonl", _lines(12)))

    assert facts.left_out == left_out
    assert json.loads((setup.run_dir.report_dir / "report.json").read_text())["left_out"] == list(left_out)


def test_lines_may_be_added_but_not_changed(tmp_path: Path) -> None:
    _evaluate(tmp_path, _lines(3))

    _evaluate(tmp_path, _lines(5))
    changed = [*_lines(1), {**_lines(2)[1], "seed": 7}, *_lines(5)[2:]]

    assert len(list(ExperienceStore(tmp_path / "store").read())) == 5
    with pytest.raises(InputError, match=r"line 2 of the list has changed since the evaluation began"):
        _evaluate(tmp_path, changed)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"list.jsonl` line 2: is no JSON"),
        ({"model": "gpt-9", "method": "head", "params": {}}, r"line 2: model 'gpt-9' is not in .*valid: minilm-l1"),
        ({"model": "minilm-l1", "method": "magic", "params": {}}, r"line 2: unknown method 'magic'; valid: full"),
        ({"model": "minilm-l1", "params": {}}, r"line 2: Entry lacks 'method'"),
        ({"model": "minilm-l1", "method": "head", "params": {"a": [1]}}, r"line 2: params: a: expected one of"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, line: object, message: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(_lines(1)[0]) + "\n" + text + "\n")
    space = make_setup(tmp_path, text=TEXT).space

    with pytest.raises(InputError, match=message):
        read_list(path, space, search_seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"params": {**BASE, "lr": 0.1}},
            r"params: method head has no parameter 'lr'; .* Did you mean 'learning_rate'",
        ),
        ({"params": {**BASE, "learning_rate": "fast"}}, r"params: learning_rate = 'fast' .* expected a number above 0"),
        ({"params": {**BASE, "learning_rate": float("nan")}}, r"params: learning_rate = nan is not supported"),
        ({"params": {**BASE, "batch_size": 8.0}}, r"params: batch_size = 8.0 .* expected a whole number of at least 1"),
        ({"params": {**BASE, "epochs": 0}}, r"params: epochs = 0 is not supported"),
        ({"params": {**BASE, "lora_r": 8}}, r"params: method head has no parameter 'lora_r' \(lora and dora have it\)"),
        (
            {"params": {"learning_rate": 0.1}},
            r"params: method head lacks the parameters batch_size, max_length, epochs",
        ),
        ({"params": {**BASE, "optimizer": "AdamW"}}, r"params: optimizer = 'AdamW' .* Did you mean 'adamw'"),
        ({"model": "MiniLM-L1"}, r"model 'MiniLM-L1' is not in .* Did you mean 'minilm-l1'"),
        ({"method": "LoRA"}, r"unknown method 'LoRA'; valid: .* Did you mean 'lora'"),
        ({"seed": -1}, r"seed = -1: expected a whole number from 0 to 9223372036854775807"),
        ({"seed": 2**63}, r"seed = 9223372036854775808: expected"),
        ({"seed": 1.0}, r"seed: expected int, found 1.0"),
        ({"seed": True}, r"seed: expected int, found True"),
    ],
)
def test_what_the_worker_would_refuse_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    space = make_setup(tmp_path, text=TEXT).space
    path = _write(tmp_path / "list.jsonl", [*_lines(1), {**_lines(1)[0], **changes}])

    with pytest.raises(InputError, match=rf"^`{path}` line 2: {message}"):
        read_list(path, space, search_seed=0)


def test_a_key_that_stands_twice_in_a_line_is_refused(tmp_path: Path) -> None:
    space = make_setup(tmp_path, text=TEXT).space
    (tmp_path / "list.jsonl").write_text(json.dumps(_lines(1)[0]).replace('"epochs": 1', '"epochs": 1, "epochs": 2'))

    with pytest.raises(InputError, match="line 1: is no JSON: 'epochs' stands twice"):
        read_list(tmp_path / "list.jsonl", space, search_seed=0)


def test_all_bad_lines_are_told_at_once_and_of_many_the_first(tmp_path: Path) -> None:
    space = make_setup(tmp_path, text=TEXT).space
    bad = [{**line, "params": {**BASE, "batch_size": 0}} for line in _lines(12)]

    with pytest.raises(InputError, match="batch_size") as refusal:
        read_list(_write(tmp_path / "list.jsonl", bad), space, search_seed=0)

    lines = str(refusal.value).splitlines()
    assert [line.split(":")[0].rpartition(" ")[2] for line in lines[:-1]] == [str(n) for n in range(1, 11)]
    assert lines[-1] == "and 2 lines more"


def test_a_pipeline_that_will_fail_is_part_of_a_design(tmp_path: Path) -> None:
    space = make_setup(tmp_path, text=TEXT).space

    listed = read_list(_write(tmp_path / "list.jsonl", draw_pipelines()), space, search_seed=0)

    assert {300.0} <= {trial.pipeline.params["learning_rate"] for trial in listed}
    assert len(listed) == N_PIPELINES


def test_an_evaluation_begun_by_an_earlier_version_goes_on_with_what_is_now_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [*_lines(2), {**_lines(1)[0], "params": {**BASE, "lr": 0.1}}]
    with monkeypatch.context() as earlier:
        earlier.setattr(evaluation, "check_params", lambda *_, **__: None)
        _evaluate(tmp_path, lines)

    _evaluate(tmp_path, [*lines, _lines(4)[3]])

    assert len(list(ExperienceStore(tmp_path / "store").read())) == 4
    with pytest.raises(InputError, match="line 5: params: method head has no parameter 'lr'"):
        _evaluate(tmp_path, [*lines, _lines(4)[3], lines[2]])


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    space = make_setup(tmp_path, text=TEXT).space

    with pytest.raises(InputError, match="holds no pipelines; each line is one, for instance"):
        read_list(_write(tmp_path / "list.jsonl", []), space, search_seed=0)


def test_real_trials_share_a_worker_and_a_bad_one_takes_no_other_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    diverging = {**BASE, "learning_rate": 1000.0, "weight_decay": 1000.0, "epochs": 8}  # each step: weights x -10**6
    lines = [
        {"model": "minilm-l1", "method": "head", "params": BASE, "seed": 1},
        {"model": "minilm-l1", "method": "full", "params": diverging, "seed": 1},
        {"model": "minilm-l2", "method": "lora", "params": {**BASE, "lora_r": 4, "lora_alpha": 8}, "seed": 2},
    ]
    path = _write(tmp_path / "list.jsonl", lines)
    (tmp_path / "one-slot.toml").write_text("[local]\nn_slots = 1\n")
    words = ["evaluate", str(path), str(ROOT_DIR / "examples" / "tiny.toml"), "--per-process", "3", "--quiet"]
    sets = [f"store.path={tmp_path / 'store'}", "budget.generations=9", "name=list"]
    sets.append(f"profile={tmp_path / 'one-slot.toml'}")

    status = main([*words, *(word for setting in sets for word in ("--set", setting))])
    again = main([*words, *(word for setting in sets for word in ("--set", setting))])

    assert (status, again) == (0, 0), capsys.readouterr().err
    experiences = sorted(ExperienceStore(tmp_path / "store").read(), key=lambda e: e.provenance.trial)
    assert [e.outcome.status for e in experiences] == ["succeeded", "failed", "succeeded"]
    assert [e.provenance.attempt for e in experiences] == [0, 0, 0]
    claims = [
        json.loads(p.read_text()) for p in (tmp_path / "runs" / "list").glob("gen-*/trial-*/attempt-0/claim-0.json")
    ]
    assert len({c["job_id"] for c in claims}) == 1
    assert len({c["pid"] for c in claims}) == 1  # the wrapper's
    assert len({e.provenance.job for e in experiences}) == 1
    assert len({e.outcome.queue_s for e in experiences}) == 1  # until their job began
    assert [e.provenance.job_position for e in experiences] == [0, 1, 2]


@pytest.mark.parametrize(
    ("n", "profile", "problem"),
    [
        ("0", "", "the number of trials should be greater than or equal to 1"),
        ("3", "[job]\nn_processes = 2\n", "job.trials_per_job = 3: expected 1 where a trial has 2 processes"),
    ],
)
def test_a_number_of_trials_that_cannot_share_a_job_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n: str, profile: str, problem: str
) -> None:
    path = _write(tmp_path / "list.jsonl", _lines(2))
    (tmp_path / "site.toml").write_text(profile)
    words = ["evaluate", str(path), str(ROOT_DIR / "examples" / "tiny.toml"), "--per-process", n]

    status = main([*words, "--runs-dir", str(tmp_path / "runs"), "--set", f"profile={tmp_path / 'site.toml'}"])

    assert status == 2
    assert f"--per-process {n}: {problem}" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
