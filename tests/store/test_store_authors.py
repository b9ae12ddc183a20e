"""Whose marks count: those signed with the store's key, and those accepted by name; nobody speaks for another store."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.store.claims import (
    ARRIVALS,
    CLAIMS,
    N_FORGOTTEN,
    N_RIVAL,
    SITE,
    copy_segments,
    everything,
    own_key_id,
    write_marks,
)
from tests.store.samples import RUN, experience, experiences
from xautolm_hpc.errors import InputError
from xautolm_hpc.store import ExperienceStore, copy_store, merge
from xautolm_hpc.store.marks import accept_mark, tombstone


def claimed_author(path: Path) -> str:
    (found,) = {finding.where for finding in ExperienceStore(path).verify() if finding.problem == "pending-mark"}
    return found


def fuse(path: Path) -> None:
    """Append until the smallest tier was merged."""
    for number in range(100, 110):
        ExperienceStore(path).append([experience(number)])


@pytest.mark.parametrize("arrival", ARRIVALS)
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_store_that_claims_to_be_ours_hides_nothing_until_we_accept_it(
    ours: Path, victims: list[str], tmp_path: Path, claim: str, arrival: str
) -> None:
    before = everything(ours)
    theirs = tmp_path / "theirs"
    CLAIMS[claim](theirs, ours, victims)

    ARRIVALS[arrival](theirs, ours)
    arrived = everything(ours)
    ExperienceStore(ours).compact()
    compacted = everything(ours)
    merge([ours], tmp_path / "merged")
    copy_store(ours, tmp_path / "copy", is_redacted=False)
    merge([theirs], ours)
    again = everything(ours)

    assert set(victims) <= set(before["ids"])
    assert arrived == compacted == again == before == everything(tmp_path / "copy")
    assert set(victims) <= set(ExperienceStore(tmp_path / "merged").ids())
    author = claimed_author(ours)
    ExperienceStore(ours).accept_marks(author, site=SITE)
    accepted = ExperienceStore(ours).ids()
    ExperienceStore(ours).compact()
    assert set(accepted) == set(before["ids"]) - set(victims)
    assert ExperienceStore(ours).ids() == accepted
    assert not (set(victims) & set(accepted))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_full_tier_that_is_merged_leaves_what_waits_as_it_is(
    ours: Path, victims: list[str], tmp_path: Path, claim: str
) -> None:
    CLAIMS[claim](tmp_path / "theirs", ours, victims)
    copy_segments(tmp_path / "theirs", ours)
    waiting = ExperienceStore(ours).info()["n_pending_marks"]
    before = len(ExperienceStore(ours).ids())

    fuse(ours)

    info = ExperienceStore(ours).info()
    assert (info["n_experiences"], info["n_pending_marks"]) == (before + 10, waiting)
    assert info["n_segments"] < 10
    assert waiting > 0


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_of_a_store_that_is_read_beside_ours_hides_nothing(
    ours: Path, victims: list[str], tmp_path: Path, claim: str
) -> None:
    CLAIMS[claim](tmp_path / "theirs", ours, victims)

    table = ExperienceStore.read_tables([ours, tmp_path / "theirs"])

    assert {one.decode() for one in table.id.tolist()} == set(ExperienceStore(ours).ids())
    assert not table.suspect.any()


def test_what_a_store_read_beside_ours_forgot_of_its_own_is_not_read(ours: Path, tmp_path: Path) -> None:
    theirs = ExperienceStore(tmp_path / "theirs")
    theirs.append([experience(30, site="site-b"), experience(31, site="site-b", provenance={"suspect": True})])
    theirs.forget([experience(30).id], "site-b")
    theirs.accept(RUN)

    table = ExperienceStore.read_tables([ours, theirs.path])

    found = dict(zip((one.decode() for one in table.id.tolist()), table.suspect.tolist(), strict=True))
    assert experience(30).id not in found
    assert not found[experience(31, provenance={"suspect": True}).id]


def test_what_another_store_forgot_of_its_own_is_not_merged(ours: Path, tmp_path: Path) -> None:
    theirs = ExperienceStore(tmp_path / "theirs")
    theirs.append([experience(30, site="site-b"), experience(31, site="site-b")])
    theirs.forget([experience(30).id], "site-b")

    merge([theirs.path], ours)

    assert experience(30).id not in ExperienceStore(ours).ids()
    assert experience(31).id in ExperienceStore(ours).ids()


def by_mv(source: Path, target: Path) -> None:
    subprocess.run(["mv", source, target], check=True)


def by_cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", source, target], check=True)


def by_tar(source: Path, target: Path) -> None:
    archive = source.with_suffix(".tar")
    subprocess.run(["tar", "-C", source, "-cf", archive, "."], check=True)
    target.mkdir()
    subprocess.run(["tar", "-C", target, "-xf", archive], check=True)


@pytest.mark.parametrize("move", [by_mv, by_cp, by_tar])
@pytest.mark.parametrize("marks", ["signed", "of format 1"])
def test_moving_our_own_store_changes_nothing(
    ours: Path, tmp_path: Path, move: Callable[[Path, Path], None], marks: str
) -> None:
    if marks == "of format 1":
        (ours / ".key").unlink()
        (ours / ".marks").unlink()
        write_marks(ours, [tombstone(experience(0).id, SITE), accept_mark(RUN)], format_version=1)
        ExperienceStore(ours).read()
    before, findings = everything(ours), [f.problem for f in ExperienceStore(ours).verify()]
    digest = ExperienceStore(ours).digest()

    move(ours, tmp_path / "moved")

    moved = ExperienceStore(tmp_path / "moved")
    assert everything(moved.path) == before
    assert moved.digest() == digest
    assert [f.problem for f in moved.verify()] == findings
    assert (experience(0).id in moved.ids()) == (marks == "signed")
    moved.compact()
    assert everything(moved.path) == before


def test_a_one_file_store_keeps_its_key_and_decisions_beside_it(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "all.h5")
    store.append(experiences(4))
    store.forget([experience(1).id], SITE)
    theirs = tmp_path / "theirs"
    write_marks(theirs, [tombstone(experience(0).id, SITE)])

    merge([theirs], store.path)
    store.append([experience(7)])
    for name in ("all.h5", "all.h5.key", "all.h5.marks"):
        (tmp_path / "moved").mkdir(exist_ok=True)
        (tmp_path / name).rename(tmp_path / "moved" / name)

    moved = ExperienceStore(tmp_path / "moved" / "all.h5")
    assert sorted(e.provenance.trial for e in moved.read()) == [0, 2, 3, 7]
    assert [f.problem for f in moved.verify()] == ["pending-mark"]
    assert moved.info()["n_pending_marks"] == 1


def test_marks_of_format_1_found_at_the_first_opening_are_in_force_and_can_be_refused(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append(experiences(4))
    (store.path / ".marks").unlink()
    write_marks(store.path, [tombstone(experience(1).id, SITE)], format_version=1)

    opened = store.ids()
    findings = store.verify()
    write_marks(store.path, [tombstone(experience(2).id, SITE)], format_version=1)
    later = store.ids()
    refused = store.refuse_marks("format-1", site=SITE)

    assert (experience(1).id in opened, experience(2).id in opened) == (False, True)
    assert later == opened
    assert [f.problem for f in findings] == ["old-mark"]
    assert f"store refuse-marks {store.path} format-1 --site site-a" in findings[0].message
    assert sum(group.n_ids for group in refused) == 2
    assert (len(store.ids()), store.verify()) == (4, [])
    store.compact()
    assert (len(store.ids()), store.info()["n_segments"]) == (4, 1)


def test_marks_of_format_1_that_were_confirmed_are_no_longer_listed(tmp_path: Path) -> None:
    store = ExperienceStore(tmp_path / "store")
    store.append(experiences(4))
    (store.path / ".marks").unlink()
    write_marks(store.path, [tombstone(experience(1).id, SITE)], format_version=1)
    store.read()

    store.accept_marks("format-1")

    assert (len(store.ids()), store.verify()) == (3, [])


def test_replaying_our_own_old_mark_is_harmless(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "old")
    store = ExperienceStore(ours)
    store.resolve(experience(N_RIVAL).key, experience(N_RIVAL, outcome={"metrics": {"f1": 0.5}}).id)
    store.compact()
    before, digest = everything(ours), store.digest()

    copy_segments(tmp_path / "old", ours)
    merge([tmp_path / "old"], ours)

    assert everything(ours) == before
    assert (store.digest(), store.verify()) == (digest, [])


def test_a_refused_mark_stays_refused_when_it_comes_again(ours: Path, victims: list[str], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    write_marks(theirs, [tombstone(one, SITE) for one in victims])
    merge([theirs], ours)

    ExperienceStore(ours).refuse_marks("format-1")
    again = merge([theirs], ours)
    copy_segments(theirs, ours)

    assert again.n_pending_marks == 0
    assert ExperienceStore(ours).verify() == []
    ExperienceStore(ours).accept_marks("format-1")
    assert not set(victims) & set(ExperienceStore(ours).ids())


def test_marks_are_accepted_by_the_names_that_verify_lists(ours: Path, victims: list[str], tmp_path: Path) -> None:
    write_marks(tmp_path / "theirs", [tombstone(one, SITE) for one in victims])
    merge([tmp_path / "theirs"], ours)

    with pytest.raises(InputError, match=r"no marks of author 'nobody' to decide on; valid: format-1 \(site site-a\)"):
        ExperienceStore(ours).accept_marks("nobody")
    with pytest.raises(InputError, match=r"of author 'format-1' about site 'site-b' to decide on"):
        ExperienceStore(ours).refuse_marks("format-1", site="site-b")
    with pytest.raises(InputError, match=rf"no marks of author '{own_key_id(ours)}'"):
        ExperienceStore(ours).refuse_marks(own_key_id(ours))


def test_neither_key_nor_decisions_reach_another_store(ours: Path, tmp_path: Path) -> None:
    secret = (ours / ".key").read_bytes().strip()

    merge([ours], tmp_path / "merged")
    copy_store(ours, tmp_path / "copy", is_redacted=True)
    copy_store(ours, tmp_path / "copy.h5", is_redacted=False)
    ExperienceStore(ours).compact()

    written = [path for path in tmp_path.rglob("*") if path.is_file() and path != ours / ".key"]
    assert not [path for path in written if secret in path.read_bytes()]
    assert [path for path in written if path.name.endswith(".key")] == []
    assert everything(tmp_path / "copy")["ids"] == everything(ours)["ids"]


def test_a_copy_in_format_1_shows_what_the_store_shows(ours: Path, victims: list[str], tmp_path: Path) -> None:
    write_marks(ours, [tombstone(one, SITE) for one in victims])

    copy_store(ours, tmp_path / "copy", is_redacted=False, format_version=1)

    (tmp_path / "copy" / ".marks").unlink()
    assert everything(tmp_path / "copy") == everything(ours)


def test_a_store_without_its_key_tells_how_to_accept_its_own_marks(ours: Path, tmp_path: Path) -> None:
    author = own_key_id(ours)
    bare = tmp_path / "bare"
    bare.mkdir()
    copy_segments(ours, bare)

    before = ExperienceStore(bare).ids()
    ExperienceStore(bare).accept_marks(author)

    assert experience(N_FORGOTTEN).id in before
    assert everything(bare) == everything(ours)
