"""Normalisation by statistics of training rows alone: those of other rows would leak into training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hpc_search.errors import UsageError
from hpc_search.splits.folds import Fold
from hpc_search.splits.words import listed

Method = Literal["standard", "minmax"]
#: Bytes of float64 that are looked at at once, so that values may be larger than memory (numpy.memmap).
_CHUNK = 1 << 26


@dataclass(slots=True)
class Scaler:
    """Takes ``center`` away and divides by ``scale``; both broadcast over the rows of the values.

    ``standard``: the mean and the standard deviation (by n) of training rows; ``minmax``: their minimum and
    range. A feature that is the same in all of them has the scale 1. ``rows`` are the training rows that were
    used, ``constant`` the number of such features, ``missing`` that of the nan among the values, which no
    statistic contains. It can be saved with a trial: ``trial.save(step, scaler=scaler)``.
    """

    method: Method
    center: Any
    scale: Any
    rows: int
    constant: int = 0
    missing: int = 0

    def apply(self, values: Any) -> Any:
        """Return *values* scaled, in their own floating type; nan stays nan."""
        array, kind = self._checked(values)
        return ((array - self.center) / self.scale).astype(kind, copy=False)

    def invert(self, values: Any) -> Any:
        """Return what ``apply`` made *values* of."""
        array, kind = self._checked(values)
        return (array * self.scale + self.center).astype(kind, copy=False)

    def state_dict(self) -> dict[str, Any]:
        """Return everything it knows, as arrays and plain values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Become the scaler whose ``state_dict`` was *state*.

        Raises:
            UsageError: It is of another method.
        """
        if state["method"] != self.method:
            message = f"a scaler of method {self.method!r} cannot take the state of {state['method']!r}"
            raise UsageError(message, hint="make it as the one that was saved was made")
        for name in self.__slots__:
            setattr(self, name, state[name])

    def _checked(self, values: Any) -> tuple[Any, Any]:
        """Return *values* as an array of a shape that fits, and the floating type of the result."""
        import numpy as np

        array = np.asarray(values)
        fits = array.ndim == self.center.ndim and all(
            own in (1, other) for own, other in zip(self.center.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            expected = ", ".join(
                ["rows", *(str(size) if size > 1 else "any" for size in self.center.shape[1:])]
            )
            raise UsageError(
                f"values of shape {array.shape} do not fit the scaler: expected ({expected})",
                hint="give it values with the features that it was fitted on",
            )
        return array, array.dtype if array.dtype.kind == "f" else np.float64


def fit_scaler(
    values: Any,
    train: Fold | Iterable[str | int],
    ids: Sequence[str | int] | None = None,
    *,
    method: Method = "standard",
    axes: tuple[int, ...] = (0,),
) -> Scaler:
    """Return the scaler of the training rows of *values*; no other row is looked at.

    *train* is the fold, or the ids of its training side. *ids* are those of the rows of *values*, in order;
    without them rows are named by their number. *axes* are those that statistics are taken over, as well as
    rows: ``(0, 1)`` for sequences (row, time, feature), ``(0, 2, 3)`` for images (row, channel, y, x).

    Raises:
        UsageError: An id of train has no row, an id is there twice, a feature is nan in every training
            row or infinite in one, or *values* are no numbers.
    """
    import numpy as np

    array = np.asanyarray(values)
    if method not in get_args(Method):
        message = f"scaler: found method {method!r}"
        raise UsageError(message, hint=f"use one of: {', '.join(get_args(Method))}")
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        message = (
            f"scaler: found values of type {array.dtype} and shape {array.shape}, expected rows of numbers"
        )
        raise UsageError(message, hint="turn them into an array of numbers, one row an id")
    over = tuple(sorted({axis % array.ndim for axis in axes if -array.ndim <= axis < array.ndim}))
    if len(over) < len(axes) or 0 not in over:
        message = f"scaler: found axes {axes} for values of shape {array.shape}, expected 0 and further ones"
        raise UsageError(message, hint="0 are the rows; (0, 1) also takes statistics over the next axis")
    names = range(len(array)) if ids is None else ids
    rows = _training_rows(names, train, len(array))
    return _fitted(_Statistics(array, rows, over), method, len(rows))


def _training_rows(ids: Sequence[str | int], train: Fold | Iterable[str | int], count: int) -> list[int]:
    """Return the places in *ids* of the ids of *train*, ascending."""
    if len(ids) != count:
        message = f"scaler: found {count} rows of values and {len(ids)} ids"
        raise UsageError(message, hint="give the id of each row, in the order of the rows")
    places = {name: row for row, name in enumerate(ids)}
    if len(places) < count:
        twice = [name for row, name in enumerate(ids) if places[name] != row]
        message = f"scaler: ids that are there twice: {listed(twice)}"
        raise UsageError(message, hint="each row of values needs its own id")
    wanted = set(train.train if isinstance(train, Fold) else train)
    absent = sorted((name for name in wanted if name not in places), key=str)
    if absent or not wanted:
        found = f"{len(absent)} of {len(wanted)} training ids have no row of values: {listed(absent)}"
        raise UsageError(
            f"scaler: {found if absent else 'there are no training ids'}",
            hint="give the values of the whole training side; rows of other sides may be among them",
        )
    return sorted(places[name] for name in wanted)


class _Statistics:
    """Sums over the chosen rows, in pieces that fit into memory."""

    def __init__(self, array: Any, rows: list[int], over: tuple[int, ...]) -> None:
        import numpy as np

        self._array, self._rows, self._over = array, rows, over
        self.low, self.high, self.total, self.count, self.missing = np.inf, -np.inf, 0.0, 0, 0
        for piece in self._pieces():
            known = ~np.isnan(piece)
            self.low = np.minimum(self.low, self._reduce(np.min, piece, known, np.inf))
            self.high = np.maximum(self.high, self._reduce(np.max, piece, known, -np.inf))
            with np.errstate(all="ignore"):
                self.total = self.total + self._reduce(np.sum, piece, known, 0.0)
            self.count = self.count + known.sum(axis=over, keepdims=True)
            self.missing += int(known.size - known.sum())
        self._check()
        self.mean = self.total / self.count

    def deviation(self) -> Any:
        """Return the standard deviation by n, from the squares around the mean."""
        import numpy as np

        squares = 0.0
        for piece in self._pieces():
            squares = squares + self._reduce(np.sum, (piece - self.mean) ** 2, ~np.isnan(piece), 0.0)
        return np.sqrt(squares / self.count)

    def _pieces(self) -> Iterable[Any]:
        import numpy as np

        row_bytes = max(8, 8 * self._array[:1].size)
        step = max(1, _CHUNK // row_bytes)
        for start in range(0, len(self._rows), step):
            yield np.asarray(self._array[self._rows[start : start + step]], dtype=np.float64)

    def _reduce(self, how: Any, piece: Any, known: Any, empty: float) -> Any:
        import numpy as np

        return how(np.where(known, piece, empty), axis=self._over, keepdims=True)

    def _check(self) -> None:
        import numpy as np

        infinite = ~np.isfinite(self.total) | np.isinf(self.low) | np.isinf(self.high)
        for bad, what in ((self.count == 0, "nan in every"), (infinite, "infinite in a")):
            if np.any(bad):
                places = [tuple(place[1:].tolist()) for place in np.argwhere(bad)]
                words = listed([place[0] if len(place) == 1 else place for place in places])
                raise UsageError(
                    f"scaler: {len(places)} features are {what} training row: {words}",
                    hint="leave these features out, or fill in their values",
                )


def _fitted(statistics: _Statistics, method: Method, rows: int) -> Scaler:
    import numpy as np

    constant = np.asarray(statistics.low == statistics.high)
    center = statistics.mean if method == "standard" else statistics.low
    scale = statistics.deviation() if method == "standard" else statistics.high - statistics.low
    return Scaler(
        method=method,
        # Rounding of a mean would leave a constant feature with a tiny scale, and blow it up.
        center=np.where(constant, statistics.low, center),
        scale=np.where(constant, 1.0, scale),
        rows=rows,
        constant=int(constant.sum()),
        missing=statistics.missing,
    )
