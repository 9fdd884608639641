"""One search of a file as it was read, before it is known whether all of it fits together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from msgspec import structs

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.nodes import Scalar
from hpc_search.config.reader import Cursor
from hpc_search.records.search import Part, Search
from hpc_search.space import Choice, Int, LogInt, LogUniform, Normal, Quantized, Space, Uniform

_DEFAULTS: Final[dict[str, Any]] = {field.name: field.default for field in structs.fields(Search)}


@dataclass(frozen=True, slots=True)
class ReadPart:
    """One search as read: its keys, and what they say; None for what is wrong in itself."""

    name: str
    section: Mapping[str, Cursor]
    given: dict[str, Any]

    def made(self) -> Part:
        """Return it, where nothing is wrong."""
        return Part(name=self.name, **self.given)


def value_of(given: Mapping[str, Any], key: str) -> Any:
    """Return what *given* says of *key*, or the default of a search."""
    return given[key] if key in given else _DEFAULTS[key]


def stage_name(cursor: Cursor) -> str | None:
    """Return the name that the stage at *cursor* gives itself."""
    entries = cursor.node.entries if isinstance(cursor.node, MappingNode) else ()
    named = (value for key, value in entries if key.text == "name")
    return next((str(node.value) for node in named if isinstance(node, Scalar)), None)


def values_of(name: str, space: Space) -> tuple[Any, ...]:
    """Return values that *name* takes; of a range its lower bound."""
    match space.dimensions.get(name):
        case Choice(values=values):
            return values
        case Int(low=low) | LogInt(low=low) | Uniform(low=low) | LogUniform(low=low) | Quantized(low=low):
            return (low,)
        case Normal(mean=mean):
            return (mean,)
    linked = [group[name] for group in space.linked if name in group]
    return linked[0] if linked else tuple(space.fixed[key] for key in (name,) if key in space.fixed)
