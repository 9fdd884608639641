"""Messages between supervisor, template and trial: length, checksum, msgpack, over a stream socket."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, NoReturn

import msgspec

from hpc_search.errors import UsageError
from hpc_search.trial import Stopped

_FRAME: Final = struct.Struct("<II")
_ENCODER: Final = msgspec.msgpack.Encoder()
#: A message is small but for per-sample scores; more than this is a broken stream.
MAX_BYTES: Final = 256 << 20
#: Why a trial stops that somebody else has taken over.
SUPERSEDED: Final = "superseded by a later attempt"
#: Why a trial stops that nobody listens to.
GONE: Final = "the supervisor is gone"


class BrokenStreamError(Exception):
    """The bytes on the socket are not a message; the other side is gone or damaged."""


def encode(kind: str, content: dict[str, Any]) -> bytes:
    """Return the frame of one message."""
    body = _ENCODER.encode({"kind": kind, **content})
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


class Inbox:
    """Bytes received so far, cut into messages."""

    def __init__(self) -> None:
        """Start empty."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Add *data*; yield the messages that are complete and verified.

        Raises:
            BrokenStreamError: A frame does not verify.
        """
        self._buffer += data
        while len(self._buffer) >= _FRAME.size:
            length, crc = _FRAME.unpack_from(self._buffer)
            if length > MAX_BYTES:
                raise BrokenStreamError
            end = _FRAME.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_FRAME.size : end])
            del self._buffer[:end]
            if zlib.crc32(body) != crc:
                raise BrokenStreamError
            yield msgspec.msgpack.decode(body)


class SocketChannel:
    """A trial's line to its supervisor over a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Talk over *sock*."""
        self._socket = sock
        self._inbox = Inbox()
        self._verdicts: list[str] = []
        self._pid = os.getpid()
        #: Why the trial has to stop, "" while it has not.
        self.reason = ""

    def send(self, kind: str, **content: Any) -> None:
        """Send one message.

        Raises:
            Stopped: The supervisor is gone.
            UsageError: This is not the trial's process but one that it forked.
        """
        self._check()
        try:
            self._socket.sendall(encode(kind, content))
        except OSError:
            self._gone()

    def stop_requested(self) -> str:
        """Return why the trial has to stop, "" while it has not.

        Raises:
            Stopped: The supervisor is gone: whoever comes next has the trial, and nothing may be saved.
            UsageError: This is not the trial's process but one that it forked.
        """
        self._check()
        try:
            while True:
                self._receive(socket.MSG_DONTWAIT)
        except BlockingIOError:
            return self.reason

    def verdict(self) -> str:
        """Wait for what becomes of the trial after its last report.

        Raises:
            Stopped: The supervisor is gone.
        """
        while not self._verdicts:
            self._receive()
        return self._verdicts.pop(0)

    def _receive(self, flags: int = 0) -> None:
        """Take what the supervisor says.

        Raises:
            BlockingIOError: Nothing is there, and *flags* say not to wait for it.
            Stopped: The supervisor is gone.
        """
        if self.reason == GONE:
            raise Stopped
        try:
            data = self._socket.recv(65536, flags)
        except BlockingIOError:
            raise
        except OSError:
            data = b""
        if not data:
            self._gone()
        for message in self._inbox.feed(data):
            if message["kind"] == "stop":
                self.reason = self.reason or str(message["reason"])
            elif message["kind"] == "verdict":
                self._verdicts.append(str(message["decision"]))

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError(
                "a process that the trial started called report, save, restore or alive",
                hint="call them in the process that runs the trial's function",
            )

    def _gone(self) -> NoReturn:
        self.reason = GONE
        raise Stopped
