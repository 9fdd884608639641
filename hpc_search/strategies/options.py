"""The strategies by name, and the options of each: one table for the search file and for `make`."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

from hpc_search.errors import UsageError
from hpc_search.records.search import StrategySpec


class Option(NamedTuple):
    """One option: what it is, its least value where it is an integer, its default; None: it is required."""

    kind: Literal["integer", "text", "names"] = "integer"
    least: int | None = None
    default: Any = None


_POINTS: Final = Option(least=1)
_SEED: Final = Option(default=0)
_DRAWN: Final = {"points": _POINTS, "seed": _SEED}
#: The names that a search file may use, each with its options. A population of 0: the usual one.
KNOWN: Final[dict[str, dict[str, Option]]] = {
    "grid": {},
    "points": {},
    "random": _DRAWN,
    "sobol": _DRAWN,
    "halton": _DRAWN,
    "tpe": {**_DRAWN, "startup": Option(least=0, default=10)},
    "cmaes": {
        **_DRAWN,
        "startup": Option(least=0, default=1),
        "population": Option(least=0, default=0),
    },
    "gp": {**_DRAWN, "startup": Option(least=0, default=10)},
    "evolution": {**_DRAWN, "population": Option(least=2, default=20)},
    "nsga2": {**_DRAWN, "population": Option(least=2, default=40)},
    "catalog": {"names": Option("names")},
    "top": {"points": _POINTS, "stage": Option("text")},
}


def example(kind: str) -> str:
    """Return how the strategy *kind* is written."""
    if kind in ("grid", "points"):
        return kind
    if kind == "catalog":
        return "{catalog: {mode: quick}}"
    return "{top: {points: 5, stage: coarse}}" if kind == "top" else f"{{{kind}: {{points: 200, seed: 0}}}}"


def resolved(spec: StrategySpec) -> dict[str, Any]:
    """Return the options of *spec*, the defaults filled in.

    Raises:
        UsageError: The name is not known, or an option is unknown, missing or wrong.
    """
    if spec.kind not in KNOWN:
        # 10 ms that only a mistake needs.
        import difflib

        near = difflib.get_close_matches(spec.kind, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else "use one of the known names"
        message = f"unknown strategy {spec.kind!r}; known strategies: {', '.join(KNOWN)}"
        raise UsageError(message, hint=hint)
    known = KNOWN[spec.kind]
    unknown = [name for name in spec.options if name not in known]
    missing = [name for name, one in known.items() if one.default is None and name not in spec.options]
    if unknown or missing:
        message = f"strategy {spec.kind}: unknown options {unknown}, missing options {missing}"
        raise UsageError(message, hint=f"its options are: {', '.join(known) or 'none'}")
    values = {name: spec.options.get(name, one.default) for name, one in known.items()}
    for name, value in values.items():
        _check(spec.kind, name, value, known[name])
    return values


def _check(kind: str, name: str, value: object, option: Option) -> None:
    wanted = {"integer": "an integer", "text": "a text", "names": "a list of names"}[option.kind]
    if option.least is not None:
        wanted = f"{wanted} >= {option.least}"
    match option.kind, value:
        case ("integer", int()) if not isinstance(value, bool):
            fits = option.least is None or value >= option.least
        case ("text", str()):
            # A search without stages is one without a name: the refit takes its best point.
            fits = True
        case ("names", list() | tuple()):
            fits = bool(value) and all(isinstance(name, str) for name in value)
        case _:
            fits = False
    if not fits:
        message = f"strategy {kind}: {name} is {value!r}; expected {wanted}"
        raise UsageError(message, hint=f"write {example(kind)}")
