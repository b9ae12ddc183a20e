"""Steps captured once for each padded length and replayed: the host starts one graph instead of hundreds of kernels.

A step of one micro-batch is one graph: forward, backward, clipping, optimiser. With several there is one graph for a
micro-batch and one for the update. What differs from step to step lies on the device: the batch and the weight of its
step, copied from pinned buffers; learning rates, in a table; the seed of dropout, set before each replay.

If something cannot be captured, the runner restores what warming up may have changed and goes on eagerly.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xautolm_hpc.execution import StepMode
from xautolm_hpc.train.costs.parts import Part
from xautolm_hpc.train.data import plan_micro_batches
from xautolm_hpc.train.kinds.classification import Classification
from xautolm_hpc.train.kinds.tasks import LearningTask
from xautolm_hpc.train.loop import EVALUATION_BATCH, TrainState, epoch_steps
from xautolm_hpc.train.steps.captured_forward import CapturedForward, describe_failure, plan_evaluation_edges
from xautolm_hpc.train.steps.device_state import DeviceState
from xautolm_hpc.train.steps.eager import EagerRunner
from xautolm_hpc.train.steps.fixed_batches import BatchLayout, measure_lengths
from xautolm_hpc.train.steps.lead import StartedStep, StepQueue
from xautolm_hpc.train.steps.recorder import Recorder, Work
from xautolm_hpc.train.steps.runner import Edges, StepResult, step_seed

CAPTURE_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError)
"""What torch and transformers raise where work cannot be captured; torch's own, out of memory too, are of the first."""

UPDATE = "update"
"""Key of the graph that ends a step of several micro-batches."""


