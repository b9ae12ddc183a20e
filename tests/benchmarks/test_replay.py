"""The replay benchmark on small made-up trials: its tables, its searches, its measures."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replay import nested
from benchmarks.replay.__main__ import known_methods, main
from benchmarks.replay.figures import main as draw
from benchmarks.replay.limits import ReplayLimits, allowed, read_limits
from benchmarks.replay.measures import MEASURES, compare, holm, hypervolume, measure_search, summarise
from benchmarks.replay.nested import ACQUISITION_CHOICES, rate_settings, select_settings
from benchmarks.replay.past import is_usable_past, make_past
from benchmarks.replay.search_methods import METHODS, ReplayedSearch
from benchmarks.replay.text import on_test
from benchmarks.replay.trials import Oracle, build_space, build_tables
from benchmarks.replay.world import ReplayPlan, World, replay
from tests import nouns
from tests.priors.builders import SYSTEM, TASK, a_failure, a_success, an_experience
from xautolm_hpc.priors import AcquisitionSettings
from xautolm_hpc.records import Experience, Outcome, Pipeline
from xautolm_hpc.space import Numeric
from xautolm_hpc.store import ExperienceStore


def _pipelines(n: int) -> list[Pipeline]:
    rng = np.random.default_rng(5)
    models = ("minilm-l1", "minilm-l6")
    return [
        nouns.pipeline(
            model_id=str(rng.choice(models)),
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
    experiences = [
        replace(e, pipeline=replace(e.pipeline, params={**e.pipeline.params, "max_length": 192}))
        if e.task.name == "task-1"
        else e
        for e in _experiences()
    ]

    tables = build_tables(experiences)

    halves = [{p.params["learning_rate"] for p in tables[name].half(0).pipelines} for name in ("task-0", "task-1")]
    assert halves[0] == halves[1]
    assert [len(tables["task-0"].half(which).pipelines) for which in (0, 1)] == [30, 30]


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

    assert oracle.snap([first, other]) == [oracle.snap([first])[0], other]
    assert oracle.snap([first]) != [first]
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

    (permuted, _), real = make_past("permuted", past, task=tables["task-0"], seed=0), past[0]

    assert permuted.pipelines == real.pipelines
    assert np.array_equal(np.sort(permuted.f1), np.sort(real.f1), equal_nan=True)
    assert not np.array_equal(permuted.f1, real.f1, equal_nan=True)
    assert [permuted.outcome(i).objective("f1") for i in range(60)] == [
        group[0].outcome.objective("f1") for group in permuted.experiences
    ]
    assert [t.task.name for t in make_past("unlike", past, task=tables["task-0"], seed=0)] == ["task-2"]


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

    outcomes = [oracle.evaluate(p)[1] for p in table.pipelines]

    right = [(o.succeeded) == (not math.isnan(f1)) for o, f1 in zip(outcomes, table.f1, strict=True)]
    assert np.mean(right) > 0.9


@pytest.mark.parametrize("method", known_methods())
def test_every_method_searches_a_half_to_its_end(method: str) -> None:
    tables = build_tables(_experiences())
    space = build_space(list(tables.values()))
    searched = tables["task-0"].half(0)
    search = ReplayedSearch(
        [tables["task-1"].half(1), tables["task-2"].half(1)], space, Oracle(searched, space), ("f1",), 20, 3
    )

    trials = METHODS[method](search)

    again = METHODS[method](replace(search, oracle=Oracle(searched, space)))
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


def test_evidence_is_compared_with_the_best_other_method_not_with_itself_as_shipped() -> None:
    measures = {"nspe uniform": 1.0, "nspe evidence": 0.6, "evidence as shipped": 0.5, "portfolio": 0.8}
    rows = [
        {"task": task, "half": 0, "seed": seed, "method": method, **dict.fromkeys(MEASURES, value)}
        for task in ("a", "b")
        for seed in range(3)
        for method, value in measures.items()
    ]

    best = summarise(rows)["time_to_target_s"]["best other"]

    assert (best["name"], best["ratio"]) == ("portfolio", pytest.approx(0.75))


def test_evidence_as_shipped_has_the_default_acquisition_settings() -> None:
    tables = build_tables(_experiences())
    space, searched = build_space(list(tables.values())), tables["task-0"].half(0)

    def tried(method: str, acquisition: AcquisitionSettings) -> list[str]:
        past = [tables["task-1"].half(1), tables["task-2"].half(1)]
        search = ReplayedSearch(past, space, Oracle(searched, space), ("f1",), 20, 3, acquisition=acquisition)
        return [pipeline.canonical() for pipeline, _, _ in METHODS[method](search)]

    risky = AcquisitionSettings(feasibility_exponent=0.0, time_weight=1.0)
    assert tried("evidence as shipped", risky) == tried("nspe evidence", AcquisitionSettings())
    assert tried("evidence as shipped", risky) != tried("nspe evidence", risky)


def test_what_searches_ended_with_is_shown_on_test(tmp_path: Path) -> None:
    rows = [{"task": "a", "method": "m", "incumbent": name} for name in ("x", "x", "y", "z")]
    (tmp_path / "t").write_text(
        "".join(
            json.dumps({"task": "a", "pipeline": name, "test_f1": f1}) + "\n" for name, f1 in (("x", 0.5), ("y", 0.8))
        )
    )

    assert on_test(rows, tmp_path / "t").splitlines()[-1] == "| m | 0.600 (75%) |"


NOTHING_SHARED = {f"task-{i}": {f"task-{j}": 0.0 for j in range(3)} for i in range(3)}


def _world(n: int = 40, **limits: ReplayLimits) -> World:
    return World(build_tables(_experiences(n)), NOTHING_SHARED, limits)


def test_a_task_that_shares_rows_or_is_the_same_data_or_another_kind_is_not_learnt_from() -> None:
    world = _world()
    tasks = {name: table.task for name, table in world.tables.items()}
    shared = {**NOTHING_SHARED, "task-1": {"task-0": 0.011, "task-2": 0.01}}

    assert [t.task.name for t in World(world.tables, shared).past_tasks("task-0")] == ["task-2"]
    assert [t.task.name for t in World(world.tables, shared).past_tasks("task-2", without="task-0")] == ["task-1"]
    twin = replace(tasks["task-1"], dataset_id=tasks["task-0"].dataset_id)
    other_kind = replace(tasks["task-1"], kind="question-answering")
    assert not is_usable_past(twin, tasks["task-0"], shared=NOTHING_SHARED)
    assert not is_usable_past(other_kind, tasks["task-0"], shared=NOTHING_SHARED)
    with pytest.raises(KeyError, match="task-1"):
        is_usable_past(tasks["task-1"], tasks["task-0"], shared={})


def test_what_the_product_rejects_no_method_tries(tmp_path: Path) -> None:
    tables = build_tables(_experiences())
    space, past = build_space(list(tables.values())), [tables["task-1"], tables["task-2"]]
    (tmp_path / "a.toml").write_text('profile = "p.toml"\n[trial]\ntime_limit_min = 0.5\n')
    (tmp_path / "p.toml").write_text("[job]\nmemory_gb = 0.2\n")

    limits = read_limits(tmp_path / "a.toml")

    assert limits == ReplayLimits(30.0, 0.2)
    assert read_limits(tmp_path / "b.toml") == ReplayLimits()
    everything = allowed(tables["task-0"], past, space=space, limits=ReplayLimits())
    assert everything.pipelines == tables["task-0"].pipelines
    kept = allowed(tables["task-0"], past, space=space, limits=limits)
    assert len(kept.pipelines) == 0


def test_rows_are_the_same_however_many_processes_replay() -> None:
    plans = [ReplayPlan(("nspe uniform", "nspe evidence"), (0, 1)), ReplayPlan(("random",), (0,), past="unlike")]

    alone, together = (replay(_world(20), plans, n_jobs=n) for n in (1, 2))

    assert alone == together
    assert [len(rows) for rows in alone] == [3 * 2 * 2 * 2, 3 * 2]


def test_settings_for_a_task_do_not_depend_on_its_trials() -> None:
    world = _world(20)
    (permuted,) = make_past("permuted", [world.tables["task-0"]], task=world.tables["task-1"], seed=1)
    changed = replace(world, tables={**world.tables, "task-0": permuted})

    rate = partial(rate_settings, objectives=("f1",), n_seeds=1, choices=ACQUISITION_CHOICES[:2], n_jobs=2)
    before, after = rate(world), rate(changed)

    assert set(before) == set(world.tables)
    assert after["task-0"] == before["task-0"]
    assert after["task-1"] != before["task-1"]
    assert after["task-2"] != before["task-2"]


def test_the_settings_of_least_regret_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    regrets = {"a": [0.0, -1.0, 2.0], "b": [0.5, 0.5, 0.5]}
    monkeypatch.setattr(nested, "rate_settings", lambda *_, **__: regrets)

    chosen = select_settings(_world(4), objectives=("f1",), n_seeds=1, choices=ACQUISITION_CHOICES[:3])

    assert chosen == {"a": ACQUISITION_CHOICES[1], "b": ACQUISITION_CHOICES[0]}


def test_the_commands_replay_a_store_and_write_tables_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ExperienceStore(tmp_path / "store").append(_experiences(20))
    (tmp_path / "shared-rows.json").write_text(json.dumps(NOTHING_SHARED))
    out, figures = str(tmp_path / "out"), tmp_path / "figures"

    status = main([str(tmp_path / "store"), out, "--parts", "one", "permuted", "--seeds", "1", "--methods", "random",
                   "nspe evidence", "--jobs", "2", "--choose", "1"])  # fmt: skip

    assert status == 0
    written = json.loads((tmp_path / "out" / "one.json").read_text())
    assert len(written["rows"]) == 3 * 2 * 1 * 3
    assert written["summary"]["time_to_target_s"]["nspe evidence"]["ratio"] < 1.0
    assert set(written["acquisition"]) == {"task-0", "task-1", "task-2"}
    assert "| nspe evidence |" in capsys.readouterr().out
    assert draw([str(tmp_path / "store"), out, str(figures)]) == 0
    assert sorted(path.name for path in figures.iterdir()) == [
        "above-uniform.png",
        "convergence.png",
        "distances.png",
        "fronts.png",
        "priors.png",
        "tables.md",
    ]
    assert "## permuted" in (figures / "tables.md").read_text()
