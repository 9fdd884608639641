"""The log of proposed points, with workers that are stopped anywhere, killed, or shown what is no more."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc_search import durable
from hpc_search.layout import Layout
from hpc_search.ledger import names, proposals
from hpc_search.ledger.proposals import Proposals
from hpc_search.records.proposals import Entry

#: Entries of a pack, so that some are made; workers; points of each of two families.
PACK, WORKERS, POINTS = 2, 4, 10


class KilledError(BaseException):
    """The worker was killed."""


class Client(threading.Thread):
    """One worker on a client of its own, which goes on for one call at a time, when it is told to.

    Its client may show a name as it was when it last looked, until it changes the directory itself.
    """

    def __init__(self, layout: Layout, points: list[int], stale: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.log = Proposals(layout)
        self.points = points
        self.seen: dict[str, Any] = {}
        self.stale = stale
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.over = False
        #: Changes of the directory after which it is killed.
        self.changes_left = 10**9
        self.error: BaseException | None = None
        #: What it ran: point -> parameters.
        self.ran: dict[int, Any] = {}

    def run(self) -> None:
        try:
            self.pause()
            for point in self.points:
                self.propose(point)
        except KilledError:
            pass
        except BaseException as error:
            self.error = error
        self.over = True
        self.stopped.release()

    def propose(self, point: int) -> None:
        family = str(point % 2)
        entry = self.log.settled(point)
        while entry is None:
            x = next(x for x in range(99) if not self.log.taken(family, {"x": x}))
            entry = self.log.publish(Entry(point=point, params={"x": x}, family=family, worker=self.name))
        self.ran[point] = entry.params

    def pause(self) -> None:
        """Wait until it is this one's turn."""
        self.stopped.release()
        self.go.acquire()

    def step(self) -> None:
        """Let it go on to its next call."""
        self.go.release()
        self.stopped.acquire()

    def shown(self, key: str, look: Callable[[], Any]) -> Any:
        if key not in self.seen or not self.stale():
            self.seen[key] = look()
        return self.seen[key]


def me() -> Client | None:
    found = threading.current_thread()
    return found if isinstance(found, Client) else None


def content(real: Callable[[Path], bytes | None]) -> Callable[[Path], bytes | None]:
    def looked_up(path: Path) -> bytes | None:
        client = me()
        if client is None:
            return real(path)
        client.pause()
        found: bytes | None = client.shown(path.name, lambda: real(path))
        return found

    return looked_up


def changing(real: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*args: Any, **more: Any) -> Any:
        client = me()
        if client is None:
            return real(*args, **more)
        client.pause()
        client.seen.clear()
        try:
            return real(*args, **more)
        finally:
            client.seen.clear()
            client.changes_left -= 1
            if client.changes_left == 0:
                raise KilledError

    return changed


def listing(real: Callable[[Path], list[str]]) -> Callable[[Path], list[str]]:
    def listed(directory: Path) -> list[str]:
        client = me()
        if client is None:
            return real(directory)
        client.pause()
        found: list[str] = client.shown("", lambda: real(directory))
        return found

    return listed


def patches() -> Iterator[Any]:
    """Yield what makes every call of the log a step of its worker; nothing is waited for."""
    yield mock.patch.object(proposals, "PACK", PACK)
    yield mock.patch.object(proposals, "_content", content(proposals._content))
    yield mock.patch.object(proposals, "listed", listing(names.listed))
    yield mock.patch.object(proposals, "looks", partial(range, 50))
    yield mock.patch.object(durable, "publish", changing(durable.publish))
    yield mock.patch.object(durable, "now", changing(durable.now))
    yield mock.patch.object(durable, "take_away", changing(durable.take_away))
    yield mock.patch.object(os, "fsync")


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_workers_agree_on_one_point_each_and_none_twice_whatever_happens_to_them(seed: int) -> None:
    draw = random.Random(seed)
    mist = draw.choice([0.0, 0.5, 0.9])
    with tempfile.TemporaryDirectory() as root, ExitStack() as stack:
        layout = Layout(Path(root))
        layout.ledger.mkdir()
        for patch in patches():
            stack.enter_context(patch)
        clients = [Client(layout, order(draw), lambda: draw.random() < mist) for _ in range(WORKERS)]
        for client in clients:
            client.start()
            client.stopped.acquire()
        if draw.random() < 0.5:
            draw.choice(clients).changes_left = draw.randrange(1, 12)
        play(clients, draw)
        for client in clients:
            # In the end, every client sees what there is.
            client.stale = lambda: False
        for client in clients:
            while not client.over:
                client.step()
            assert client.error is None, client.error
        check(layout, clients)


def order(draw: random.Random) -> list[int]:
    """Return the points of a worker: all of them, or a few, in any order."""
    return draw.sample(range(POINTS), draw.choice([2, POINTS // 2, POINTS]))


def play(clients: list[Client], draw: random.Random) -> None:
    """Let the workers go on in turns, some of which are long: the others are stopped meanwhile."""
    for _ in range(draw.choice([10, 30, 100])):
        client = draw.choice(clients)
        for _ in range(draw.choice([1, 2, 5, 40, 120])):
            if not client.over:
                client.step()


def check(layout: Layout, clients: list[Client]) -> None:
    """Look at the log as somebody who comes later, and at what everyone ran."""
    log = Proposals(layout)
    log.read()
    for client in clients:
        for point, params in client.ran.items():
            assert log.all[point].params == params
    for family in ("0", "1"):
        chosen = [entry.params["x"] for entry in log.all.values() if entry.family == family]
        assert len(set(chosen)) == len(chosen)
    assert set(log.all) >= {point for client in clients if client.changes_left > 0 for point in client.points}
