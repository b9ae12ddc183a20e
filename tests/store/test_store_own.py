"""What a store has of its own: no record of another store hides it or changes what it says, whatever it claims."""

import dataclasses
import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.claims import (
    ARRIVALS,
    COPIES,
    RECORDS,
    SITE,
    VICTIMS,
    claims_of,
    copy_segments,
    everything,
    make_ours,
    make_theirs,
)
from tests.store.samples import RUN, as_text, experience, task
from tests.store.test_store_union import MARKS, POOL
from xautolm_hpc.cli import main
from xautolm_hpc.errors import StoreError
from xautolm_hpc.records import Experience, canonical_json, to_json
from xautolm_hpc.store import ExperienceStore, copy_store, merge
from xautolm_hpc.store.columns import Columns, only_marks, with_marks
from xautolm_hpc.store.decode import decode
from xautolm_hpc.store.encode import encode
from xautolm_hpc.store.union import union
from xautolm_hpc.store.visible import stored_forms, view


def by_lines(theirs: Path, ours: Path) -> None:
    """Import their records as lines of JSON."""
    path = theirs.with_suffix(".jsonl")
    path.write_text("".join(canonical_json(to_json(e)) + "\n" for e in ExperienceStore(theirs).read()))
    assert main(["store", "import", str(path), "--into", str(ours)]) == 0


WAYS: Mapping[str, Callable[[Path, Path], Any]] = {**ARRIVALS, "imported": by_lines}


def of_ours(path: Path) -> dict[str, Any]:
    """Collect what each way of reading a store shows of our own run's first trials, as if it had nothing else."""
    store = ExperienceStore(path)
    found = [e for e in store.read() if e.provenance.trial < 50]
    table = ExperienceStore.read_tables([path])
    is_ours = table.trial < 50
    return {
        "read": as_text(found),
        "ids": [e.id for e in found],
        "suspect": store.info()["n_suspect"],
        "conflicts": store.info()["n_conflicts"],
        "priors": table.id[is_ours].tolist(),
        "seconds": table.objectives["evaluation_time_s"][is_ours].tolist(),
        "is suspect": table.suspect[is_ours].tolist(),
        "sites": [table.sites[code] for code in table.site[is_ours].tolist()],
        "features": [table.tasks[code].features for code in table.task[is_ours].tolist()],
    }


def same(first: Any, second: Any) -> bool:
    """Compare what was collected; NaN equals itself."""
    return repr(first) == repr(second)


@pytest.mark.parametrize(
    ("way", "claim"), [*((way, claim) for way in ARRIVALS for claim in RECORDS), ("imported", RECORDS[0])]
)
def test_a_record_of_another_store_neither_hides_ours_nor_changes_it(
    ours: Path, tmp_path: Path, claim: str, way: str
) -> None:
    before = of_ours(ours)
    theirs = make_theirs(tmp_path / "theirs", claim)

    WAYS[way](theirs, ours)
    arrived = of_ours(ours)
    findings = [f.problem for f in ExperienceStore(ours).verify()]
    ExperienceStore(ours).compact()
    compacted = of_ours(ours)
    for number in range(70, 78):
        ExperienceStore(ours).append([experience(number)])
        ExperienceStore(ours).append([experience(number + 30, site="site-b")], is_own=False)
    fused = of_ours(ours)
    WAYS[way](theirs, ours)
    again = of_ours(ours)
    copy_store(ours, tmp_path / "copy", is_redacted=False)
    copy_store(ours, tmp_path / "old", is_redacted=False, format_version=1)

    assert len(before["ids"]) == 12
    assert same(arrived, before)
    assert same(compacted, before)
    assert same(fused, before)
    assert same(again, before)
    assert same(of_ours(tmp_path / "copy"), before)
    if claim != "another status":  # a fact of format 2
        assert same(of_ours(tmp_path / "old"), before)
    assert findings == (["foreign-copy"] if claim in COPIES else ["foreign-record"] * len(VICTIMS))
    assert {experience(60).id, experience(61).id} <= set(ExperienceStore(ours).ids())


