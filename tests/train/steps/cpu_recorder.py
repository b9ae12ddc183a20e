"""Records and replays on a CPU as a CUDA graph does on a GPU: the same kernels on the same tensors, no Python between.

What a graph cannot do fails here too: waiting for the device. What it does wrongly in silence shows here too: a number
of the host is replayed as it was when it was recorded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xautolm_hpc.execution import StepMode
from xautolm_hpc.train.loop import TrainState
from xautolm_hpc.train.optim import build_optimizer, build_schedule
from xautolm_hpc.train.steps.architectures import make_capturable
from xautolm_hpc.train.steps.captured import CapturedRunner
from xautolm_hpc.train.steps.lead import Marker, ReachedMarker
from xautolm_hpc.train.steps.recorder import Work

aten = torch.ops.aten
WAITING = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.unique_consecutive.default,
    aten._unique2.default,
    aten.equal.default,
    aten.is_nonzero.default,
}
"""Operations that a GPU makes the host wait for."""


class CpuRecorder:
    """Records on the CPU.

    Attributes:
        is_pinned: Never: there is no device to copy to.
        n_recorded: Works recorded so far.
        n_replayed: Replays so far.
        seeds: Seeds that were set.
        n_recovered: How often it was asked to recover.
        fails_at: Number of the record that fails, from 1; ``None`` for none.
    """

    is_pinned = False

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.n_recorded, self.n_replayed, self.n_recovered = 0, 0, 0
        self.seeds: list[int] = []
        self.fails_at = fails_at

    def record(self, work: Work, *, warm_up: Work | None = None) -> Work:
        """Warm up once, record, and return what replays."""
        (warm_up or work)()
        tape = Tape()
        with _capturing(), tape:
            work()
        self.n_recorded += 1
        if self.n_recorded == self.fails_at:
            raise RuntimeError("the device is out of order\nand more about it")

        def replay() -> None:
            self.n_replayed += 1
            tape.replay()

        return replay

    def seed(self, seed: int) -> None:
        """Seed the generator of the CPU."""
        self.seeds.append(seed)
        torch.manual_seed(seed)

    def mark(self) -> Marker:
        """Return a point that is reached."""
        return ReachedMarker()

    def recover(self) -> None:
        """Count."""
        self.n_recovered += 1


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The kernels of some work, with the tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls: list[tuple[Any, Any, Any, Any]] = []
        self._on_host: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and remember it.

        Raises:
            RuntimeError: It would wait for the device.
        """
        read = [id(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        # A tensor made of a number of the host stays there on a GPU too, and so does what is computed of it alone.
        is_on_host = func is aten.lift_fresh.default or (bool(read) and self._on_host.issuperset(read))
        by_mask = func is aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1])
        if not is_on_host and (func in WAITING or by_mask):
            raise RuntimeError(f"operation not permitted when stream is capturing: {func}")
        given = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, given))
        if is_on_host:
            self._on_host |= {id(tensor) for tensor in tree_leaves(given)}
        return given

    @torch.no_grad()
    def replay(self) -> None:
        """Run the operations again; each writes its results where it wrote them first."""
        for func, args, kwargs, given in self._calls:
            read = {place for tensor in tree_leaves((args, kwargs)) for place in _place(tensor)}
            again = func(*args, **kwargs)
            for first, now in zip(tree_leaves(given), tree_leaves(again), strict=True):
                if isinstance(first, Tensor) and not read.intersection(_place(first)):
                    first.detach().copy_(now)


def _place(tensor: Any) -> tuple[int, ...]:
    """Return where a tensor's numbers lie: nowhere for none."""
    return (tensor.untyped_storage().data_ptr(),) if isinstance(tensor, Tensor) and tensor.numel() else ()


@contextmanager
def _capturing() -> Iterator[None]:
    """Let libraries see that work is being captured; transformers then leaves out checks that wait for the device."""
    asked = torch.cuda.is_current_stream_capturing
    torch.cuda.is_current_stream_capturing = lambda: True
    try:
        yield
    finally:
        torch.cuda.is_current_stream_capturing = asked


def capture(train_state: TrainState, recorder: CpuRecorder | None = None) -> CpuRecorder:
    """Make a train state that has done nothing yet capture its steps on the CPU; return the recorder."""
    used = recorder or CpuRecorder()
    make_capturable(train_state.model)
    optimizer = build_optimizer(train_state.model, train_state.recipe, step_mode=StepMode.GRAPH)
    train_state.optimizer.optimizer = optimizer
    train_state.scheduler = build_schedule(optimizer, train_state.recipe, n_steps=train_state.progress.n_steps)
    train_state.runner = CapturedRunner(train_state, used)
    return used
