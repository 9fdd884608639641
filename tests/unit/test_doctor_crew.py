"""What partners say, and how long it is waited for."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec
import pytest

from hpc_search.doctor import crew
from hpc_search.doctor.crew import Channel, SilentError
from hpc_search.doctor.protocol import Answer

PARTNER: Final = 7


class Pipe:
    """A channel whose partner is the test."""

    def __init__(self) -> None:
        self.answers, self.mouth = os.pipe()
        self.nowhere = os.open(os.devnull, os.O_WRONLY)
        self.channel = Channel(crew._Process(0), self.nowhere, self.answers)

    def say(self, answer: Answer) -> None:
        os.write(self.mouth, msgspec.json.encode(answer) + b"\n")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.channel.close()
    with suppress(OSError):
        os.close(made.mouth)


def test_a_part_that_is_done_gives_the_rest_patience_of_its_own(pipe: Pipe) -> None:
    pipe.say(Answer(1, PARTNER, going_on=True))
    later = threading.Timer(0.2, pipe.say, [Answer(1, PARTNER, what="done")])
    later.start()
    assert pipe.channel.receive(1, PARTNER, time.monotonic()).what == "done"
    later.join()


def test_what_another_partner_has_done_is_no_patience(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 30.0)
    pipe.say(Answer(1, PARTNER + 1, going_on=True))
    with pytest.raises(SilentError):
        pipe.channel.receive(1, PARTNER, time.monotonic() + 0.1)


def test_a_partner_that_stops_on_the_way_is_silent(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 0.1)
    pipe.say(Answer(1, PARTNER, going_on=True))
    with pytest.raises(SilentError):
        pipe.channel.receive(1, PARTNER, time.monotonic())
