"""What is appended is what is read."""

import dataclasses
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests import nouns
from tests.store.samples import RUN, as_text, by_id, experience, experiences, system, task
from xautolm_hpc.errors import InputError, StoreError
from xautolm_hpc.records import Experience, Outcome, Pipeline, Provenance, System, Task
from xautolm_hpc.store import Appended, ExperienceStore

UNICODE = 'Ünïcode 漢字 \N{GRINNING FACE} "quoted" \\ / \n \t \x00 \ud800'


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    return ExperienceStore(tmp_path / "store")


def full_experience() -> Experience:
    """Fill every field with something, texts with what is hard to write."""
    return nouns.experience(
        task=task(UNICODE, fingerprint="f", labels=(UNICODE, ""), features=(0.0, -1.5, None, 1e-300), semantic=None),
        system=system(UNICODE, n_gpus=0, gpu_name=None, gpu_memory_bytes=None, gpu_capability=None),
        given=nouns.pipeline(
            task_kind="text-generation",
            model_id="modèle/ä",
            model_revision="",
            method="lora",
            params={"größe": 0.1 + 0.2, "a/b.c d": 2**53, "leer": "", "ja": True, "tekst": "漢"},
        ),
        outcome=nouns.failed(
            "gpu_oom",
            UNICODE,
            metrics={"f1": 0.0, "eigene/Größe": -1.25e-7},
            load_s=0.0,
            train_s=1e-9,
            eval_s=1 / 3,
            evaluation_time_s=2.5,
            retry_s=3.5,
            queue_s=86400.25,
            time_scope=UNICODE,
            gpu_energy_j=1e9,
            cpu_energy_j=0.125,
            energy_source=UNICODE,
            energy_scope="",
            peak_gpu_memory_bytes=2**53,
            peak_rss_bytes=0,
            n_steps=1,
            n_samples=2,
            truncated=False,
            epochs_done=0.25,
            epochs=2**53,
            schedule_share=1.0,
            step="graph",
            step_reason=UNICODE,
            cpu_share=0.0,
            curve=((1.0, 0.1, 0.2, 0.3, 0.4), (), (2.0,)),
        ),
        run_id=UNICODE.replace("\ud800", ""),
        trial=2**31 - 1,
        attempt=1,
        restart=2,
        generation=3,
        seed=2**63 - 1,
        site=UNICODE,
        started_at="1999-12-31T23:59:59.999999+00:00",
        ended_at="2026-01-02T03:04:05.678+00:00",
        prior_kind=UNICODE,
        package_version="0.1",
        image_digest="sha256:" + "f" * 64,
        lock_hash="0" * 64,
        node="node-1",
        suspect=True,
        job=2**31 - 1,
        job_position=0,
    )


def empty_experience() -> Experience:
    """Leave out every field that may be unknown."""
    return nouns.experience(
        nouns.succeeded(None),
        given=nouns.pipeline(task_kind="question-answering", model_id="m"),
        task=task(labels=(), features=(), semantic=None, length_tokens=None),
        system=nouns.system(site="s", cluster="c"),
        run_id=RUN,
        seed=0,
        site="s",
        ended_at="2026-01-02T03:04:05.000+00:00",
        package_version="0.1",
    )


@pytest.mark.parametrize("record", [full_experience(), empty_experience()], ids=["full", "empty"])
def test_every_field_comes_back_as_it_was(store: ExperienceStore, record: Experience) -> None:
    store.append([record])

    found = store.read()

    assert as_text(found) == as_text([record])
    assert found == [record]
    assert found[0].id == record.id


@pytest.mark.parametrize("record_type", [Task, System, Pipeline, Outcome, Provenance])
def test_the_full_experience_above_leaves_no_field_out(record_type: type[Any]) -> None:
    records = vars_of(full_experience())

    unset = [f.name for f in dataclasses.fields(record_type) if is_default(records[record_type.__name__], f)]

    expected = {"Task": ["semantic"], "System": ["gpu_name", "gpu_memory_bytes", "gpu_capability", "cuda_version"]}
    assert unset == expected.get(record_type.__name__, [])