class CapturedRunner:
    """Captures steps as they are needed; the longest batch comes first, so the largest graph does."""

    def __init__(self, train_state: TrainState, recorder: Recorder) -> None:
        """Plan the padded lengths; nothing is captured before the first step.

        Args:
            train_state: The model and all it is trained with; its optimiser can be captured.
            recorder: Records and replays.
        """
        self._train_state = train_state
        self._recorder = recorder
        self._task = _with_weights_on(train_state.task, train_state.accelerator.device)
        tokens = train_state.tokens["train"]
        self._lengths = measure_lengths(tokens.columns)
        planned = [self._micro_batches(batches) for batches in epoch_steps(train_state, 0)]
        micro_batches = [rows for step in planned for rows in step]
        self._n_rows = max(map(len, micro_batches))
        self._is_split = any(len(step) > 1 for step in planned)
        self._train_edges: Sequence[Sequence[int]] = self._lengths.choose_edges(
            micro_batches, n_rows=self._n_rows, n_repeats=train_state.recipe.epochs
        )
        self._evaluation_edges: Sequence[Sequence[int]] = plan_evaluation_edges(
            train_state.tokens, batch_size=self._evaluation_batch, n_epochs=train_state.recipe.epochs
        )
        self._queue = StepQueue(self._settle, parts=train_state.progress.parts)
        self._graphs: dict[Hashable, Work] = {}
        self._layouts: dict[BatchLayout, BatchLayout] = {}
        self._state: DeviceState | None = None
        self._n_started = 0
        self._eager: EagerRunner | None = None
        self._forward: CapturedForward | None = None

    @property
    def mode(self) -> StepMode:
        """Name how steps are computed now."""
        return StepMode.GRAPH if self._eager is None else StepMode.EAGER

    @property
    def reason(self) -> str | None:
        """Return why steps could not be captured, or ``None``."""
        return None if self._eager is None else self._eager.reason

    @property
    def n_captures(self) -> int:
        """Count the graphs of steps."""
        return len(self._graphs)

    def edges(self) -> Edges | None:
        """Return the padded lengths."""
        return {"train": self._train_edges, "evaluation": self._evaluation_edges}

    def use_edges(self, edges: Edges) -> None:
        """Adopt the padded lengths of a checkpoint, before the first step."""
        self._train_edges, self._evaluation_edges = edges["train"], edges["evaluation"]

    def start(self, batches: Sequence[NDArray[np.int64]]) -> Sequence[StepResult]:
        """Copy the batches of a step and replay its graphs, after waiting if the host is far ahead."""
        if self._eager is not None:
            return self._eager.start(batches)
        done = self._queue.wait_for_capacity()
        micro_batches = self._micro_batches(batches)
        layouts = [self._layout(rows) for rows in micro_batches]
        try:
            self._capture_missing(dict(zip(layouts, micro_batches, strict=True)))
        except CAPTURE_ERRORS as error:
            done += self._queue.empty()
            return [*done, *self._give_up(error).start(batches)]
        self._replay(batches, micro_batches, layouts=layouts)
        return done

    def finish(self) -> Sequence[StepResult]:
        """Wait for the device."""
        return self._queue.empty()

    def evaluator(self) -> Any:
        """Return captured forward computations; the model itself where they are not worth it."""
        train_state = self._train_state
        if self._eager is not None or not self._evaluation_edges:
            return train_state.model
        if self._forward is None:
            self._forward = CapturedForward(
                train_state.model,
                self._recorder,
                edges=self._evaluation_edges[0],
                n_rows=self._evaluation_batch,
                padding=train_state.tokens["train"].padding,
            )
        return self._forward

    @property
    def _evaluation_batch(self) -> int:
        return self._train_state.execution.evaluation_batch or EVALUATION_BATCH

    def _micro_batches(self, batches: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Divide the batches of a step into the rows of its micro-batches."""
        train_state = self._train_state
        planned = plan_micro_batches(batches, rank=train_state.rank, max_rows=train_state.execution.micro_batch)
        return [micro_batch.rows for micro_batch in planned]

    def _layout(self, rows: NDArray[np.int64]) -> BatchLayout:
        tokens = self._train_state.tokens["train"]
        padded = self._lengths.pad(self._lengths.longest(rows), self._train_edges)
        layout = BatchLayout(tuple(padded), tuple(padded.values()), self._n_rows, tokens.targets.shape[1:])
        return self._layouts.setdefault(layout, layout)

    def _capture_missing(self, needed: Mapping[BatchLayout, NDArray[np.int64]]) -> None:
        """Capture the graphs that a step needs and that are not there yet, with rows of its own."""
        missing = {layout: rows for layout, rows in needed.items() if layout not in self._graphs}
        if not missing:
            return
        state = self._device_state(next(iter(missing)))
        self._train_state.model.train()
        with self._train_state.progress.parts.measure(Part.CAPTURES), state.warming_up():
            for layout, rows in missing.items():
                state.check_fits(layout)
                staged = self._copy(layout, state, rows=rows, step_weight=1)
                warm_up = self._forward_work(layout, state) if self._graphs else None
                self._graphs[layout] = self._recorder.record(self._pass_work(layout, state), warm_up=warm_up)
                state.staging.give_back(staged)  # a capture waits for the device
            if self._is_split and UPDATE not in self._graphs:
                self._graphs[UPDATE] = self._recorder.record(state.end_step)

    def _device_state(self, layout: BatchLayout) -> DeviceState:
        """Return what graphs share, made when the first one is captured: a checkpoint is loaded by then."""
        if self._state is None:
            self._n_started = self._train_state.progress.step
            lengths = [self._train_edges[self._lengths.of_input[name]][-1] for name in layout.names]
            largest = dataclasses.replace(layout, lengths=tuple(lengths))
            self._state = DeviceState(
                self._train_state, largest, keeps_gradients=self._is_split, is_pinned=self._recorder.is_pinned
            )
        return self._state

    def _pass_work(self, layout: BatchLayout, state: DeviceState) -> Work:
        """Return the work of one pass; where a step has but one, of the whole step."""
        trained, task, is_whole = self._train_state.trained, self._task, not self._is_split
        inputs, targets = layout.inputs(state.static), layout.targets(state.static)
        weight = layout.weight(state.static)

        def work() -> None:
            state.begin_pass()
            loss = task.loss(trained, inputs, targets=targets) / weight
            torch.autograd.backward(state.update.scaled(loss))
            state.update.loss.add_(loss.detach())
            if is_whole:
                state.end_step()

        return work

    def _forward_work(self, layout: BatchLayout, state: DeviceState) -> Work:
        """Return the forward part of a pass: what depends on the length of a batch is made there."""
        inputs, targets = layout.inputs(state.static), layout.targets(state.static)

        def work() -> None:
            with torch.no_grad():
                self._task.loss(self._train_state.trained, inputs, targets=targets)
            self._queue.wait()  # as the capture that follows does, but measured as waiting

        return work

    def _copy(self, layout: BatchLayout, state: DeviceState, *, rows: NDArray[np.int64], step_weight: int) -> Tensor:
        """Start the copy of a pass's batch to the device; return the buffer it is copied from."""
        staged = state.staging.take()
        layout.write(staged, self._train_state.tokens["train"], rows=rows, step_weight=step_weight)
        state.static[: layout.size].copy_(staged[: layout.size], non_blocking=True)
        return staged

    def _replay(
        self,
        batches: Sequence[NDArray[np.int64]],
        micro_batches: Sequence[NDArray[np.int64]],
        *,
        layouts: Sequence[BatchLayout],
    ) -> None:
        """Start a step whose graphs are there."""
        recorder, state, train_state = self._recorder, self._device_state(layouts[0]), self._train_state
        weights = train_state.tokens["train"].weights
        step_weight = int(sum(weights[rows].sum() for rows in batches))
        begun = recorder.mark()
        recorder.seed(step_seed(train_state.seed, self._n_started))
        staged = []
        for rows, layout in zip(micro_batches, layouts, strict=True):
            staged.append(self._copy(layout, state, rows=rows, step_weight=step_weight))
            self._graphs[layout]()
        if self._is_split:
            self._graphs[UPDATE]()
        result = state.results.take().copy_(state.update.result, non_blocking=True)
        self._n_started += 1
        self._queue.push(
            StartedStep(
                kind=tuple(layouts), begun=begun, over=recorder.mark(), result=result,
                n_samples=sum(map(len, batches)), staged=tuple(staged),
            )
        )  # fmt: skip

    def _settle(self, step: StartedStep, is_skipped: bool) -> None:
        """Move the schedule on the host on, as that on the device has moved, and free the buffers."""
        if not is_skipped:
            self._train_state.scheduler.step()
        if self._state is not None:
            self._state.free(step.staged, step.result)

    def _give_up(self, error: Exception) -> EagerRunner:
        """Continue eagerly: weights and optimiser are as they were, gradients and graphs are dropped."""
        self._graphs.clear()
        self._forward = None
        if self._state is not None:
            self._state.drop_gradients()
        self._state = None
        self._recorder.recover()
        self._eager = EagerRunner(self._train_state, reason=describe_failure(error), n_started=self._n_started)
        return self._eager


def _with_weights_on(task: LearningTask, device: torch.device) -> LearningTask:
    """Return a task whose weights of classes lie on the device: a captured step cannot copy them there."""
    if isinstance(task, Classification) and task.class_weights is not None:
        return dataclasses.replace(task, class_weights=task.class_weights.to(device))
    return task
