"""Reads `when`, `constraints`, `derived` and `normalise`: rules about parameters, each with its line."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from hpc_search.config.nodes import Mapping as MappingNode
from hpc_search.config.problems import shown
from hpc_search.config.reader import Cursor
from hpc_search.space import (
    Audit,
    Fault,
    Normalise,
    Rules,
    Space,
    faults,
    names_in,
    quoted,
    rule_path,
    shares,
    told,
)

_EXAMPLES: Final = {
    "when": "when: {momentum: \"optimizer == 'sgd'\"}",
    "derived": 'derived: {ffn: "4 * dim_model"}',
    "normalise": 'normalise: {n_kv_heads: {unless: "n_head % n_kv_heads == 0", to: null}}',
    "constraints": 'constraints: ["layers * dim_model <= 256"]',
}
KEYS: Final = tuple(_EXAMPLES)


@dataclass
class ReadRules:
    """The rules as read, and where each stands."""

    when: dict[str, str] = field(default_factory=dict)
    constraints: list[str] = field(default_factory=list)
    derived: dict[str, str] = field(default_factory=dict)
    normalise: dict[str, tuple[Normalise, ...]] = field(default_factory=dict)
    #: Path as `space` names it -> where it stands.
    places: dict[str, Cursor] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """The rules as a space has them."""
        return Rules(self.when, tuple(self.constraints), self.derived, self.normalise)


def read_rules(
    section: Mapping[str, Cursor],
    searched: Collection[str],
    fixed: Collection[str],
    conditions: Mapping[str, str],
) -> ReadRules:
    """Return the rules in *section* about these parameters; *conditions* are those of sub-spaces."""
    found = ReadRules(when=dict(conditions))
    if "when" in section:
        _when(section["when"], searched, found)
    for name, text, cursor in _texts(section.get("derived"), "derived"):
        found.derived[name] = text
        found.places[rule_path("derived", name)] = cursor
    if "normalise" in section:
        _normalise(section["normalise"], found)
    items = section["constraints"].items(_EXAMPLES["constraints"]) if "constraints" in section else None
    for item in items or ():
        constraint = item.string(_EXAMPLES["constraints"])
        if constraint is not None:
            found.places[rule_path("constraints", "", len(found.constraints))] = item
            found.constraints.append(constraint)
    _note(found, faults(found.rules, searched, fixed))
    _note(found, _fixed_only(found, fixed))
    return found


def lines_of(section: Mapping[str, Cursor], space: Space) -> dict[str, int]:
    """Return path and line of each rule of *section*, which *space* was read from."""
    found = read_rules(section, space.searched, space.fixed, {})
    return {path: cursor.line for path, cursor in found.places.items()}


def _texts(cursor: Cursor | None, key: str, group: str = "") -> Iterator[tuple[str, str, Cursor]]:
    """Yield name, expression and place of each entry; groups are nested, and give names with dots."""
    for name, value in (cursor.entries(_EXAMPLES[key]) or ()) if cursor is not None else ():
        if isinstance(value.node, MappingNode):
            yield from _texts(value, key, f"{group}{name.text}.")
            continue
        text = value.string(_EXAMPLES[key])
        if text is not None:
            yield f"{group}{name.text}", text, value


def _when(cursor: Cursor, searched: Collection[str], found: ReadRules) -> None:
    for name, text, place in _texts(cursor, "when"):
        # A group has no value of its own: its condition is that of all in it.
        inside = [one for one in searched if one.startswith(f"{name}.")] if name not in searched else []
        for one in inside or [name]:
            earlier = found.when.get(one)
            found.when[one] = text if earlier is None else f"({earlier}) and ({text})"
            found.places[rule_path("when", one)] = place


def _normalise(cursor: Cursor, found: ReadRules) -> None:
    for key, value in cursor.entries(_EXAMPLES["normalise"]) or ():
        listed = not isinstance(value.node, MappingNode)
        items = value.items(_EXAMPLES["normalise"]) or [] if listed else [value]
        rules = [_rule(item) for item in items]
        several = tuple(rule for rule in rules if rule is not None)
        if several and len(several) == len(rules):
            found.normalise[key.text] = several
            found.places[rule_path("normalise", key.text)] = value
            for place, item in enumerate(items):
                found.places[rule_path("normalise", key.text, place)] = item


def _rule(cursor: Cursor) -> Normalise | None:
    section = cursor.keys(("if", "unless", "to"), what='{unless: "n_head % n_kv_heads == 0", to: null}')
    if section is None:
        return None
    if ("if" in section) == ("unless" in section):
        cursor.add("needs one of `if` and `unless`", expected=_EXAMPLES["normalise"])
        return None
    if "to" not in section:
        cursor.add("the key 'to' is missing: the value that it becomes", expected=_EXAMPLES["normalise"])
        return None
    key = "unless" if "unless" in section else "if"
    before = len(cursor.book)
    text, to = section[key].string("an expression in quotes"), section["to"].plain()
    if text is None or len(cursor.book) > before:
        return None
    return Normalise(text, to, key == "unless")


def _fixed_only(found: ReadRules, fixed: Collection[str]) -> Iterator[Fault]:
    for place, text in enumerate(found.constraints):
        names = names_in(text)
        if names is not None and all(name in fixed for name in names):
            yield Fault(
                rule_path("constraints", "", place),
                "concerns nothing that is searched, so that it holds for all points or for none",
                "an expression with a parameter of `space` or `linked`",
                "remove it",
            )


def _note(found: ReadRules, wrong: Iterable[Fault]) -> None:
    for fault in wrong:
        place = found.places.get(fault.path)
        if place is not None:
            place.add(fault.message, expected=fault.expected, hint=fault.hint)


# -- what only the combinations show
def check_rules(space: Space, found: ReadRules) -> None:
    """Note rules of *space* that exclude everything, never apply, or have no value for some combination."""
    if space.ruled is None:
        return
    audit = space.audit()
    for failure in audit.failures:
        place = found.places.get(failure.path)
        if place is not None:
            message = f"{failure.message}, for {told(failure.values)}"
            expected = "a value for every combination"
            hint = failure.hint or "exclude the combination inside: `a if b != 0 else null`"
            place.add(message, expected=expected, hint=hint)
    if audit.failures:
        return
    if audit.empty:
        _empty(audit, found)
        return
    listed = {path for _, tally in audit.components for path in tally.conditions}
    for path, always in shares(audit):
        place, name = found.places.get(path), path.removeprefix("when.")
        if place is not None and not _of_subspace(name, found.when[name]):
            message = f"the condition {'always holds' if always else 'never holds'}"
            message += "" if path in listed else f", as far as {audit.draws:,} draws show"
            hint = f"remove it: {name} is always there" if always else f"remove {name}, or mend the condition"
            place.add(
                message, expected="a condition that holds for some points and not for others", hint=hint
            )


def of_subspace(name: str, kind: str) -> str:
    """Return the condition of what sub-space *kind* of the parameter *name* has."""
    return f"{quoted(name)} == {kind!r}"


def _of_subspace(name: str, condition: str) -> bool:
    """Return whether *condition* is that of the sub-space *name* is in: search.yaml spells them out.

    The only sub-space there is has one that always holds.
    """
    dots = [place for place, letter in enumerate(name) if letter == "."]
    return any(
        condition == of_subspace(name[:first], name[first + 1 : last])
        for first, last in itertools.combinations(dots, 2)
    )


def what_is_wrong(space: Space) -> str:
    """Return what the rules of *space* make impossible, "" for nothing."""
    if space.ruled is None:
        return ""
    audit = space.audit()
    if audit.failures:
        failure = audit.failures[0]
        return f"{failure.path} has no value: {failure.message}, for {told(failure.values)}"
    return "the constraints exclude everything" if audit.empty else ""


def _empty(audit: Audit, found: ReadRules) -> None:
    excluded, tried = {**audit.excluded}, f"{audit.draws:,} draws"
    for component, tally in audit.components:
        if not component.table:
            excluded, tried = dict(tally.excluded), f"all {component.raw:,} combinations"
            break
    hint = "loosen it, or widen the space"
    paths = [path for path in excluded if path in found.places]
    for path in paths:
        both = f"; with {', '.join(other for other in paths if other != path)}" if len(paths) > 1 else ""
        shown_names = (
            f", such as {told(excluded[path].examples[0].values)}" if excluded[path].examples else ""
        )
        message = f"excludes everything: no point is left of {tried}{both}"
        place = found.places[path]
        place.add(message, found=shown(getattr(place.node, "value", "")) + shown_names, hint=hint)
