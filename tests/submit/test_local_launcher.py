"""The local launcher with real jobs: controller, wrapper and a small worker."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.nouns import claim as a_claim
from tests.submit.jobs import SLEEP, WRITE_OUTCOME, WRITE_PID, is_running, make_attempt, submission_of, wait_until
from xautolm_hpc.driver.results import check_end
from xautolm_hpc.durable import create_json, read_json, write_json
from xautolm_hpc.errors import LaunchError
from xautolm_hpc.gather import JobTracker, gather_ends
from xautolm_hpc.jobdir import MEMBERS, OUTCOME, Claim, Heartbeat, claim_path, heartbeat_path, read_whole
from xautolm_hpc.launcher import JobState, JobStatus, Launcher, Resources
from xautolm_hpc.node import SystemClock, boot_id, node_name
from xautolm_hpc.records import to_json
from xautolm_hpc.submit.local_launcher import LocalLauncher

PACKAGE_PARENT = str(Path(__file__).resolve().parents[2])
SPAN = """
import os, sys, time
attempt_dir = sys.argv[-1]
began = time.time()
open(attempt_dir + "/began", "w").close()
while not os.path.exists(attempt_dir + "/../go"): time.sleep(0.05)
with open(attempt_dir + "/span", "w") as file:
    file.write(f"{began} {time.time()}")
