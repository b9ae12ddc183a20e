"""Attempts: what the next one asks for, which failure gets another one, and what stays on disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.nouns import GIB, SYSTEM, TASK, end, failed, pipeline, succeeded, system, trial
from xautolm_hpc.driver.attempts import (
    MAX_CANCELLED,
    AttemptTemplate,
    Origin,
    bad_nodes,
    clean_up,
    job_positions,
    needs_attempt,
    objectives_of,
)
from xautolm_hpc.durable import read_json
from xautolm_hpc.failures import FAILURE_KINDS
from xautolm_hpc.jobdir import COMMAND, PIPELINE, Command, TrialInput, TrialPlan, read_members, write_members
from xautolm_hpc.jobdir import TASK as TASK_FILE
from xautolm_hpc.launcher import Resources
from xautolm_hpc.records import Outcome, from_json
from xautolm_hpc.run.history import Trial

COMMAND_RECORD = Command(
    argv=("python", "-m", "xautolm_hpc.train", "trial"),
    time_limit_s=600.0,
    wall_limit_s=900.0,
    memory_bytes=4 * GIB,
    n_threads=2,
    heartbeat_s=30.0,
    deterministic=False,
    enforce_limits=True,
    environment={"HF_HUB_OFFLINE": "1"},
    site="here",
    cluster="alpha",
)
TEMPLATE = AttemptTemplate(
    command=COMMAND_RECORD,
    resources=Resources(n_cpus=2, memory_bytes=4 * GIB, time_limit_s=900.0, exclude=("bad-1",)),
    trial_input=TrialInput(task=TASK, data_dir="/runs/one/data", sha256={"train": "ab"}),
    max_attempts=3,
)
ORIGIN = Origin(run_id="run", site="here", prior_kind="xautolm", task=TASK, system=SYSTEM)


@pytest.mark.parametrize(("n_host_oom", "memory_gib"), [(0, 4), (1, 8), (2, 16), (3, 32), (4, 32), (9, 32)])
def test_memory_doubles_with_every_host_oom_up_to_eightfold(tmp_path: Path, n_host_oom: int, memory_gib: int) -> None:
    ended = trial(tmp_path, *[failed("host_oom")] * n_host_oom, None)

    resources = TEMPLATE.resources_of(ended)

    assert resources == replace(TEMPLATE.resources, memory_bytes=memory_gib * GIB)


@pytest.mark.parametrize(
    ("largest_gib", "n_host_oom", "memory_gib", "another"),
    [(6, 1, 6, True), (6, 2, 6, False), (16, 2, 16, True), (16, 3, 16, False), (2, 1, 4, False), (None, 4, 32, False)],
)
def test_memory_grows_up_to_the_partitions_limit_and_then_the_trial_has_failed(
    tmp_path: Path, largest_gib: int | None, n_host_oom: int, memory_gib: int, another: bool
) -> None:
    largest_bytes = largest_gib and largest_gib * GIB
    template = replace(TEMPLATE, max_attempts=9, largest_memory_bytes=largest_bytes)
    ended = trial(tmp_path, *[failed("host_oom")] * n_host_oom)

    assert template.is_due_again(ended) is another
    assert template.resources_of(ended).memory_bytes == memory_gib * GIB


def test_other_failures_do_not_ask_for_more_memory(tmp_path: Path) -> None:
    ended = trial(tmp_path, failed("gpu_oom"), failed("error"), None)

    assert TEMPLATE.resources_of(ended) == TEMPLATE.resources


def test_nodes_that_failed_are_left_out_sorted_and_once(tmp_path: Path) -> None:
    ended = trial(tmp_path, *[failed("gpu_fault")] * 3, failed("error"), failed("launch_failure"), None)
    for attempt, node in zip(ended.attempts, ("node-9", "node-2", "node-9", "node-5", None), strict=False):
        assert attempt.end is not None
        attempt.end = replace(attempt.end, node=node)

    resources = TEMPLATE.resources_of(ended)

    assert resources.exclude == ("bad-1", "node-2", "node-9")
    assert resources.memory_bytes == 4 * GIB


def test_a_node_that_failed_twice_is_bad_for_every_trial(tmp_path: Path) -> None:
    first, second = trial(tmp_path, failed("lost"), failed("preempted")), trial(tmp_path, failed("gpu_fault"), None)
    for attempt, node in zip([*first.attempts, second.attempts[0]], ("node-2", "node-5", "node-2"), strict=True):
        assert attempt.end is not None
        attempt.end = replace(attempt.end, node=node)
    fresh = trial(tmp_path, None)

    assert bad_nodes([first]) == []
    assert bad_nodes([first, second, fresh]) == ["node-2"]
    assert TEMPLATE.resources_of(fresh, bad_nodes=["node-2"]).exclude == ("bad-1", "node-2")


def test_the_files_for_the_node_are_written_with_the_memory_of_this_attempt(tmp_path: Path) -> None:
    ended = trial(tmp_path, failed("host_oom"), None)

    TEMPLATE.write(ended)
    TEMPLATE.write(ended)

    path = tmp_path / "gen-000" / "trial-000" / "attempt-1"
    assert sorted(file.name for file in path.iterdir()) == [COMMAND, PIPELINE, TASK_FILE]
    assert from_json(Command, read_json(path / COMMAND), where="") == replace(COMMAND_RECORD, memory_bytes=8 * GIB)
    assert from_json(TrialPlan, read_json(path / PIPELINE), where="") == ended.plan
    assert from_json(TrialInput, read_json(path / TASK_FILE), where="") == TEMPLATE.trial_input
    assert path.stat().st_mode & 0o777 == 0o700


GETS_ANOTHER = {
    "gpu_oom": False,
    "host_oom": True,
    "time_limit": False,
    "diverged": False,
    "unsupported": False,
    "error": False,
    "node_failure": True,
    "preempted": True,
    "cancelled": True,
    "launch_failure": True,
    "environment": True,
    "storage": True,
    "gpu_fault": True,
    "gpu_busy": True,
    "node_busy": True,
    "wall_limit": True,
    "data_unavailable": True,
    "lost": True,
}


def test_every_failure_kind_has_its_row() -> None:
    assert set(GETS_ANOTHER) == set(FAILURE_KINDS)


@pytest.mark.parametrize(("kind", "another"), list(GETS_ANOTHER.items()))
def test_infrastructure_failures_and_host_oom_get_another_attempt(tmp_path: Path, kind: str, another: bool) -> None:
    assert needs_attempt(trial(tmp_path, failed(kind)), 2) is another


@pytest.mark.parametrize(
    ("outcomes", "max_attempts"),
    [
        ([succeeded()], 3),
        ([None], 3),
        ([failed("lost"), None], 3),
        ([failed("lost")], 1),
        ([failed("lost")] * 3, 3),
        ([failed("lost"), succeeded()], 3),
        ([failed("lost"), failed("cancelled")], 1),
        ([failed("cancelled")] * MAX_CANCELLED, 3),
    ],
)
def test_a_success_a_running_attempt_and_a_used_up_trial_get_none(
    tmp_path: Path, outcomes: list[Outcome | None], max_attempts: int
) -> None:
    assert not needs_attempt(trial(tmp_path, *outcomes), max_attempts)


def test_cancelled_attempts_do_not_use_a_trial_up(tmp_path: Path) -> None:
    assert needs_attempt(trial(tmp_path, *[failed("cancelled")] * 3, failed("lost"), failed("cancelled")), 2)


@pytest.mark.parametrize("kind", ["cancelled", "preempted", "wall_limit"])
def test_a_node_whose_job_was_taken_away_is_not_left_out(tmp_path: Path, kind: str) -> None:
    ended = trial(tmp_path, failed(kind), None)

    assert TEMPLATE.resources_of(ended) == TEMPLATE.resources


@pytest.mark.parametrize(
    ("outcomes", "objectives"),
    [
        ([succeeded(0.7, evaluation_time_s=3.0)], {"f1": 0.7, "evaluation_time_s": 3.0}),
        ([failed("lost"), succeeded(0.7, evaluation_time_s=3.0)], {"f1": 0.7, "evaluation_time_s": 3.0}),
        ([succeeded(0.7)], None),
        ([succeeded(float("nan"), evaluation_time_s=3.0)], None),
        ([failed("error", evaluation_time_s=3.0)], None),
        ([succeeded(0.7, evaluation_time_s=3.0), None], None),
    ],
)
def test_objectives_are_those_of_a_last_attempt_that_has_them_all(
    tmp_path: Path, outcomes: list[Outcome | None], objectives: dict[str, float] | None
) -> None:
    last = trial(tmp_path, *outcomes).last

    assert objectives_of(last.outcome, ("f1", "evaluation_time_s")) == objectives


def test_an_attempt_becomes_an_experience_with_all_it_knows(tmp_path: Path) -> None:
    ended = trial(tmp_path, failed("lost"), succeeded(), number=4, given=pipeline(epochs=2))
    attempt = ended.attempts[1]
    node = system(n_gpus=2)
    attempt.submitted_at = 940.0
    attempt.end = end(succeeded(), system=node, restart=2, lock_hash="lock", image_digest="sha256:1")

    experience = ORIGIN.experience(ended, attempt, is_suspect=True)

    assert experience.key == "run/4/1/2"
    assert experience.outcome == succeeded(queue_s=60.0)
    assert (experience.task, experience.system, experience.pipeline) == (TASK, node, pipeline(epochs=2))
    p = experience.provenance
    assert (p.seed, p.generation, p.site, p.prior_kind, p.node, p.suspect) == (7, 0, "here", "xautolm", "node-1", True)
    assert (p.lock_hash, p.image_digest, p.package_version) == ("lock", "sha256:1", "0.1.0")
    assert (p.started_at, p.ended_at) == ("1970-01-01T00:16:40.000+00:00", "1970-01-01T00:17:40.000+00:00")


def test_an_attempt_that_never_started_has_the_profiles_node_and_no_start(tmp_path: Path) -> None:
    ended = trial(tmp_path, failed("launch_failure"))
    ended.last.submitted_at = 940.0
    ended.last.end = end(failed("launch_failure"), system=None, started_at=None, node=None)

    experience = ORIGIN.experience(ended, ended.last, is_suspect=False)

    assert experience.system == SYSTEM
    assert (experience.provenance.started_at, experience.outcome.queue_s) == (None, None)


@pytest.mark.parametrize(
    ("submitted_at", "queue_s", "known"), [(1001.5, 0.0, None), (None, None, None), (900.0, 5.0, 5.0)]
)
def test_queue_time_is_never_negative_never_made_up_and_never_overwritten(
    tmp_path: Path, submitted_at: float | None, queue_s: float | None, known: float | None
) -> None:
    ended = trial(tmp_path, succeeded(queue_s=known))
    ended.last.submitted_at = submitted_at

    assert ORIGIN.experience(ended, ended.last, is_suspect=False).outcome.queue_s == queue_s


def test_attempts_of_one_job_are_counted_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    trials = [trial(tmp_path, succeeded(), number=number) for number in range(5)]
    begun = [(0, 1030.0), (0, 1000.0), (0, None), (1, 1010.0), (None, 1020.0)]
    for one, (job, started_at) in zip(trials, begun, strict=True):
        one.last.job, one.last.end = job, end(succeeded(), started_at=started_at)

    positions = job_positions(trials)

    assert [positions.get(one.last.path) for one in trials] == [1, 0, None, 0, None]
    experience = ORIGIN.experience(trials[0], trials[0].last, is_suspect=False, job_position=1)
    assert (experience.provenance.job, experience.provenance.job_position) == (0, 1)


def test_an_attempt_that_has_not_ended_is_no_experience(tmp_path: Path) -> None:
    running = trial(tmp_path, None)

    with pytest.raises(ValueError, match=f"^attempt {running.last.path} has not ended$"):
        ORIGIN.experience(running, running.last, is_suspect=False)


KEPT = {"pipeline.json", "command.json", "claim-0.json", "exit-0.json", "outcome.json", "stderr"}


def fill(ended: Trial) -> None:
    """Leave what a normal attempt leaves."""
    path = ended.last.path
    TEMPLATE.write(ended)
    for name in ("claim-0.json", "exit-0.json", "outcome.json", "stderr", "heartbeat-0.json"):
        (path / name).write_text("{}")
    for name in ("ready", "stdout"):
        (path / name).write_text("")
    (path / "checkpoint").mkdir()
    (path / "checkpoint" / "model.safetensors").write_text("x")


def test_at_most_six_files_of_a_normal_attempt_stay(tmp_path: Path) -> None:
    trials = [trial(tmp_path, succeeded(), number=0), trial(tmp_path, failed("lost"), failed("error"), number=1)]
    for ended in trials:
        fill(ended)
    trials[1].attempts[0].path.mkdir()

    clean_up(tmp_path / "gen-000")
    clean_up(tmp_path / "gen-000")

    for ended in trials:
        assert {path.name for path in ended.last.path.iterdir()} == KEPT
    assert len(KEPT) <= 6


def test_a_worker_that_wrote_to_stdout_is_kept_word_for_word(tmp_path: Path) -> None:
    ended = trial(tmp_path, succeeded())
    fill(ended)
    (ended.last.path / "stdout").write_text("a word")

    clean_up(tmp_path / "gen-000")

    assert (ended.last.path / "stdout").read_text() == "a word"


def test_of_a_submission_only_its_members_stay(tmp_path: Path) -> None:
    folder = tmp_path / "gen-000" / "submission-0"
    write_members(folder, [Path("/a")])
    (folder / "77_0_submitted.pkl").write_text("x")
    (folder / "logs").mkdir()
    (folder / "logs" / "out").write_text("x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside")

    clean_up(tmp_path / "gen-000")

    assert [path.name for path in folder.iterdir()] == ["members.json"]
    assert read_members(folder / "members.json") == [Path("/a")]
    assert (tmp_path / "outside" / "kept").exists()


def test_the_folder_of_a_job_of_several_attempts_stays_until_it_has_written_how_it_ended(tmp_path: Path) -> None:
    folder = tmp_path / "gen-000" / "submission-0"
    groups = [folder / "groups" / f"group-{i}" for i in range(2)]
    write_members(folder, [Path("/a"), Path("/b")])
    write_members(folder / "groups", groups)
    for group, attempt_dir in zip(groups, (Path("/a"), Path("/b")), strict=True):
        write_members(group, [attempt_dir])
        (group / "claim-0.json").write_text("{}")
    (groups[0] / "exit-0.json").write_text("{}")

    clean_up(tmp_path / "gen-000")
    assert groups[1].is_dir()

    (groups[1] / "exit-0.json").write_text("{}")
    clean_up(tmp_path / "gen-000")
    assert [path.name for path in folder.iterdir()] == ["members.json"]


def test_a_trial_that_shared_its_job_waited_in_the_queue_until_the_job_began(tmp_path: Path) -> None:
    ended = trial(tmp_path, succeeded())
    ended.last.submitted_at = 900.0
    ended.last.end = end(succeeded(), started_at=1000.0, job_started_at=930.0)

    assert ORIGIN.experience(ended, ended.last, is_suspect=False).outcome.queue_s == 30.0
