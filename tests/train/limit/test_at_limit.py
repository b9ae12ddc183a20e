"""At its limit a trial evaluates its best state so far; one whose first epoch cannot fit ends early."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.train.limit.test_trial_budget import delayed_by
from tests.train.tiny import tiny_train_state, weights_of
from xautolm_hpc.execution import AtLimit, Execution, Foretelling
from xautolm_hpc.failures import FailureKind
from xautolm_hpc.train import loop
from xautolm_hpc.train.exceptions import TrialError
from xautolm_hpc.train.limit import trial_budget
from xautolm_hpc.train.limit.at_limit import LimitPlan, StepTimer, scaled_seconds
from xautolm_hpc.train.limit.foreign_load import LoadMeter
from xautolm_hpc.train.limit.trial_budget import Decision, TrialBudget
from xautolm_hpc.train.loop import TrainState, evaluate, train
from xautolm_hpc.train.ragged import pack
from xautolm_hpc.train.steps.eager import EagerRunner
from xautolm_hpc.train.steps.runner import StepResult
from xautolm_hpc.train.stop import StopFlag


@dataclass
class SlowRunner(EagerRunner):
    """Steps that take a second of the clock each, and nothing else where the weights do not matter."""

    train_state: TrainState
    clock: list[float]
    trains: bool = True

    def __post_init__(self) -> None:
        super().__init__(self.train_state)

    def start(self, batches: Sequence[NDArray[np.int64]]) -> Sequence[StepResult]:
        """Take a second and a step."""
        self.clock[0] += 1.0
        return super().start(batches) if self.trains else [StepResult(1.0, 4)]


@dataclass
class SlowTask:
    """Answers to a batch that take half a second of the clock, or what is left of ``batch_s``."""

    task: Any
    clock: list[float]
    batch_s: list[float] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def answer(self, *given: Any, **named: Any) -> Sequence[Any]:
        """Answer a batch."""
        self.clock[0] += self.batch_s.pop(0) if self.batch_s else 0.5
        return self.task.answer(*given, **named)


CONSTANT: Any = {"lr_scheduler": "constant", "warmup_ratio": 0.0}
"""Learning rates that do not depend on the epochs planned."""

Make = Callable[..., TrainState]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return what builds a train state whose clock moves with its steps and evaluations alone."""
    clock = [0.0]
    for module in (loop, trial_budget):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def build(
        time_limit_s: float,
        at_limit: str = "evaluate",
        foretell: str = "off",
        *,
        load: LoadMeter | None = None,
        trains: bool = True,
        batch_s: Sequence[float] = (),
        **params: Any,
    ) -> TrainState:
        clock[0] = 0.0
        train_state = tiny_train_state(**params)
        progress = train_state.progress
        progress.epochs, progress.phase = train_state.recipe.epochs, "train"
        plan = LimitPlan(at_limit=AtLimit(at_limit), foretell=Foretelling(foretell))
        train_state.budget = TrialBudget(progress, StopFlag(), time_limit_s=time_limit_s, load=load, plan=plan)
        train_state.runner = SlowRunner(train_state, clock, trains)
        train_state.task = SlowTask(train_state.task, clock, list(batch_s))
        return train_state

    return build


def run(train_state: TrainState) -> float:
    """Train and evaluate as a trial does; return F1 on ``validation``."""
    progress = train_state.progress
    with progress.train:
        train(train_state, save=lambda: None)
    progress.phase = "eval"
    with progress.eval:
        return evaluate(train_state, "validation").f1


