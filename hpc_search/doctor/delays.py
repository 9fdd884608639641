"""How long it takes until one side sees what the other one did: what a partner does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from hpc_search import durable
from hpc_search.doctor.measured import Delays
from hpc_search.doctor.protocol import Operation, Request, Scene

_BEFORE: Final = b"before"
_AFTER: Final = b"after, and longer"
_PAUSE_S: Final = 0.005


def _set(path: Path) -> None:
    durable.replace(path / "f", _BEFORE)


def _nothing(_: Path) -> None:
    return


def _append(path: Path) -> None:
    fd = os.open(path / "f", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        durable.write_all(fd, _AFTER)
        os.fsync(fd)
    finally:
        os.close(fd)


def _rename(path: Path) -> None:
    os.rename(path / "f", path / "g")


def _grown(path: Path) -> bool:
    return os.stat(path / "f").st_size > len(_BEFORE)


def _longer(path: Path) -> bool:
    return (path / "f").read_bytes() == _BEFORE + _AFTER


def _gone(path: Path) -> bool:
    return not os.path.lexists(path / "f")


#: What is done, each in a directory of its own, so that looking at one refreshes no other:
#: (what stands there before, what one side does, whether the other side sees it).
_DEEDS: Final[dict[str, tuple[Callable[[Path], None], Callable[[Path], None], Callable[[Path], bool]]]] = {
    "create": (_nothing, _set, lambda path: os.path.lexists(path / "f")),
    "listing": (_nothing, _set, lambda path: "f" in os.listdir(path)),
    "append": (_set, _append, _longer),
    "size": (_set, _append, _grown),
    "replace": (
        _set,
        lambda path: durable.replace(path / "f", _AFTER),
        lambda path: (path / "f").read_bytes() == _AFTER,
    ),
    "rename": (_set, _rename, lambda path: os.path.lexists(path / "g") and _gone(path)),
    "unlink": (_set, lambda path: (path / "f").unlink(), _gone),
}


def _paths(scene: Scene, request: Request) -> dict[str, Path]:
    return {deed: scene.at(request.name) / deed for deed in _DEEDS}


def lay(scene: Scene, request: Request) -> None:
    """Make what is there before."""
    for deed, path in _paths(scene, request).items():
        path.mkdir(parents=True)
        _DEEDS[deed][0](path)
        scene.progress()


def _sees(deed: str, path: Path) -> bool:
    try:
        return _DEEDS[deed][2](path)
    except OSError:
        return False


def warm(scene: Scene, request: Request) -> None:
    """Look at everything as it is before, so that it is in the caches of this side."""
    until = time.monotonic() + request.seconds
    waiting = {deed: path for deed, path in _paths(scene, request).items() if _DEEDS[deed][0] is _set}
    while waiting and time.monotonic() < until:
        waiting = {deed: path for deed, path in waiting.items() if not os.path.lexists(path / "f")}
    for deed, path in _paths(scene, request).items():
        _sees(deed, path)
        with suppress(OSError):
            os.listdir(path)


def act(scene: Scene, request: Request) -> None:
    """Do everything."""
    for deed, path in _paths(scene, request).items():
        _DEEDS[deed][1](path)
        scene.progress()


def watch(scene: Scene, request: Request) -> Delays:
    """Return the seconds until everything that the other side did was seen here, at most *seconds*."""
    started, paths = time.monotonic(), _paths(scene, request)
    seen: dict[str, float | None] = dict.fromkeys(paths)
    while True:
        for deed in [deed for deed, when in seen.items() if when is None]:
            if _sees(deed, paths[deed]):
                seen[deed] = time.monotonic() - started
        if None not in seen.values() or time.monotonic() - started > request.seconds:
            return Delays(seconds=seen, limit=request.seconds)
        time.sleep(_PAUSE_S)


OPERATIONS: Final[dict[str, Operation]] = {
    "delays_lay": lay,
    "delays_warm": warm,
    "delays_act": act,
    "delays_watch": watch,
}