print(os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))
"""
UNTIL_ASKED = (
    WRITE_PID + "import time\nwhile not os.path.exists(sys.argv[-1] + '/go'): time.sleep(0.05)\n" + WRITE_OUTCOME
)

DRIVER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests were started with Ctrl-C ignored
from tests.submit.jobs import submission_of
from xautolm_hpc.node import SystemClock
from xautolm_hpc.submit.local_launcher import LocalLauncher
launcher = LocalLauncher(1, SystemClock())
submission = submission_of(Path(sys.argv[1]), *map(Path, sys.argv[2:]))
launcher.submit(submission)
while True:
    launcher.poll(submission.attempt_dirs)
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def _no_job_is_left_behind(tmp_path: Path) -> Iterator[None]:
    yield
    for path in tmp_path.glob("**/claim-*.json"):
        claim = read_whole(Claim, path)
        if claim is not None and claim.boot_id == boot_id() and claim.pid > 1 and claim.pid != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(claim.pid, signal.SIGTERM)


def launcher_with(n_slots: int = 2, **more: object) -> LocalLauncher:
    return LocalLauncher(n_slots, SystemClock(), **more)  # type: ignore[arg-type]


def state_of(launcher: Launcher, attempt_dir: Path) -> JobStatus:
    return launcher.poll([attempt_dir])[attempt_dir]


def wait_for_end(launcher: Launcher, *attempt_dirs: Path) -> dict[Path, JobStatus]:
    wait_until(lambda: not any(state.is_alive for state in launcher.poll(attempt_dirs).values()), what="jobs end")
    return dict(launcher.poll(attempt_dirs))


def let_go(*attempt_dirs: Path) -> None:
    """Let all workers end that wait for it, once these have begun."""
    wait_until(lambda: all((path / "began").exists() for path in attempt_dirs), what="the workers begin")
    (attempt_dirs[0].parent / "go").touch()


def pid_in(attempt_dir: Path) -> int:
    path = attempt_dir / "pid"
    wait_until(lambda: path.exists() and path.read_text() != "", what="the worker starts")
    return int(path.read_text())


def kind_of(launcher: Launcher, attempt_dir: Path) -> tuple[str | None, str]:
    tracker = JobTracker(outcome_grace_s=0.0, pending_timeout_s=3600.0, redact=str, check=check_end)
    ends = gather_ends(launcher, tracker, attempt_dirs=[attempt_dir], clock=SystemClock())
    return ends[0].end.outcome.kind, ends[0].source


def test_jobs_run_in_the_order_submitted_and_never_more_than_the_slots(tmp_path: Path) -> None:
    attempt_dirs = [make_attempt(tmp_path / f"a{k}", SPAN) for k in range(5)]
    launcher = launcher_with(2)
    ids = launcher.submit(submission_of(tmp_path / "submission", *attempt_dirs))

    first = launcher.poll(attempt_dirs)
    let_go(*attempt_dirs[:2])
    ended = wait_for_end(launcher, *attempt_dirs)

    spans = [tuple(map(float, (path / "span").read_text().split())) for path in attempt_dirs]
    overlap = max(sum(start <= at < stop for start, stop in spans) for at, _ in spans)
    assert overlap == 2
    assert max(span[0] for span in spans[:2]) < min(span[0] for span in spans[2:])
    assert [state.state for state in first.values()] == ["RUNNING"] * 2 + ["PENDING"] * 3
    assert {state.state for state in ended.values()} == {"COMPLETED"}
    assert [read_json(claim_path(path, 0))["job_id"] for path in attempt_dirs] == list(ids.values())


def test_each_job_has_its_own_gpu_of_those_lent_out(tmp_path: Path) -> None:
    attempt_dirs = [make_attempt(tmp_path / f"a{k}", SPAN) for k in range(3)]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PACKAGE_PARENT, "CUDA_VISIBLE_DEVICES": "4,6,7"}
    launcher = launcher_with(3, n_gpus=2, environment=environment)
    launcher.submit(submission_of(tmp_path / "submission", *attempt_dirs))

    first = launcher.poll(attempt_dirs)
    let_go(*attempt_dirs[:2])
    wait_for_end(launcher, *attempt_dirs)

    used = [(path / "stdout").read_text().strip() for path in attempt_dirs]
    assert [state.state for state in first.values()] == ["RUNNING", "RUNNING", "PENDING"]
    assert used[:2] == ["4", "6"]
    assert used[2] in ("4", "6")


def test_without_gpus_to_lend_the_drivers_own_reach_the_job(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", SPAN)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PACKAGE_PARENT, "CUDA_VISIBLE_DEVICES": "3"}
    launcher = launcher_with(1, environment=environment)
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))

    (tmp_path / "go").touch()
    wait_for_end(launcher, attempt_dir)

    assert (attempt_dir / "stdout").read_text().strip() == "3"


def test_more_gpus_than_the_pool_lends_are_refused(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    submission = submission_of(tmp_path / "submission", attempt_dir, resources=Resources(n_gpus=4))

    with pytest.raises(LaunchError, match="asks for 4 GPUs a job; this machine lends 2"):
        launcher_with(2, n_gpus=2).submit(submission)


def test_jobs_outlive_a_killed_driver_and_are_adopted(tmp_path: Path) -> None:
    attempt_dirs = [make_attempt(tmp_path / f"a{k}", UNTIL_ASKED) for k in range(2)]
    folder = tmp_path / "submission"
    environ = {"PYTHONPATH": PACKAGE_PARENT, "PATH": "/usr/bin:/bin"}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder), *map(str, attempt_dirs)], env=environ)
    first_pid = pid_in(attempt_dirs[0])
    driver.kill()
    driver.wait()
    launcher = launcher_with(1)

    ids = launcher.adopt(submission_of(folder, *attempt_dirs), {})
    states = [state.state for state in launcher.poll(attempt_dirs).values()]
    (attempt_dirs[0] / "go").touch()
    wait_until(lambda: state_of(launcher, attempt_dirs[1]).state == "RUNNING", what="the second one starts")
    (attempt_dirs[1] / "go").touch()
    ended = wait_for_end(launcher, *attempt_dirs)

    assert states == ["RUNNING", "PENDING"]  # the adopted job holds the only slot
    assert ids[attempt_dirs[0]] == read_json(claim_path(attempt_dirs[0], 0))["job_id"]
    assert pid_in(attempt_dirs[0]) == first_pid
    assert {state.state for state in ended.values()} == {"COMPLETED"}
    assert all((path / OUTCOME).exists() for path in attempt_dirs)


def test_ctrl_c_in_the_drivers_terminal_does_not_reach_jobs(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", UNTIL_ASKED)
    environ = {"PYTHONPATH": PACKAGE_PARENT, "PATH": "/usr/bin:/bin"}
    arguments = [sys.executable, "-c", DRIVER, str(tmp_path / "submission"), str(attempt_dir)]
    driver = subprocess.Popen(arguments, env=environ, start_new_session=True, stderr=subprocess.DEVNULL)
    pid = pid_in(attempt_dir)

    os.killpg(driver.pid, signal.SIGINT)
    driver.wait(30)
    session, survived = os.getsid(pid), is_running(pid)
    (attempt_dir / "go").touch()

    wait_until((attempt_dir / OUTCOME).exists, what="the job ends as if nothing had been")
    assert survived
    assert session != driver.pid


def test_a_cancelled_job_ends_and_a_waiting_one_never_starts(tmp_path: Path) -> None:
    attempt_dirs = [make_attempt(tmp_path / f"a{k}", WRITE_PID + SLEEP) for k in range(2)]
    launcher = launcher_with(1)
    launcher.submit(submission_of(tmp_path / "submission", *attempt_dirs))
    launcher.poll(attempt_dirs)
    pid = pid_in(attempt_dirs[0])

    launcher.cancel(attempt_dirs)
    wait_for_end(launcher, *attempt_dirs)

    assert [kind_of(launcher, path) for path in attempt_dirs] == [("cancelled", "verdict")] * 2
    assert not is_running(pid)
    assert not (attempt_dirs[1] / "pid").exists()


def test_a_job_cancelled_before_it_claims_its_attempt_is_not_started_again(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID + SLEEP)
    launcher = launcher_with(1)
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))
    launcher.poll([attempt_dir])

    launcher.cancel([attempt_dir])
    wait_for_end(launcher, attempt_dir)

    assert kind_of(launcher, attempt_dir) == ("cancelled", "verdict")


def test_a_worker_killed_from_outside_is_lost(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a", WRITE_PID + SLEEP)
    launcher = launcher_with(1)
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))
    launcher.poll([attempt_dir])

    os.kill(pid_in(attempt_dir), signal.SIGKILL)
    ended = wait_for_end(launcher, attempt_dir)

    assert ended[attempt_dir].exit_code == -signal.SIGKILL
    assert kind_of(launcher, attempt_dir) == ("lost", "verdict")


def test_a_job_whose_wrapper_was_killed_is_lost_and_leaves_no_process(tmp_path: Path) -> None:
    grandchild = "import subprocess\nchild = subprocess.Popen(['sleep', '300'])\n"
    grandchild += "open(sys.argv[-1] + '/child', 'w').write(str(child.pid))\n"
    attempt_dir = make_attempt(tmp_path / "a", "import sys\n" + grandchild + WRITE_PID + SLEEP)
    launcher = launcher_with(1)
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))
    launcher.poll([attempt_dir])
    pids = [pid_in(attempt_dir), int((attempt_dir / "child").read_text())]

    os.kill(read_json(claim_path(attempt_dir, 0))["pid"], signal.SIGKILL)
    ended = wait_for_end(launcher, attempt_dir)

    assert ended[attempt_dir].state == "UNKNOWN"
    assert kind_of(launcher, attempt_dir) == ("lost", "verdict")
    wait_until(lambda: not any(map(is_running, pids)), what="worker and child are gone")
    assert not launcher.poll([attempt_dir])[attempt_dir].is_alive  # not started again


def test_an_attempt_started_by_two_drivers_runs_once(tmp_path: Path) -> None:
    worker = "import sys, time\nopen(sys.argv[-1] + '/runs', 'a').write('x')\ntime.sleep(0.3)\n" + WRITE_OUTCOME
    attempt_dir = make_attempt(tmp_path / "a", worker)
    submission = submission_of(tmp_path / "submission", attempt_dir)
    launchers = [launcher_with(1), launcher_with(1)]
    for launcher in launchers:
        launcher.submit(submission)
        launcher.poll([attempt_dir])

    states = [wait_for_end(launcher, attempt_dir)[attempt_dir].state for launcher in launchers]

    assert (attempt_dir / "runs").read_text() == "x"
    assert states == ["COMPLETED", "COMPLETED"]


def test_a_wrapper_that_never_claims_is_tried_twice_and_then_a_launch_failure(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    launcher = launcher_with(1)
    submission = submission_of(tmp_path / "submission", attempt_dir)
    launcher.submit(submission)
    (submission.folder / MEMBERS).write_text("[]")

    ended = wait_for_end(launcher, attempt_dir)

    assert ended[attempt_dir].state == "FAILED"
    assert "has 0 places, no place 0" in ended[attempt_dir].reason
    assert len(list(submission.folder.glob("*_submitted.pkl"))) == 2
    assert kind_of(launcher, attempt_dir) == ("launch_failure", "verdict")


def test_an_interpreter_that_does_not_exist_is_a_launch_failure(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    launcher = launcher_with(1, python="/no/such/python")
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))

    state = state_of(launcher, attempt_dir)

    assert (state.state, "/no/such/python" in state.reason) == ("FAILED", True)


def claim_by(attempt_dir: Path, **fields: object) -> None:
    claim = {
        "job_id": "local-old", "node": node_name(), "restart": 0, "pid": os.getpid(), "pid_started": 1,
        "boot_id": boot_id(), "claimed_at": 1_000_000.0,
    }  # fmt: skip
    create_json(claim_path(attempt_dir, 0), {**claim, **fields})


def test_a_claim_of_an_earlier_boot_or_of_a_reused_pid_is_dead(tmp_path: Path) -> None:
    reused, earlier = make_attempt(tmp_path / "a"), make_attempt(tmp_path / "b")
    claim_by(reused)
    claim_by(earlier, boot_id="an earlier one")
    launcher = launcher_with(2)

    launcher.adopt(submission_of(tmp_path / "submission", reused, earlier), {})
    states = launcher.poll([reused, earlier])

    assert [state.state for state in states.values()] == ["UNKNOWN", "UNKNOWN"]


def test_a_job_of_another_machine_lives_while_its_heart_beats(tmp_path: Path) -> None:
    attempt_dir = make_attempt(tmp_path / "a")
    claim_by(attempt_dir, node="elsewhere", boot_id="its own")
    write_json(heartbeat_path(attempt_dir, 0), to_json(Heartbeat(at=1_000_000.0, phase="train")))
    os.utime(heartbeat_path(attempt_dir, 0), (1_000_000.0, 1_000_000.0))
    clock = FakeClock(1_000_100.0)
    launcher = LocalLauncher(1, clock)
    launcher.adopt(submission_of(tmp_path / "submission", attempt_dir), {})

    soon = state_of(launcher, attempt_dir).state
    clock.sleep(300.0)
    later = state_of(launcher, attempt_dir).state

    assert (soon, later) == ("RUNNING", "UNKNOWN")


def test_an_attempt_nobody_submitted_is_unknown(tmp_path: Path) -> None:
    assert state_of(launcher_with(1), tmp_path / "a").state == "UNKNOWN"


def test_no_secret_of_the_driver_lies_in_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hf_planted_0123456789"
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MY_PASSWORD", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, secret)
    attempt_dir = make_attempt(tmp_path / "a", "import os\nprint(dict(os.environ))\n" + WRITE_OUTCOME)
    launcher = launcher_with(1)
    launcher.submit(submission_of(tmp_path / "submission", attempt_dir))

    wait_for_end(launcher, attempt_dir)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {OUTCOME, "claim-0.json", "stdout"} <= {path.name for path in files}
    assert any(path.suffix == ".pkl" for path in files)
    assert [path for path in files if secret.encode() in path.read_bytes()] == []


@pytest.mark.parametrize(("n_slots", "n_gpus", "slots"), [(3, 0, 3), (3, 2, 2), (1, 2, 1)])
def test_the_places_of_the_pool_are_its_slots_or_its_gpus_if_these_are_fewer(
    n_slots: int, n_gpus: int, slots: int
) -> None:
    assert launcher_with(n_slots, n_gpus=n_gpus).limits().slots == slots


@pytest.mark.parametrize("name", ["claim-0.json", "exit-0.json"])
def test_a_damaged_claim_or_exit_file_makes_its_attempt_lost_and_stops_no_other(tmp_path: Path, name: str) -> None:
    damaged = make_attempt(tmp_path / "damaged", SLEEP)
    create_json(claim_path(damaged, 0), to_json(a_claim()))
    (damaged / name).write_text('{"job_id": ')
    whole = make_attempt(tmp_path / "whole", WRITE_OUTCOME)
    launcher = LocalLauncher(1, SystemClock())
    submission = submission_of(tmp_path / "submission", damaged, whole)

    launcher.adopt(submission, {})
    wait_until(lambda: launcher.poll([damaged, whole])[whole].state is JobState.COMPLETED)

    state = launcher.poll([damaged])[damaged]
    assert state.state is JobState.UNKNOWN
    if name.startswith("claim"):
        assert state.reason == "its claim cannot be read"
