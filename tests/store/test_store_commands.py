"""The store's verbs on the command line: what they print, what they change, their exit status."""

import json
from pathlib import Path

import pytest

from tests.store.samples import RUN, experience, experiences
from xautolm_hpc.cli import main
from xautolm_hpc.config import load_search
from xautolm_hpc.errors import ConfigError
from xautolm_hpc.store import CheckLimits, ExperienceStore, merge


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    store = ExperienceStore(tmp_path / "site-a")
    store.append(experiences(5))
    return store


def test_info_has_the_counts_in_json(store: ExperienceStore, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["store", "info", str(store.path), "--json"])

    info = json.loads(capsys.readouterr().out)
    assert status == 0
    assert (info["n_experiences"], info["n_segments"]) == (5, 1)
    assert info["n_bytes"] == sum(path.stat().st_size for path in store.path.glob("seg-*.h5"))
    assert info["by_task"] == {"task-0": 3, "task-1": 2}
    assert info["by_status"] == {"failed": 3, "succeeded": 2}
    assert info["by_failure_kind"] == {"diverged": 1, "gpu_oom": 1, "preempted": 1}


def test_merge_counts_what_is_new(store: ExperienceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExperienceStore(tmp_path / "site-b").append(experiences(5, start=3))
    into = tmp_path / "all"

    merge = ["store", "merge", str(store.path), str(tmp_path / "site-b"), "--into", str(into)]
    statuses = [main(merge), main(merge)]

    assert statuses == [0, 0]
    assert capsys.readouterr().out == f"8 new experiences in {into}\n0 new experiences in {into}\n"
    assert len(ExperienceStore(into).ids()) == 8


def test_findings_are_reported_and_end_with_status_4(
    store: ExperienceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = store.path / f"seg-{'0' * 32}.h5"
    broken.write_bytes(b"no segment")

    statuses = {
        verb[0]: main(["store", *verb])
        for verb in (
            ["verify", str(store.path)],
            ["info", str(store.path)],
            ["show", str(store.path), experience(0).id],
            ["merge", str(store.path), "--into", str(tmp_path / "all")],
            ["compact", str(store.path)],
        )
    }

    said = capsys.readouterr()
    assert set(statuses.values()) == {4}, statuses
    assert said.err.count(broken.name) == 4
    assert f"1 findings in {store.path}" in said.out


def test_decisions_are_made(store: ExperienceStore, capsys: pytest.CaptureFixture[str]) -> None:
    rival = experience(0, outcome={"metrics": {"f1": 0.5}})
    store.append([rival, experience(9, provenance={"suspect": True})])
    path = str(store.path)

    statuses = [
        main(["store", "resolve", path, rival.key, rival.id]),
        main(["store", "accept", path, RUN]),
        main(["store", "forget", path, experience(1).id, "--site", "site-a"]),
        main(["store", "compact", path, "--json"]),
    ]

    said = capsys.readouterr().out
    assert statuses == [0] * 4
    assert "n_accepted: 1" in said
    assert json.loads(said[said.index("{") :])["segment"].startswith("seg-")
    found = {e.provenance.trial: e for e in store.read()}
    assert sorted(found) == [0, 2, 3, 4, 9]
    assert (found[0], found[9].provenance.suspect) == (rival, False)


@pytest.mark.parametrize("verb", ["info", "verify", "compact"])
def test_a_store_that_does_not_exist_is_bad_input(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["store", verb, str(tmp_path / "nowhere")])

    assert status == 2
    assert "nowhere` does not exist; expected a store: a folder of segments" in capsys.readouterr().err


def test_forgetting_what_is_of_another_site_is_bad_input(
    store: ExperienceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["store", "forget", str(store.path), experience(1).id, "--site", "site-b"])

    assert status == 2
    assert "is of site 'site-a', and 'site-b' forgets only its own" in capsys.readouterr().err


HOSTILE = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] <script>alert(1)</script> \u202e"


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_foreign_text_moves_no_cursor(tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    store = ExperienceStore(tmp_path / "store")
    e = experience(1, site=HOSTILE, outcome={"message": HOSTILE}, provenance={"node": HOSTILE})
    rival = experience(1, site=HOSTILE, outcome={"message": HOSTILE, "kind": "diverged"})
    store.append([e])
    shown = [main(["store", "info", str(store.path), *flags]), main(["store", "show", str(store.path), e.id, *flags])]
    store.append([rival])

    main(["store", "verify", str(store.path), *flags])

    said = capsys.readouterr()
    assert shown == [0, 0]
    assert not [c for c in said.out + said.err if (ord(c) < 32 and c != "\n") or c in "\u202e\x7f"]
    assert "[bold]x[/bold]" in said.out


def test_the_reference_records_are_imported_and_refused_files_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "reference" / "liar").mkdir(parents=True)
    (tmp_path / "reference" / "liar" / "bad.json").write_text("{")

    status = main(["store", "import-xautolm", str(tmp_path / "reference"), "--into", str(tmp_path / "store")])

    assert status == 4
    assert "no JSON: 1, for instance liar/bad.json" in capsys.readouterr().out


def test_limits_of_the_check_are_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ExperienceStore(tmp_path / "site-b").append(experiences(5))
    (tmp_path / "site-b" / ".checked").unlink()
    merge = ["store", "merge", str(tmp_path / "site-b"), "--into", str(tmp_path / "into")]

    refused = main([*merge, "--check-n-experiences", "4"])
    wrong = main([*merge, "--check-wall-s", "0"])
    merged = main(merge)

    assert (refused, wrong, merged) == (4, 2, 0)
    said = capsys.readouterr().err
    assert "has 5 experiences; the limit is 4" in said
    assert "limit wall_s = 0.0: expected a number above 0" in said
    assert len(ExperienceStore(tmp_path / "into").ids()) == 5


def test_the_search_file_names_group_and_limits(tmp_path: Path) -> None:
    text = 'name = "one"\n[task]\nname = "tickets"\n[data]\npath = "rows.csv"\n[budget]\ntrials = 3\n[store]\n'
    path = tmp_path / "search.toml"

    path.write_text(text + 'group = "nlp"\ncheck = { wall_s = 60, n_experiences = 1000 }\n')
    read = load_search(path).store

    assert (read.group, CheckLimits.of(read.check)) == ("nlp", CheckLimits(wall_s=60, n_experiences=1000))
    path.write_text(text + "check = { wall_s = 0 }\n")
    with pytest.raises(ConfigError, match=r"store.check.wall_s.* = 0: expected greater than 0"):
        load_search(path)
    path.write_text(text + "check = { wall = 1 }\n")
    with pytest.raises(
        ConfigError, match=r"'memory_gb', 'cpu_s', 'wall_s', 'file_mb', 'content_mb' or 'n_experiences'"
    ):
        load_search(path)


@pytest.mark.parametrize(("verb", "word", "n_left"), [("accept-marks", "accepted", 4), ("refuse-marks", "refused", 5)])
def test_marks_of_another_store_are_counted_listed_and_decided_on(
    store: ExperienceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, word: str, n_left: int
) -> None:
    theirs = ExperienceStore(tmp_path / "theirs")
    merge([store.path], theirs.path)
    theirs.forget([experience(1).id], "site-a")
    path = str(store.path)

    merged = main(["store", "merge", str(theirs.path), "--into", path, "--json"])
    counted = json.loads(capsys.readouterr().out)
    found = main(["store", "verify", path, "--json"])
    listed = json.loads(capsys.readouterr().out)
    decided = main(["store", verb, path, listed[0]["where"], "--site", "site-a", "--json"])
    groups = json.loads(capsys.readouterr().out)[word]

    assert (merged, found, decided) == (0, 4, 0)
    assert (counted["n_pending_marks"], counted["findings"]) == (1, [])
    assert [finding["problem"] for finding in listed] == ["pending-mark"]
    assert f"store {verb} {path} {listed[0]['where']} --site site-a" in listed[0]["message"]
    assert groups == [
        {"author": listed[0]["where"], "site": "site-a", "action": "forget", "n_marks": 1, "n_ids": 1},
    ]
    assert (len(store.ids()), store.verify()) == (n_left, [])


def test_a_merge_tells_that_marks_wait_and_accepts_them_by_site(
    store: ExperienceStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = ExperienceStore(tmp_path / "theirs")
    theirs.append([experience(7, site="site-b")])
    merge([theirs.path], store.path)
    theirs.forget([experience(7).id], "site-b")
    command = ["store", "merge", str(theirs.path), "--into", str(store.path)]

    main(command)
    output, before = capsys.readouterr().out, len(store.ids())
    main([*command, "--accept-forget", "site-b"])

    assert f"1 marks of other authors have no effect; `store verify {store.path}` lists them" in output
    assert "have no effect" not in capsys.readouterr().out
    assert (before, len(store.ids()), store.verify()) == (6, 5, [])


def test_a_decision_on_marks_that_are_not_there_is_bad_input(
    store: ExperienceStore, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["store", "accept-marks", str(store.path), "0123456789abcdef"])

    assert status == 2
    assert "has no marks of author '0123456789abcdef' to decide on; valid: none" in capsys.readouterr().err


def test_the_store_that_comes_with_the_program_is_read_and_never_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = main(["store", "info", "package:seed", "--json"])
    info = json.loads(capsys.readouterr().out)
    changed = main(["store", "compact", "package:seed"])

    assert (read, info["n_experiences"]) == (0, 1200)
    assert changed == 2
    assert "comes with this program and is only read" in capsys.readouterr().err
