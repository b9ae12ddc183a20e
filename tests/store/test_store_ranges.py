"""One table of ranges: whatever it allows, every command and prior works on; whatever it does not is named."""

import dataclasses
import json
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.priors.builders import SPACE, SYSTEM, TASK, random_experiences
from tests.store import hostile
from tests.store.extremes import HUGE, edges, outside
from tests.store.samples import as_text, by_id, experience, experiences
from xautolm_hpc.cli import main
from xautolm_hpc.errors import InputError, StoreError
from xautolm_hpc.priors import PriorSettings, distance_table, prior_content, task_distances
from xautolm_hpc.priors.settings import PRIOR_KINDS, UTILITIES
from xautolm_hpc.records import Experience, from_json, to_json
from xautolm_hpc.sample.duration import measure_time_calibration
from xautolm_hpc.store import CheckLimits, ExperienceStore, read_jsonl, storable
from xautolm_hpc.store.check import check
from xautolm_hpc.store.layout import LARGEST_EXACT, NULLABLE_TEXTS, SHARE_FIELDS, TEXT_FIELDS
from xautolm_hpc.store.range_kinds import Named, Number, Range, Scalar
from xautolm_hpc.store.ranges import RANGES, check_experiences

RECORDS = {field.name: field.type for field in dataclasses.fields(Experience)}
FIELDS: list[tuple[str, str, Range]] = [
    (record, name, allowed)
    for record, kind in RECORDS.items()
    for name, allowed in RANGES[typing.cast("type", kind)].items()
]
TIED = ("status", "kind", "origin", "truncated")
"""Fields that must agree with one another."""

KEPT = ("run_id", "trial", "attempt", "restart", "fingerprint", "model_id", "method", "task_kind", "feature_schema")
"""Fields that say what is compared with what: other values would only hide experiences from the priors."""


@pytest.mark.parametrize("record_type", list(RANGES), ids=[record_type.__name__ for record_type in RANGES])
def test_every_field_of_every_record_has_a_range_and_null_where_its_type_has(record_type: type[Any]) -> None:
    hints = typing.get_type_hints(record_type)

    nullable = {name: allowed.is_nullable for name, allowed in RANGES[record_type].items()}

    fields = dataclasses.fields(record_type)
    assert nullable == {f.name: type(None) in typing.get_args(hints[f.name]) for f in fields}


def test_the_table_and_the_layout_agree() -> None:
    by_name = {name: allowed for _, name, allowed in FIELDS}

    texts = {name for names in TEXT_FIELDS.values() for name in names}
    assert {name for name in texts if by_name[name].is_nullable} == set(NULLABLE_TEXTS)
    assert all(by_name[name].expected == "a number from 0 to 1, or null" for name in SHARE_FIELDS)
    wholes = [a for a in by_name.values() if isinstance(a, Number) and a.is_whole and a is not by_name["seed"]]
    assert max(allowed.greatest for allowed in wholes) == LARGEST_EXACT


def changed(record: str, name: str, value: Any, *, number: int = 0) -> dict[str, Any]:
    """Make the JSON of an experience in which one field was changed."""
    plain: dict[str, Any] = to_json(experience(number))
    plain[record][name] = value
    return plain


@pytest.mark.parametrize(("record", "name", "allowed"), FIELDS, ids=[f"{record}.{name}" for record, name, _ in FIELDS])
def test_what_lies_outside_is_refused_with_field_and_place_when_it_is_read_and_when_it_is_written(
    tmp_path: Path, record: str, name: str, allowed: Range
) -> None:
    path = tmp_path / "foreign.jsonl"
    for value in outside(allowed):
        path.write_text(json.dumps(changed(record, name, value)))
        part = getattr(experience(0), record)
        made = dataclasses.replace(experience(0), **{record: dataclasses.replace(part, **{name: value})})

        with pytest.raises(InputError, match=rf"line 1: (.*: )?{name}") as read:
            read_jsonl(path)
        if name == "message" and isinstance(value, str):  # it is cut when it is written
            continue
        with pytest.raises(InputError, match=rf"{name}.* is .*expected .*nothing was stored"):
            ExperienceStore(tmp_path / "store").append([made])
        assert len(str(read.value)) < 1_000


@pytest.mark.parametrize(("record", "name", "allowed"), FIELDS, ids=[f"{record}.{name}" for record, name, _ in FIELDS])
def test_what_lies_within_is_read_written_and_checked(tmp_path: Path, record: str, name: str, allowed: Range) -> None:
    if name in TIED:
        return
    path, store = tmp_path / "foreign.jsonl", ExperienceStore(tmp_path / "store")
    lines = [json.dumps(changed(record, name, value, number=2 * i)) for i, value in enumerate(edges(allowed))]
    path.write_text("\n".join(lines))

    records = read_jsonl(path)
    store.append(records)

    segment = next(store.path.glob("seg-*.h5"))
    found = {e.id: e for e in store.read()}
    assert found.keys() == {e.id for e in records}
    assert check(segment, CheckLimits(), is_named=True) == []


