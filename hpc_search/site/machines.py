"""Kinds of nodes a partition has, and the slices of GPUs on them, as `sinfo` groups them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from hpc_search.config.slices import Kind, kind_of

#: Exact: a line for each kind of node, not "4+".
SINFO: Final = ("sinfo", "-h", "-e", "-o", "%R|%D|%c|%m|%t|%f|%G")
#: Marks after a state: not responding, powered down, planned, and others.
_MARKS: Final = "*~#!%$@^-"
_USABLE: Final = frozenset({"idle", "mix", "alloc", "comp", "plnd"})
#: ``gpu:h200:2(S:0-1)``: sockets in brackets are no part of the name.
_GRES: Final = re.compile(r"([A-Za-z0-9_]+)(?::([^:,()]+))?(?::(\d+[KMGT]?))?(?:\([^)]*\))?")
_SPLIT: Final = re.compile(r",(?![^(]*\))")
_COUNT: Final = re.compile(r"\d+[KMGT]?")
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Gres(msgspec.Struct, frozen=True):
    """One generic resource of a node: *count* of *name*, of a *type* ("" where there are no types)."""

    name: str
    type: str
    count: int

    @property
    def request(self) -> str:
        """What asks for one of it, by ``--gres``. The type of shares is not asked for."""
        shares = {"shard": "shard:1", "mps": "mps:50"}
        return shares.get(self.name) or ":".join(part for part in (self.name, self.type, "1") if part)

    @property
    def kind(self) -> Kind:
        """The kind of slice that this is."""
        return kind_of(self.request)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Equal nodes of a partition: how many, how many of them can be used, and what each has (MB)."""

    partition: str
    nodes: int
    usable: int
    cpus: int
    memory: int
    features: tuple[str, ...] = ()
    gres: tuple[Gres, ...] = ()

    @property
    def gpus(self) -> int:
        """GPUs of all types on one of them."""
        return sum(one.count for one in self.gres if one.name == "gpu")


def read_machines(text: str) -> tuple[Machine, ...]:
    """Return the kinds of nodes in *text*; nodes that differ in their state only are one kind."""
    found: dict[Machine, tuple[int, int]] = {}
    for line in text.splitlines():
        parts = line.strip().split("|", 6)
        if len(parts) < 7 or not all(part.strip().isdecimal() for part in parts[1:4]):
            continue
        partition, nodes, cpus, memory, state, features, gres = (part.strip() for part in parts)
        kind = Machine(
            partition=partition,
            nodes=0,
            usable=0,
            cpus=int(cpus),
            memory=int(memory),
            features=() if features == "(null)" else tuple(features.split(",")),
            gres=read_gres(gres),
        )
        usable = state.rstrip(_MARKS).lower() in _USABLE and "*" not in state
        before = found.get(kind, (0, 0))
        found[kind] = before[0] + int(nodes), before[1] + int(nodes) * usable
    return tuple(
        msgspec.structs.replace(kind, nodes=nodes, usable=usable) for kind, (nodes, usable) in found.items()
    )


def read_gres(text: str) -> tuple[Gres, ...]:
    """Return the resources in ``gpu:h200:2(S:0-1),shard:h200:8``, those of which there are none left out."""
    found: list[Gres] = []
    for part in _SPLIT.split(text):
        match = _GRES.fullmatch(part.strip())
        if match is None or part.strip() == "(null)":
            continue
        name, kind, count = match.group(1), match.group(2) or "", match.group(3)
        if count is None and _COUNT.fullmatch(kind):
            kind, count = "", kind
        number = _count(count or "1")
        if number:
            found.append(Gres(name, kind, number))
    return tuple(found)


def _count(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text)


def in_words(gres: Iterable[Gres]) -> str:
    """Say which slices nodes with *gres* give: ``gpu:h200 x 2: whole; shard: 4 a GPU``."""
    known = [one for one in gres if one.name in ("gpu", "shard", "mps")]
    said = []
    for one in known:
        if one.name == "gpu":
            said.append(f"{one.name}{one.type and ':'}{one.type} x {one.count} per node: {one.kind}")
            continue
        gpus = [other for other in known if other.name == "gpu"]
        same = [other for other in gpus if other.type == one.type] or gpus
        each = one.count // max(1, sum(other.count for other in same))
        said.append(f"{one.name}: {each} a GPU{one.type and ' of '}{one.type}")
    return "; ".join(said)
