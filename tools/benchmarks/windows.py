"""Many processes in one window of time: how the ledger and its peers are loaded alike."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from typing import Any, Final

#: Seconds after the end of a window in which a process may still sleep in a peer's lock.
_GRACE: Final = 90.0


@dataclass(slots=True)
class Sample:
    """What one process did in its window: trials finished, and the seconds of every wait by kind."""

    trials: int = 0
    waits: dict[str, list[float]] = field(default_factory=dict)
    opened: float = 0.0
    problem: str = ""

    def wait(self, kind: str, seconds: float) -> None:
        """Note one wait."""
        self.waits.setdefault(kind, []).append(seconds)


@dataclass(slots=True)
class Window:
    """The processes of one window together."""

    seconds: float
    samples: list[Sample]

    @property
    def rate(self) -> float:
        """Trials finished a second, all processes."""
        return sum(sample.trials for sample in self.samples) / self.seconds

    def waits(self, kind: str) -> list[float]:
        """Every wait of *kind*."""
        return [seconds for sample in self.samples for seconds in sample.waits.get(kind, [])]


#: Opens a worker's connection and returns (what runs one trial, what closes it).
Opener = Callable[[Sample], tuple[Callable[[], bool], Callable[[], None]]]


def run_window(opener: Opener, workers: int, seconds: float) -> Window:
    """Run *workers* processes for *seconds* each, started together; opening is outside the clock.

    Raises:
        RuntimeError: A process died or failed.
    """
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(workers)
    pairs = [context.Pipe(duplex=False) for _ in range(workers)]
    arguments = [(opener, barrier, pair[1], seconds) for pair in pairs]
    processes = [context.Process(target=_work, args=one, daemon=True) for one in arguments]
    for process in processes:
        process.start()
    for _, writer in pairs:
        writer.close()
    samples = [
        _receive(reader, process, seconds) for (reader, _), process in zip(pairs, processes, strict=True)
    ]
    for process in processes:
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
    problems = [sample.problem for sample in samples if sample.problem]
    if problems:
        raise RuntimeError(f"{len(problems)} of {workers} processes failed; the first: {problems[0]}")
    return Window(seconds, samples)


def _receive(reader: Connection, process: Any, seconds: float) -> Sample:
    try:
        if reader.poll(seconds + _GRACE):
            found: Sample = reader.recv()
            return found
    except EOFError:
        return Sample(problem=f"process {process.pid} died")
    process.kill()
    return Sample(problem=f"process {process.pid} did not end {_GRACE:.0f} s after its window")


def _work(opener: Opener, barrier: Barrier, writer: Connection, seconds: float) -> None:
    sample = Sample()
    try:
        started = time.perf_counter()
        one, close = opener(sample)
        sample.opened = time.perf_counter() - started
        barrier.wait(_GRACE)
        deadline = time.perf_counter() + seconds
        while time.perf_counter() < deadline and one():
            # A trial that ends after the window does not count.
            sample.trials += time.perf_counter() <= deadline
        close()
    except Exception as error:  # noqa: BLE001 - the parent says it
        sample.problem = f"{type(error).__name__}: {error}"
        barrier.abort()
    writer.send(sample)
    writer.close()