def with_edges(e: Experience, draw: st.DrawFn) -> Experience:
    """Change some fields of an experience to values at the edges of their ranges."""
    plain = to_json(e)
    for record, name, allowed in FIELDS:
        if name in (*TIED, *KEPT):
            continue
        if draw(st.integers(0, 9)) > 1:
            continue
        if isinstance(allowed, Named):
            inner = allowed.item
            known = list(plain[record][name]) or ["f1"]
            values = edges(inner) if isinstance(inner, Scalar) else [0.0, 1.0]
            plain[record][name] |= {draw(st.sampled_from(known)): draw(st.sampled_from(values))}
        else:
            plain[record][name] = draw(st.sampled_from(edges(allowed)))
    plain["task"]["features"] = draw(st.sampled_from([[1.0, 2.0], [1e30, -1e30], [1e-320, 0.0], [None, None], [0.0]]))
    plain["task"]["kind"] = TASK.kind
    plain["system"] |= {"n_gpus": SYSTEM.n_gpus, "gpu_name": SYSTEM.gpu_name} if draw(st.booleans()) else {}
    return from_json(Experience, plain, where="edges")


@st.composite
def stores(draw: st.DrawFn) -> list[Experience]:
    """Draw experiences of a few tasks that are within every range, many at an edge."""
    return [with_edges(e, draw) for e in random_experiences(16, seed=draw(st.integers(0, 3)))]


def check_priors(records: Sequence[Experience], store: ExperienceStore) -> None:
    """Compute every prior as a search on the first experience's task and node would."""
    table = store.read_table()
    now, models = records[0], {model.id: model for model in SPACE.models}
    for kind, utility in zip(PRIOR_KINDS, (*UTILITIES, UTILITIES[0]), strict=True):
        chosen = PriorSettings(kind=kind, utility=utility, objectives=("f1", "evaluation_time_s"))
        content = prior_content(table, SPACE, task=now.task, system=now.system, settings=chosen, models=models)
        json.dumps(to_json(content), allow_nan=False)
    calibration = measure_time_calibration(table, SPACE, system=now.system)
    assert calibration is None or np.isfinite(calibration)
    for metric in ("euclidean", "cosine"):
        distance_table(*task_distances(records, metric=metric))


@settings(max_examples=3, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(records=stores())
def test_whatever_is_within_the_ranges_every_command_and_prior_works_on(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], records: list[Experience]
) -> None:
    folder = tmp_path_factory.mktemp("within")
    path, store = folder / "store", ExperienceStore(folder / "store")
    check_experiences(records)
    store.append(records)

    check_priors(records, store)

    found = store.read()
    shown = [["show", str(path), found[0].id], ["info", str(path)], ["distances", str(path)]]
    exports = [
        ["export", str(path), "--to", str(folder / f"copy.{form}")] for form in ("jsonl", "csv", "parquet", "h5")
    ]
    others = [["import", str(folder / "copy.jsonl"), "--into", str(folder / "again")], ["compact", str(path)]]
    for verb in (*shown, *exports, *others):
        assert main(["store", *verb]) == 0, (verb, capsys.readouterr().err)
    assert as_text(by_id(ExperienceStore(folder / "again").read())) == as_text(by_id(found))
    assert check(next(path.glob("seg-*.h5")), CheckLimits(), is_named=True) == []
    first, second = found[0], experience(1, run_id="other", outcome={"metrics": {"f1": 0.25}})
    second_too = dataclasses.replace(second, outcome=dataclasses.replace(second.outcome, metrics={"f1": 0.5}))
    store.append([second, second_too])
    marks = [
        ["accept", str(path), first.provenance.run_id],
        ["forget", str(path), first.id, "--site", first.provenance.site],
        ["resolve", str(path), second.key, second.id],
        ["merge", str(folder / "copy.h5"), str(folder / "again"), "--into", str(path)],
        ["export", str(path), "--to", str(folder / "earlier"), "--format", "1", "--redact"],
        ["verify", str(path)],
    ]
    for verb in marks:
        assert main(["store", *verb]) == 0, (verb, capsys.readouterr())
    assert {e.id for e in store.read()} == {e.id for e in found[1:]} | {second.id}


def of_task(name: str, value: Any) -> hostile.Change:
    return hostile.entry("tasks", lambda task: {**task, name: value})