def vars_of(record: Experience) -> dict[str, Any]:
    parts = [getattr(record, f.name) for f in dataclasses.fields(record)]
    return {type(part).__name__: part for part in parts}


def is_default(record: Any, field: "dataclasses.Field[Any]") -> bool:
    return bool(getattr(record, field.name) == field.default)


def test_values_of_different_types_stay_apart(store: ExperienceStore) -> None:
    values: list[Any] = [0, 1, 0.0, 1.0, -0.0, True, False, "", "0", "1.0", "True", -(2**53)]
    base = experience(1).pipeline
    records = [
        experience(i, pipeline=dataclasses.replace(base, params={"value": value})) for i, value in enumerate(values)
    ]
    records.append(experience(len(values), pipeline=dataclasses.replace(base, params={})))
    store.append(records)

    found = {e.provenance.trial: dict(e.pipeline.params) for e in store.read()}

    assert [repr(found[i]) for i in range(len(values))] == [repr({"value": value}) for value in values]
    assert found[len(values)] == {}


def test_zero_and_unknown_stay_apart(store: ExperienceStore) -> None:
    zero: dict[str, Any] = {"train_s": 0.0, "n_steps": 0, "gpu_energy_j": 0.0, "message": "", "metrics": {"f1": 0.0}}
    unknown: dict[str, Any] = {"train_s": None, "n_steps": None, "gpu_energy_j": None, "message": None, "metrics": {}}
    store.append([experience(0, outcome=zero), experience(2, outcome=unknown)])

    found = {e.provenance.trial: e.outcome for e in store.read()}

    assert [getattr(found[0], name) for name in zero] == list(zero.values())
    assert [getattr(found[2], name) for name in unknown] == list(unknown.values())


def test_whole_numbers_where_floats_belong_become_floats(store: ExperienceStore) -> None:
    record = experience(0, outcome={"metrics": {"f1": 1}, "train_s": 3, "curve": ((1, 0, 0, 1),)})
    record = dataclasses.replace(record, task=task(features=(1, 2, 3)))
    store.append([record])

    found = store.read()[0]

    assert repr(found.outcome.metrics["f1"]) == "1.0"
    assert repr((found.outcome.train_s, found.outcome.curve, found.task.features)) == (
        "(3.0, ((1.0, 0.0, 0.0, 1.0),), (1.0, 2.0, 3.0))"
    )
    assert store.ids() == (found.id,)
    assert store.append([record]).n_new == 0


