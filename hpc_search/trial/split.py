"""The samples of a trial's fold, from the manifests of the plan; the test side is opened by `test` alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec

from hpc_search import splits
from hpc_search.errors import DamagedError, UsageError
from hpc_search.layout import Layout
from hpc_search.records.splits import SplitsIndex

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from hpc_search.splits.scaling import Method, Scaler

Ids = tuple[str | int, ...]
T = TypeVar("T")
#: Ids that a message names.
_NAMED: Final = 5
_CLOSED: Final = "the test side is opened only by `hpc-search test RUN`"


@dataclass(frozen=True, slots=True)
class Sides(Generic[T]):
    """What belongs to each side of a fold."""

    train: T
    val: T
    _test: T | None = field(default=None, repr=False)

    @property
    def test(self) -> T:
        """What is of the test side.

        Raises:
            UsageError: This is not `hpc-search test`.
        """
        if self._test is None:
            raise UsageError(f"trial.split.test: {_CLOSED}", hint="a search selects by `val`")
        return self._test


@dataclass(frozen=True, slots=True)
class Split(Sides[Ids]):
    """The ids of one fold's sides, in the order of the manifests.

    Where the chosen point is trained again on more than ``train``, that is here what it trains on: train and
    validation side, one after the other; ``val`` is empty then.
    """

    _plan: _Plan | None = field(default=None, repr=False, compare=False)

    def positions(self, ids: Iterable[Any]) -> Sides[npt.NDArray[np.intp]]:
        """Return where the rows of each side are in an array whose rows have these *ids*.

        Raises:
            UsageError: As `check`.
        """
        import numpy as np

        names = _plain(ids)
        self._check_loaded(names)
        rows = {name: row for row, name in enumerate(names)}

        def of(side: Ids) -> npt.NDArray[np.intp]:
            return np.array([rows[name] for name in side], dtype=np.intp)

        test = of(self._test) if self._test is not None else None
        return Sides(of(self.train), of(self.val), test)

    def check(
        self,
        ids: Iterable[Any] | None = None,
        *,
        train: Iterable[Any] | None = None,
        val: Iterable[Any] | None = None,
    ) -> None:
        """Check that the data which the trial loaded are those of the plan.

        *ids* are those of all rows that it loaded: every row of the fold has to be there once, and none that
        the plan does not know. *train* and *val* are those that it trains on and validates with: exactly
        these sides, so that a row of another side is found.

        Raises:
            UsageError: They are not; every difference is named.
        """
        wrong: list[str] = []
        if ids is not None:
            wrong += self._differences(_plain(ids))
        for side, given, planned in (("train", train, self.train), ("val", val, self.val)):
            if given is not None:
                wrong += self._side_differences(side, _plain(given), planned)
        _refuse(wrong)

    def scaler(
        self,
        values: npt.ArrayLike,
        ids: Iterable[Any],
        *,
        method: Method = "standard",
        axes: tuple[int, ...] = (0,),
    ) -> Scaler:
        """Return the normalisation of *values*, whose rows have these *ids*, by the rows of ``train`` alone.

        Rows of other sides may be among them: they are not looked at (see `splits.fit_scaler`).

        Raises:
            UsageError: A row of ``train`` is missing, or the values do not fit the ids.
        """
        return splits.fit_scaler(values, self.train, _plain(ids), method=method, axes=axes)

    # -- what differs
    def _check_loaded(self, names: Ids) -> None:
        _refuse(self._differences(names))

    def _differences(self, names: Ids) -> list[str]:
        """Return what is wrong with *names* as the ids of all that was loaded."""
        loaded, wrong = set(names), []
        if twice := _twice(names):
            wrong.append(f"{_count(twice, 'id')} loaded twice: {_some(twice)}")
        sides = {"training": self.train, "validation": self.val, "test": self._test or ()}
        for side, planned in sides.items():
            if missing := [name for name in planned if name not in loaded]:
                wrong.append(f"{_count(missing, 'id')} of the {side} side not loaded: {_some(missing)}")
        strange = [name for name in names if name not in self._own]
        if strange and self._plan is not None:
            known = self._plan.ids()
            if nowhere := [name for name in strange if name not in known]:
                wrong.append(f"{_count(nowhere, 'id')} loaded that no manifest has: {_some(nowhere)}")
        return wrong

    def _side_differences(self, side: str, names: Ids, planned: Ids) -> list[str]:
        """Return what is wrong with *names* as the ids of one *side*."""
        wrong, known, given = [], set(planned), set(names)
        if twice := _twice(names):
            wrong.append(f"{side}: {_count(twice, 'id')} twice: {_some(twice)}")
        if missing := [name for name in planned if name not in given]:
            wrong.append(f"{side}: {_count(missing, 'id')} missing: {_some(missing)}")
        others = [name for name in names if name not in known]
        return [*wrong, *(f"{side}: {words}" for words in self._where(others))]

    @property
    def _own(self) -> set[str | int]:
        return {*self.train, *self.val, *(self._test or ())}

    def _where(self, names: Sequence[str | int]) -> list[str]:
        """Return in words on which sides *names* are."""
        left = dict.fromkeys(names)
        found = []
        sides: dict[str, Iterable[str | int]] = {"training": self.train, "validation": self.val}
        if left and self._plan is not None:
            sides["test"] = self._test or self._plan.test_ids()
        for side, planned in sides.items():
            here = [name for name in planned if name in left]
            if here:
                found.append(f"{_count(here, 'id')} of the {side} side: {_some(here)}")
            for name in here:
                del left[name]
        if left:
            found.append(f"{_count([*left], 'id')} of no side of the fold: {_some([*left])}")
        return found


@dataclass(frozen=True, slots=True)
class _Plan:
    """The manifests of a run, for what a fold's own sides do not tell."""

    layout: Layout
    index: SplitsIndex
    fold: int

    def part(self, fold: int, side: str) -> Ids:
        """Return the ids of one *side* of *fold*, () where it has none.

        Raises:
            DamagedError: The manifest is missing or differs from the one planned.
        """
        name = self.layout.split_manifest(fold, side).relative_to(self.layout.root).as_posix()
        return self._ids_in(name) if name in self.index.files else ()

    def _ids_in(self, name: str) -> Ids:
        path = self.layout.root / name
        text = _content(self.layout, path, self.index)
        return splits.parse_manifest(text, self.index.ids, str(path))

    def test_ids(self) -> Ids:
        """Return the ids of the fold's test side, to name those that are where they must not be."""
        return self.part(self.fold, "test")

    def ids(self) -> set[str | int]:
        """Return all ids of the plan: of all folds, and of what is in none."""
        return {one for name in self.index.files for one in self._ids_in(name)}


