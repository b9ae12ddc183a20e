"""Marks on experiences: forget, resolve, accept; and conflicts before they are resolved."""

from pathlib import Path

import pytest

from tests.store.samples import RUN, as_text, by_id, experience, experiences, system
from xautolm_hpc.errors import InputError
from xautolm_hpc.records import Experience
from xautolm_hpc.store import ExperienceStore, merge


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    return ExperienceStore(tmp_path / "store")


def rivals() -> tuple[Experience, Experience]:
    """Make two records of one attempt that differ in a metric."""
    return experience(0), experience(0, outcome={"metrics": {"f1": 0.5}})


def pending_author(store: ExperienceStore) -> str:
    """Find the author of the one group of marks that waits in a store."""
    (found,) = {finding.where for finding in store.verify() if finding.problem == "pending-mark"}
    return found


def trials(store: ExperienceStore) -> list[int]:
    return sorted(e.provenance.trial for e in store.read())


def test_two_records_of_one_attempt_count_for_nothing_and_are_listed(store: ExperienceStore) -> None:
    first, second = rivals()
    store.append([first, experience(1)])
    store.append([second])

    findings = store.verify()

    assert trials(store) == [1]
    assert store.ids() == (experience(1).id,)
    assert len(store.read_table()) == 1
    assert store.info()["n_conflicts"] == 1
    assert [(f.problem, f.where) for f in findings] == [("conflict", first.key)]
    assert all(
        one in findings[0].message for one in (first.id, second.id, f"store resolve {store.path} {first.key} ID")
    )
    assert store.show(first.id) == first


def test_resolve_says_which_record_counts_and_the_last_call_decides(store: ExperienceStore) -> None:
    first, second = rivals()
    store.append([first, second])

    store.resolve(first.key, first.id)
    after_first = store.read()
    store.resolve(first.key, second.id)
    after_second = store.read()
    store.compact()

    assert (after_first, after_second, store.read()) == ([first], [second], [second])
    assert store.verify() == []


def test_two_sites_that_resolve_differently_leave_a_conflict(tmp_path: Path) -> None:
    first, second = rivals()
    here, there = ExperienceStore(tmp_path / "here"), ExperienceStore(tmp_path / "there")
    for store, choice in ((here, first), (there, second)):
        store.append([first, second])
        store.resolve(first.key, choice.id)

    merge([there.path], here.path)
    ours = here.read()
    here.accept_marks(pending_author(here))
    undecided = here.read()
    here.resolve(first.key, first.id)

    assert (ours, undecided, here.read()) == ([first], [], [first])


def test_resolve_takes_only_records_of_the_attempt(store: ExperienceStore) -> None:
    store.append([experience(0)])

    with pytest.raises(InputError, match=rf"attempt {RUN}/0/0/0 has no record 'abc'; valid: {experience(0).id}"):
        store.resolve(experience(0).key, "abc")
    with pytest.raises(InputError, match=r"attempt nothing has no record .*; valid: none"):
        store.resolve("nothing", experience(0).id)


def test_a_late_outcome_replaces_a_lost_one(store: ExperienceStore) -> None:
    lost = experience(0, outcome={"status": "failed", "kind": "lost", "origin": "infrastructure", "metrics": {}})
    real = experience(0)
    store.append([lost, experience(1)])

    store.forget([lost.id], "site-a")
    store.append([real])

    assert lost.key == real.key
    assert as_text(store.read()) == as_text(by_id([real, experience(1)]))
    assert store.verify() == []
    assert store.append([lost]).n_new == 0


def test_the_order_of_forgetting_and_appending_does_not_matter(store: ExperienceStore) -> None:
    lost = experience(0, outcome={"status": "failed", "kind": "lost", "origin": "infrastructure", "metrics": {}})
    store.append([lost])
    store.append([experience(0)])

    store.forget([lost.id], "site-a")

    assert store.read() == [experience(0)]
    assert store.verify() == []


