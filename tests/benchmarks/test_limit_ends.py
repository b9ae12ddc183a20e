"""The replay of ends at the limit: what a time limit becomes, what is counted, and the table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.replay.limit_ends import SEARCHES, main, pooled_mean, write_table
from benchmarks.replay.search_methods import SHIPPED, UNIFORM
from benchmarks.replay.trials import build_tables, evaluated_at_limit
from tests.benchmarks.test_replay import _experiences, _pipelines
from tests.priors.builders import a_failure, a_success, an_experience
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore

AFTER_EPOCHS = replace(
    a_failure("time_limit"), curve=((1.0, 0.7, 0.7, 0.4), (2.0, 0.6, 0.6, 0.3)), evaluation_time_s=45.0
)


def test_a_time_limit_after_an_epoch_becomes_a_truncated_success_with_its_best_dev_f1() -> None:
    cut, early, mixed = _pipelines(3)
    table = build_tables([
        an_experience(AFTER_EPOCHS, 0, pipeline=cut),
        an_experience(a_failure("time_limit"), 1, pipeline=early),
        an_experience(AFTER_EPOCHS, 2, pipeline=mixed),
        an_experience(a_success(0.9, 40.0), 3, pipeline=mixed),
    ])["tickets"]  # fmt: skip

    evaluated = evaluated_at_limit(table)

    found = {p.canonical(): evaluated.outcome(i) for i, p in enumerate(evaluated.pipelines)}
    ended = [found[p.canonical()] for p in (cut, early, mixed)]
    assert [(o.status, o.kind, o.truncated) for o in ended] == [
        ("succeeded", None, True), ("failed", "time_limit", None), ("succeeded", None, False)
    ]  # fmt: skip
    assert [o.metrics.get("f1") for o in ended] == [0.4, None, 0.9]
    assert table.outcome(table.pipelines.index(cut)).kind == "time_limit"


def test_a_mean_over_tasks_has_an_interval_around_it() -> None:
    rows = [{"task": t, "method": "m", "x": x} for t, x in (("a", 0.0), ("a", 0.2), ("b", 0.5))]

    mean, low, high = pooled_mean(rows, "x", method="m")

    assert mean == pytest.approx(0.3)
    assert 0.0 <= low < mean < high <= 0.5


def _limited() -> list[Experience]:
    """Let the longer trainings of made-up tasks end at their limit, after two epochs."""
    return [
        replace(e, outcome=AFTER_EPOCHS) if e.outcome.succeeded and (e.outcome.evaluation_time_s or 0) > 20 else e
        for e in _experiences(n=40)
    ]


def test_evaluated_ends_lose_fewer_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExperienceStore(tmp_path / "store").append(_limited())
    names = [f"task-{i}" for i in range(3)]
    (tmp_path / "shared-rows.json").write_text(json.dumps({a: dict.fromkeys(names, 0.0) for a in names}))

    assert main([str(tmp_path / "store"), str(tmp_path / "out"), "--quick", "--jobs", "2"]) == 0

    found = json.loads((tmp_path / "out" / "at-limit.json").read_text())
    assert {row["method"] for row in found["fail"]} == set(SEARCHES)
    assert {row["seed"] for row in found["evaluate"]} == {0, 1}
    for method in (UNIFORM, SHIPPED):
        fails, evaluates = (pooled_mean(found[end], "lost_share", method=method)[0] for end in ("fail", "evaluate"))
        assert evaluates < fails / 2
    shown = capsys.readouterr().out
    assert shown == write_table(found) + "\n"
    assert shown.count("\n") == 2 + 2 * len(SEARCHES)
