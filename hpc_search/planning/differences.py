"""In what two spaces differ, in the words of the search file. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hpc_search.config.dump import flow, space_keys
from hpc_search.records.search import StrategySpec
from hpc_search.space import Space

#: Characters of a value that is shown.
_LONG: Final = 90


def differences(old: Space, new: Space) -> Iterator[tuple[str, str]]:
    """Yield the parameters, or other parts, in which two spaces differ."""
    before, after = space_keys(old), space_keys(new)
    for key in {**before, **after}:
        one, other = before.get(key, {}), after.get(key, {})
        if not (isinstance(one, dict) and isinstance(other, dict)):
            if one != other:
                yield key, f"{_shown(one)} -> {_shown(other)}"
            continue
        for name in {**one, **other}:
            if one.get(name) != other.get(name) or (name in one) != (name in other):
                changes = (_shown(side[name]) if name in side else "nothing" for side in (one, other))
                yield f"{key}.{name}", " -> ".join(changes)


def strategy_text(strategy: StrategySpec) -> str:
    """Return *strategy* as the search file has it."""
    return _shown({strategy.kind: strategy.options} if strategy.options else strategy.kind)


def _shown(value: object) -> str:
    """Return *value* as the search file has it, cut where it is long."""
    text = flow(value) if value != {} else "nothing"
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."
