"""Folds of a splitter that the user brings: scikit-learn's, or a function of the table."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, pairwise
from typing import Any, Final, Protocol

from hpc_search.errors import HpcSearchError, UsageError
from hpc_search.splits.folds import Fold, Split
from hpc_search.splits.table import Table
from hpc_search.splits.words import listed

#: A splitter that gives more folds than this is a mistake.
_MOST: Final = 10_000
_SIDES: Final = ("train", "val", "test")


class SklearnSplitter(Protocol):
    """What scikit-learn's splitters are."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterable[tuple[Any, Any]]:  # noqa: N803
        """Return the positions of train and validation of each fold."""


Splitter = SklearnSplitter | Callable[[Table], Iterable[Sequence[Any]]]


def from_splitter(table: Table, splitter: Splitter, test: Sequence[int], name: str) -> Split:
    """Return the folds that *splitter* gives; *test* is in none of them.

    An object with scikit-learn's ``split(X, y, groups)`` gets the rows outside *test*, and gives positions
    among them; a function gets the table, and gives row numbers of train, validation and, if it likes, test.

    Raises:
        UsageError: It fails, gives another split each time, or what it gives are no rows of the table.
    """
    name = name or type(splitter).__name__
    first, second = (_folds(table, splitter, test, name) for _ in range(2))
    if first != second:
        raise UsageError(
            f"the splitter {name} gives other folds each time it is asked",
            hint="give it a random_state that is a number: a split is made once, and can be made again",
        )
    if not first:
        message = f"the splitter {name} gives no folds"
        raise UsageError(message, hint="it must give at least one pair of train and validation rows")
    return Split(tuple(first))


def _folds(table: Table, splitter: Splitter, test: Sequence[int], name: str) -> list[Fold]:
    given = _asked(table, splitter, test, name)
    problems: list[str] = []
    folds = []
    for number, sides in enumerate(given):
        if len(sides) not in {2, 3}:
            problems.append(f"fold {number}: found {len(sides)} sides, expected train, val and perhaps test")
            continue
        if len(sides) == 3 and test:
            problems.append(f"fold {number}: it has a test side, and test_share takes another one")
        rows = [
            _rows(values, len(table.ids), f"fold {number}: {side}", problems)
            for side, values in zip(_SIDES, sides, strict=False)
        ]
        folds.append(Fold(number, rows[0], rows[1], rows[2] if len(rows) == 3 else tuple(test)))
    if problems:
        words = "\n".join(f"the splitter {name}: {problem}" for problem in problems[:10])
        raise UsageError(words, hint="it must give row numbers of the table, from 0, each once a side")
    return folds


def _asked(table: Table, splitter: Any, test: Sequence[int], name: str) -> list[tuple[Any, ...]]:
    """Return the arrays that the user's code gives, with its failures in words."""
    import numpy as np

    if isinstance(splitter, type):
        message = f"the splitter {name} is the class {splitter.__name__}"
        raise UsageError(message, hint="name an object of it, such as FOLDS = GroupKFold(5)")
    try:
        pairs = _sklearn(table, splitter, test) if hasattr(splitter, "split") else splitter(table)
        given = [tuple(map(np.asarray, sides)) for sides in islice(pairs, _MOST + 1)]
    except HpcSearchError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        text = "\n  ".join(str(error).splitlines())
        words = f"{type(error).__name__}: {text}\n  at {last.filename}:{last.lineno}"
        raise UsageError(
            f"the splitter {name} failed: {words}",
            hint="it needs split(X, y, groups), or is a function of the table; correct it, then plan again",
        ) from error
    if len(given) > _MOST:
        message = f"the splitter {name} gives more than {_MOST:,} folds"
        raise UsageError(message, hint="each fold multiplies the trials; use a splitter with fewer")
    return given


def _sklearn(table: Table, splitter: SklearnSplitter, test: Sequence[int]) -> Iterable[tuple[Any, Any]]:
    import numpy as np

    taken = set(test)
    rows = np.asarray([row for row in range(len(table.ids)) if row not in taken])
    labels, groups = (
        None if column is None else np.asarray(column)[rows] for column in (table.labels, table.groups)
    )
    with warnings.catch_warnings():
        # Groups that its splitter cuts are an error here, found when the sides are compared.
        warnings.filterwarnings("ignore", message="The groups parameter is ignored")
        pairs = list(islice(splitter.split(rows.reshape(-1, 1), labels, groups), _MOST + 1))
    return [(rows[train], rows[val]) for train, val in pairs]


def _rows(array: Any, count: int, where: str, problems: list[str]) -> tuple[int, ...]:
    """Return *array* as ascending rows; what is wrong with it goes to *problems*."""
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        problems.append(f"{where}: found {array.dtype} of shape {array.shape}, expected row numbers")
        return ()
    rows = sorted(array.tolist())
    if outside := [row for row in rows if not 0 <= row < count]:
        problems.append(f"{where}: no rows of the table: {listed(outside)}; it has 0 to {count - 1}")
        return ()
    if len(set(rows)) < len(rows):
        twice = sorted({row for row, after in pairwise(rows) if row == after})
        problems.append(f"{where}: rows that come twice: {listed(twice)}")
    return tuple(rows)
