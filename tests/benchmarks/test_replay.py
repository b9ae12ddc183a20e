"""The replay benchmark on small made-up trials: its tables, its searches, its measures."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evidence_figures import main as draw
from replay import compare, holm, hypervolume, known_methods, main, measure_search, on_test
from replay_methods import METHODS, Setting
from replay_past import make_past
from replay_table import Oracle, build_space, build_tables, half_of
from tests.priors.builders import SYSTEM, TASK, a_failure, a_success, an_experience
from xautolm_hpc.records import Experience, Outcome, Pipeline
from xautolm_hpc.space import Numeric
from xautolm_hpc.store import ExperienceStore


def _pipelines(n: int) -> list[Pipeline]:
    rng = np.random.default_rng(5)
    models = ("minilm-l1", "minilm-l6")
    return [
        Pipeline(
            task_kind="text-classification",
            model_id=str(rng.choice(models)),
            model_revision=None,
            method=str(rng.choice(["full", "head"])),
            params={
                "learning_rate": float(10 ** rng.uniform(-5, -2)),
                "batch_size": int(rng.choice([8, 16])),
                "epochs": int(rng.integers(1, 9)),
            },
        )
        for _ in range(n)
    ]


def _outcome(pipeline: Pipeline, shift: float) -> Outcome:
    rate = math.log10(float(pipeline.params["learning_rate"]))
    if pipeline.method == "full" and rate > -3:
        return a_failure("diverged")
    good = 0.3 if pipeline.method == "full" else 0.0
    time_s = (6.0 if pipeline.model_id == "minilm-l6" else 1.0) * int(pipeline.params["epochs"])
    return a_success(0.6 + good - 0.1 * abs(rate + 3.5) + shift, time_s)


def _experiences(n: int = 60, n_tasks: int = 3) -> list[Experience]:
    tasks = [
        replace(TASK, name=f"task-{i}", fingerprint=f"f{i}", dataset_id=f"d{i}", features=(float(i), 1.0))
        for i in range(n_tasks)
    ]
    return [
        an_experience(_outcome(p, 0.01 * i), j, pipeline=p, task=task, run_id=task.name, system=SYSTEM)
        for i, task in enumerate(tasks)
        for j, p in enumerate(_pipelines(n))
    ]


def test_a_pipeline_is_in_the_same_half_on_every_task_whatever_its_length() -> None:
    halves = [half_of(p) for p in _pipelines(60)]
    longer = [half_of(replace(p, params={**p.params, "max_length": 192})) for p in _pipelines(60)]

    assert longer == halves
    assert 20 < sum(halves) < 40
    tables = build_tables(_experiences())
    assert len(tables["task-0"].half(0).pipelines) + len(tables["task-0"].half(1).pipelines) == 60


def test_seeds_of_one_pipeline_are_one_row_with_their_mean() -> None:
    pipeline = _pipelines(1)[0]
    records = [an_experience(a_success(f1, 10.0), i, pipeline=pipeline, seed=i) for i, f1 in enumerate((0.4, 0.6))] + [
        an_experience(a_failure("node_failure"), 2, pipeline=pipeline)
    ]

    table = build_tables(records)["tickets"]

    assert len(table.pipelines) == 1
    assert table.f1.tolist() == [0.5]


def test_the_table_gives_every_member_once_and_the_nearest_first() -> None:
    tables = build_tables(_experiences())
    table, space = tables["task-0"], build_space(list(tables.values()))
    oracle = Oracle(table, space)

    first, _, _ = oracle.evaluate(table.pipelines[7])
    rest = [oracle.evaluate(table.pipelines[7])[0] for _ in range(59)]

    assert first == table.pipelines[7]
    assert len({p.canonical() for p in [first, *rest]}) == 60


def test_a_chosen_draw_keeps_its_member_to_itself() -> None:
    tables = build_tables(_experiences())
    table, space = tables["task-0"], build_space(list(tables.values()))
    oracle, (first, other) = Oracle(table, space), table.pipelines[7:9]

    oracle.reserve(first)

    assert oracle.snap(first) != first
    assert oracle.evaluate(other)[0] == other
    assert oracle.evaluate(first)[0] == first


def test_what_was_drawn_to_fail_does_not_stretch_the_space() -> None:
    pipelines = _pipelines(60)
    odd = replace(pipelines[0], params={**pipelines[0].params, "batch_size": 256, "epochs": 400})
    tables = build_tables([*_experiences(n_tasks=1), an_experience(a_failure("time_limit"), 99, pipeline=odd)])

    space = build_space(list(tables.values()))

    method = space.method(odd.method)
    assert method is not None
    assert method.params["epochs"] == Numeric(1, 8, log=False, integer=True)


def test_a_permuted_past_keeps_pipelines_and_outcomes_but_not_which_is_whose() -> None:
    tables = build_tables(_experiences())
    past = [tables["task-1"], tables["task-2"]]

    (dealt, _), real = make_past("permuted", past, task=tables["task-0"]), past[0]

    assert dealt.pipelines == real.pipelines
    assert np.array_equal(np.sort(dealt.f1), np.sort(real.f1), equal_nan=True)
    assert not np.array_equal(dealt.f1, real.f1, equal_nan=True)
    assert [dealt.outcome(i).objective("f1") for i in range(60)] == [
        group[0].outcome.objective("f1") for group in dealt.experiences
    ]
    assert [t.task.name for t in make_past("unlike", past, task=tables["task-0"])] == ["task-2"]


def test_a_task_whose_best_is_within_its_noise_is_known() -> None:
    pipelines = _pipelines(3)
    records = [
        an_experience(a_success(f1 + noise * seed, 1.0), 10 * i + seed, pipeline=p, seed=seed)
        for noise in (0.01,)
        for i, (p, f1) in enumerate(zip(pipelines, (0.1, 0.2, 0.5), strict=True))
        for seed in range(3)
    ]

    assert build_tables(records)["tickets"].spread_sd() == pytest.approx(30.0)


@pytest.mark.parametrize("kind", ["forest", "gaussian"])
def test_a_surrogate_forecasts_what_it_was_fitted_on(kind: str) -> None:
    tables = build_tables(_experiences())
    table = tables["task-1"]
    oracle = Oracle(table, build_space(list(tables.values())), kind=kind)

    told = [oracle.evaluate(p)[1] for p in table.pipelines]

    right = [(o.status == "succeeded") == (not math.isnan(f1)) for o, f1 in zip(told, table.f1, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("method", known_methods())
def test_every_method_searches_a_half_to_its_end(method: str) -> None:
    tables = build_tables(_experiences())
    space = build_space(list(tables.values()))
    searched = tables["task-0"].half(0)
    setting = Setting(
        [tables["task-1"].half(1), tables["task-2"].half(1)], space, Oracle(searched, space), ("f1",), 20, 3
    )

    trials = METHODS[method](setting)

    again = METHODS[method](replace(setting, oracle=Oracle(searched, space)))
    assert len({p.canonical() for p, _, _ in trials}) == 20
    assert [p for p, _, _ in trials] == [p for p, _, _ in again]


def test_a_search_is_measured_by_hand() -> None:
    table = build_tables(_experiences())["task-0"]
    best = table.best_f1
    pipeline = table.pipelines[0]
    trials = [
        (pipeline, a_success(best / 2, 10.0), 10.0),
        (pipeline, a_failure(), 5.0),
        (pipeline, a_success(best, 20.0), 20.0),
        (pipeline, a_success(best / 4, 1.0), 1.0),
    ]

    measured = measure_search(trials, table)
    missed = measure_search(trials[:2], table)

    assert (measured["time_to_target_s"], measured["reached"], measured["failure_rate"]) == (35.0, True, 1.5 / 5)
    assert measured["incumbent"] == pipeline.canonical()
    assert measured["area"] == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert (missed["time_to_target_s"], missed["reached"]) == (15.0, False)


def test_the_hypervolume_is_the_area_under_the_stairs() -> None:
    f1, cost_s = np.array([0.5, 0.9, 0.4]), np.array([10.0, 100.0, 50.0])

    assert hypervolume(f1, cost_s, worst_s=1000.0) == pytest.approx(0.5 * 2 / 3 + 0.4 * 1 / 3)


def test_holm_steps_down() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "c": 0.06, "b": 0.06})


def test_a_method_is_compared_by_the_geometric_mean_over_tasks() -> None:
    rows = [
        {"task": task, "half": 0, "seed": seed, "method": method, "x": value}
        for task, factor in (("a", 2.0), ("b", 8.0))
        for seed in range(4)
        for method, value in (("nspe uniform", 1.0), ("other", factor))
    ]

    found = compare(rows, key="x", against="nspe uniform")

    assert found["other"]["ratio"] == pytest.approx(4.0)
    assert found["nspe uniform"]["ratio"] == 1.0
    assert found["other"]["p"] == 0.0


def test_what_searches_ended_with_is_shown_on_test(tmp_path: Path) -> None:
    rows = [{"task": "a", "method": "m", "incumbent": name} for name in ("x", "x", "y", "z")]
    (tmp_path / "t").write_text(
        "".join(
            json.dumps({"task": "a", "pipeline": name, "test_f1": f1}) + "\n" for name, f1 in (("x", 0.5), ("y", 0.8))
        )
    )

    assert on_test(rows, tmp_path / "t").splitlines()[-1] == "| m | 0.600 (75%) |"


def test_the_command_replays_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExperienceStore(tmp_path / "store").append(_experiences(40))

    status = main([str(tmp_path / "store"), "--seeds", "1", "--methods", "random", "nspe evidence", "--json",
                   str(tmp_path / "out.json")])  # fmt: skip

    assert status == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["rows"]) == 3 * 2 * 1 * 3
    assert written["summary"]["time_to_target_s"]["nspe evidence"]["ratio"] < 1.0
    assert "| nspe evidence |" in capsys.readouterr().out
    figures = tmp_path / "figures"
    assert draw([str(tmp_path / "store"), str(tmp_path / "out.json"), str(figures)]) == 0
    drawn = sorted(path.name for path in figures.iterdir())
    assert drawn == [
        "above-uniform.png",
        "convergence.png",
        "distances.md",
        "distances.png",
        "fronts.png",
        "priors.png",
    ]
