"""A space in words: its parameters, its exact number of points, and what each rule did. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from hpc_search.space import (
    Audit,
    Choice,
    Component,
    Count,
    Dimension,
    Example,
    Normal,
    Quantized,
    Rules,
    Space,
    number,
    product,
    told,
    word,
)
from hpc_search.space.walk import Tally

_SHOWN: Final = 8
#: The path of a rule -> its line in the search file.
Lines = Mapping[str, int]
_NO_LINES: Final[Lines] = {}


def space_lines(space: Space, lines: Lines = _NO_LINES) -> list[str]:
    """Return *space* as the user shall check it; rules are shown with their *lines*."""
    rows = [(name, _dimension(dimension)) for name, dimension in space.dimensions.items()]
    for group in space.linked:
        length = len(next(iter(group.values())))
        rows.append((" + ".join(group), f"{length} linked values"))
        rows.extend((f"  {name}", _values(values)) for name, values in group.items())
    rules = space.rules if isinstance(space.rules, Rules) else Rules()
    rows = [(name, text + _condition(rules.when.get(name.strip()))) for name, text in rows]
    rows.extend((name, f"fixed {_text(value)}") for name, value in space.fixed.items())
    rows.extend((name, f"derived {text}") for name, text in rules.derived.items())
    width = min(28, max((len(name) for name, _ in rows), default=0))
    found = ["  space", *(f"    {name:<{width}}  {text}" for name, text in rows)]
    return found if space.ruled is None else [*found, *_ruled(space, lines)]


def _condition(text: str | None) -> str:
    return "" if text is None else f", when {text}"


def _dimension(dimension: Dimension) -> str:
    if isinstance(dimension, Choice):
        weights = f", weights {', '.join(f'{weight:g}' for weight in dimension.weights[:_SHOWN])}"
        counted = "1 value" if len(dimension.values) == 1 else f"{len(dimension.values):,} values"
        return f"{counted}: {_values(dimension.values)}{weights if dimension.weights else ''}"
    if isinstance(dimension, Normal):
        return f"normal, mean {_text(dimension.mean)}, sd {_text(dimension.sd)}"
    text = f"{dimension.__struct_config__.tag} from {_text(dimension.low)} to {_text(dimension.high)}"
    if isinstance(dimension, Quantized) or getattr(dimension, "step", 1) != 1:
        text += f" in steps of {_text(getattr(dimension, 'step', 1))}"
    prior = dimension.prior
    return text if prior is None else f"{text}, prior at {prior.at:g}, sd {prior.sd:g}"


def _values(values: tuple[Any, ...]) -> str:
    shown = ", ".join(map(_text, values[:_SHOWN]))
    return f"{shown}, ... ({len(values)})" if len(values) > _SHOWN else shown


def _text(value: object) -> str:
    return "null" if value is None else repr(value) if isinstance(value, str) else str(value)


# -- what the rules do
def _ruled(space: Space, lines: Lines) -> list[str]:
    audit = space.audit()
    found = ["  points", f"    {_count(space, audit)}"]
    for component, tally in audit.components:
        found += [f"    {text}" for text in _component(component, tally, lines)]
    for names in space.large:
        found.append(f"    {', '.join(names)}: too many combinations to be listed; drawn one by one")
    if audit.draws:
        share = audit.allowed / audit.draws
        found.append(f"    {audit.allowed:,} of {audit.draws:,} draws tried are points ({share:.1%})")
        for path, count in audit.excluded.items():
            found += [f"    {text}" for text in _rule("excluded", path, count, lines)]
    return found


def _count(space: Space, audit: Audit) -> str:
    if audit.points is None or audit.raw is None:
        why = "a dimension is continuous" if space.continuous else "too many to be counted"
        return f"without number: {why}"
    text = product(count for _, count in space.counts() or ())
    points = f"{text} = {number(audit.points)}" if " " in text or "^" in text else number(audit.points)
    return f"{points} of {number(audit.raw)} combinations"


def _component(component: Component, tally: Tally, lines: Lines) -> Iterator[str]:
    rows = len(component.table or ())
    left = number(rows) if rows != component.raw else "all of them"
    yield f"{', '.join(component.names)}: {number(component.raw)} combinations, {left} are points"
    for path, count in tally.excluded.items():
        yield from _rule("excluded", path, count, lines)
    for path, count in tally.changed.items():
        yield from _rule("changed", path, count, lines)
    found = {*tally.excluded, *tally.changed}
    idle = {"constraint": "excludes nothing", "normalise": "changes nothing"}
    for step in component.steps:
        if step.kind in idle and step.path not in found:
            yield f"  {_place(step.path, lines)}: {idle[step.kind]}"
    for path, count in tally.conditions.items():
        absent = count.number - count.held
        yield f"  {_place(path, lines)}: absent in {number(absent)} of {number(count.number)}"
    if tally.absent:
        yield f"  {number(tally.absent)} differ from others only in what is absent"
    merged = tally.merged
    if merged.number:
        shown = [example for count in tally.changed.values() for example in count.examples]
        told_above = shown == merged.examples and len(tally.changed) == 1
        yield f"  {number(merged.number)} became equal to another point, which counts once" + (
            "" if told_above else ":"
        )
        yield from () if told_above else _examples(merged)


def _rule(done: str, path: str, count: Count, lines: Lines) -> Iterator[str]:
    yield f"  {_place(path, lines)}: {number(count.number)} {done}, such as"
    yield from _examples(count)


def _place(path: str, lines: Lines) -> str:
    return f"{path} (line {lines[path]})" if path in lines else path


def _examples(count: Count) -> Iterator[str]:
    yield from (f"    {_example(one)}" for one in count.examples)
    if count.number > len(count.examples):
        yield f"    ... and {number(count.number - len(count.examples))} more"


def _example(example: Example) -> str:
    parts = [
        f"{name} {word(value)} -> {word(example.became[name])}"
        if name in example.became
        else told({name: value})
        for name, value in example.values.items()
    ]
    return ", ".join(parts)