def equal(one: TrainState, other: TrainState) -> bool:
    """Check whether two models have the same weights, bit for bit."""
    pairs = zip(weights_of(one.model).values(), weights_of(other.model).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_best_epoch_so_far_is_evaluated_within_the_budget(make: Make) -> None:
    # Two epochs of five steps take 11 s with their evaluations, and the probe after step 2 another one. For the
    # evaluation of half a second 2.4 s are kept: after step 11, at 13 s, there is no time for another step.
    train_state = make(16.0, epochs=9, **CONSTANT)

    f1 = run(train_state)
    whole = make(600.0, epochs=2, **CONSTANT)
    run(whole)

    progress = train_state.progress
    assert (progress.truncated, progress.step, len(progress.curve)) == (True, 11, 2)
    assert progress.notes == [
        "truncated: 13.0 of 16 s were used after step 11 of 45; the rest was kept for the evaluation"
    ]
    assert progress.evaluation_time_s == 13.5
    best = max(progress.curve, key=lambda row: (row[3], -row[2]))
    assert progress.metrics["dev_f1"] == best[3]
    assert train_state.loop.best_epoch == 2
    assert equal(train_state, whole)
    assert f1 == evaluate(whole, "validation").f1


def test_a_state_within_the_first_epoch_is_evaluated(make: Make) -> None:
    # After a tenth of the budget a batch of dev is answered twice, which takes 1 s: 2 s are used after the first step.
    train_state = make(4.5, n_rows=400)

    run(train_state)
    two_steps = make(600.0, n_rows=400)
    for batches in loop.epoch_steps(two_steps, 0)[:2]:
        two_steps.runner.start(batches)

    progress = train_state.progress
    assert (progress.truncated, progress.step, progress.curve) == (True, 2, [])
    assert train_state.loop.finished  # a restart evaluates and trains no further, whatever it foresees by then
    assert progress.evaluation_time_s == 3.5
    assert set(progress.metrics) == {"train_loss"}
    assert equal(train_state, two_steps)


def test_a_trial_that_ends_in_time_is_the_same_bit_for_bit(make: Make) -> None:
    kept, plain = make(40.0, epochs=2, n_rows=20), make(40.0, "fail", epochs=2, n_rows=20)

    scores = [run(kept), run(plain)]

    assert not kept.progress.truncated
    assert scores[0] == scores[1]
    assert equal(kept, plain)
    assert kept.progress.notes == []


def test_a_dev_evaluation_that_would_outrun_the_budget_is_not_begun(make: Make) -> None:
    train_state = make(7.8)  # five steps, and the probe after the first: 6 s before dev

    run(train_state)

    progress = train_state.progress
    assert (progress.truncated, progress.step, progress.curve) == (True, 5, [])
    assert progress.evaluation_time_s == 6.5


def test_without_a_step_there_is_nothing_to_evaluate(make: Make) -> None:
    train_state = make(0.5)
    train_state.progress.train.before_s = 0.6

    with pytest.raises(TrialError, match=r"budget of 0.5 s .* after step 0 of 5, in phase train$") as caught:
        run(train_state)

    assert caught.value.kind is FailureKind.TIME_LIMIT


def test_an_evaluation_that_outruns_what_was_kept_for_it_fails(make: Make) -> None:
    train_state = make(13.0, epochs=9, batch_s=[0.5, 0.5, 0.5, 4.0])
    train_state.execution = Execution(evaluation_batch=12)
    train_state.tokens = {**train_state.tokens, "validation": loop_tokens(train_state, 2)}

    with pytest.raises(TrialError, match=r"in phase eval; the evaluation took longer than the 2.9 s that") as caught:
        run(train_state)

    assert caught.value.kind is FailureKind.TIME_LIMIT
    assert train_state.progress.truncated


def loop_tokens(train_state: TrainState, times: int) -> Any:
    """Repeat the rows of validation, so that they are several batches."""
    tokens = train_state.tokens["validation"]
    index = np.tile(np.arange(len(tokens)), times)
    return type(tokens)(
        columns=pack({name: [column[i] for i in index] for name, column in tokens.columns.items()}),
        padding=tokens.padding,
        targets=tokens.targets[index],
        lengths=tokens.lengths[index],
        weights=tokens.weights[index],
        facts=(),
    )


@pytest.mark.parametrize("foretell", ["off", "obey"])
def test_under_the_load_of_others_nothing_is_truncated_or_foretold(make: Make, foretell: str) -> None:
    train_state = make(40.0, foretell=foretell, trains=False, n_rows=400, load=delayed_by(500.0, 500.0, 500.0))

    with pytest.raises(TrialError, match="kept the trial from running") as caught:
        run(train_state)

    assert caught.value.kind is FailureKind.NODE_BUSY
    assert not train_state.progress.truncated


HOPELESS = (
    "the rest of the first epoch was foretold to take 69.0 s after step 31, 8.0 s were left of the budget of 40 s"
)


@pytest.mark.parametrize("at_limit", ["evaluate", "fail"])
def test_a_first_epoch_that_needs_twice_what_is_left_ends_the_trial(make: Make, at_limit: str) -> None:
    train_state = make(40.0 if at_limit == "evaluate" else 39.0, at_limit, "obey", trains=False, n_rows=400)

    with pytest.raises(TrialError, match=HOPELESS if at_limit == "evaluate" else "8.0 s were left of") as caught:
        run(train_state)

    assert caught.value.kind is FailureKind.TIME_LIMIT
    assert train_state.progress.step == 31  # the first one is not past captures


def test_what_is_foretold_can_be_logged_alone(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    train_state = make(40.0, foretell="log", trains=False, n_rows=400)

    run(train_state)

    assert train_state.progress.truncated
    assert train_state.progress.notes[0] == HOPELESS
    assert HOPELESS in capsys.readouterr().err


@pytest.mark.parametrize(("time_limit_s", "n_steps"), [(30.0, 26), (80.0, 76)])
def test_nothing_ends_early_before_thirty_steps_or_if_half_an_epoch_fits(
    make: Make, time_limit_s: float, n_steps: int
) -> None:
    train_state = make(time_limit_s, foretell="obey", trains=False, n_rows=400)

    run(train_state)

    assert (train_state.progress.truncated, train_state.progress.step) == (True, n_steps)


def test_a_restart_does_not_foretell_again(make: Make) -> None:
    train_state = make(40.0, foretell="obey", trains=False, n_rows=400)
    train_state.progress.train.before_s = 1.0

    run(train_state)

    assert train_state.progress.truncated


def test_an_epoch_that_is_over_is_never_hopeless(make: Make) -> None:
    train_state = make(60.0, foretell="obey", trains=False, n_rows=80, epochs=9)  # 20 steps an epoch

    run(train_state)

    assert (train_state.progress.truncated, len(train_state.progress.curve)) == (True, 2)


def test_a_pace_begins_anew_after_a_capture() -> None:
    step_timer = StepTimer()

    for n_captures, seconds in ((1, 9.0), (1, 1.0), (1, 3.0), (2, 9.0), (2, 4.0)):
        step_timer.add(2, seconds, n_captures=n_captures)

    assert (step_timer.n_steps, step_timer.step_s) == (2, 2.0)


def test_an_evaluation_is_foreseen_by_rows_or_tokens_whichever_is_more() -> None:
    measured = np.array([10, 10])

    assert scaled_seconds(3.0, measured, asked=np.array([5, 5, 5])) == 4.5
    assert scaled_seconds(3.0, measured, asked=np.array([40, 40, 40])) == 18.0


def test_a_trial_is_cut_when_one_of_its_processes_has_no_time_left(make: Make) -> None:
    train_state = make(600.0)
    decisions = iter([Decision.CONTINUE, Decision.CUT, 0])  # before two steps; whether a process was delayed
    train_state.budget.agree = lambda own: max(own, next(decisions))

    with train_state.progress.train:
        train(train_state, save=lambda: None)

    assert (train_state.progress.truncated, train_state.progress.step) == (True, 1)