NAN, INF = float("nan"), float("inf")
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"outcome": {"train_s": NAN}}, r"train_s is nan; expected a number from 0 to 1e\+12, or null; nothing was stored"),
    ({"outcome": {"gpu_energy_j": INF}}, r"gpu_energy_j is inf"),
    ({"outcome": {"metrics": {"f1": NAN}}}, r"metrics\.f1 is nan; expected a number from 0 to 1"),
    ({"outcome": {"metrics": {"f1": "high"}}}, r"f1 is 'high'; expected a number from 0 to 1"),
    ({"outcome": {"metrics": {"": 0.5}}}, r"metrics: a name is ''; expected a text of 1 to 200 characters"),
    ({"outcome": {"n_steps": 1.5}}, r"n_steps is 1.5; expected a whole number"),
    ({"outcome": {"n_steps": True}}, r"n_steps is True"),
    (
        {"outcome": {"peak_rss_bytes": 2**53 + 1}},
        r"peak_rss_bytes is 9007199254740993; expected .* 0 to 9007199254740992",
    ),
    ({"outcome": {"curve": ((1.0, NAN),)}}, r"curve\[0\]\[1\] is nan"),
    ({"outcome": {"message": 3}}, r"message is 3; expected a text"),
    ({"outcome": {"truncated": 1}}, r"truncated is 1; expected true or false, or null"),
    ({"outcome": {"status": "stopped", "truncated": True}}, r"truncated is True .*; expected true for a success alone"),
    ({"outcome": {"cpu_share": 1.25}}, r"cpu_share is 1.25; expected a number from 0 to 1"),
    ({"outcome": {"epochs": 1.5}}, r"epochs is 1.5; expected a whole number"),
    ({"outcome": {"step": "fast"}}, r"step is 'fast'; expected one of graph, eager, or null"),
    (
        {"outcome": {"status": "stopped", "kind": "lost"}},
        r"kind is 'lost' .*; expected one for a failure, and none",
    ),
    ({"outcome": {"status": "done"}}, r"status is 'done'; expected one of succeeded, failed, stopped"),
    ({"outcome": {"kind": "gpu_oom"}}, r"kind is 'gpu_oom' and status 'succeeded'; expected one for a failure"),
    ({"outcome": {"status": "failed", "kind": "bored"}}, r"kind is 'bored'; expected one of gpu_oom, "),
    ({"outcome": {"status": "failed", "kind": "lost", "origin": "pipeline"}}, r"expected infrastructure"),
    ({"provenance": {"trial": -1}}, r"trial is -1; expected a whole number from 0 to 2147483647"),
    ({"provenance": {"job": -1}}, r"job is -1; expected a whole number from 0 to 2147483647"),
    ({"provenance": {"job_position": 0.0}}, r"job_position is 0.0"),
    ({"provenance": {"seed": 2**63}}, r"seed is 9223372036854775808"),
    ({"provenance": {"suspect": 1}}, r"suspect is 1; expected true or false"),
    ({"provenance": {"ended_at": "2026-01-02"}}, r"ended_at is '2026-01-02'; expected an ISO 8601 time with its"),
    ({"provenance": {"ended_at": None}}, r"ended_at is None"),
    ({"provenance": {"site": None}}, r"site is None; expected a text"),
    ({"provenance": {"prior_kind": None}}, r"prior_kind is None; expected a text"),
    ({"task": task(features=(NAN,))}, r"task: features\[0\] is nan; expected a number from -1e\+30 to 1e\+30, or null"),
    ({"task": task(n_train=0.5)}, r"task: n_train is 0.5; expected a whole number from 0"),
    ({"system": system(n_gpus="two")}, r"system: n_gpus is 'two'"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_a_value_that_is_not_of_its_field_is_refused(
    store: ExperienceStore, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        store.append([experience(2), experience(0, **changes)])

    assert not store.path.exists()


@pytest.mark.parametrize("value", [NAN, INF, None, [1], 2**53 + 1])
def test_a_parameter_that_cannot_be_kept_is_refused(store: ExperienceStore, value: Any) -> None:
    pipeline = dataclasses.replace(experience(0).pipeline, params={"learning_rate": value})

    with pytest.raises(InputError, match=r"params\.learning_rate is .*; expected true, false, a whole number from"):
        store.append([experience(0, pipeline=pipeline)])


def test_appending_again_writes_nothing(store: ExperienceStore) -> None:
    records = experiences(40)
    first = store.append(records[:32])
    files = sorted(store.path.glob("seg-*.h5"))

    again = store.append(records[:32])
    elsewhere = ExperienceStore(store.path).append(records[:32])
    part = store.append(records)

    assert (first.n_new, again, elsewhere) == (32, Appended(n_new=0, segment=None), Appended(n_new=0, segment=None))
    assert part.n_new == 8
    assert set(files) < set(store.path.glob("seg-*.h5"))
    assert as_text(store.read()) == as_text(by_id(records))


def test_nothing_there_is_an_empty_store(store: ExperienceStore) -> None:
    assert (store.read(), store.ids(), store.verify(), len(store.read_table())) == ([], (), [], 0)
    assert store.info()["n_experiences"] == 0
    assert store.append([]) == Appended(n_new=0, segment=None)
    assert not store.path.exists()


def test_a_new_folder_is_for_its_owner_alone(store: ExperienceStore) -> None:
    store.append(experiences(1))

    assert stat.S_IMODE(store.path.stat().st_mode) == 0o700


def test_a_store_can_be_one_file(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store.h5")
    records = experiences(6)

    store.append(records[:4])
    store.append(records[2:])
    store.forget([records[0].id], "site-a")

    assert [path.name for path in tmp_path.glob("*.h5")] == ["store.h5"]
    assert as_text(store.read()) == as_text(by_id(records[1:]))
    assert store.verify() == []
    assert store.info()["n_segments"] == 1


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "notes.h5").write_text("hello")

    with pytest.raises(StoreError, match=r"`.*notes\.txt` is no store; expected a folder of segments or a file"):
        ExperienceStore(tmp_path / "notes.txt").read_table()
    with pytest.raises(StoreError, match=r"notes\.h5` is damaged or no segment"):
        ExperienceStore(tmp_path / "notes.h5").read_table()
    with pytest.raises(StoreError, match=r"notes\.h5` is damaged or no segment"):
        ExperienceStore(tmp_path / "notes.h5").append(experiences(1))
    assert (tmp_path / "notes.h5").read_text() == "hello"


@pytest.mark.parametrize(
    ("filters", "trials"),
    [
        ({"task_kind": "text-classification"}, {0, 1, 2, 3, 4, 5}),
        ({"task_kind": "question-answering"}, set()),
        ({"site": "site-b"}, {4, 5}),
        ({"run_id": "other"}, {5}),
        ({"status": "failed"}, {1, 3, 4}),
        ({"status": "failed", "site": "site-b"}, {4}),
        ({"since": "2026-01-02T04:03:05.250+00:00"}, {3, 4, 5}),
        ({"until": "2026-01-02T05:03:05.250+01:00"}, {0, 1, 2}),
        ({"since": "2026-01-02T04:01:00+00:00", "until": "2026-01-02T04:02:00Z"}, {1}),
    ],
)
def test_filters_choose(store: ExperienceStore, filters: dict[str, str], trials: set[int]) -> None:
    store.append([*experiences(4), experience(4, site="site-b"), experience(5, site="site-b", run_id="other")])

    found = store.read(**filters)

    assert {e.provenance.trial for e in found} == trials


def test_a_filter_that_is_no_time_is_refused(store: ExperienceStore) -> None:
    with pytest.raises(InputError, match=r"since is 'yesterday'; expected an ISO 8601 time"):
        store.read(since="yesterday")


def test_show_finds_by_the_beginning_of_an_id(store: ExperienceStore) -> None:
    records = by_id(experiences(40))
    store.append(records)

    assert store.show(records[7].id[:12].upper()) == records[7]
    with pytest.raises(InputError, match=r"^40 experiences of `.*` have an id that begins with ''; expected one"):
        store.show("")
    with pytest.raises(InputError, match=r"^0 experiences .* begins with 'xyz'.* Found: none"):
        store.show("xyz")


def test_info_counts(store: ExperienceStore) -> None:
    store.append([*experiences(9), experience(9, site="site-b", provenance={"suspect": True})])

    found = store.info()

    assert json.loads(json.dumps(found)) == found
    size = sum(path.stat().st_size for path in store.path.glob("seg-*.h5"))
    assert found == {
        "n_experiences": 10,
        "by_task": {"task-0": 5, "task-1": 5},
        "by_status": {"failed": 6, "succeeded": 4},
        "by_failure_kind": {"diverged": 2, "gpu_oom": 2, "preempted": 2},
        "by_site": {"site-a": 9, "site-b": 1},
        "by_model": {"model-0": 4, "model-1": 3, "model-2": 3},
        "by_method": {"full": 6, "lora": 4},
        "n_suspect": 1,
        "n_truncated": 0,
        "n_conflicts": 0,
        "n_contradicting": 0,
        "first_start": "2026-01-02T03:01:05.125+00:00",
        "last_end": "2026-01-02T04:09:05.250+00:00",
        "n_segments": 1,
        "n_bytes": size,
        "bytes_each": size / 10,
        "n_pending_marks": 0,
    }


def test_an_id_is_the_same_however_odd_the_texts_it_is_made_of(tmp_path: Path) -> None:
    odd = experience(1, run_id='quote " backslash \\ newline \n ü')

    ExperienceStore(tmp_path).append([odd])
    (tmp_path / ".checked").unlink()  # so that the ids are computed again, from the columns

    store = ExperienceStore(tmp_path)
    assert [e.id for e in store.read()] == [odd.id]
    assert store.findings == ()