@pytest.mark.parametrize("claim", RECORDS)
def test_a_record_of_a_store_that_is_read_beside_ours_neither_hides_nor_changes_ours(
    ours: Path, tmp_path: Path, claim: str
) -> None:
    theirs = make_theirs(tmp_path / "theirs", claim)
    before = ExperienceStore.read_tables([ours])

    both = ExperienceStore.read_tables([ours, theirs])

    is_ours = both.trial < 50
    assert both.id[is_ours].tolist() == before.id.tolist()
    assert not both.suspect.any()
    assert [both.sites[code] for code in both.site[is_ours].tolist()] == [SITE] * len(before.id)
    for name, values in before.objectives.items():
        assert same(both.objectives[name][is_ours].tolist(), values.tolist())
    shown = [both.tasks[code] for code in both.task[is_ours].tolist()]
    assert shown == [before.tasks[code] for code in before.task.tolist()]


@pytest.mark.parametrize("claim", RECORDS)
def test_our_store_that_is_read_or_merged_elsewhere_says_there_what_it_says_here(
    ours: Path, tmp_path: Path, claim: str
) -> None:
    before = of_ours(ours)
    merge([make_theirs(tmp_path / "theirs", claim)], ours)

    merge([ours], tmp_path / "elsewhere")
    table = ExperienceStore.read_tables([tmp_path / "none", ours])

    found = as_text([e for e in ExperienceStore(tmp_path / "elsewhere").read() if e.provenance.trial < 50])
    is_ours = table.trial < 50
    n_marked = 2  # the forgotten one is not taken; of the resolved attempt neither record counts, nor the accepted run
    assert len(set(before["read"]) - set(found)) == n_marked
    assert table.id[is_ours].tolist() == before["priors"]
    assert same(table.objectives["evaluation_time_s"][is_ours].tolist(), before["seconds"])
    assert not table.suspect.any()


@pytest.mark.parametrize(("way", "claim"), [*(("merged", claim) for claim in RECORDS), ("imported", RECORDS[0])])
def test_a_store_that_is_one_file_keeps_its_own_records_too(tmp_path: Path, claim: str, way: str) -> None:
    ours = make_ours(tmp_path / "ours.h5")
    before = of_ours(ours)
    theirs = make_theirs(tmp_path / "theirs", claim)

    WAYS[way](theirs, ours)
    arrived = of_ours(ours)
    ExperienceStore(ours).append([experience(70)])
    ExperienceStore(ours).append([experience(71, site="site-b")], is_own=False)
    ExperienceStore(ours).forget([experience(70).id], SITE)
    ExperienceStore(ours).compact()
    copy_store(ours, tmp_path / "copy.h5", is_redacted=False)
    (tmp_path / "moved").mkdir()
    for path in tmp_path.glob("ours.h5*"):
        path.rename(tmp_path / "moved" / path.name)
    moved = tmp_path / "moved" / "ours.h5"

    assert same(arrived, before)
    assert same(of_ours(moved), before)
    assert same(of_ours(tmp_path / "copy.h5"), before)
    ids = set(ExperienceStore(moved).ids())
    assert {experience(60).id, experience(71).id} <= ids
    assert experience(70).id not in ids
    assert ExperienceStore(moved).info()["n_contradicting"] == len(VICTIMS)