def test_forgotten_stays_forgotten_and_compacting_removes_it_from_disk(store: ExperienceStore) -> None:
    secret = experience(1, outcome={"message": "SECRET" * 20})
    store.append([*experiences(1), secret])
    store.forget([secret.id], "site-a")
    store.forget([secret.id], "site-a")

    store.compact()
    again = store.append([secret])

    assert trials(store) == [0]
    assert store.verify() == []
    assert again.n_new == 0
    assert b"SECRET" not in b"".join(path.read_bytes() for path in store.path.glob("seg-*.h5"))


def test_a_site_forgets_only_what_is_its_own(store: ExperienceStore) -> None:
    foreign = experience(1, site="site-b")
    store.append([experience(0), foreign])

    with pytest.raises(InputError, match=rf"{foreign.id} is of site 'site-b', and 'site-a' forgets only its own"):
        store.forget([experience(0).id, foreign.id], "site-a")
    with pytest.raises(InputError, match=r"has no experience 'abc'; expected a whole id of 32 hex digits"):
        store.forget(["abc"], "site-a")

    assert trials(store) == [0, 1]


def test_another_sites_forgetting_has_no_effect_unless_the_merge_accepts_it(tmp_path: Path) -> None:
    contested = experience(1, site="site-a")
    here = ExperienceStore(tmp_path / "here")
    here.append([experience(0), contested])
    there = ExperienceStore(tmp_path / "there")
    there.append([experience(1, site="site-b", system=system("site-a"))])
    there.forget([contested.id], "site-b")

    merge([there.path], here.path)
    findings = here.verify()
    before = trials(here)
    merge([there.path], here.path, accept_forget=["site-b"])

    assert before == [0, 1]
    assert [f.problem for f in findings] == ["pending-mark"]
    assert "1 marks `forget` about 1 records of site 'site-b'" in findings[0].message
    assert (trials(here), here.verify()) == ([0], [])


def test_a_mark_of_another_site_that_was_accepted_still_affects_only_its_own(tmp_path: Path) -> None:
    here, there = ExperienceStore(tmp_path / "here"), ExperienceStore(tmp_path / "there")
    here.append([experience(0), experience(1)])
    there.append([experience(1, site="site-b")])
    there.forget([experience(1).id], "site-b")

    merge([there.path], here.path)
    here.accept_marks(pending_author(here))

    assert trials(here) == [0, 1]
    assert [(f.problem, f.where) for f in here.verify()] == [("foreign-forget", experience(1).id)]
    assert "--accept-forget site-b" in here.verify()[0].message


def test_a_suspect_run_counts_once_it_is_accepted(store: ExperienceStore) -> None:
    store.append([experience(0, provenance={"suspect": True}), experience(1)])
    store.append([experience(2, run_id="other", provenance={"suspect": True})])
    before = store.read_table().suspect.sum()

    n_accepted = store.accept(RUN)

    after = {e.provenance.trial: e.provenance.suspect for e in store.read()}
    assert (before, n_accepted, store.read_table().suspect.sum()) == (2, 1, 1)
    assert after == {0: False, 1: False, 2: True}
    assert store.info()["n_suspect"] == 1
    with pytest.raises(InputError, match=r"has no experience of run 'nothing'"):
        store.accept("nothing")


def test_records_of_one_id_become_one_with_what_either_knows_and_ours_before_theirs(tmp_path: Path) -> None:
    here, there = ExperienceStore(tmp_path / "here"), ExperienceStore(tmp_path / "there")
    here.append([experience(0, outcome={"train_s": None, "message": None, "load_s": 2.0}, provenance={"node": "n1"})])
    there.append([experience(0, outcome={"train_s": 3.0, "message": "x", "load_s": 10.0}, provenance={"node": None})])

    merge([there.path], here.path)

    found = here.read()[0]
    assert (found.outcome.train_s, found.outcome.message, found.outcome.load_s) == (3.0, "x", 2.0)
    assert found.provenance.node == "n1"


def test_of_two_system_records_the_one_that_knows_more_counts(tmp_path: Path) -> None:
    here, there = ExperienceStore(tmp_path / "here"), ExperienceStore(tmp_path / "there")
    here.append([experience(0, system=system(cuda_version="12.8"))])
    there.append([experience(0, system=system(cuda_version=None))])

    merge([there.path], here.path)

    assert here.read()[0].system.cuda_version == "12.8"
