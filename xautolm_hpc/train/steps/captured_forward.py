"""Forward passes of an evaluation, captured for each padded length."""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from xautolm_hpc.train.data import Tokens, plan_evaluation
from xautolm_hpc.train.steps.buckets import choose_edges, padded_length
from xautolm_hpc.train.steps.fixed_batches import LABELS, measure_lengths
from xautolm_hpc.train.steps.recorder import Recorder, Work

FORWARD_CAPTURE_STEPS = 8.0
"""What the capture of a forward pass costs, in replays without tokens."""

LEAST_FORWARDS = 6
"""Passes of all evaluations together below which nothing is captured for them."""

MAX_REASON = 200
"""Characters of a reason."""

OUTPUTS = ("logits", "start_logits", "end_logits")
OF_TOKENS = ("start_logits", "end_logits")
"""Outputs with a number for each token, so that those of padding are cut off."""


def plan_evaluation_edges(
    tokens: Mapping[str, Tokens], *, batch_size: int, n_epochs: int
) -> tuple[tuple[int, ...], ...]:
    """Choose the padded lengths of evaluations.

    Args:
        tokens: Split name -> its tokens; ``dev`` is evaluated after each epoch, others once.
        batch_size: Rows of a pass.
        n_epochs: Epochs.

    Returns:
        The padded lengths, in a tuple of one; empty where evaluations are not captured: there are few passes, inputs
        have two lengths, or answers are written token by token.
    """
    evaluated = {name: split for name, split in tokens.items() if name != "train"}
    longest = [
        int(split.lengths[rows].max())
        for name, split in evaluated.items()
        for rows in plan_evaluation(split.lengths, batch_size) * (n_epochs if name == "dev" else 1)
    ]
    is_written = any(LABELS in split.columns for split in evaluated.values())
    if is_written or len(longest) < LEAST_FORWARDS:
        return ()
    if any(len(measure_lengths(split.columns).distinct) > 1 for split in evaluated.values()):
        return ()
    return (choose_edges(longest, n_rows=batch_size, n_repeats=1, capture_steps=FORWARD_CAPTURE_STEPS),)


class CapturedForward:
    """Is called like the model, without gradients, and replays a graph; what it does not know it asks the model.

    Attributes:
        reason: Why forward passes could not be captured, or ``None``.
    """

    def __init__(
        self, model: nn.Module, recorder: Recorder, *, edges: Sequence[int], n_rows: int, padding: Mapping[str, int]
    ) -> None:
        """Prepare the capture; nothing is captured yet.

        Args:
            model: The model, in evaluation mode whenever this is called.
            recorder: Records and replays.
            edges: Padded lengths.
            n_rows: Rows of a pass.
            padding: Name of an input -> the number that pads it.
        """
        self._model = model
        self._recorder = recorder
        self._edges = edges
        self._n_rows = n_rows
        self._padding = padding
        self._captured: dict[int, _Forward] = {}
        self.reason: str | None = None

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the model."""
        return getattr(self._model, name)

    def __call__(self, **inputs: Tensor) -> Any:
        """Compute the outputs of a batch."""
        if self.reason is not None:
            return self._model(**inputs)
        n_rows, longest = next(iter(inputs.values())).shape
        length = padded_length(longest, self._edges)
        if length not in self._captured:
            try:
                self._captured[length] = self._record(inputs, length)
            except (RuntimeError, ValueError, TypeError, AttributeError) as error:
                self.reason = describe_failure(error)
                self._captured.clear()
                self._recorder.recover()
                return self._model(**inputs)
        return self._captured[length].run(inputs, n_rows=n_rows, length=longest)

    def _record(self, inputs: Mapping[str, Tensor], length: int) -> "_Forward":
        static = {name: given.new_empty((self._n_rows, length)) for name, given in inputs.items()}
        captured = _Forward(self._model, static, padding=self._padding)
        captured.write(inputs)
        captured.replay = self._recorder.record(captured.work)
        return captured


class _Forward:
    """A forward pass over a batch of fixed shape."""

    replay: Work

    def __init__(self, model: nn.Module, static: dict[str, Tensor], *, padding: Mapping[str, int]) -> None:
        self._model = model
        self._static = static
        self._padding = padding
        self._outputs: dict[str, Tensor] = {}

    def work(self) -> None:
        """Compute the outputs of the batch there is."""
        given = self._model(**self._static)
        self._outputs = {name: getattr(given, name) for name in OUTPUTS if getattr(given, name, None) is not None}

    def write(self, inputs: Mapping[str, Tensor]) -> None:
        """Copy a batch, padded; rows that it lacks are copies of its first."""
        for name, given in inputs.items():
            placed = self._static[name]
            n_rows, length = given.shape
            placed.fill_(self._padding[name])
            placed[:n_rows, :length].copy_(given)
            placed[n_rows:] = placed[:1]

    def run(self, inputs: Mapping[str, Tensor], *, n_rows: int, length: int) -> SimpleNamespace:
        """Compute the outputs of a batch, without those of padding."""
        self.write(inputs)
        self.replay()
        cut = {
            name: output[:n_rows, :length] if name in OF_TOKENS else output[:n_rows]
            for name, output in self._outputs.items()
        }
        return SimpleNamespace(**{name: output.clone() for name, output in cut.items()})  # the next replay writes there


def describe_failure(error: Exception) -> str:
    """Return the first line of an error, shortened, or its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return shorten(lines[0], width=MAX_REASON, placeholder=" ...") if lines else type(error).__name__