def test_what_was_made_here_counts_although_another_store_had_it_first(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append([experience(9)])
    copy = experience(1, provenance={"suspect": True})
    store.append([copy], is_own=False)

    appended = store.append([experience(1)])
    again = store.append([experience(1)])

    assert (appended.n_new, again.n_new) == (0, 0)
    assert appended.segment is not None
    assert again.segment is None
    assert as_text(store.read()) == as_text(sorted([experience(1), experience(9)], key=lambda e: e.id))


def test_verify_and_info_say_how_many_records_contradict_ours_and_what_to_do(
    ours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merge([make_theirs(tmp_path / "results", "another result"), make_theirs(tmp_path / "copies", "suspect")], ours)
    store, key, rival = ExperienceStore(ours), experience(1).key, claims_of(1)["another result"]

    findings = {f.where: f for f in store.verify()}
    n_before = store.info()["n_contradicting"]
    command = findings[key].message.split("`")[1]
    assert main([*shlex.split(command.replace(" ID", f" {rival.id}"))]) == 0
    capsys.readouterr()

    assert n_before == 2 * len(VICTIMS)
    assert f"attempt {key} has 1 records of other stores with another result: {rival.id}" in findings[key].message
    copies = next(f for f in findings.values() if f.problem == "foreign-copy")
    assert "3 experiences of" in copies.message
    assert "nothing needs to be done" in copies.message
    assert rival.id in store.ids()
    assert experience(1).id not in store.ids()
    assert store.info()["n_contradicting"] == n_before - 1
    store.compact()
    assert rival.id in store.ids()
    assert main(["store", "info", str(ours), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n_contradicting"] == n_before - 1


def test_what_was_chosen_over_our_record_is_not_hidden_by_a_third_one(ours: Path, tmp_path: Path) -> None:
    rival, third = claims_of(1)["another result"], experience(1, site="zzz", outcome={"metrics": {"f1": 0.5}})
    store = ExperienceStore(ours)
    store.append([rival], is_own=False)
    store.resolve(rival.key, rival.id)

    store.append([third, experience(1, site="zzz")], is_own=False)

    assert rival.id in store.ids()
    assert not {third.id, experience(1).id} & set(store.ids())


def test_what_we_chose_between_our_own_records_is_not_undone_by_a_copy_of_the_other(ours: Path) -> None:
    store = ExperienceStore(ours)
    before = everything(ours)
    rejected = experience(9, site="zzz", outcome={"metrics": {"f1": 0.5}})

    store.append([rejected, experience(9, site="zzz")], is_own=False)

    assert everything(ours)["ids"] == before["ids"]
    assert store.info()["n_conflicts"] == 0


def test_two_records_of_our_own_are_a_conflict_and_a_foreign_third_stays_hidden(ours: Path) -> None:
    store = ExperienceStore(ours)
    store.append([experience(1, outcome={"metrics": {"f1": 0.5}})])

    store.append([claims_of(1)["another result"]], is_own=False)

    problems = {f.problem: f.message for f in store.verify()}
    assert set(problems) == {"conflict", "foreign-record"}
    assert f"attempt {experience(1).key} has 2 records" in problems["conflict"]
    assert claims_of(1)["another result"].id in problems["foreign-record"]


def test_neither_of_two_foreign_records_counts(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append([experience(1), claims_of(1)["another result"]], is_own=False)

    assert store.ids() == ()
    assert [f.problem for f in store.verify()] == ["conflict"]


@pytest.mark.parametrize("format_version", [1, 2])
def test_what_is_here_when_a_store_is_first_opened_is_its_own(tmp_path: Path, format_version: int) -> None:
    copy_store(make_ours(tmp_path / "made"), tmp_path / "ours", is_redacted=False, format_version=format_version)
    ours = tmp_path / "ours"
    (ours / ".own").unlink()
    before = of_ours(ours)

    copy_segments(make_theirs(tmp_path / "theirs", "suspect"), ours)
    copy_segments(make_theirs(tmp_path / "others", "another result"), ours)

    assert same(of_ours(ours), before)
    assert (ours / ".own").stat().st_mode & 0o777 == 0o600


def test_an_exact_copy_put_over_our_segment_is_still_ours(ours: Path, tmp_path: Path) -> None:
    before = of_ours(ours)
    copies = Path(shutil.copytree(ours, tmp_path / "copies"))
    merge([make_theirs(tmp_path / "theirs", "greater numbers")], ours)

    ExperienceStore(ours).compact()
    for path in copies.glob("seg-*.h5"):
        (ours / path.name).write_bytes(path.read_bytes())

    assert same(of_ours(ours), before)


def test_an_odd_list_of_our_segments_is_named_and_loses_nothing(ours: Path) -> None:
    before = of_ours(ours)
    with (ours / ".own").open("ab") as file:
        file.write(b"\0\1 no digest\nabc")

    ExperienceStore(ours).append([experience(70)])
    odd = ExperienceStore(ours).verify()
    (ours / ".own").unlink()
    (ours / ".own").mkdir()
    during = of_ours(ours)
    unreadable = ExperienceStore(ours).verify()
    with pytest.raises(StoreError, match=r"which lists the segments that were written here: it cannot be read"):
        ExperienceStore(ours).append([experience(71)])
    with pytest.raises(StoreError, match=r"which lists the segments that were written here: it cannot be read"):
        ExperienceStore(ours).compact()

    assert same(during, before)
    assert [(f.problem, f.where) for f in (*odd, *unreadable)] == [("key", ".own")] * 2
    assert "1 of its lines are no digests" in odd[0].message
    assert experience(71).id not in ExperienceStore(ours).ids()
    assert experience(70).id in ExperienceStore(ours).ids()


def test_tiers_of_our_own_and_of_foreign_segments_are_fused_apart(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")

    for number in range(0, 14, 2):
        store.append([experience(number)])
        store.append([experience(number + 1, site="site-b")], is_own=False)
    before = store.info()["n_segments"]
    store.append([experience(14)])
    own_fused = store.info()["n_segments"]
    store.append([experience(15, site="site-b")], is_own=False)

    assert (before, own_fused, store.info()["n_segments"]) == (14, 8, 2)
    assert len(store.ids()) == 16
    assert store.own_ids() == frozenset(experience(number).id for number in range(0, 16, 2))


@st.composite
def segments(draw: st.DrawFn) -> Columns:
    records = draw(st.lists(st.sampled_from(POOL), max_size=6))
    marks = draw(st.lists(st.sampled_from(MARKS), max_size=2))
    whole = union([encode(records) if records else only_marks(()), only_marks(marks)])
    return dataclasses.replace(whole, is_own=draw(st.booleans()))


def says(parts: list[Columns]) -> tuple[list[str], Any, Any]:
    seen = view(parts)
    return as_text(decode(seen.visible())), seen.conflicts, seen.contradicted


@settings(max_examples=80, deadline=None)
@given(parts=st.lists(segments(), min_size=1, max_size=5), data=st.data())
def test_what_counts_does_not_depend_on_the_order_of_fusions(parts: list[Columns], data: st.DataObject) -> None:
    fused = list(parts)
    for step in data.draw(st.lists(st.sampled_from(("fuse", "repeat", "compact", "reverse", "split")), max_size=8)):
        i, j = (data.draw(st.integers(0, len(fused) - 1)) for _ in range(2))
        if step == "fuse" and fused[i].is_own is fused[j].is_own:
            both = [fused[i], fused[j]]
            marks = {mark for part in both for mark in part.marks}
            fused = [part for at, part in enumerate(fused) if at not in (i, j)] + [with_marks(union(both), marks)]
        elif step == "repeat":
            fused.append(fused[i])
        elif step == "compact":
            fused = stored_forms(fused)
        elif step == "reverse":
            fused.reverse()
        elif step == "split":
            fused += [with_marks(fused[i], ()), only_marks(fused[i].marks)]

    assert says(fused) == says(parts)


@settings(max_examples=80, deadline=None)
@given(own=st.lists(st.sampled_from(POOL), min_size=1, max_size=6), others=st.lists(st.sampled_from(POOL), max_size=8))
def test_no_records_of_others_hide_ours_or_change_what_is_known_of_them(
    own: list[Experience], others: list[Experience]
) -> None:
    alone = dataclasses.replace(encode(own), is_own=True)

    both = [alone, encode(others)] if others else [alone]

    before, after = decode(view([alone]).visible()), {e.id: e for e in decode(view(both).visible())}
    assert {e.id for e in before} <= after.keys()
    for e in before:
        known, shown = to_json(e), to_json(after[e.id])
        for record in ("outcome", "provenance", "system", "task"):
            for name, value in known[record].items():
                assert value in (None, [], shown[record][name]) or shown[record][name] == value
    assert view(both).conflicts.keys() & {e.key for e in own} == view([alone]).conflicts.keys()


def test_a_run_of_ours_reads_features_of_ours(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append([experience(0, task=task("t", features=(1.0, 2.0, 3.0)), provenance={"run_id": RUN})])

    store.append([experience(0, task=task("t", features=(9.0, 9.0, 9.0)))], is_own=False)

    assert store.read_table().tasks[0].features == (1.0, 2.0, 3.0)
