"""The slice block of a profile: which part of a GPU a worker asks for, expects, is held to and shares."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

import msgspec

Kind = Literal["cpu", "whole", "mig", "shard", "mps", "packed"]
KINDS: Final = ("cpu", "whole", "mig", "shard", "mps", "packed")
#: What a worker can look at before it claims, cheapest first.
CHECKS: Final = ("environment", "nvml", "torch", "canary")
#: The name of a MIG profile in a gres type, such as 1g.10gb or a100_1g.5gb.
_MIG: Final = re.compile(r"\d+g\.\d+gb")
_COUNT: Final = re.compile(r"(\d+)[KMGTkmgt]?")


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


class Item(NamedTuple):
    """One entry of a gres text, ``gpu:h200:2``; a number that is not written is 1."""

    name: str
    type: str = ""
    number: int = 1

    @property
    def is_mig(self) -> bool:
        """Whether the type names a MIG profile."""
        return bool(_MIG.search(self.type))


def items(gres: str) -> tuple[Item, ...]:
    """Return the entries of the text *gres*."""
    return tuple(_item(entry) for entry in gres.split(",") if entry and entry != "none")


def _item(entry: str) -> Item:
    name, *rest = re.split("[:=]", entry.removeprefix("gres/").removeprefix("gres:"))
    count = _COUNT.fullmatch(rest[-1]) if rest else None
    return Item(name, ":".join(rest[:-1] if count else rest), int(count[1]) if count else 1)


def kind_of(gres: str, workers: int = 1) -> Kind:
    """Return the kind of slice that the text *gres* asks for, shared by *workers*.

    What is neither gpu, shard nor mps may be anything, a scratch disk or a GPU by another name: cpu.
    """
    entries = {item.name: item for item in items(gres)}
    if "shard" in entries:
        return "shard"
    if "mps" in entries:
        return "mps"
    if "gpu" not in entries:
        return "cpu"
    if workers > 1:
        return "packed"
    return "mig" if entries["gpu"].is_mig else "whole"
