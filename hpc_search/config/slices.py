"""The slice block of a profile: which part of a GPU a worker asks for, expects, is held to and shares."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from hpc_search.config.nodes import Scalar
from hpc_search.config.problems import words
from hpc_search.config.reader import Cursor, each, fields

Kind = Literal["cpu", "whole", "mig", "shard", "mps", "packed"]
KINDS: Final = ("cpu", "whole", "mig", "shard", "mps", "packed")
#: What a worker can look at before it claims, cheapest first.
CHECKS: Final = ("environment", "nvml", "torch", "canary")
GRES: Final = re.compile(r"[A-Za-z0-9_.:,=/@+-]{0,128}")
GRES_WORDS: Final = "up to 128 letters, digits and _ . : , = / @ + -, such as gpu:1"
#: The name of a MIG profile in a gres type, such as 1g.10gb or a100_1g.5gb.
_MIG: Final = re.compile(r"\d+g\.\d+gb")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What SLURM is asked for: text for ``--gres``, passed as it is."""

    gres: str = ""


class Expect(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to find before it claims; a default of 0 or "" expects nothing in particular.

    ``count`` GPUs (0: as requested), memory of each between the two of ``memory_gib``, ``name`` as a part
    of the device's or MIG profile's name, at least ``sm_min`` multiprocessors and ``free_gib`` of free
    memory. ``checks`` are the ways of looking that are tried.
    """

    count: int = 0
    memory_gib: tuple[float, float] | None = None
    name: str = ""
    sm_min: int = 0
    free_gib: float = 0.0
    checks: tuple[str, ...] = CHECKS


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What each worker is held to: a share of the memory (0: all), and of the threads under MPS (0: all)."""

    memory_fraction: float = 0.0
    threads_percent: int = 0


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers share what a task gets, whether by an own MPS daemon, and seconds between starts."""

    workers: int = 1
    mps: Literal["auto", "never", "always"] = "auto"
    stagger: float = 5.0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One request/expect/limits/pack block."""

    kind: Kind = "cpu"
    request: Request = Request()
    expect: Expect = Expect()
    limits: Limits = Limits()
    pack: Pack = Pack()


def kind_of(gres: str, workers: int = 1) -> Kind:
    """Return the kind of slice that the text *gres* asks for, shared by *workers*."""
    first = gres.removeprefix("gres/").partition(":")[0].partition(",")[0]
    if not gres:
        return "cpu"
    if first in ("shard", "mps"):
        return "shard" if first == "shard" else "mps"
    if workers > 1:
        return "packed"
    return "mig" if _MIG.search(gres) else "whole"


def _empty(cursor: Cursor) -> bool:
    return isinstance(cursor.node, Scalar) and cursor.node.value == ""


def read_gres(cursor: Cursor) -> str | None:
    """Return the text of a request."""
    return "" if _empty(cursor) else cursor.matching(GRES, GRES_WORDS)


def _memory(cursor: Cursor) -> tuple[float, float] | None:
    items = cursor.items("a list of the least and the most GiB, such as [9, 11]")
    if items is None:
        return None
    numbers = list(each(items, lambda item: item.number("GiB as a number")))
    if len(items) != 2 or (len(numbers) == 2 and not 0 <= numbers[0] <= numbers[1]):
        cursor.add("is no range", expected="the least and the most GiB, such as [9, 11]")
        return None
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _checks(cursor: Cursor) -> tuple[str, ...] | None:
    items = cursor.items(f"a list of {words(CHECKS, 'or')}", empty=True)
    return None if items is None else tuple(each(items, lambda item: item.one_of(CHECKS)))


def _between(low: float, high: float, what: str) -> Callable[[Cursor], float | None]:
    def read(cursor: Cursor) -> float | None:
        value = cursor.number(what)
        if value is not None and not low <= value <= high:
            cursor.add("is out of range", expected=what)
            return None
        return value

    return read


_PARTS: Final[dict[str, tuple[type[msgspec.Struct], dict[str, Callable[[Cursor], Any]]]]] = {
    "request": (Request, {"gres": read_gres}),
    "expect": (
        Expect,
        {
            "count": lambda c: c.integer(0, 64),
            "memory_gib": _memory,
            "name": lambda c: "" if _empty(c) else c.text("a part of the device's name"),
            "sm_min": lambda c: c.integer(0, 100_000),
            "free_gib": _between(0, 1e6, "GiB, 0 or more"),
            "checks": _checks,
        },
    ),
    "limits": (
        Limits,
        {
            "memory_fraction": _between(0, 1, "a share of the memory between 0 and 1"),
            "threads_percent": lambda c: c.integer(0, 100),
        },
    ),
    "pack": (
        Pack,
        {
            "workers": lambda c: c.integer(1, 64),
            "mps": lambda c: c.one_of(("auto", "never", "always")),
            "stagger": lambda c: c.seconds(zero=True),
        },
    ),
}


def read_slice(cursor: Cursor) -> Slice | None:
    """Return the slice block; its kind follows from the request where it is not said."""
    section = cursor.keys(("kind", *_PARTS))
    if section is None:
        return None
    parts: dict[str, Any] = {}
    for name, (struct, readers) in _PARTS.items():
        if name in section:
            given = section[name].keys(tuple(readers))
            parts[name] = struct(**fields(given or {}, readers))
    made = Slice(**parts)
    kind: Any = section["kind"].one_of(KINDS) if "kind" in section else None
    return msgspec.structs.replace(made, kind=kind or kind_of(made.request.gres, made.pack.workers))
