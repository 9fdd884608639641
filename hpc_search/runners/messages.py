"""Messages between supervisor, template and trial: length, checksum, msgpack, over a stream socket."""

from __future__ import annotations

import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

_FRAME: Final = struct.Struct("<II")
_ENCODER: Final = msgspec.msgpack.Encoder()
#: A message is small but for per-sample scores; more than this is a broken stream.
MAX_BYTES: Final = 256 << 20
#: Why a trial stops that somebody else has taken over.
SUPERSEDED: Final = "superseded by a later attempt"


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
        self._stop = ""

    def send(self, kind: str, **content: Any) -> None:
        """Send one message; a supervisor that is gone is a reason to stop."""
        try:
            self._socket.sendall(encode(kind, content))
        except OSError:
            self._stop = self._stop or "the supervisor is gone"

    def stop_requested(self) -> str:
        """Return why the trial has to stop, "" while it has not."""
        if self._stop:
            return self._stop
        try:
            data = self._socket.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return ""
        except OSError:
            data = b""
        if not data:
            self._stop = "the supervisor is gone"
            return self._stop
        for message in self._inbox.feed(data):
            if message["kind"] == "stop":
                self._stop = str(message["reason"])
        return self._stop
