"""The laws of a set: order, grouping, repetition and compaction change nothing."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.samples import as_text, by_id, experience, experiences, system, task
from xautolm_hpc.errors import InputError
from xautolm_hpc.store import ExperienceStore, merge
from xautolm_hpc.store.authors.key import AuthorKey
from xautolm_hpc.store.columns import Columns, digest, only_marks
from xautolm_hpc.store.decode import decode
from xautolm_hpc.store.earlier import in_format
from xautolm_hpc.store.encode import encode
from xautolm_hpc.store.layout import READABLE
from xautolm_hpc.store.marks import accept_body, accept_mark, forget_body, resolve_body, resolve_mark, tombstone
from xautolm_hpc.store.redacted import redacted, redacted_columns
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_form, view

# Records that differ in what is not identity, records of one id from two sites, and two that share an attempt key.
POOL = [
    *experiences(4),
    experience(0, outcome={"train_s": 1.0, "message": "later", "curve": ()}),
    experience(0, outcome={"train_s": None, "load_s": 7.5}, system=system(cuda_version="12")),
    experience(1, site="site-b", provenance={"node": "n1", "started_at": None}),
    experience(2, task=task("task-0", features=(None,), semantic=None), provenance={"suspect": True}),
    experience(3, outcome={"metrics": {"f1": 0.25}}),
    experience(3, outcome={"metrics": {"f1": 0.75, "a": 1.0}}, site="site-b"),
    experience(4, run_id="other", outcome={"energy_source": "rapl"}, provenance={"image_digest": "sha256:0"}),
    experience(0, outcome={"truncated": False, "step": "eager", "cpu_share": 0.5}, provenance={"job": 3}),
    experience(0, outcome={"truncated": True, "epochs": 3, "curve": ((1.0, 0.5, 0.25, 0.25, 9.5), (2.0,) * 5)}),
    experience(5, outcome={"status": "stopped", "kind": None, "origin": None, "epochs_done": 0.25}),
    experience(1, outcome={"step": "graph", "step_reason": "asked for"}, provenance={"job": 0, "job_position": 2}),
    experience(6, outcome={"kind": "node_busy", "origin": "infrastructure", "status": "failed", "metrics": {}}),
]
MARKS = [
    tombstone(POOL[1].id, "site-a"),
    tombstone(POOL[1].id, "site-b"),
    tombstone(POOL[8].id, "site-a"),
    accept_mark(POOL[0].provenance.run_id),
    resolve_mark(POOL[3].key, POOL[3].id, round_number=1),
    resolve_mark(POOL[3].key, POOL[9].id, round_number=1),
    resolve_mark(POOL[3].key, POOL[8].id, round_number=2),
    *map(
        AuthorKey(b"k" * 32).sign,
        (
            forget_body("site-b", [POOL[1].id, POOL[9].id]),
            forget_body("site-a", [POOL[1].id]),
            accept_body("site-a", [POOL[7].id]),
            resolve_body("site-a", POOL[8].id, key=POOL[3].key, round_number=1),
            resolve_body("site-b", POOL[8].id, key=POOL[3].key, round_number=3),
            resolve_body("site-b", POOL[9].id, key=POOL[3].key, round_number=3),
        ),
    ),
]


@st.composite
def stores(draw: st.DrawFn) -> Columns:
    records = draw(st.lists(st.sampled_from(POOL), max_size=6))
    marks = draw(st.lists(st.sampled_from(MARKS), max_size=3))
    whole = union([encode(records) if records else only_marks(()), only_marks(marks)])
    return in_format(whole, draw(st.sampled_from(READABLE)))[0]


def says(parts: list[Columns]) -> list[str]:
    return as_text(decode(view(parts).visible()))


@settings(max_examples=60, deadline=None)
@given(a=stores(), b=stores())
def test_union_does_not_depend_on_order(a: Columns, b: Columns) -> None:
    assert digest(union([a, b])) == digest(union([b, a]))
    assert says([a, b]) == says([b, a])


@settings(max_examples=60, deadline=None)
@given(a=stores(), b=stores(), c=stores())
def test_union_does_not_depend_on_grouping(a: Columns, b: Columns, c: Columns) -> None:
    whole = union([a, b, c])

    assert digest(union([union([a, b]), c])) == digest(whole)
    assert digest(union([a, union([b, c])])) == digest(whole)
    assert says([union([a, b]), c]) == says([a, b, c])


@settings(max_examples=30, deadline=None)
@given(a=stores(), b=stores())
def test_union_with_a_part_changes_nothing(a: Columns, b: Columns) -> None:
    whole = union([a, b])

    assert digest(union([a, a])) == digest(union([a]))
    assert digest(replace(union([a]), format_version=a.format_version)) == digest(a)
    assert digest(union([whole, a])) == digest(whole)


@settings(max_examples=60, deadline=None)
@given(a=stores(), b=stores(), c=stores())
def test_compaction_before_or_after_a_union_changes_nothing(a: Columns, b: Columns, c: Columns) -> None:
    whole = stored_form([a, b, c])

    assert digest(stored_form([stored_form([a, b]), c])) == digest(whole)
    assert digest(stored_form([stored_form([a]), stored_form([b]), stored_form([c])])) == digest(whole)
    assert says([stored_form([a, b]), c]) == says([a, b, c]) == says([whole])


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_experiences_in_any_order_and_grouping_are_equal_columns(data: st.DataObject) -> None:
    records = data.draw(st.permutations(POOL))
    cut = data.draw(st.integers(1, len(POOL) - 1))

    parts = [encode(records[:cut]), encode(records[cut:])]

    assert digest(union(parts)) == digest(encode(POOL))


STEPS = ("join", "compact", "copy redacted", "import again", "split off the marks", "reverse")


@settings(max_examples=60, deadline=None)
@given(given_parts=st.lists(stores(), min_size=1, max_size=4), data=st.data())
def test_whatever_happens_to_stores_in_between_their_union_is_the_same(
    given_parts: list[Columns], data: st.DataObject
) -> None:
    parts = list(given_parts)
    for step in data.draw(st.lists(st.sampled_from(STEPS), max_size=8)):
        i, j = (data.draw(st.integers(0, len(parts) - 1)) for _ in range(2))
        if step == "join":
            parts.append(union([parts[i], parts[j]]))
        elif step == "compact":
            parts[i] = stored_form([parts[i]])
        elif step == "copy redacted":
            parts.append(redacted_columns(parts[i]))
        elif step == "import again":
            found = [redacted(e) if number % 2 else e for number, e in enumerate(decode(given_parts[0]))]
            parts.append(encode(found) if found else only_marks(()))
        elif step == "split off the marks":
            parts.append(only_marks(parts[i].marks))
        else:
            parts.reverse()

    assert digest(stored_form(parts)) == digest(stored_form(given_parts))
    assert says(parts) == says(given_parts)


def build(path: Path, groups: list[list[int]]) -> ExperienceStore:
    store = ExperienceStore(path)
    for group in groups:
        store.append([experience(i) for i in group])
    return store


def test_stores_on_disk_merge_in_any_order(tmp_path: Path) -> None:
    a = build(tmp_path / "a", [[0, 1, 2], [3]])
    b = build(tmp_path / "b", [[2, 3, 4]])
    b.forget([experience(4).id], "site-a")
    c = build(tmp_path / "c.h5", [[5], [0]])
    c.accept(experience(0).provenance.run_id)

    first = merge([a.path, b.path, c.path], tmp_path / "abc")
    merge([c.path, a.path], tmp_path / "cba")
    merge([b.path], tmp_path / "cba")
    again = merge([b.path, a.path], tmp_path / "abc")

    whole, other = ExperienceStore(tmp_path / "abc"), ExperienceStore(tmp_path / "cba")
    assert whole.digest() == other.digest()
    assert as_text(whole.read()) == as_text(by_id([experience(i) for i in (0, 1, 2, 3, 5)]))
    assert (first.n_new, again.n_new, again.segment) == (5, 0, first.segment)
    assert (whole.info()["n_segments"], whole.info()["n_pending_marks"]) == (2, 1)
    assert (first.segment or "") in {p.name for p in whole.path.glob("seg-*.h5")}
    assert {p.name for p in whole.path.glob("seg-*.h5")} == {p.name for p in other.path.glob("seg-*.h5")}


def test_copying_segments_is_a_merge(tmp_path: Path) -> None:
    a = build(tmp_path / "a", [[0, 1], [2, 3]])
    b = build(tmp_path / "b", [[2, 3], [3, 4]])

    for segment in b.path.glob("seg-*.h5"):
        (a.path / segment.name).write_bytes(segment.read_bytes())

    assert as_text(a.read()) == as_text(by_id(experiences(5)))
    merge([a.path, b.path], tmp_path / "ab")
    assert a.digest() == ExperienceStore(tmp_path / "ab").digest()


def test_a_source_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`.*nowhere` does not exist; expected a store to merge"):
        merge([tmp_path / "nowhere"], tmp_path / "into")

    assert not (tmp_path / "into").exists()


def test_merging_nothing_makes_nothing(tmp_path: Path) -> None:
    merged = merge([], tmp_path / "into")

    assert (merged.n_new, merged.segment, merged.findings) == (0, None, ())
    assert not (tmp_path / "into").exists()


def test_zero_has_no_sign_where_it_is_a_measurement() -> None:
    plus, minus = (experience(0, outcome={"train_s": value}) for value in (0.0, -0.0))

    assert digest(encode([minus])) == digest(encode([plus]))
