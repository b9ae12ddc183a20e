"""Every path and job name of a run is spelled in one place, and read back from there."""

from pathlib import Path

import pytest

from xautolm_hpc.errors import InputError, RunFolderError
from xautolm_hpc.run.folder import (
    RunDir,
    attempt_dirs_in,
    check_run_name,
    generation_job_name,
    single_job_name,
    submission_dirs_in,
    trial_number,
)

RUN_ID = "6f1e0a52-3b7c-4d19-8a40-0c2f5d9b7e13"


def test_attempts_are_found_where_they_are_put_by_trial_and_attempt(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    places = [(generation, 1000 * generation + 9, attempt) for generation in (0, 1) for attempt in (0, 2, 10)]
    made = [run_dir.attempt_dir(generation, trial, attempt=attempt) for generation, trial, attempt in places]
    for path in reversed(made):
        path.mkdir(parents=True)
    (made[0].parent / "attempt-0.copy").mkdir()

    assert run_dir.attempt_dirs() == made
    assert run_dir.trial_attempt_dirs(1009) == made[3:]
    assert run_dir.trial_attempt_dirs(3) == []
    assert attempt_dirs_in(run_dir.generation_dir(0)) == made[:3]
    assert [trial_number(path) for path in made] == [9] * 3 + [1009] * 3


def test_profile_jobs_and_submissions_are_found_by_number(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    profiles = [run_dir.profile_attempt_dir(number) for number in (0, 2, 10)]
    submissions = [run_dir.submission_dir(3, number) for number in (0, 2, 10)]
    for path in (*profiles, *submissions):
        path.mkdir(parents=True)

    assert run_dir.profile_attempt_dirs() == profiles
    assert submission_dirs_in(run_dir.generation_dir(3)) == submissions


def test_a_run_folder_that_is_empty_has_no_attempts(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "new")

    assert run_dir.attempt_dirs() == run_dir.profile_attempt_dirs() == []


def test_job_names_are_those_that_older_ledgers_hold() -> None:
    assert generation_job_name(RUN_ID, 2, submission=1) == "xa-6f1e0a52-g002-s1"
    assert single_job_name(RUN_ID, "profile-0") == "xa-6f1e0a52-profile-0"


def test_a_run_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(
        RunFolderError, match=r"runs/mine` is a link to `.*elsewhere`; a run is written into a folder of"
    ):
        RunDir(tmp_path / "runs" / "mine").create()

    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("part", ["50%", "%u", "%%", "a\nb", "a\tb"])
def test_a_path_that_submitit_or_slurm_would_change_is_refused(tmp_path: Path, part: str) -> None:
    runs_dir = tmp_path / part
    runs_dir.mkdir()

    with pytest.raises(RunFolderError, match=r"has the character '.*' in its path: submitit and Slurm would write"):
        RunDir(runs_dir / "mine").create()

    assert list(runs_dir.iterdir()) == []


def test_blanks_quotes_and_letters_of_all_kinds_are_fine_in_a_path(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "a b" / "größe's $x" / "mine")

    run_dir.create()

    assert run_dir.path.is_dir()


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "", ".hidden", "-x", "a\n", "a b", "/tmp/x"])
def test_a_run_has_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(InputError, match=r"^--fork .*: expected letters, digits, '\.', '_' and '-', a letter or digit"):
        check_run_name(name, where="--fork")


def test_usual_names_of_runs_are_fine() -> None:
    for name in ("again", "sst2-v1.1", "7b_try", "größe"):
        check_run_name(name, where="--fork")
