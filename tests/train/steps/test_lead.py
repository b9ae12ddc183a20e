"""The host runs ahead of the device by few steps and little time, and frees what a step reads once it is over."""

from dataclasses import dataclass

import torch

from xautolm_hpc.train.steps.lead import Marker, StartedStep, StepQueue


@dataclass
class Device:
    """A device that does steps one after the other and only when it is waited for, or let run.

    Attributes:
        done_s: Work done, in seconds.
    """

    done_s: float = 0.0


@dataclass
class DeviceMarker:
    """A point in the work of a device, ``at_s`` seconds after its beginning."""

    device: Device
    at_s: float

    def wait(self) -> None:
        self.device.done_s = max(self.device.done_s, self.at_s)

    def is_reached(self) -> bool:
        return self.device.done_s >= self.at_s

    def seconds_since(self, earlier: Marker) -> float:
        assert isinstance(earlier, DeviceMarker)
        return self.at_s - earlier.at_s


class Host:
    """Starts steps as a runner does, and remembers how far ahead it was."""

    def __init__(self, *, step_s: float) -> None:
        self.device, self.step_s = Device(), step_s
        self.settled: list[float] = []
        self.queue = StepQueue(lambda step, is_skipped: self.settled.append(step.result[0].item()))
        self.n_started = 0
        self.leads: list[int] = []

    def start(self, kind: str = "short", *, times: float = 1.0) -> None:
        self.queue.wait_for_capacity()
        begun = DeviceMarker(self.device, self.n_started * self.step_s)
        self.n_started += 1
        over = DeviceMarker(self.device, begun.at_s + self.step_s * times)
        result = torch.tensor([float(self.n_started), 0.0])
        self.queue.push(StartedStep(kind=kind, begun=begun, over=over, result=result, n_samples=4, staged=()))
        self.leads.append(len(self.queue))


def test_the_host_is_at_most_fifty_steps_ahead() -> None:
    host = Host(step_s=0.001)

    for _ in range(200):
        host.start()

    assert max(host.leads) == 50
    assert host.n_started - len(host.settled) == len(host.queue) == 50


def test_the_host_is_at_most_two_seconds_ahead() -> None:
    host = Host(step_s=0.5)

    for _ in range(20):
        host.start()

    assert max(host.leads) == 4
    assert host.queue.lead_s() <= 2.0


def test_of_steps_that_were_never_measured_two_are_started() -> None:
    host = Host(step_s=0.001)

    for number in range(6):
        host.start(f"kind {number}")

    assert host.leads == [1, 2, 2, 2, 2, 2]


def test_a_longer_step_counts_for_longer() -> None:
    host = Host(step_s=0.1)
    for kind, times in (("short", 1.0), ("long", 15.0)):
        host.start(kind, times=times)
    host.queue.empty()

    host.start("long", times=15.0)
    host.start("short")
    n_with_one_long = len(host.queue)
    host.start("long", times=15.0)

    assert n_with_one_long == 2
    assert host.queue.lead_s() == 3.1  # one more was started because 1.6 s were left
    host.start()
    assert len(host.queue) == 2


def test_results_come_in_the_order_of_the_steps() -> None:
    host = Host(step_s=0.001)
    for _ in range(5):
        host.start()

    last = host.queue.empty()

    assert host.settled == [1, 2, 3, 4, 5]
    assert [result.loss for result in last] == host.settled[-len(last) :]
    assert {result.n_samples for result in last} == {4}
    assert len(host.queue) == 0


def test_steps_that_are_over_are_returned_without_waiting() -> None:
    host = Host(step_s=0.001)
    host.start()
    host.start()
    host.device.done_s = 0.001

    assert [result.loss for result in host.queue.wait_for_capacity()] == [1]


def test_all_steps_can_be_waited_for_and_kept() -> None:
    host = Host(step_s=0.001)
    host.start()
    host.start()

    host.queue.wait()

    assert host.device.done_s == 0.002
    assert (len(host.queue), host.settled) == (2, [])
