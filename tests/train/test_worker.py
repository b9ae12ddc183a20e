"""Whatever happens to a trial, one outcome says so; a failed one keeps what it cost."""

import dataclasses
import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.train.attempts import command, minilm, read_end, task, without_seconds, write_attempt
from xautolm_hpc import __version__
from xautolm_hpc.durable import read_json, write_json
from xautolm_hpc.jobdir import COMMAND, OUTCOME, Heartbeat, heartbeat_path
from xautolm_hpc.records import Outcome, from_json, to_json
from xautolm_hpc.train import finetune, worker
from xautolm_hpc.train.energy import Counter, EnergyReader
from xautolm_hpc.train.loop import evaluate
from xautolm_hpc.train.loop import train as run_training
from xautolm_hpc.train.retry import RETRY_EXIT_STATUS
from xautolm_hpc.train.stop import StopFlag
from xautolm_hpc.train.worker import Job, run_trial


def _job(attempt_dir: Path, **changes: object) -> Job:
    job = Job(
        attempt_dir=attempt_dir,
        restart=0,
        visible_gpus="",
        image_digest=None,
        secrets=("hf_verysecret",),
        user="ada",
        host="node7",
        home="/home/ada",
        read_cpu=lambda pid: None,  # whatever else runs on this machine
    )
    return dataclasses.replace(job, **changes)  # type: ignore[arg-type]


def _outcome(attempt_dir: Path) -> Outcome:
    assert run_trial(_job(attempt_dir), StopFlag()) == 0
    return read_end(attempt_dir).outcome


@pytest.mark.parametrize(
    ("method", "least_f1", "params"),
    [
        ("full", 0.8, {"learning_rate": 1e-3, "class_weighted_loss": True, "dropout_rate": 0.0}),
        ("partial", 0.8, {"learning_rate": 2e-3, "n_trainable_blocks": 1}),
        ("lora", 0.8, {"learning_rate": 5e-3, "lora_targets": "all-linear", "lora_r": 16}),
        ("head", 0.3, {"learning_rate": 1e-2}),  # one frozen block says too little for a new head to learn
    ],
)
def test_a_real_model_is_trained_with_every_method(
    tmp_path: Path, method: str, least_f1: float, params: dict[str, Any]
) -> None:
    given = {"epochs": 12, "early_stopping_patience": 12, **params}
    attempt_dir = write_attempt(tmp_path, method, params=given)

    outcome = _outcome(attempt_dir)

    assert (outcome.status, outcome.kind, outcome.message) == ("succeeded", None, None)
    assert outcome.metrics["f1"] >= least_f1
    assert set(outcome.metrics) == {"f1", "accuracy", "validation_loss", "train_loss", "dev_loss", "dev_f1"}
    assert outcome.metrics["accuracy"] * 10 == pytest.approx(round(outcome.metrics["accuracy"] * 10))  # 10 rows
    assert outcome.metrics["validation_loss"] != outcome.metrics["dev_loss"]
    assert outcome.n_steps == 4 * len(outcome.curve)
    assert outcome.n_samples == 30 * len(outcome.curve)
    best = max(outcome.curve, key=lambda row: (row[3], -row[2]))
    assert (outcome.metrics["dev_f1"], outcome.metrics["dev_loss"]) == (best[3], best[2])


def test_an_outcome_says_what_it_cost_and_where_it_ran(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)

    outcome = _outcome(attempt_dir)

    end = read_end(attempt_dir)
    assert outcome.load_s is not None
    assert outcome.train_s is not None
    assert outcome.eval_s is not None
    assert outcome.evaluation_time_s == outcome.train_s + outcome.eval_s
    assert outcome.train_s > 0 < outcome.eval_s
    assert (outcome.retry_s, outcome.time_scope) == (0.0, "train+eval")
    assert (outcome.truncated, outcome.step, outcome.step_reason) == (False, "eager", None)
    assert (outcome.epochs_done, outcome.epochs, outcome.schedule_share) == (2.0, 2, 1.0)
    assert outcome.cpu_share is None or 0 < outcome.cpu_share <= 1
    assert [len(row) for row in outcome.curve] == [5, 5]
    assert 0 < outcome.curve[0][4] < outcome.curve[1][4] <= outcome.train_s
    assert (outcome.gpu_energy_j, outcome.peak_gpu_memory_bytes) == (None, None)
    assert outcome.peak_rss_bytes is not None
    assert outcome.peak_rss_bytes > 100e6
    assert end.system is not None
    assert (end.system.site, end.system.cluster, end.system.n_gpus) == ("here", "desk", 0)
    assert (end.restart, end.package_version, end.image_digest) == (0, __version__, None)
    assert end.started_at is not None
    assert end.started_at < end.ended_at
    beat = from_json(Heartbeat, read_json(heartbeat_path(attempt_dir, 0)), where="heartbeat")
    assert (beat.phase, beat.step, beat.n_steps) == ("done", 8, 8)