def of_system(name: str, value: Any) -> hostile.Change:
    return hostile.entry("systems", lambda system: {**system, name: value})


FOREIGN: list[tuple[hostile.Change, str]] = [
    (of_system("ram_bytes", HUGE), "ram_bytes is a whole number of about 401 digits; expected a whole number from 0"),
    (of_system("ram_bytes", -1), "ram_bytes is -1"),
    (of_system("gpu_capability", -9e300), "gpu_capability is -9e+300; expected a number from 0 to 1000, or null"),
    (of_system("gpu_memory_bytes", -(2**70)), "gpu_memory_bytes is -1180591620717411303424"),
    (of_system("n_gpus", 2**31), "n_gpus is 2147483648"),
    (of_task("length_tokens", [1.0]), "length_tokens is (1.0,); expected a list of 3 items"),
    (of_task("length_tokens", []), "length_tokens is (); expected a list of 3 items"),
    (of_task("length_tokens", [1.0, 2.0, HUGE]), "length_tokens: expected float, found a whole number of about 401"),
    (of_task("n_train", HUGE), "n_train is a whole number of about 401 digits"),
    (of_task("n_train", -400), "n_train is -400"),
    (of_task("features", [0.0] * 5_000), "features is (0.0, 0.0, "),
    (of_task("features", [1e300, None, 0.0]), "features[0] is 1e+300; expected a number from -1e+30 to 1e+30, or null"),
    (of_task("semantic", []), "semantic is (); expected a list of 1 to 65,536 items"),
    (of_task("labels", ["x" * 5_000]), "labels[0] is 'xxx"),
    (of_task("fingerprint", "\ud800"), "fingerprint is '\\ud800'"),
    (hostile.cell("numbers", "train_s", -1.0), "train_s is -1.0 somewhere; expected a number from 0 to 1e+12, or null"),
    (hostile.cell("numbers", "gpu_energy_j", 1e300), "gpu_energy_j is 1e+300 somewhere"),
    (hostile.cell("numbers", "cpu_share", 1.5), "cpu_share is 1.5 somewhere"),
    (hostile.cell("numbers", "truncated", 0.5), "truncated is 0.5 somewhere"),
    (hostile.cell("integers", "job", -5), "job is -5 somewhere"),
    (hostile.cell("integers", "ended_at_us", -(2**63)), "ended_at_us is -9223372036854775808 somewhere"),
    (hostile.cell("metrics", "dev_loss", float("inf")), "dev_loss is inf somewhere"),
    (hostile.cell("param_floats", "learning_rate", 1e39), "learning_rate is 1e+39; expected true, false, a whole"),
]


def test_a_segment_with_a_value_outside_is_named_with_the_reason_and_the_rest_is_read(tmp_path: Path) -> None:
    ExperienceStore(tmp_path).append(experiences(9))
    sound = next(tmp_path.glob("seg-*.h5"))
    made = {
        hostile.make(change, sound, tmp_path / f"seg-{i:032d}.h5").name: reason
        for i, (change, reason) in enumerate(FOREIGN)
    }
    store = ExperienceStore(tmp_path)

    n_read = len(store.read())
    findings = [f for f in store.verify() if f.problem == "range"]

    assert n_read == 9
    assert {f.where: made[f.where] if made[f.where] in f.message else f.message for f in findings} == made
    assert {f.where for f in store.findings} == set(made)
    assert all(len(f.message) < 1_000 for f in findings)


def test_what_a_search_of_this_site_measured_can_always_be_stored(tmp_path: Path) -> None:
    odd: dict[str, Any] = {"train_s": -1.0, "queue_s": 1e300, "n_steps": -5, "message": "x" * 10**6}
    record = experience(0, outcome={**odd, "curve": ((1.0, 2.0),) * 25_000})

    ExperienceStore(tmp_path).append([storable(record)])

    found = ExperienceStore(tmp_path).read()[0]
    assert (found.id, found.outcome.metrics) == (record.id, record.outcome.metrics)
    assert (found.outcome.train_s, found.outcome.queue_s, found.outcome.n_steps) == (None, None, None)
    assert len(found.outcome.curve) == 8_334
    assert storable(experience(1)) == experience(1)


def test_segments_whose_names_do_not_fit_into_one_stay_apart(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path)
    for number in range(9):
        params = {f"{'漢' * 190}-{number}-{i}": i for i in range(250)}
        pipeline = dataclasses.replace(experience(number).pipeline, params=params)
        assert store.append([experience(number, pipeline=pipeline)]).n_new == 1

    assert len(ExperienceStore(tmp_path).read()) == 9
    assert store.verify() == []
    with pytest.raises(StoreError, match=r"parameters or metrics of its experiences have too many names"):
        store.compact()
