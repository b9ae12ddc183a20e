"""Where captured work is recorded and replayed: CUDA graphs. Tests record on a CPU instead."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from xautolm_hpc.train.steps.lead import Marker

Work = Callable[[], None]


class Recorder(Protocol):
    """Records work of a device once and replays it."""

    @property
    def is_pinned(self) -> bool:
        """Whether buffers on the host must be pinned, so that copies from them do not wait."""
        ...

    def record(self, work: Work, *, warm_up: Work | None = None) -> Work:
        """Run some work to warm up, record it once more, and return what replays it.

        Args:
            work: The work.
            warm_up: A part of it that is run instead, where the rest was run before with another shape.

        Raises:
            RuntimeError: It cannot be recorded.
        """
        ...

    def seed(self, seed: int) -> None:
        """Seed the generators that replayed work draws from."""
        ...

    def mark(self) -> Marker:
        """Return the point that the work started so far ends at."""
        ...

    def recover(self) -> None:
        """Make the device usable by others after work could not be recorded."""
        ...


class CudaRecorder:
    """Records on one GPU, all graphs in one pool of memory: they never run at the same time.

    Attributes:
        is_pinned: Always: copies must not wait.
    """

    is_pinned = True

    def __init__(self, device: torch.device) -> None:
        """Reserve nothing yet.

        Args:
            device: The GPU.
        """
        with torch.cuda.device(device):
            self._device = torch.device("cuda", torch.cuda.current_device())  # with its number
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._stream = _new_stream(self._device)

    def record(self, work: Work, *, warm_up: Work | None = None) -> Work:
        """Warm up and capture on a stream of its own; every work must do the same each time it is called.

        In the warm-up libraries choose kernels and reserve workspaces, optimisers make their state, and models keep
        what follows from a length. What were made in a capture would belong to the graph alone.

        Args:
            work: The work.
            warm_up: A part of it that is run instead.

        Raises:
            RuntimeError: It cannot be captured; torch says why.
        """
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            (warm_up or work)()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        self._capture(graph, work)
        return graph.replay

    def _capture(self, graph: torch.cuda.CUDAGraph, work: Work) -> None:
        """Capture some work; if it fails, raise its own error and not that of the capture that it broke."""
        before, inside = torch.cuda.current_stream(self._device), _Noted()
        try:
            # Other threads, as that of heartbeats, may use CUDA meanwhile: only this thread's calls are checked.
            with (
                torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"),
                inside,
            ):
                work()
        except RuntimeError as broken:
            raise (inside.error or broken) from None
        finally:
            torch.cuda.set_stream(before)  # which a broken capture leaves at its own

    def seed(self, seed: int) -> None:
        """Seed the GPU's own generator: each replay reads seed and offset from it, and moves the offset on."""
        with torch.cuda.device(self._device):
            torch.cuda.manual_seed(seed)

    def mark(self) -> Marker:
        """Record an event on the current stream."""
        return CudaMarker()

    def recover(self) -> None:
        """Restore memory and generator after a broken capture.

        A capture that ends with an error leaves the generator as if it were still under way, and then every dropout
        fails. One that ends well sets it right.
        """
        torch.cuda.synchronize(self._device)
        self._pool = torch.cuda.graph_pool_handle()
        number = torch.zeros((), device=self._device)
        with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=_new_stream(self._device)):
            number.add_(1)
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()


class _Noted:
    """Notes the error that leaves a ``with`` block: the end of a broken capture raises one of its own in its place."""

    error: BaseException | None = None

    def __enter__(self) -> None:
        self.error = None

    def __exit__(self, *raised: Any) -> None:
        self.error = raised[1]


class CudaMarker:
    """A CUDA event, recorded when it is made."""

    def __init__(self) -> None:
        self._event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._event.record()

    def wait(self) -> None:
        """Wait for the event."""
        self._event.synchronize()

    def is_reached(self) -> bool:
        """Query the event."""
        return bool(self._event.query())

    def seconds_since(self, earlier: Marker) -> float:
        """Return the time between two events, in seconds.

        Raises:
            TypeError: The other point is no event.
        """
        if not isinstance(earlier, CudaMarker):
            raise TypeError(f"an event is measured from another one, not from {type(earlier).__name__}")
        milliseconds = float(earlier._event.elapsed_time(self._event))
        return milliseconds / 1000


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