def test_the_same_trial_gives_the_same_result_twice(tmp_path: Path) -> None:
    first = _outcome(write_attempt(tmp_path / "a", "full", params={"dropout_rate": 0.3}))
    second = _outcome(write_attempt(tmp_path / "b", "full", params={"dropout_rate": 0.3}))

    assert (second.metrics, without_seconds(second.curve)) == (first.metrics, without_seconds(first.curve))


def test_test_data_is_never_read(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    (tmp_path / "data" / "test.jsonl.gz").mkdir()  # reading it would fail

    assert _outcome(attempt_dir).status == "succeeded"


def test_an_outcome_that_is_there_is_left_alone(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    (attempt_dir / OUTCOME).write_text("an earlier run finished after all")

    assert run_trial(_job(attempt_dir, restart=1), StopFlag()) == 0
    assert (attempt_dir / OUTCOME).read_text() == "an earlier run finished after all"
    assert not heartbeat_path(attempt_dir, 1).exists()


def test_a_trial_that_uses_up_its_budget_keeps_what_it_reached(tmp_path: Path) -> None:
    endless = {"epochs": 100_000, "early_stopping_patience": 100_000}
    attempt_dir = write_attempt(tmp_path, params=endless, limits=command(time_limit_s=0.5))

    outcome = _outcome(attempt_dir)

    assert (outcome.status, outcome.kind, outcome.origin) == ("failed", "time_limit", "pipeline")
    assert outcome.message is not None
    assert outcome.message.startswith("the budget of 0.5 s for training and evaluation was used up after step")
    assert outcome.train_s == outcome.evaluation_time_s
    assert outcome.train_s is not None
    assert 0.5 < outcome.train_s < 10
    assert len(outcome.curve) > 1
    assert outcome.metrics["dev_f1"] == max(row[3] for row in outcome.curve)
    assert "f1" not in outcome.metrics


def test_a_trial_that_is_asked_to_stop_writes_a_checkpoint_and_resumes_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {"dropout_rate": 0.2, "epochs": 3}
    whole = _outcome(write_attempt(tmp_path / "whole", "full", params=params))
    attempt_dir = write_attempt(tmp_path / "parts", "full", params=params)
    used_j = iter([(40.0, 3.0), (500.0, 20.0), (6000.0, 100.0)])
    monkeypatch.setattr(worker, "open_energy_reader", lambda *_, **__: _replayed(*next(used_j)))

    statuses = []
    for restart in range(3):
        stop = StopFlag()
        stop.requested = restart == 0
        if restart == 1:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(finetune, "evaluate", _stop_first(stop, evaluate))
                statuses.append(run_trial(_job(attempt_dir, restart=restart), stop))
        else:
            statuses.append(run_trial(_job(attempt_dir, restart=restart), stop))

    outcome = read_end(attempt_dir).outcome
    assert statuses == [85, 85, 0]
    assert (outcome.metrics, outcome.n_steps) == (whole.metrics, whole.n_steps)
    assert without_seconds(outcome.curve) == without_seconds(whole.curve)
    assert outcome.train_s is not None
    beat = from_json(Heartbeat, read_json(heartbeat_path(attempt_dir, 1)), where="heartbeat")
    assert outcome.train_s > beat.train_s > 0
    assert (outcome.gpu_energy_j, outcome.cpu_energy_j) == (6540.0, 123.0)
    assert read_end(attempt_dir).restart == 2


@contextmanager
def _replayed(gpu_j: float, cpu_j: float) -> Iterator[EnergyReader]:
    """Make counters that grow once, after their first reading."""
    readings = {"gpu": chain([7.0], repeat(7.0 + gpu_j)), "cpu": chain([1.0], repeat(1.0 + cpu_j))}
    reader = EnergyReader([Counter(device=device, read_j=partial(next, each)) for device, each in readings.items()])
    yield reader
    reader.end()


def _stop_first(stop: StopFlag, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let the signal come just before a function is called."""

    def stopped(*arguments: Any) -> Any:
        stop.requested = True
        return function(*arguments)

    return stopped


def test_work_of_an_earlier_restart_that_is_in_no_checkpoint_is_counted_as_discarded(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    killed = Heartbeat(at=0.0, phase="train", train_s=42.0)
    write_json(heartbeat_path(attempt_dir, 0), to_json(killed))

    run_trial(_job(attempt_dir, restart=2), StopFlag())

    outcome = read_end(attempt_dir).outcome
    assert outcome.retry_s == 42.0
    assert outcome.train_s is not None
    assert outcome.train_s < 42.0


INJECTED = [
    ("gpu_oom", "pipeline", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")),
    ("host_oom", "pipeline", MemoryError("no more")),
    ("storage", "infrastructure", OSError(errno.ENOSPC, "No space left on device")),
    ("gpu_fault", "infrastructure", RuntimeError("CUDA error: uncorrectable ECC error encountered")),
    ("error", "pipeline", ValueError("told hf_verysecret to ada on node7 in /home/ada/x")),
]


@pytest.mark.parametrize(("kind", "origin", "error"), INJECTED, ids=[kind for kind, _, _ in INJECTED])
def test_a_crash_in_training_is_an_outcome_that_keeps_its_cost(
    tmp_path: Path, kind: str, origin: str, error: Exception
) -> None:
    def crash(train_state: Any, *, save: Callable[[], None]) -> None:
        run_training(train_state, save=save)
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", crash)
        attempt_dir = write_attempt(tmp_path)
        if kind == "gpu_oom":  # which is tried once more, with smaller micro-batches
            assert run_trial(_job(attempt_dir), StopFlag()) == RETRY_EXIT_STATUS
        outcome = _outcome(attempt_dir)

    assert (outcome.status, outcome.kind, outcome.origin) == ("failed", kind, origin)
    assert outcome.message is not None
    assert type(error).__name__ in outcome.message.splitlines()[-1]
    assert not any(word in outcome.message for word in ("hf_verysecret", "ada", "node7", "/home/ada"))
    assert outcome.train_s is not None
    assert outcome.train_s > 0
    assert len(outcome.curve) == 2
    assert outcome.eval_s is None


@pytest.mark.parametrize("kind", ["gpu_oom", "error"])
def test_running_out_of_a_gpu_that_others_joined_says_nothing_of_the_pipeline(tmp_path: Path, kind: str) -> None:
    (error,) = (error for name, _, error in INJECTED if name == kind)
    asked: list[str | None] = []

    def crash(*_: object, **__: object) -> None:
        raise error

    def others(visible_gpus: str | None) -> bool:
        asked.append(visible_gpus)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", crash)
        patch.setattr(worker, "others_hold_gpu", others)
        attempt_dir = write_attempt(tmp_path)

        assert run_trial(_job(attempt_dir), StopFlag()) == 0

    assert _outcome(attempt_dir).kind == ("gpu_busy" if kind == "gpu_oom" else "error")
    assert len(asked) == (1 if kind == "gpu_oom" else 0)


def test_the_message_keeps_the_traceback_and_hides_the_secret(tmp_path: Path) -> None:
    def crash(*_: object, **__: object) -> None:
        raise ValueError("token hf_verysecret refused")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "train", crash)
        message = _outcome(write_attempt(tmp_path)).message

    assert message is not None
    assert message.splitlines()[-1] == "ValueError: token <SECRET> refused"
    assert "finetune.py" in message


def test_a_loss_that_blows_up_is_divergence(tmp_path: Path) -> None:
    wild: dict[str, Any] = {
        "optimizer": "sgd",
        "learning_rate": 1e3,
        "weight_decay": 1e3,
        "use_gradient_clipping": False,
    }

    outcome = _outcome(write_attempt(tmp_path, params={**wild, "epochs": 9}))

    assert (outcome.kind, outcome.origin) == ("diverged", "pipeline")
    assert all(np.isfinite(row).all() for row in outcome.curve)


def test_a_library_that_cannot_be_imported_is_the_environment_s_fault(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "peft", None)
        outcome = _outcome(write_attempt(tmp_path, "lora"))

    assert (outcome.kind, outcome.origin) == ("environment", "infrastructure")
    assert outcome.message is not None
    assert outcome.message.splitlines()[-1].startswith("ModuleNotFoundError: import of peft halted")


def test_torch_that_cannot_be_imported_is_reported_too(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "xautolm_hpc.train.finetune", None)
        outcome = _outcome(write_attempt(tmp_path))

    assert outcome.kind == "environment"
    assert outcome.train_s is None
    assert outcome.load_s is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "prefix"}, "unknown method 'prefix'; valid: full, partial, lora, dora, ia3, bitfit, head"),
        (
            {"about": task(kind="text-generation")},
            "model minilm-l1 is of the family encoder; text-generation is trained with",
        ),
        ({"about": task(labels=("good",))}, "task films has 1 labels; expected at least 2"),
    ],
)
def test_what_is_not_built_is_unsupported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    outcome = _outcome(write_attempt(tmp_path, **changes))

    assert (outcome.kind, outcome.origin) == ("unsupported", "pipeline")
    assert outcome.message is not None
    assert outcome.message.startswith(message)


def test_missing_data_and_missing_models_are_unavailable_not_evidence(tmp_path: Path) -> None:
    no_data = write_attempt(tmp_path / "a")
    (tmp_path / "a" / "data" / "dev.jsonl.gz").unlink()
    no_model = write_attempt(tmp_path / "b", model=dataclasses.replace(minilm(), package="no_such_weights"))

    outcomes = [_outcome(no_data), _outcome(no_model)]

    assert [outcome.kind for outcome in outcomes] == ["data_unavailable"] * 2
    assert {outcome.origin for outcome in outcomes} == {"infrastructure"}


def test_a_folder_of_another_version_is_an_outcome_without_a_system(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    write_json(attempt_dir / COMMAND, {"speed": 9})

    outcome = _outcome(attempt_dir)

    assert outcome.kind == "environment"
    assert outcome.message is not None
    assert "command.json: unknown key 'speed' in Command" in outcome.message
    assert read_end(attempt_dir).system is None


def test_texts_are_cut_to_the_model_s_context(tmp_path: Path) -> None:
    short = dataclasses.replace(minilm(), context_length=3)  # leaves one word between the special tokens

    cut = _outcome(write_attempt(tmp_path / "a", "partial", params={"max_length": 4096}, model=short))
    asked = _outcome(write_attempt(tmp_path / "b", "partial", params={"max_length": 4096}))

    assert (cut.status, asked.status) == ("succeeded", "succeeded")
    assert cut.curve[0][1] != asked.curve[0][1]


def test_a_checkpoint_that_is_damaged_ends_the_attempt_so_that_it_is_tried_anew(tmp_path: Path) -> None:
    for number, damage in enumerate([b"", b"no checkpoint", None]):
        attempt_dir = write_attempt(tmp_path / str(number))
        stop = StopFlag()
        stop.requested = True
        assert run_trial(_job(attempt_dir), stop) == 85
        path = attempt_dir / "checkpoint" / "state.pt"
        path.write_bytes(path.read_bytes()[:-2000] if damage is None else damage)

        assert run_trial(_job(attempt_dir, restart=1), StopFlag()) == 0

        outcome = read_end(attempt_dir).outcome
        assert (outcome.kind, outcome.origin) == ("storage", "infrastructure"), outcome.message
        assert outcome.message is not None
        assert outcome.message.startswith("checkpoint `")
        assert "cannot be read" in outcome.message


def test_a_disk_that_is_full_at_a_checkpoint_is_the_disk_s_fault(tmp_path: Path) -> None:
    attempt_dir = write_attempt(tmp_path)
    (attempt_dir / "checkpoint").mkdir()
    (attempt_dir / "checkpoint" / ".state.pt.tmp").symlink_to("/dev/full")
    stop = StopFlag()
    stop.requested = True

    assert run_trial(_job(attempt_dir), stop) == 0

    outcome = read_end(attempt_dir).outcome
    assert (outcome.kind, outcome.origin) == ("storage", "infrastructure"), outcome.message
    assert not (attempt_dir / "checkpoint" / "state.pt").exists()
