"""The line between trial and supervisor: whole messages, one speaker, silence after the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpc_search.errors import UsageError
from hpc_search.runners.messages import GONE, BrokenStreamError, Inbox, SocketChannel, encode
from hpc_search.trial import Stopped


@pytest.fixture
def pair() -> Iterator[tuple[SocketChannel, socket.socket]]:
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield SocketChannel(theirs), ours


@given(st.lists(st.text(max_size=50), max_size=5), st.integers(1, 40))
def test_messages_arrive_whole_however_the_stream_is_cut(texts: list[str], size: int) -> None:
    stream = b"".join(encode("say", {"text": text}) for text in texts)
    inbox = Inbox()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [message["text"] for piece in pieces for message in inbox.feed(piece)] == texts


@given(st.data())
def test_a_flipped_byte_is_never_taken_for_a_message(data: st.DataObject) -> None:
    stream = bytearray(encode("say", {"text": "hello"}))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] ^= data.draw(st.integers(1, 255))
    with suppress(BrokenStreamError):
        assert list(Inbox().feed(bytes(stream))) == []


def test_the_first_reason_to_stop_stays(pair: tuple[SocketChannel, socket.socket]) -> None:
    channel, supervisor = pair
    assert channel.stop_requested() == ""
    supervisor.sendall(encode("stop", {"reason": "one"}) + encode("stop", {"reason": "two"}))
    assert channel.stop_requested() == "one"
    assert channel.reason == "one"


def test_a_trial_whose_supervisor_is_gone_stops_at_each_word(
    pair: tuple[SocketChannel, socket.socket],
) -> None:
    channel, supervisor = pair
    supervisor.sendall(encode("stop", {"reason": "one"}))
    supervisor.close()
    for _ in range(2):
        with pytest.raises(Stopped):
            channel.stop_requested()
        with pytest.raises(Stopped):
            channel.send("report")
    assert channel.reason == GONE


def test_a_process_that_the_trial_forked_does_not_speak_for_it(
    pair: tuple[SocketChannel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, supervisor = pair
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(UsageError, match="process that the trial started"):
        channel.send("report")
    with pytest.raises(UsageError, match="process that the trial started"):
        channel.stop_requested()
    monkeypatch.undo()
    channel.send("alive")
    assert [message["kind"] for message in Inbox().feed(supervisor.recv(1000))] == ["alive"]