#: What is trained on, by what a refit trains on ("" in the search).
_TRAINED: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("train",),
    "train": ("train",),
    "train+val": ("train", "val"),
    "everything": ("train", "val", "test"),
}


def trained_sides(refit: str) -> tuple[str, ...]:
    """Return the sides that are trained on where the chosen point is trained again on *refit*."""
    return _TRAINED[refit]


def read_split(layout: Layout, fold: int, refit: str = "", *, testing: bool = False) -> Split:
    """Return the ids of *fold* from the manifests, of a trial that trains again on *refit*.

    The test side is read where it is *testing*, or trained on.

    Raises:
        DamagedError: A manifest is missing or differs from the one planned.
    """
    plan = _Plan(layout, read_index(layout), fold)
    trained = trained_sides(refit)
    train = tuple(name for side in trained for name in plan.part(fold, side))
    val = () if "val" in trained else plan.part(fold, "val")
    return Split(train, val, plan.part(fold, "test") if testing else None, plan)


def read_index(layout: Layout) -> SplitsIndex:
    """Return splits/splits.json."""
    return msgspec.json.decode(layout.splits_index.read_bytes(), type=SplitsIndex)


def joined_manifest(layout: Layout, fold: int, refit: str) -> str:
    """Return one manifest of all sides of *fold* that *refit* trains on, for programs.

    Raises:
        DamagedError: A manifest is missing or differs from the one planned.
    """
    index = read_index(layout)
    paths = [layout.split_manifest(fold, side) for side in trained_sides(refit)]
    texts = [
        _content(layout, path, index)
        for path in paths
        if path.relative_to(layout.root).as_posix() in index.files
    ]
    return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])


def _content(layout: Layout, path: Path, index: SplitsIndex) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedError(f"{path} cannot be read ({error.strerror})") from error
    planned = index.files[path.relative_to(layout.root).as_posix()]
    if hashlib.blake2b(content, digest_size=16).hexdigest() != planned.digest:
        message = f"{path} was changed after the plan"
        raise DamagedError(
            message, hint="restore it, or plan a new run; results of changed splits mean nothing"
        )
    return content.decode()


def _plain(ids: Iterable[Any]) -> Ids:
    """Return *ids* of any kind, arrays and series too, as Python's own values."""
    found = ids.tolist() if hasattr(ids, "tolist") else ids
    return tuple(name.item() if hasattr(name, "item") else name for name in found)


def _twice(names: Ids) -> list[str | int]:
    seen: set[str | int] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _refuse(wrong: Sequence[str]) -> None:
    if wrong:
        raise UsageError(
            f"the data that the trial loaded are not those of the plan: {'; '.join(wrong)}",
            hint="load what the plan was made of, or plan a new run with the data as they are now",
        )


def _count(names: Sequence[object], what: str) -> str:
    return f"{len(names):,} {what}{'s' if len(names) > 1 else ''}"


def _some(names: Sequence[object]) -> str:
    return ", ".join(map(repr, names[:_NAMED])) + (", ..." if len(names) > _NAMED else "")
