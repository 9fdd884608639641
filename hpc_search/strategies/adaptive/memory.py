"""What is worked out once for each observation: a cache that changes no proposal."""

from __future__ import annotations

from typing import Any

from hpc_search.space import Space, canonical
from hpc_search.strategies.adaptive.axes import Axis, Place, axes_of, place_of
from hpc_search.strategies.history import History, Observation


class Known:
    """An observation with its key (equal for equal points) and its place on the axes."""

    __slots__ = ("key", "observation", "place", "trial")

    def __init__(self, observation: Observation, place: Place) -> None:
        """Translate *observation*, which is at *place*."""
        self.observation = observation
        self.place = place
        self.key = canonical(observation.params)
        #: Its translation for Optuna.
        self.trial: Any = None


class Memory:
    """The translated observations of the space and goals that were asked for last."""

    def __init__(self) -> None:
        """Know nothing."""
        self._space: Space | None = None
        self._goals: tuple[str, ...] = ()
        self._known: dict[int, Known] = {}
        self.axes: tuple[Axis, ...] = ()

    def look(self, space: Space, history: History, goals: tuple[str, ...]) -> list[Known]:
        """Return the observations of *history* by number, translated; only the new ones cost anything."""
        if goals != self._goals or (space is not self._space and space != self._space):
            self._space, self._goals, self._known = space, goals, {}
            self.axes = axes_of(space)
        found = []
        for seen in history.observations:
            known = self._known.get(seen.point)
            if known is None or known.observation != seen:
                known = self._known[seen.point] = Known(seen, place_of(space, self.axes, seen.params))
            found.append(known)
        return sorted(found, key=lambda one: one.observation.point)
