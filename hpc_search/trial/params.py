"""The hyperparameters that a trial is given; they count which ones were read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

_NOTHING: Final[frozenset[str]] = frozenset()


class Params(dict[str, Any]):
    """The hyperparameters by name; a group gives its own ones, as ``params["head"]["layers"]``.

    Reads by ``params[name]`` and ``params.get(name)`` count; iteration and ``**params`` do not (the
    search would otherwise never notice a parameter without effect). Who asks for one that this point does
    not have has seen that: it counts too.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        absent: Collection[str] = _NOTHING,
        *,
        prefix: str = "",
        read: set[str] | None = None,
    ) -> None:
        """Hold *values*; *absent* are names of the search that this point does not have.

        A group has the names that begin with *prefix*, and notes in *read* what is read.
        """
        own = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
        self.read: set[str] = set() if read is None else read
        self._values, self._absent, self._prefix = values, absent, prefix
        super().__init__(_nested(own, self._group) if prefix else own)

    def _group(self, name: str) -> Params:
        return Params(self._values, self._absent, prefix=f"{self._prefix}{name}.", read=self.read)

    def _is_group(self, name: object) -> bool:
        start = f"{self._prefix}{name}."
        return any(key.startswith(start) for key in self._values)

    def __contains__(self, name: object) -> bool:
        if super().__contains__(name) or self._is_group(name):
            return True
        full = f"{self._prefix}{name}"
        if full in self._absent:
            self.read.add(full)
        return False

    def __getitem__(self, name: str) -> Any:
        if dict.__contains__(self, name):
            value = super().__getitem__(name)
            if not isinstance(value, Params):
                self.read.add(f"{self._prefix}{name}")
            return value
        if name in self:
            return self._group(name)
        if f"{self._prefix}{name}" in self._absent:
            raise KeyError(f"this point has no {name!r}: its condition in the search does not hold")
        raise KeyError(f"no hyperparameter {name!r}; the search has: {', '.join(self)}")

    def meant(self, name: str) -> list[str]:
        """Return the parameters that *name* stands for, absent ones too: itself, or all of a group."""
        known = (*self._values, *self._absent)
        return [name] if name in known else [one for one in known if one.startswith(f"{name}.")]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, *default* where the search, or this point, does not have it."""
        return self[name] if name in self else default  # noqa: SIM401 - it would call itself


def _nested(own: Mapping[str, Any], group: Any) -> dict[str, Any]:
    """Return the entries of a group: its parameters, and the groups in it."""
    found: dict[str, Any] = {}
    for name, value in own.items():
        first, dot, _ = name.partition(".")
        if not dot:
            found[name] = value
        elif first not in own and first not in found:
            found[first] = group(first)
    return found


def unread(
    sampled: Iterable[str], read: Collection[str], implied: Mapping[str, Collection[str]]
) -> list[str]:
    """Return those of *sampled* that were not *read*, nor anything that *implied* them."""
    seen = {*read, *(name for one in read for name in implied.get(one, ()))}
    return [name for name in sampled if name not in seen]
