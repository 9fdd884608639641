"""What `doctor` and its partners say to each other: a JSON line a request, a JSON line an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request to the partner *to*; each operation takes what it needs of the rest."""

    id: int
    to: int
    op: str
    name: str = ""
    kind: str = ""
    mark: str = ""
    seconds: float = 0.0
    count: int = 0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer of partner *by*: a value, or the errno of the OSError that came of it.

    With ``going_on`` it only says that a part of the work is done: the answer is still to come.
    """

    id: int
    by: int
    value: msgspec.Raw = msgspec.Raw(b"null")
    errno: int = 0
    what: str = ""
    going_on: bool = False


@dataclass(slots=True)
class Scene:
    """What one partner has: its number, the directory as it sees it, descriptors that it holds by name."""

    rank: int
    directory: Path
    held: dict[str, int] = field(default_factory=dict)
    #: A directory that this partner made and will remove.
    made: Path | None = None
    #: Says that a part of the work is done, so that the rest gets patience of its own.
    progress: Callable[[], None] = lambda: None

    @property
    def own(self) -> Path:
        """A name that only this partner uses."""
        return self.directory / f"own-{self.rank}"

    def at(self, name: str) -> Path:
        """The path of the shared *name*."""
        return self.directory / name


#: An operation of a partner; its result goes into the answer, an OSError as its errno.
Operation = Callable[[Scene, Request], object]
